"""Scorers: one file a method. `paydirt.scorers.base` holds the contract."""
