"""Pools, encoding and batches: everything between files of text and tensors."""
