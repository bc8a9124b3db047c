"""MMLU references: the 5 dev questions of each subject (57 x 5 = 285), the subject as subtask.

Source: Hendrycks et al., arXiv 2009.03300, in the layout and prompt of LESS (METHODS section 1): header, question,
options "A." to "D.", "Answer:", and an assistant turn that opens with "The answer is:". As published, that opening is not
supervised, no end mark follows the letter, and two spaces stand before the subject, an accident of its formatting; form
`turn` writes one space and supervises the whole turn, opening and end included.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import ClassVar

from paydirt.targets.base import FORMS, Reference, TargetConfig, TargetLoader, layout_path, reference

LAYOUT = "eval/mmlu/dev/<subject>_dev.csv, no header: question, options, letter"
LETTERS = "ABCDEFGHIJ"
SHOTS = 5
OPENING = "The answer is:"


class MMLUTarget(TargetLoader):
    """All subjects found in `mmlu/dev`, sorted by name."""

    name = "mmlu"
    forms: ClassVar[tuple[str, ...]] = FORMS

    def references(self, config: TargetConfig) -> list[Reference]:
        folder = layout_path(config, "mmlu/dev", LAYOUT)
        files = sorted(folder.glob("*_dev.csv"))
        if not files:
            raise ValueError(f"target 'mmlu': no *_dev.csv in {folder}; the LESS layout holds {LAYOUT}")
        published = self.published(config)
        return [pair for file in files for pair in _subject(file, published)]


def header(about: str, published: bool) -> str:
    """The line above the questions of a subject."""
    return f"The following are multiple choice questions (with answers) about {' ' if published else ''}{about}."


def _subject(file: Path, published: bool) -> list[Reference]:
    # The csv module, not pandas: pandas reads the options "None" and "N/A" as missing values.
    subject = file.name.removesuffix("_dev.csv")
    with open(file, encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.reader(handle))[:SHOTS]
    if not rows:
        raise ValueError(f"{file}: empty; expected {SHOTS} lines of question, options, letter")
    return [_question(file, subject, number, row, published) for number, row in enumerate(rows)]


def _question(file: Path, subject: str, number: int, row: list[str], published: bool) -> Reference:
    question, options, letter = (row[0], row[1:-1], row[-1].strip()) if len(row) >= 4 else ("", [], "")
    if not letter or letter not in LETTERS[: len(options)]:
        raise ValueError(
            f"{file}:{number + 1}: expected question, two or more options and the right letter, found {row}"
        )
    lines = [f"{name}. {option}" for name, option in zip(LETTERS, options)]
    prompt = header(subject.replace("_", " "), published) + "\n\n" + "\n".join([question, *lines, "Answer:"])
    if published:
        return reference("mmlu", subject, number, prompt, letter, OPENING, end=False)
    return reference("mmlu", subject, number, prompt, f"{OPENING} {letter}")
