"""MMLU: 5-shot accuracy by subject, micro (every question counts the same) and macro average over subjects.

Hendrycks et al., arXiv 2009.03300, graded by lm-eval's `mmlu_<subject>`: the likeliest of four letters. Rows come from
`mmlu/{dev,test}/<subject>_{dev,test}.csv`, the shots are the dev questions in order. In the prompt form of the references
the shots and the question are one user turn and the answer opens with "The answer is:", as LESS and open-instruct ask.

MMLU references: the 5 dev questions of each subject (57 x 5 = 285), the subject as subtask.

Source: Hendrycks et al., arXiv 2009.03300, in the layout and prompt of LESS (METHODS section 1): header, question,
options "A." to "D.", "Answer:", and an assistant turn that opens with "The answer is:". As published, that opening is not
supervised, no end mark follows the letter, and two spaces stand before the subject, an accident of its formatting; form
`turn` writes one space and supervises the whole turn, opening and end included.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, ClassVar

from paydirt.core.types import Item, Target
from paydirt.tasks.harness.benchmark import FormedBenchmark, to_dataset
from paydirt.tasks.references import FORMS, Reference, TargetConfig, TargetLoader, layout_path, reference

REFERENCES = "eval/mmlu/dev/<subject>_dev.csv, no header: question, options, letter"
OPTIONS = "ABCDEFGHIJ"
SHOTS = 5
OPENING = "The answer is:"


class MMLUTarget(TargetLoader):
    """All subjects found in `mmlu/dev`, sorted by name."""

    name = "mmlu"
    forms: ClassVar[tuple[str, ...]] = FORMS

    def references(self, config: TargetConfig) -> list[Reference]:
        folder = layout_path(config, "mmlu/dev", REFERENCES)
        files = sorted(folder.glob("*_dev.csv"))
        if not files:
            raise ValueError(f"target 'mmlu': no *_dev.csv in {folder}; the LESS layout holds {REFERENCES}")
        published = self.published(config)
        return [pair for file in files for pair in _references(file, published)]


def header(about: str, published: bool) -> str:
    """The line above the questions of a subject."""
    return f"The following are multiple choice questions (with answers) about {' ' if published else ''}{about}."


def _references(file: Path, published: bool) -> list[Reference]:
    # The csv module, not pandas: pandas reads the options "None" and "N/A" as missing values.
    subject = file.name.removesuffix("_dev.csv")
    with open(file, encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.reader(handle))[:SHOTS]
    if not rows:
        raise ValueError(f"{file}: empty; expected {SHOTS} lines of question, options, letter")
    return [_question(file, subject, number, row, published) for number, row in enumerate(rows)]


def _question(file: Path, subject: str, number: int, row: list[str], published: bool) -> Reference:
    question, options, letter = (row[0], row[1:-1], row[-1].strip()) if len(row) >= 4 else ("", [], "")
    if not letter or letter not in OPTIONS[: len(options)]:
        raise ValueError(
            f"{file}:{number + 1}: expected question, two or more options and the right letter, found {row}"
        )
    lines = [f"{name}. {option}" for name, option in zip(OPTIONS, options)]
    prompt = header(subject.replace("_", " "), published) + "\n\n" + "\n".join([question, *lines, "Answer:"])
    if published:
        return reference("mmlu", subject, number, prompt, letter, OPENING, end=False)
    return reference("mmlu", subject, number, prompt, f"{OPENING} {letter}")


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
