"""TyDiQA: 1-shot gold-passage F1 and exact match by language, macro (every language counts the same) and micro average.

Clark et al., arXiv 2003.05002, graded by lm-eval's `tydiqa_goldp_<language>`: SQuAD's F1 and exact match with
punctuation of all scripts removed. Questions come from `tydiqa/tydiqa-goldp-v1.1-dev.json`, the shot of each language
from `tydiqa/tydiqa-one-shot.json`. In the prompt form of the references the shot is a turn of its own, worded like the
target's in the passage's language; both answers open with its label (form `turn`: with nothing).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from paydirt.evaluation.harness.benchmark import FormedBenchmark, to_dataset
from paydirt.targets.base import read_object
from paydirt.targets.tydiqa import wording
from paydirt.types import Item, Target

LAYOUT = "eval/tydiqa/tydiqa-goldp-v1.1-dev.json in SQuAD's form, and eval/tydiqa/tydiqa-one-shot.json"
CODES = {
    "arabic": "ar",
    "bengali": "bn",
    "english": "en",
    "finnish": "fi",
    "indonesian": "id",
    "korean": "ko",
    "russian": "ru",
    "swahili": "sw",
    "telugu": "te",
}
LANGUAGES = {code: language for language, code in CODES.items()}


class TyDiQA(FormedBenchmark):
    """Questions about a given passage in 9 languages."""

    name: ClassVar[str] = "tydiqa"
    folder: ClassVar[str | None] = "tydiqa"
    shots: ClassVar[int] = 1
    multiturn: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("f1", "exact_match")
    main: ClassVar[str] = "f1_macro"

    def subtask(self, task: str) -> str:
        return LANGUAGES[task.removeprefix("tydiqa_goldp_")]

    def files(self) -> list[Path]:
        return [
            self.place("tydiqa/tydiqa-goldp-v1.1-dev.json", LAYOUT),
            self.place("tydiqa/tydiqa-one-shot.json", LAYOUT),
        ]

    def specs(self, target: Target | None) -> list[dict[str, Any]]:
        dev, one_shot = self.files()
        questions, shots = read_questions(dev), read_shots(one_shot)
        unknown = sorted(set(questions) - set(CODES))
        if unknown:
            raise ValueError(f"{dev}: lm-eval grades {', '.join(CODES)}; found questions in {', '.join(unknown)}")
        lacking = sorted(set(questions) - set(shots))
        if lacking:
            raise ValueError(f"{one_shot}: no shot in {', '.join(lacking)}")
        specs = []
        for language in sorted(questions):
            splits = {"train": shots[language][: self.shots], "validation": questions[language][: self.limit]}
            spec: dict[str, Any] = {
                "task": f"tydiqa_goldp_{CODES[language]}",
                "custom_dataset": lambda splits=splits, **_: {
                    name: to_dataset(rows, dev) for name, rows in splits.items()
                },
                "fewshot_config": {"sampler": "first_n"},
                "num_fewshot": self.shots,
            }
            if self.as_references:
                words = wording(language, self.published)
                ends = "" if self.published else ".strip()"
                spec["doc_to_text"] = words.prompt(f"{{{{context{ends}}}}}", f"{{{{question{ends}}}}}")
                if words.answer:
                    spec["gen_prefix"] = words.answer
                    spec["fewshot_config"] = {"sampler": "first_n", "gen_prefix": words.answer}
            specs.append(spec)
        return specs

    def items(self) -> list[Item]:
        found = read_questions(self.files()[0])
        return [
            Item(f"tydiqa/dev/{row['id']}", f"{row['context']}\n{row['question']}", row["question"])
            for language in sorted(found)
            for row in found[language]
        ]


def read_questions(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows by language, as the hub's secondary task has them; an id opens with its language."""
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        for article in read_object(path)["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    row = _row(question, paragraph["context"], article.get("title", ""))
                    found.setdefault(row["id"].split("-")[0], []).append(row)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not in SQuAD's form ({error}); the layout is {LAYOUT}") from None
    return found


def read_shots(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The shots of each language; ValueError names the file."""
    try:
        return {
            language: [_row(item | {"id": f"{language}-{n}"}, item["context"], "") for n, item in enumerate(items)]
            for language, items in read_object(path).items()
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected questions with context and answers ({error}); {LAYOUT}") from None


def _row(question: dict[str, Any], context: str, title: str) -> dict[str, Any]:
    answers = {"text": [str(answer["text"]) for answer in question["answers"]]}
    texts = {"title": title, "context": context, "question": str(question["question"])}
    return {"id": str(question["id"]), **texts, "answers": answers}
