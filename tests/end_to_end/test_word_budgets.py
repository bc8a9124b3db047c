"""A budget in tokens over scores that hold words: refused with a remedy that exists, accepted as --words."""

from __future__ import annotations

from pathlib import Path

from support.stages import Tiny


def test_a_token_budget_asks_for_a_tokenizer(tiny: Tiny, paydirt, tmp_path: Path) -> None:
    pool = ["--pool", tiny.root / "pool.jsonl", "--target", "t", "--references", tiny.root / "references.jsonl"]
    cache = ["--cache", tmp_path / "cache"]
    assert paydirt("score", "bm25", *pool, "--out", tmp_path / "words", *cache)[0] == 0
    for budget in (["--tokens", 50], ["--flops", 1e9, "--flops-per-token", 1e6]):
        code, _, error = paydirt("select", tmp_path / "words", "--out", tmp_path / "no", *budget, *cache)
        assert code == 2
        assert "these scores hold words" in error
        assert not (tmp_path / "no").exists()
    assert "--words" not in error, "FLOPs of words mean nothing, accepted or not"
    code, out, error = paydirt("select", tmp_path / "words", "--out", tmp_path / "w", "--words", 50, *cache)
    assert code == 0, error
    assert "token unit: words" in out
    # The remedy: the same scores with a model, whose tokenizer counts.
    scored = paydirt("score", "bm25", *pool, "--model", tiny.model, "--out", tmp_path / "tokens", *cache)
    assert scored[0] == 0, scored[2]
    code, _, error = paydirt("select", tmp_path / "tokens", "--out", tmp_path / "t", "--tokens", 200, *cache)
    assert code == 0, error
