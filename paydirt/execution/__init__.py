"""Execution: where work runs. Stages know nothing of it."""
