"""Real data for `utility.py`: one source hidden in a mixture, and MMLU, measured by loss on held-out answers.

A sample of the pool beside this repository whose rows do not say where they come from, 300 of them from Dolly. 50 other
rows of Dolly are the references of the target `dolly`, 150 more its test: precision is known exactly, chance is a tenth.
The target `mmlu` is two thirds of its 285 references, the rest its test. The model is a small Llama pre-trained on
other rows. A score is
exp(-loss) on the test's answers; `loss` is in nats a token.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from utility_bed import Bed
from utility_methods import DROP, FULL, ONE, PAIRS, Entry, Run

from paydirt.core.artifacts import write_atomic
from paydirt.core.config import parse
from paydirt.core.progress import say
from paydirt.data.pool import Pool, PoolConfig, open_pool
from paydirt.data.subset import write_rows
from paydirt.models.load import load_tokenizer
from paydirt.models.tiny import TinyConfig, tiny_model
from paydirt.tasks.references import TargetConfig, load_target

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
HIDDEN, REFERENCES, TEST, POOL, TEXT = 300, 50, 150, 3000, 40_000
LONGEST = 320  # tokens of a text
MODEL = TinyConfig(vocabulary=4096, hidden=128, layers=4, length=1024, steps=330)
TRAINING = {"method": "full", "learning_rate": 5e-4, "batch_size": 16, "epochs": 2, "save": "no"}
RANDOM = (0.05, 0.1, 0.2, 0.4, 1.0)


def real_entries() -> dict[str, Entry]:
    """The methods that two hours of one core have room for."""
    free = ["words", "length", "bm25"]  # the source is what is hidden
    found = {
        "random": Entry({"name": "random"}, group="free"),
        "length": Entry({"name": "length"}, group="free"),
        "bm25": Entry({"name": "bm25"}, group="free"),
        "embed": Entry({"name": "embed", "encoder": "minilm"}, group="a pass"),
        "rds": Entry({"name": "rds"}, group="a pass"),
        "drop": Entry(DROP, group="drop"),
        "gradient": Entry(FULL, group="gradient"),
        "gradient, 1 checkpoint": Entry(ONE, group="gradient"),
    }
    for share in (0.05, 0.1, 0.25):
        learned = {"name": "learned", "truth": DROP, "features": free, "rounds": 4}
        cascade = {"name": "cascade", "stages": [learned, DROP], "full": FULL}
        found[f"cascade(drop) {share:.0%}"] = Entry(cascade, share=share, group="cascade(drop)")
    return found


def real_grid(pairs: int) -> Iterator[Run]:
    """The hidden source first."""
    for target in ("dolly", "mmlu"):
        for pair in PAIRS[:pairs]:
            for name in real_entries():
                yield Run(0, target, name, 0.05, *pair)
            for fraction in RANDOM:
                yield Run(0, target, "random", fraction, *pair)


def real_bed(sample: int, out: Path) -> Bed:
    """The sample of that seed, its targets and its model, made once."""
    place = out / "real"
    source = open_pool(PoolConfig(files=[str(SHARED / "train" / "*.jsonl.gz")]), place / "cache")
    of_source = np.asarray(source.sources())
    draw = np.random.default_rng(sample)
    dolly, others = (draw.permutation(np.flatnonzero(mask)) for mask in (of_source == "dolly", of_source != "dolly"))
    hidden, shown, tested = np.split(dolly[: HIDDEN + REFERENCES + TEST], [HIDDEN, HIDDEN + REFERENCES])
    mixed, text = others[: POOL - HIDDEN], others[POOL - HIDDEN : POOL - HIDDEN + TEXT]
    text = np.concatenate([text, dolly[HIDDEN + REFERENCES + TEST :][: TEXT // 9]])
    if not (place / "pretraining").exists():
        write_rows(source, np.sort(text), place / "pretraining")
    reading = open_pool(PoolConfig(files=[str(place / "pretraining" / "*.jsonl")]), place / "cache")
    model = tiny_model(reading, place / "selector", 0, MODEL)
    say(f"model: {model.notes['parameters']} parameters, loss {model.notes['training_loss']:.2f} of "
        f"{model.notes['loss_of_chance']:.2f} nats by chance")  # fmt: skip
    right = {f"row-{row}" for row in hidden.tolist()}
    order = draw.permutation(np.concatenate([hidden, mixed]))
    _write(place / "pool.jsonl", _records(source, order))
    _write(place / "dolly.jsonl", _records(source, shown))
    _write(place / "dolly-test.jsonl", _records(source, tested))
    _write_mmlu(place, str(model.path / "model"))
    common = {
        "pool": {"files": {"mix": str(place / "pool.jsonl")}},
        "encoding": {"template": "tulu", "max_length": LONGEST},
    }
    targets = {
        name: {"name": name, "references": str(place / f"{name}.jsonl"), "test": str(place / f"{name}-test.jsonl")}
        for name in ("dolly", "mmlu")
    }
    models = {"model": lambda: str(model.path / "model")}
    labels = {"dolly": (right, right), "mmlu": (set(), set())}
    return Bed(place, common, targets, models, TRAINING, "likelihood", labels, real_entries())


def _records(source: Pool, rows: np.ndarray) -> list[dict[str, Any]]:
    """What a scorer may see: no source, no id of its own."""
    turns = [[{"role": m.role, "content": m.content} for m in example.messages] for example in source.take(rows)]
    return [{"id": f"row-{row}", "messages": messages} for row, messages in zip(rows.tolist(), turns)]


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)


def _write_mmlu(place: Path, model: str) -> None:
    """Every third reference is a test item; those too long for the model's texts are left out, and counted."""
    from paydirt.models.load import ModelConfig

    target = load_target(parse(TargetConfig, {"name": "mmlu", "data": str(SHARED)}))
    tokenizer = load_tokenizer(ModelConfig(path=model, device="cpu"))
    records, long = [], 0
    for example, subtask in zip(target.references, target.subtask_of):
        last = example.messages[example.answer_index]
        if len(tokenizer("\n".join(m.content for m in example.messages))["input_ids"]) > LONGEST - 20:
            long += 1
            continue
        messages = [{"role": m.role, "content": m.content} for m in example.messages]
        form = {"opening": last.opening, "end": last.end, "subtask": subtask}
        records.append({"id": example.id, "messages": messages, **form})
    say(f"mmlu: {len(records)} of {len(target.references)} references are short enough ({long} are not)")
    _write(place / "mmlu.jsonl", [r for i, r in enumerate(records) if i % 3])
    _write(place / "mmlu-test.jsonl", [r for i, r in enumerate(records) if not i % 3])
