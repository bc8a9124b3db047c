"""Paydirt: choose fine-tuning data for a language model under one budget for selecting and training together."""

__version__ = "0.1.0"
