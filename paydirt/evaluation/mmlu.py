"""MMLU: 5-shot accuracy by subject, micro (every question counts the same) and macro average over subjects.

Hendrycks et al., arXiv 2009.03300, graded by lm-eval's `mmlu_<subject>`: the likeliest of four letters. Rows come from
`mmlu/{dev,test}/<subject>_{dev,test}.csv`, the shots are the dev questions in order. In the prompt form of the references
the shots and the question are one user turn and the answer opens with "The answer is:", as LESS and open-instruct ask.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, ClassVar

from paydirt.evaluation.harness.benchmark import FormedBenchmark, to_dataset
from paydirt.targets.mmlu import OPENING, header
from paydirt.types import Item, Target

LAYOUT = "eval/mmlu/{dev,test}/<subject>_{dev,test}.csv, no header: question, four options, letter"
LETTERS = "ABCD"


class MMLU(FormedBenchmark):
    """Multiple-choice questions of 57 subjects."""

    name: ClassVar[str] = "mmlu"
    folder: ClassVar[str | None] = "mmlu/default"
    shots: ClassVar[int] = 5
    metrics: ClassVar[tuple[str, ...]] = ("acc",)
    main: ClassVar[str] = "acc_micro"

    def subtask(self, task: str) -> str:
        return task.removeprefix("mmlu_")

    def files(self) -> list[Path]:
        found = sorted(self.place("mmlu/test", LAYOUT).glob("*_test.csv"))
        if not found:
            raise ValueError(f"benchmark 'mmlu': no *_test.csv in {self.place('mmlu/test', LAYOUT)} ({LAYOUT})")
        return [path for test in found for path in (_dev(test), test)]

    def specs(self, target: Target | None) -> list[dict[str, Any]]:
        return [self._spec(test) for test in self.files()[1::2]]

    def _spec(self, test: Path) -> dict[str, Any]:
        def rows(**_: Any) -> dict[str, Any]:
            return {name: to_dataset(read_questions(f), f) for name, f in (("dev", _dev(test)), ("test", test))}

        spec = {"task": f"mmlu_{_subject(test)}", "custom_dataset": rows, "num_fewshot": self.shots}
        # The shots keep lm-eval's " A" after "Answer:"; only the answer to be given opens as in the references.
        about = _subject(test).replace("_", " ")
        opening = {"gen_prefix": OPENING, "fewshot_config": {"sampler": "first_n", "gen_prefix": None}}
        opening["description"] = header(about, self.published) + "\n\n"
        return spec | opening if self.as_references else spec

    def items(self) -> list[Item]:
        found = []
        for test in self.files()[1::2]:
            for number, row in enumerate(read_questions(test)):
                text = "\n".join([row["question"], *row["choices"]])
                found.append(Item(f"mmlu/test/{_subject(test)}/{number}", text, row["question"]))
        return found


def read_questions(path: Path) -> list[dict[str, Any]]:
    """Rows as lm-eval's MMLU has them; ValueError names file and line."""
    out: list[dict[str, Any]] = []
    # The csv module, not pandas: pandas reads the options "None" and "N/A" as missing values.
    with open(path, encoding="utf-8-sig", newline="") as handle:
        for row in csv.reader(handle):
            if len(row) != 6 or row[5].strip() not in LETTERS:
                raise ValueError(
                    f"{path}:{len(out) + 1}: expected question, four options and a letter A to D, found {row}"
                )
            out.append({"question": row[0], "choices": row[1:5], "answer": LETTERS.index(row[5].strip())})
    if not out:
        raise ValueError(f"{path}: empty; expected {LAYOUT}")
    return out


def _subject(test: Path) -> str:
    return test.name.removesuffix("_test.csv")


def _dev(test: Path) -> Path:
    path = test.parent.parent / "dev" / f"{_subject(test)}_dev.csv"
    if not path.is_file():
        raise ValueError(f"{path}: missing, though {test} is there; the shots come from it ({LAYOUT})")
    return path
