"""Verbs that run no model have a time too: they are tried on some of their input, and what was tried leaves nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.data import record, write_jsonl

ROWS = 600  # more than a sample of few


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A pool with repeats, references of which some are in it, published scores and gradients of it."""
    import torch

    root = tmp_path_factory.mktemp("plain")
    rows = [
        record(f"p{n}", f"How many hours are {n % 500} days and {n % 7} nights?", f"It is {n} hours.")
        for n in range(ROWS)
    ]
    write_jsonl(root / "days.jsonl", rows)
    write_jsonl(root / "references.jsonl", [record("r", rows[3]["messages"][0]["content"], "It is 3 hours.")])
    (root / "scores").mkdir(), (root / "dim16").mkdir()
    torch.save(torch.rand(ROWS), root / "scores" / "days_influence_score.pt")
    torch.save(torch.nn.functional.normalize(torch.rand(ROWS, 16)), root / "dim16" / "all_orig.pt")
    return {"root": root, "cache": root / "cache"}


def test_every_plain_verb_has_a_time_and_leaves_nothing(
    places: dict[str, Path], paydirt: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = places["root"]
    monkeypatch.chdir(root)
    monkeypatch.setenv("PAYDIRT_CACHE", str(places["cache"]))
    pool = ("--pool", "days.jsonl")
    code, _, err = paydirt("score", "random", *pool, "--out", tmp_path / "scores")
    assert code == 0, err
    code, _, err = paydirt("select", tmp_path / "scores", "--fraction", "50%", "--out", tmp_path / "half")
    assert code == 0, err
    verbs = {
        "dedup": ("dedup", *pool),
        "split": ("split", *pool, "--points", 500),
        "decontaminate": ("decontaminate", *pool, "--references", "references.jsonl"),
        "export": ("export", tmp_path / "half"),
        "import-scores": ("import-scores", "scores", *pool),
        "import-gradients": ("import-gradients", "dim16", *pool, "--checkpoint", "1"),
        "tiny": ("tiny", *pool, "--vocabulary", 300),
    }
    for name, words in verbs.items():
        out = tmp_path / name
        before = set((places["cache"] / "pools").glob("*"))
        code, planned, err = paydirt("plan", *words, "--out", out)
        assert code == 0, err
        assert not out.exists()
        assert set((places["cache"] / "pools").glob("*")) == before
        assert err.count("600 read") <= 1, f"a sample is no pool of the person's: {err}"
        assert len(re.findall(r"│ (\S+) +│ +1 │ +0 │ +0 │ +([\d.]+ (?:s|min)) │ +([\d.]+ \wB) │", planned)) == 1
        code, again, err = paydirt(*words, "--out", out, "--dry-run")
        assert code == 0, err
        assert again == planned, "what was measured is known to --dry-run"
        code, _, err = paydirt(*words, "--out", out)
        assert code == 0, err
