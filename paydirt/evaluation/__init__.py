"""Evaluation: a model and a benchmark to an `EvalResult`. `base` holds the contract, one file a benchmark."""
