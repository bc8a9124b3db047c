"""Any task of lm-eval by its name, as lm-eval defines it: `paydirt evaluate MODEL --benchmark gsm8k`.

Data comes from wherever the task says, usually the hub, so this needs a network or a filled cache. Prompts are
lm-eval's; with `chat_template` they are put in the encoder's chat form.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from paydirt.core.types import EvalResult, Target
from paydirt.tasks.harness.benchmark import StandardBenchmark
from paydirt.tasks.harness.runner import TaskScore


class LmEvalTask(StandardBenchmark):
    """A task, group or tag of lm-eval."""

    name: ClassVar[str] = "lm_eval"

    task: str = Field("", description="name of a task, group or tag of lm-eval")
    num_fewshot: int | None = Field(None, ge=0, description="shots; null: the task's own")
    prompts: Literal["lm_eval"] = Field("lm_eval", description="lm-eval's own")

    def specs(self, target: Target | None) -> list[dict[str, Any]]:
        if not self.task:
            raise ValueError("benchmark 'lm_eval': give `task`, a name of lm-eval's (lm-eval ls tasks)")
        more = {} if self.num_fewshot is None else {"num_fewshot": self.num_fewshot}
        return [{"task": self.task, **more}]

    def files(self) -> list[Path]:
        return []

    def result(self, name: str, scores: Sequence[TaskScore], settings: dict[str, object]) -> EvalResult:
        """The first metric that all tasks share is the main one, averaged over items."""
        from paydirt.tasks.harness.runner import macro, micro, named

        shared = [m for m in scores[0].metrics if all(m in s.metrics for s in scores)]
        metrics: dict[str, float] = {}
        for metric in shared:
            for kind, average in (("micro", micro), ("macro", macro)):
                metrics |= named(f"{metric}_{kind}", average(scores, metric))
        by_subtask = {score.name: score.metrics[shared[0]] for score in scores}
        return EvalResult(
            self.task,
            f"{shared[0]}_micro",
            metrics,
            sum(s.n for s in scores),
            by_subtask,
            {**settings, "task": self.task},
        )
