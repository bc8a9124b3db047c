"""Selection: scores to a ranked subset. A policy orders the pool, a budget cuts the order."""
