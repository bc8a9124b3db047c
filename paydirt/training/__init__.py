"""Training: fine-tune a model on a selection, with transformers, peft and accelerate."""
