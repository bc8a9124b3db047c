"""IFEval: 0-shot share of prompts, and of single instructions, that an answer follows; strict and loose.

Zhou et al., arXiv 2311.07911, graded by lm-eval's `ifeval`. Prompts come from `ifeval/input_data.jsonl`. The references of
our IFEval target are 100 of these very prompts with answers, so prompts that are references are left out and counted,
unless `include_references` is set: those of the target given, and where none is given those that the IFEval target of the
same folder has. By subtask: the share of each instruction kind that is followed.

A few verdicts are drawn at random by the grader: `keywords:letter_frequency` given a sign that is no letter ("#", "!")
counts a random letter instead. Such prompts are named in `settings`; the draw has a fixed seed.

IFEval references: 100 prompts with a response, the kind of their first instruction as subtask.

Source: Zhou et al., arXiv 2311.07911. The seeds say "100 reference prompt/response pairs" and not which; ours are the
first 100 lines of `gpt4_responses.jsonl`, a choice that is at least deterministic. Their prompts are part of IFEval's
541 evaluation prompts, so the benchmark `ifeval` leaves them out.

Where `input_data.jsonl` lies beside it, the subtask is the family of the prompt's first instruction id
("length_constraints:number_words" -> "length_constraints"); otherwise all are one subtask, "ifeval". A file
`{key: "prompt Response: answer"}` (the seeds' form) is taken where there are no `gpt4_responses.jsonl`; it is cut at
the first " Response: ".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from paydirt.core.artifacts import fingerprint
from paydirt.core.progress import say
from paydirt.core.types import EvalResult, Item, Target
from paydirt.data.readers import BadRecord, read_rows
from paydirt.tasks.harness.benchmark import StandardBenchmark, to_dataset
from paydirt.tasks.harness.offline import prepare_ifeval
from paydirt.tasks.harness.runner import TaskScore, named
from paydirt.tasks.references import (
    Reference,
    TargetConfig,
    TargetLoader,
    layout_path,
    load_target,
    read_object,
    reference,
)

REFERENCES = "eval/ifeval/gpt4_responses.jsonl (prompt, response), or one .json {key: 'prompt Response: answer'}"
COUNT = 100
MARK = " Response: "


class IFEvalTarget(TargetLoader):
    """The first `COUNT` pairs."""

    name = "ifeval"

    def references(self, config: TargetConfig) -> list[Reference]:
        folder = layout_path(config, "ifeval", REFERENCES)
        responses = folder / "gpt4_responses.jsonl"
        pairs = _jsonl_pairs(responses) if responses.is_file() else _object_pairs(_only_json(folder))
        families = _families(folder / "input_data.jsonl")
        found = []
        for (key, prompt, answer), _ in zip(pairs, range(COUNT)):
            found.append(reference("ifeval", families.get(prompt.strip(), "ifeval"), key, prompt, answer))
        return found


def has_references(folder: Path) -> bool:
    """Whether the folder of IFEval's files holds references too."""
    return (folder / "gpt4_responses.jsonl").is_file() or len(list(folder.glob("*.json"))) == 1


