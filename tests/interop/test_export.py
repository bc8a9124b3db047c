"""Exports: the seeds' names, and rows that others read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.stages import Tiny

from paydirt.interop.naming import data_name, fraction_name, method_name, model_name
from paydirt.stages import Workspace


def test_names_are_the_seeds() -> None:
    assert [fraction_name(f) for f in (0.025, 0.05, 0.1, 0.25, 0.5, 1)] == [
        "p0.025",
        "p0.05",
        "p0.10",
        "p0.25",
        "p0.50",
        "p1.0",
    ]
    assert data_name("ifeval", 1.0, method_name("gradient"), 3) == "ifeval-train-p1.0-less-seed3"
    assert data_name("ifeval", 1.0, method_name("embed")) == "ifeval-train-p1.0-embedding"
    assert method_name("ppl", "mid") == "ppl-mid"
    assert method_name("ppl", "top") == "ppl-top-highest", "the text's top"
    assert method_name("ppl", "low") == "ppl-top-lowest", "what the script called top writes"
    assert method_name("bm25", "round_robin") == "bm25-round-robin"
    name = model_name("llama2", "7b", "ifeval", "less", 0.1, 2)
    assert name == "llama2-7b-ifeval-less-p0.10-lora-seed2-linear-1epoch"


@pytest.fixture
def selection(tiny: Tiny, tmp_path: Path) -> Path:
    workspace = Workspace(tmp_path / "shared")
    scores = tiny.score("bm25", tmp_path / "scores", workspace)
    return tiny.select(scores, tmp_path / "selection", workspace, {"fraction": 0.1}).path


def test_a_selection_for_other_trainers(paydirt: Any, selection: Path, tmp_path: Path) -> None:
    out = tmp_path / "export"
    code, _, said = paydirt("export", selection, "--out", out)
    assert code == 0, said
    name = "sums_and_capitals-train-p0.10-bm25"
    rows = [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == json.loads((selection / "selection.json").read_text())["ids"]
    assert set(rows[0]) == {"dataset", "id", "messages", "source", "score", "rank", "weight"}
    assert rows[0]["messages"][-1]["role"] == "assistant"
    entry = json.loads((out / "dataset_info.json").read_text())[name]
    assert entry["file_name"] == f"{name}.jsonl"
    assert entry["formatting"] == "sharegpt"
    assert entry["columns"] == {"messages": "messages"}
    assert entry["tags"]["assistant_tag"] == "assistant"
    stanza = yaml.safe_load((out / "axolotl.yaml").read_text())["datasets"][0]
    assert stanza["path"] == f"{name}.jsonl"
    assert stanza["type"] == "chat_template"
    assert "nothing was done" in paydirt("export", selection, "--out", out)[1]
