"""The page on gradients is executed, and its scores are those of the definition."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from paydirt.gradients.store import pack_rows, plan_shards, write_shards

from .test_features import random_moments
from .tiny import random_examples, tiny_model

PAGE = Path(__file__).parents[2] / "docs" / "gradients.md"


def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    by_hand, imported = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    model, examples, names = tiny_model("llama", rank=2), random_examples(9), ["a", "b", "a"]
    space: dict[str, Any] = {
        "model": model,
        "moments": random_moments(model),
        "pool_examples": examples[:6],
        "target_examples": examples[6:],
        "subtask_of": names,
    }
    exec(by_hand, space)
    cosine = torch.nn.functional.cosine_similarity(space["rows"][:, None], space["references"][None], dim=2)
    expected = torch.maximum((cosine[:, 0] + cosine[:, 2]) / 2, cosine[:, 1])
    torch.testing.assert_close(space["scores"], expected)

    def store(name: str, rows: torch.Tensor) -> Path:
        ids = [str(row) for row in range(len(rows))]
        manifest = {"projection": {"k": rows.shape[1]}}
        write_shards(
            tmp_path / name / "store",
            manifest,
            plan_shards(ids, 4),
            lambda part: pack_rows(rows[[*map(int, part)]], "float32"),
        )
        return tmp_path / name

    folders = SimpleNamespace(pool=store("pool", space["rows"]), target=store("target", space["references"]))
    ranked: dict[str, float] = {}
    space |= {"imported": [folders.pool], "imported_references": [folders.target], "weights": [1.0], "ranked": ranked}
    exec(imported, space)
    torch.testing.assert_close(torch.tensor([ranked[str(row)] for row in range(6)]), expected)