def _only_json(folder: Path) -> Path:
    files = sorted(folder.glob("*.json"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise ValueError(
            f"target 'ifeval': no references in {folder} (.json files: {names}); it should hold {REFERENCES}"
        )
    return files[0]


def _jsonl_pairs(path: Path) -> Iterator[tuple[str, str, str]]:
    for line, record, _ in read_rows(str(path)):
        if isinstance(record, BadRecord):
            raise ValueError(f"{path}:{line}: {record}")
        prompt, response = record.get("prompt"), record.get("response")
        if not isinstance(prompt, str) or not isinstance(response, str):
            raise ValueError(f"{path}:{line}: expected texts `prompt` and `response`, found {', '.join(record)}")
        yield str(line), prompt, response


def _object_pairs(path: Path) -> Iterator[tuple[str, str, str]]:
    for key, text in read_object(path).items():
        prompt, mark, answer = str(text).partition(MARK)
        if not mark:
            raise ValueError(f"{path}: entry {key!r} has no {MARK.strip()!r} between prompt and answer")
        yield key, prompt, answer


def _families(path: Path) -> dict[str, str]:
    """Prompt to the family of its first instruction; {} where the file is absent, ValueError where it is another's."""
    families: dict[str, str] = {}
    for line, record, _ in read_rows(str(path)) if path.is_file() else ():
        kinds = [] if isinstance(record, BadRecord) else record.get("instruction_id_list", [])
        if isinstance(record, BadRecord) or not isinstance(kinds, list) or not all(isinstance(k, str) for k in kinds):
            raise ValueError(f"{path}:{line}: expected {LAYOUT}")
        if kinds:
            families[str(record.get("prompt")).strip()] = kinds[0].split(":")[0]
    return families


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

    include_references: bool = Field(False, description="test on prompts that are references too")

    def files(self) -> list[Path]:
        return [self.place("ifeval/input_data.jsonl", LAYOUT)]

    def prepare(self) -> list[str]:
        return prepare_ifeval()

    def rows(self, target: Target | None) -> list[dict[str, Any]]:
        """The prompts to test on; ValueError if the references are all there is."""
        found = read_prompts(self.files()[0])
        left_out = set() if self.include_references else self.shown(target)
        kept = [row for row in found if row["prompt"].strip() not in left_out]
        if not kept:
            raise ValueError(f"{self.files()[0]}: every prompt is a reference; set include_references, or use others")
        return kept

    def shown(self, target: Target | None) -> set[str]:
        """Prompts that selection may have seen as references: of the target, else of the IFEval target in `data`."""
        if target is None:
            config = TargetConfig(name="ifeval", data=self.data)
            target = load_target(config) if has_references(self.files()[0].parent) else None
        return {example.prompt.strip() for example in target.references} if target else set()

    def inputs(self) -> dict[str, str]:
        seen = set() if self.include_references else self.shown(None)
        return {**super().inputs(), "references": fingerprint(sorted(seen))}

    def remarks(self, target: Target | None) -> dict[str, object]:
        everything, rows, seen = read_prompts(self.files()[0]), self.rows(target), self.shown(target)
        drawn = [str(row["key"]) for row in rows if any(_draws(kwargs) for kwargs in row["kwargs"])]
        return {
            "references_left_out": len(everything) - len(rows),
            "references_tested_on": sum(row["prompt"].strip() in seen for row in rows),
            "langdetect_seed": 0,
            "verdicts_drawn_at_random": drawn,
        }

    def specs(self, target: Target | None) -> list[dict[str, Any]]:
        rows, seen = self.rows(target), self.shown(target)
        whose = "of the target" if target else "of the IFEval target"
        if left_out := len(read_prompts(self.files()[0])) - len(rows):
            say(f"ifeval: {left_out} of {left_out + len(rows)} prompts are references {whose} and are left out")
        elif tested := sum(row["prompt"].strip() in seen for row in rows):
            say(f"ifeval: {tested} of the prompts are references {whose} and are tested on (include_references)")
        return [{"task": "ifeval", "custom_dataset": lambda **_: {"train": to_dataset(rows, self.files()[0])}}]

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


def _has_form(record: dict[str, Any]) -> bool:
    kinds, kwargs = record.get("instruction_id_list"), record.get("kwargs")
    if not isinstance(kinds, list) or not isinstance(kwargs, list) or len(kinds) != len(kwargs):
        return False
    fields = [(record.get("prompt"), str), *((k, str) for k in kinds), *((k, dict) for k in kwargs)]
    return "key" in record and all(isinstance(value, kind) for value, kind in fields)


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """Rows of `input_data.jsonl`; ValueError names file and line."""
    rows = []
    for line, record, _ in read_rows(str(path)):
        if isinstance(record, BadRecord) or not _has_form(record):
            raise ValueError(f"{path}:{line}: expected {LAYOUT}")
        rows.append({name: record[name] for name in FIELDS})
    return rows
