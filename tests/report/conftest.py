"""A tiny real study, run once for this folder: three methods, three fractions, two seeds, a few thousand weights."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from paydirt.core.config import parse
from paydirt.study.recipe import Study
from paydirt.study.run import run_study
from paydirt.world.tokenizer import build_tokenizer

SCRIPT = "<script>alert(1)</script>"
NAME = '<img src=x onerror="alert(2)">'
LONG = "unbroken" * 90


def turns(prompt: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}


def pool_files(folder: Path) -> dict[str, str]:
    """Two sources; the examples that lexical search likes best hold markup and one very long word."""
    fruit = [turns(f"which fruit is number {i}", f"apple {i}") for i in range(40)]
    towns = [turns(f"name the town with {i} towers", f"town {i}") for i in range(36)]
    wanted = [turns(f"translate the word lamp {SCRIPT} into the old tongue", "lamp translate word tongue old")]
    wanted += [turns("translate the word lamp", f"the old tongue {LONG}")]
    for name, rows in (("fruit", fruit), ("towns", towns + wanted)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return {"fruit": str(folder / "fruit.jsonl"), "<b>towns</b>": str(folder / "towns.jsonl")}


def tiny_model(folder: Path) -> Path:
    words = ["translate the word lamp into the old tongue which fruit is number apple name town with towers bed net"]
    tokenizer = build_tokenizer(words)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, **sizes
    )
    LlamaForCausalLM(config).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def recipe(folder: Path) -> dict[str, Any]:
    references = [
        turns(f"translate the word {w} into the old tongue", "lamp") | {"subtask": w} for w in ("lamp", "bed")
    ]
    tests = [turns("translate the word net into the old tongue", "lamp")]
    for name, rows in (("references", references), ("test", tests)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    target = {"name": "old_tongue", "references": str(folder / "references.jsonl"), "test": str(folder / "test.jsonl")}
    return {
        "name": NAME,
        "pool": {"files": pool_files(folder)},
        "targets": [target],
        "model": {"path": str(tiny_model(folder / "model"))},
        "encoding": {"template": "tulu", "max_length": 64},
        "methods": ["random", "length", "bm25"],
        "fractions": [0.05, 0.25, 1.0],
        "seeds": [3, 6],
        "training": {"method": "full", "learning_rate": 1e-3, "batch_size": 16, "epochs": 1, "save": "no"},
        "workers": 1,
    }


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the finished study."""
    folder = tmp_path_factory.mktemp("report")
    run_study(parse(Study, recipe(folder)), folder / "study")
    return folder / "study"
