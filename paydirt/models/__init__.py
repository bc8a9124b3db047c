"""Models: how they are loaded, identified and given trainable parameters."""
