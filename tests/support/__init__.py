"""Tiny models, pools, targets and commands that all families of tests share."""
