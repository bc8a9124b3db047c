"""A little data in the LESS layout, and lm-eval models that answer as they are told."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM

TASK = "date_understanding"
SHOT = (
    "Q: Which day is {n}?\nOptions:\n(A) one\n(B) two\nA: Let's think step by step.\nIt is {n}. So the answer is ({a})."
)


def write_layout(root: Path) -> Path:
    """Two MMLU subjects, one BBH task, two TyDiQA languages, three IFEval prompts under `root/eval`."""
    for subject, letters in (("anatomy", "ABBD"), ("astronomy", "BCB")):
        for split, rows in (("dev", "ABCDA"), ("test", letters)):
            path = root / "eval" / "mmlu" / split / f"{subject}_{split}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "w", newline="", encoding="utf-8") as handle:
                for n, letter in enumerate(rows):
                    csv.writer(handle).writerow([f"Question {n} of {subject}?", "N/A", "None", "x", "y", letter])
    shots = "\n\n".join([f"Work out the {TASK}.", *(SHOT.format(n=n, a="AB"[n % 2]) for n in range(3))])
    examples = [
        {"input": f"Which day is {n}?\nOptions:\n(A) one\n(B) two", "target": "(AB)"[0] + "AB"[n % 2] + ")"}
        for n in range(4)
    ]
    write(root / "eval/bbh/bbh-three-shot.json", {TASK: shots})
    write(root / f"eval/bbh/test/{TASK}.json", {"canary": "", "examples": examples})
    qa = [
        {"title": "t", "paragraphs": [{"context": f"The {language} cat is red {n}.", "qas": [_qa(language, n)]}]}
        for language in ("english", "finnish")
        for n in range(2)
    ]
    write(root / "eval/tydiqa/tydiqa-goldp-v1.1-dev.json", {"version": "1", "data": qa})
    one_shot = {
        language: [{"id": f"{language}-9", "context": "A dog.", "question": "What?", "answers": [{"text": "dog"}]}]
        for language in ("english", "finnish")
    }
    write(root / "eval/tydiqa/tydiqa-one-shot.json", one_shot)
    prompts = [
        {
            "key": 1,
            "prompt": "Say yes without commas.",
            "instruction_id_list": ["punctuation:no_comma"],
            "kwargs": [{}],
        },
        {
            "key": 2,
            "prompt": "Two sentences, no commas.",
            "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_sentences"],
            "kwargs": [{}, {"relation": "at least", "num_sentences": 2}],
        },
        {"key": 3, "prompt": "No commas at all.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    ]
    path = root / "eval/ifeval/input_data.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(p) + "\n" for p in prompts))
    responses = [{"prompt": "Say yes without commas.", "response": "Yes."}]
    (path.parent / "gpt4_responses.jsonl").write_text("".join(json.dumps(r) + "\n" for r in responses))
    return root


def _qa(language: str, n: int) -> dict[str, Any]:
    return {"id": f"{language}-{n}-0", "question": f"What is red {n}?", "answers": [{"text": f"The {language} cat"}]}


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


class Told(LM):
    """Answers by a function of the item; likes one letter; keeps the prompts that it saw."""

    def __init__(self, answer: Callable[[dict[str, Any]], str] | None = None, letter: str = "B") -> None:
        super().__init__()
        self.answer, self.letter, self.seen = answer, letter, []

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return "".join(f"[{turn['role']}]{turn['content']}" for turn in chat_history)

    @property
    def tokenizer_name(self) -> str:
        return "told"

    def chat_template(self, chat_template: bool | str = False) -> str:
        return "told"

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        self.seen += [request.args[0] for request in requests]
        assert self.answer is not None
        return [self.answer(request.doc) for request in requests]

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        self.seen += [request.args[0] for request in requests]
        return [(0.0 if request.args[1].strip() == self.letter else -9.0, False) for request in requests]

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        raise NotImplementedError


def gold_bbh(doc: dict[str, Any]) -> str:
    return f"Let's think step by step.\nWell. So the answer is {doc['target']}."


def gold_tydiqa(doc: dict[str, Any]) -> str:
    return doc["answers"][0]
