"""Targets: what the model should learn, as reference examples with subtasks. One file for each loader."""

from paydirt.targets.base import TARGETS, TargetConfig, TargetLoader, load_target

__all__ = ["TARGETS", "TargetConfig", "TargetLoader", "load_target"]
