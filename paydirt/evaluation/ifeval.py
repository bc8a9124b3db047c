"""IFEval: 0-shot share of prompts, and of single instructions, that an answer follows; strict and loose.

Zhou et al., arXiv 2311.07911, graded by lm-eval's `ifeval`. Prompts come from `ifeval/input_data.jsonl`. The references of
our IFEval target are 100 of these very prompts with answers: where the target's references are among the prompts they are
left out and counted, unless `include_references` is set. By subtask: the share of each instruction kind that is followed.

A few verdicts are drawn at random by the grader: `keywords:letter_frequency` given a sign that is no letter ("#", "!")
counts a random letter instead. Such prompts are named in `settings`; the draw has a fixed seed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from paydirt.data.readers import BadRecord, read_rows
from paydirt.evaluation.harness.benchmark import StandardBenchmark
from paydirt.evaluation.harness.offline import prepare_ifeval
from paydirt.evaluation.harness.runner import TaskScore, named
from paydirt.progress import say
from paydirt.types import EvalResult, Item, Target

LAYOUT = "eval/ifeval/input_data.jsonl: key, prompt, instruction_id_list, kwargs"
FIELDS = ("key", "prompt", "instruction_id_list", "kwargs")


class IFEval(StandardBenchmark):
    """Prompts with instructions that a program can check."""

    name: ClassVar[str] = "ifeval"
    folder: ClassVar[str | None] = "ifeval"
    metrics: ClassVar[tuple[str, ...]] = (
        "prompt_level_strict_acc",
        "inst_level_strict_acc",
        "prompt_level_loose_acc",
        "inst_level_loose_acc",
    )
    main: ClassVar[str] = "prompt_level_strict_acc"

    include_references: bool = Field(False, description="test on prompts that are references of the target too")

    def files(self) -> list[Path]:
        return [self.place("ifeval/input_data.jsonl", LAYOUT)]

    def prepare(self) -> list[str]:
        return prepare_ifeval()

    def rows(self, target: Target | None) -> list[dict[str, Any]]:
        """The prompts to test on; ValueError if the references are all there is."""
        found = read_prompts(self.files()[0])
        left_out = set() if self.include_references else _shown(target)
        kept = [row for row in found if row["prompt"].strip() not in left_out]
        if not kept:
            raise ValueError(f"{self.files()[0]}: every prompt is a reference; set include_references, or use others")
        return kept

    def remarks(self, target: Target | None) -> dict[str, object]:
        everything, rows = read_prompts(self.files()[0]), self.rows(target)
        drawn = [str(row["key"]) for row in rows if any(_draws(kwargs) for kwargs in row["kwargs"])]
        return {
            "references_left_out": len(everything) - len(rows),
            "langdetect_seed": 0,
            "verdicts_drawn_at_random": drawn,
        }

    def specs(self, target: Target | None) -> list[dict[str, Any]]:
        import datasets

        rows, shown = self.rows(target), _shown(target)
        if left_out := len(read_prompts(self.files()[0])) - len(rows):
            say(f"ifeval: {left_out} of {left_out + len(rows)} prompts are references of the target and are left out")
        elif self.include_references and shown:
            say("ifeval: prompts that selection has seen as references are tested on (include_references)")
        return [{"task": "ifeval", "custom_dataset": lambda **_: {"train": datasets.Dataset.from_list(rows)}}]

    def items(self) -> list[Item]:
        return [Item(f"ifeval/{row['key']}", row["prompt"]) for row in read_prompts(self.files()[0])]

    def result(self, name: str, scores: Sequence[TaskScore], settings: dict[str, object]) -> EvalResult:
        score = scores[0]
        metrics: dict[str, float] = {}
        for metric in self.metrics:
            metrics |= named(metric, (score.metrics[metric], score.stderr[metric]))
        verdicts: dict[str, list[bool]] = defaultdict(list)
        kinds = {str(row["key"]): row["instruction_id_list"] for row in read_prompts(self.files()[0])}
        for item in score.items:
            for kind, followed in zip(kinds[item["id"]], item["inst_level_strict_acc"]):
                verdicts[kind].append(followed)
        by_subtask = {kind: sum(v) / len(v) for kind, v in sorted(verdicts.items())}
        return EvalResult(name, self.main, metrics, score.n, by_subtask, settings)


def _draws(kwargs: dict[str, Any]) -> bool:
    """Whether lm-eval's grader replaces the asked sign by a random letter."""
    letter = kwargs.get("letter")
    return isinstance(letter, str) and not ("a" <= letter.strip().lower() <= "z" and len(letter.strip()) == 1)


def _shown(target: Target | None) -> set[str]:
    return {example.prompt.strip() for example in target.references} if target else set()


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """Rows of `input_data.jsonl`; ValueError names file and line."""
    rows = []
    for line, record, _ in read_rows(str(path)):
        if isinstance(record, BadRecord) or any(name not in record for name in FIELDS):
            raise ValueError(f"{path}:{line}: expected {LAYOUT}")
        rows.append({name: record[name] for name in FIELDS})
    return rows
