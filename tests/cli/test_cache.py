"""`paydirt cache`: what lies there is said, what goes is what was chosen, and never what somebody holds or needs."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from support.data import write_jsonl
from support.stages import ENCODING, TRAINING, Tiny

from paydirt.core import cache as shelf
from paydirt.core.artifacts import open_artifact
from paydirt.core.claims import locked
from paydirt.core.config import parse
from paydirt.data.pool import PoolConfig, open_pool
from paydirt.study.recipe import Study
from paydirt.study.run import run_study


@pytest.fixture
def filled(tiny: Tiny, paydirt: Any, tmp_path: Path) -> tuple[Path, Path]:
    """A cache that a score by losses has filled, and the score; beside it entries of another pool."""
    cache, scores = tmp_path / "cache", tmp_path / "scores"
    words = ["score", "ppl", "--tune-epochs", 1, "--pool", tiny.root / "pool.jsonl", "--model", tiny.model]
    words += ["--references", tiny.root / "references.jsonl", "--max-length", 128, "--cache", cache]
    code, _, err = paydirt(*words, "--out", scores)
    assert code == 0, err
    other = write_jsonl(tmp_path / "other.jsonl", [{"prompt": "a", "completion": "b"}])
    open_pool(PoolConfig(files=str(other)), cache)
    return cache, scores


def names(cache: Path) -> set[str]:
    return {f"{e.kind}/{e.path.name}" for e in shelf.entries(cache)}


def test_it_lists_kinds_with_sizes(filled: tuple[Path, Path], paydirt: Any) -> None:
    cache, _ = filled
    code, out, err = paydirt("cache", "--cache", cache)
    assert code == 0, err
    for kind in ("pools", "tokens", "losses", "tuned"):
        assert re.search(rf"{kind} .*[kM]B", out), out
    size = sum(p.stat().st_size for p in (cache / "tokens").rglob("*") if p.is_file())
    [found] = [e for e in shelf.entries(cache) if e.kind == "tokens"]
    assert found.bytes == size
    code, out, _ = paydirt("cache", "--cache", cache, "--entries", "--kind", "pools")
    assert out.count("pools/") == 2


def test_what_a_score_needs_stays_and_the_rest_goes(filled: tuple[Path, Path], paydirt: Any, tiny: Tiny) -> None:
    """The pool, its tokens, the losses and the tuned model are needed; the other pool is not. Nothing goes by a dry run."""
    cache, scores = filled
    before = names(cache)
    prune = ["cache", "--cache", cache, "--prune", "--unreferenced", "--study", scores]
    code, out, err = paydirt(*prune, "--dry-run")
    assert code == 0, err
    assert "would be removed" in out
    assert names(cache) == before
    code, out, err = paydirt(*prune)
    assert code == 0, err
    kinds = sorted(name.split("/")[0] for name in names(cache))
    assert {"pools", "tokens", "losses", "tuned"} <= set(kinds)
    assert kinds.count("pools") == 1
    code, out, _ = paydirt("cache", "--cache", cache, "--prune", "--kind", "pools", "--study", scores)
    assert "stays" in out
    assert "pools" in {name.split("/")[0] for name in names(cache)}
    code, _, err = paydirt("select", scores, "--fraction", 0.1, "--cache", cache, "--out", scores.parent / "picked")
    assert code == 0, err
    code, out, _ = paydirt("cache", "--cache", cache, "--prune", "--kind", "pools", "--study", scores, "--force")
    assert "1 entries removed" in out
    assert not list((cache / "pools").iterdir())
    code, _, err = paydirt("select", scores, "--fraction", 0.2, "--cache", cache, "--out", scores.parent / "more")
    assert code == 0, err  # it is imported again


def test_nothing_is_chosen_by_saying_nothing(filled: tuple[Path, Path], paydirt: Any) -> None:
    cache, _ = filled
    code, _, err = paydirt("cache", "--cache", cache, "--prune")
    assert code == 2
    assert "say what to remove" in err
    code, _, err = paydirt("cache", "--cache", cache, "--kind", "tokns")
    assert code == 2
    assert "nothing of that kind" in err
    for option, value in (("--older-than", "soon"), ("--over", "much")):
        code, _, err = paydirt("cache", "--cache", cache, option, value)
        assert code == 2, option
        assert value in err


def test_age_and_size(filled: tuple[Path, Path], paydirt: Any) -> None:
    """Old entries go by age; by size the oldest go first, until the rest is small enough."""
    cache, _ = filled
    entries = shelf.entries(cache)
    for number, entry in enumerate(sorted(entries, key=lambda e: e.path)):
        then = time.time() - 86400 * (number + 1)
        for path in [entry.path, *(entry.path.rglob("*") if entry.path.is_dir() else ())]:
            os.utime(path, (then, then))
    by_age = sorted(shelf.entries(cache), key=lambda e: -e.age)
    chosen = shelf.chosen(by_age, over=sum(e.bytes for e in by_age) - 1)
    assert chosen == by_age[:1]
    assert shelf.chosen(by_age, over=sum(e.bytes for e in by_age)) == []
    old = {f"{e.kind}/{e.path.name}" for e in by_age if e.age > 3 * 86400}
    before = names(cache)
    code, _, err = paydirt("cache", "--cache", cache, "--prune", "--older-than", "3d")
    assert code == 0, err
    assert names(cache) == before - old
    assert old


def test_what_a_process_holds_stays(filled: tuple[Path, Path]) -> None:
    cache, _ = filled
    [tokens] = [e for e in shelf.entries(cache) if e.kind == "tokens"]
    with locked(tokens.path):
        assert shelf.remove(tokens) == "in use"
    [losses] = [e for e in shelf.entries(cache) if e.kind == "losses"]
    claim = losses.path / "claims" / "00000"
    claim.parent.mkdir(exist_ok=True)
    claim.write_text(json.dumps({"host": os.uname().nodename, "process": os.getppid()}))
    assert shelf.remove(losses) == "in use"
    claim.unlink()
    assert shelf.remove(losses) == ""
    assert shelf.remove(tokens) == ""
    assert not tokens.path.exists()


def test_a_failed_import_leaves_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "a", "completion": "b"}\n{"x": 1}\n')
    with pytest.raises(ValueError, match=r"bad\.jsonl:2"):
        open_pool(PoolConfig(files=str(bad)), tmp_path / "cache")
    assert list((tmp_path / "cache" / "pools").iterdir()) == []


def test_leftovers_are_shown_and_pruned_by_age(filled: tuple[Path, Path], paydirt: Any) -> None:
    cache, _ = filled
    part = cache / "tuned" / "killed.part"
    part.mkdir(parents=True)
    (part / "weights").write_bytes(b"x" * 1000)
    _, out, _ = paydirt("cache", "--cache", cache)
    assert "1 leftovers of failed or killed runs" in out
    _, out, _ = paydirt("cache", "--cache", cache, "--leftovers", "--older-than", "1d", "--prune")
    assert "0 entries removed" in out
    for path in (part / "weights", part):
        os.utime(path, (time.time() - 2 * 86400,) * 2)
    _, out, _ = paydirt("cache", "--cache", cache, "--leftovers", "--older-than", "1d", "--prune")
    assert "1 entries removed" in out
    assert not part.exists()
    assert any(e.kind == "tuned" for e in shelf.entries(cache))


def test_a_study_keeps_what_it_shares(tiny: Tiny, tmp_path: Path, paydirt: Any) -> None:
    """Of a study's own `shared`, all that it was made of stays; it is up to date after pruning."""
    recipe = {
        "pool": tiny.pool, "targets": [tiny.target], "model": tiny.model_config, "encoding": ENCODING, "methods": ["rds"],
        "fractions": [0.1], "seeds": [3], "training": TRAINING, "workers": 1,
    }  # fmt: skip
    study = run_study(parse(Study, recipe), tmp_path / "study").parent
    before = names(study / "shared")
    code, _, err = paydirt("cache", "--cache", study / "shared", "--study", study, "--unreferenced", "--prune")
    assert code == 0, err
    after = names(study / "shared")
    assert {n for n in after if not n.startswith("digests")} == {n for n in before if not n.startswith("digests")}
    for manifest in (study / "scores").rglob("manifest.json"):
        open_artifact(manifest.parent)
