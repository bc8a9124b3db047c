"""Pools made smaller on purpose: near duplicates, leaks of test items, held-out parts."""
