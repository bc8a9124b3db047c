"""Per-example gradients, optimizer directions, random projection, the feature store and influence."""
