"""`paydirt split`: disjoint parts that make up the pool, drawn by the seed alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from paydirt.data.curate.split import SplitConfig, split
from paydirt.data.pool import PoolConfig, open_pool


def ids_of(path: Path) -> set[str]:
    return {json.loads(line)["id"] for line in path.read_text().splitlines()}


def test_parts_make_up_the_source(paydirt: Any, tiny: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        "split",
        "--pool",
        tiny.root / "pool.jsonl",
        "--source",
        "sums",
        "--points",
        5,
        "--seed",
        1,
        "--out",
        out,
    ]
    code, shown, said = paydirt(*command)
    assert code == 0, said
    assert "points: 5" in shown
    points, rest = ids_of(out / "val_sums_data.jsonl"), ids_of(out / "train_sums_data.jsonl")
    assert len(points) == 5
    assert not points & rest
    assert len(points | rest) == 20
    assert len(ids_of(out / "train_chat_data.jsonl")) == 20  # other sources go to the pool whole
    assert not (out / "val_chat_data.jsonl").exists()
    assert paydirt(*command)[1].count("nothing was done") == 1


def test_order_of_the_pool_does_not_matter(tiny: Any, tmp_path: Path) -> None:
    drawn = []
    for name, values in (("a", tiny.pool), ("b", tiny.shuffled)):
        pool = open_pool(PoolConfig(**values), tmp_path / "cache")
        made = split(pool, SplitConfig(points=0.25, seed=4), tmp_path / name)
        drawn.append(set(json.loads((made.path / "split.json").read_text())["point_ids"]))
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 15


def test_faults(paydirt: Any, tiny: Any, tmp_path: Path) -> None:
    pool = tiny.root / "pool.jsonl"
    code, _, said = paydirt("split", "--pool", pool, "--source", "summs", "--out", tmp_path / "x")
    assert code == 2
    assert "no source 'summs'" in said
    code, _, said = paydirt("split", "--pool", pool, "--points", 60, "--out", tmp_path / "x")
    assert code == 2
    assert "both parts need some" in said


def test_a_share_and_a_half_is_no_number_of_points(paydirt: Any, tiny: Any, tmp_path: Path) -> None:
    """2.5 points were taken as 2 without a word."""
    for points in ("2.5", "inf", "nan"):
        code, _, said = paydirt(
            "split", "--pool", tiny.root / "pool.jsonl", "--points", points, "--out", tmp_path / "out"
        )
        assert code == 2
        assert "points" in said
        assert points in said
    assert (
        "neither a share below 1 nor a whole number"
        in paydirt("split", "--pool", tiny.root / "pool.jsonl", "--points", "2.5", "--out", tmp_path / "out")[2]
    )
