"""Scorers: one file a method. `paydirt.scoring` holds the contract."""
