"""Tasks: what a model should learn and how it is tested. One file a benchmark: its references, items, prompts and grader.

`references` and `benchmark` hold the two contracts, `harness` the lm-evaluation-harness behind the standard ones.
"""

from paydirt.tasks.references import TARGETS, TargetConfig, TargetLoader, load_target

__all__ = ["TARGETS", "TargetConfig", "TargetLoader", "load_target"]
