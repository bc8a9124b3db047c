"""Near-duplicate removal: the first stays, unlike things stay, and the report names what stands for what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.data import write_jsonl

pytest.importorskip("datasketch", reason="near-duplicates need the extra `dedup`")

from paydirt.data.pool import PoolConfig, open_pool
from paydirt.data.subset import read_config

TEXT = "Explain how rain forms when warm wet air rises, cools, and its vapour gathers on dust into drops that fall."


def records() -> list[dict[str, Any]]:
    prompts = [TEXT, TEXT.upper() + "!!", "Please: " + TEXT, "What is a fox?", "What is a hen?", TEXT[::-1]]
    answers = ["It does so by condensation of vapour, as every child knows from school."] * 6
    return [
        {"id": f"e{n}", "messages": [{"role": "user", "content": p}, {"role": "assistant", "content": a}]}
        for n, (p, a) in enumerate(zip(prompts, answers))
    ]


def test_the_first_stays(paydirt: Any, tmp_path: Path) -> None:
    pool = write_jsonl(tmp_path / "pool.jsonl", records())
    out = tmp_path / "out"
    code, shown, said = paydirt("dedup", "--pool", pool, "--out", out)
    assert code == 0, said
    assert "removed: 2" in shown
    removed = [json.loads(line) for line in (out / "removed.jsonl").read_text().splitlines()]
    assert [(r["id"], r["kept"]) for r in removed] == [("e1", "e0"), ("e2", "e0")]
    assert removed[0]["similarity"] == 1
    assert 0.8 <= removed[1]["similarity"] < 1
    assert TEXT in removed[1]["kept_text"]
    left = open_pool(read_config(out), tmp_path / "cache")
    assert left.ids() == ["e0", "e3", "e4", "e5"]


def test_prompts_alone_and_other_thresholds(paydirt: Any, tmp_path: Path) -> None:
    pool = write_jsonl(tmp_path / "pool.jsonl", records())
    command = ["dedup", "--pool", pool, "--threshold", 1.0, "--part", "prompt"]
    code, shown, said = paydirt(*command, "--out", tmp_path / "out")
    assert code == 0, said
    assert "removed: 1" in shown
    code, _, said = paydirt("dedup", "--pool", pool, "--part", "nothing", "--out", tmp_path / "x")
    assert code == 2
    assert "part" in said


def test_the_remedy_is_named_where_datasketch_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from paydirt.data.curate import minhash
    from paydirt.data.curate.dedup import DedupConfig, find_duplicates

    pool = open_pool(PoolConfig(files=str(write_jsonl(tmp_path / "p.jsonl", records()))), tmp_path / "cache")
    monkeypatch.setattr(minhash.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'paydirt-llm\[dedup\]'"):
        find_duplicates(pool, DedupConfig())


def test_exact_repeats_in_a_selection_are_counted_and_said(paydirt: Any, tiny: Any, tmp_path: Path) -> None:
    twice = [{**record, "id": f"{record['id']}-{n}"} for record in records() for n in range(2)]
    pool, out = write_jsonl(tmp_path / "pool.jsonl", twice), tmp_path / "scores"
    code, _, said = paydirt(
        "score", "length", "--pool", pool, "--target", "t", "--references", tiny.root / "references.jsonl", "--out", out
    )
    assert code == 0, said
    code, shown, said = paydirt("select", out, "--count", 12, "--out", tmp_path / "all")
    assert code == 0, said
    assert "exact repeats: 6" in shown
    assert "6 of 12 chosen examples repeat another word for word; `paydirt dedup` leaves such out" in said


def test_what_stays_is_read_back_by_the_same_columns(paydirt: Any, tmp_path: Path) -> None:
    rows = [{"Frage": TEXT, "Antwort": "So.", "Nr": f"n{n}"} for n in range(3)]
    pool, out = write_jsonl(tmp_path / "pool.jsonl", rows), tmp_path / "out"
    code, shown, said = paydirt("dedup", "--pool", pool, "--out", out, "--columns", "prompt=Frage,answer=Antwort,id=Nr")
    assert code == 0, said
    assert "removed: 2" in shown
    assert open_pool(read_config(out), tmp_path / "cache").ids() == ["n0"]
