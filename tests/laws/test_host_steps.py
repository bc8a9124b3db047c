"""Laws of steps that need no model, dedup and decontamination: who does which range of rows, and kills, change no byte.

The reference is one pass over the pool with an index of everything that is kept.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from support.data import record, write_jsonl
from support.stages import files_of

from paydirt.core.config import parse
from paydirt.core.types import Item
from paydirt.data.curate import near, ranges
from paydirt.data.curate.decontaminate import DecontaminationConfig, find_matches
from paydirt.data.curate.dedup import DedupConfig, find_duplicates
from paydirt.data.curate.minhash import NearIndex
from paydirt.data.curate.shingles import jaccard, shingles
from paydirt.data.pool import Pool, PoolConfig, open_pool
from paydirt.execution import Local
from paydirt.stages import Workspace
from paydirt.stages_data import DecontaminateStage, DedupStage, run_decontaminate, run_dedup

WORDS = [
    f"{a}{b}"
    for a in ["ba", "be", "bi", "bo", "bu", "da", "de", "di", "do", "du"]
    for b in ["k", "l", "m", "n", "r", "s", "t"]
]


def planted(tmp_path: Path, count: int = 240) -> tuple[Pool, Path]:
    """Random texts, repeats of earlier ones with a word or two changed (chains of them too), and texts without words."""
    draw, texts = random.Random(3), []
    for number in range(count):
        words = [draw.choice(WORDS) for _ in range(draw.randint(20, 60))]
        if number > 4 and draw.random() < 0.5:
            words = texts[draw.randrange(max(0, number - 40), number)].split()
            for _ in range(draw.randint(0, 2)):
                if words:
                    words[draw.randrange(len(words))] = draw.choice(WORDS)
        texts.append("!?" if number % 60 == 7 else " ".join(words))
    rows = [record(f"x{i:03d}", text, "Yes." if i % 3 else "No.") for i, text in enumerate(texts)]
    file = write_jsonl(tmp_path / "pool.jsonl", rows)
    return open_pool(PoolConfig(files=str(file)), tmp_path / "cache"), file


def one_pass(pool: Pool, config: DedupConfig) -> list[tuple[int, int, float]]:
    index, kept, found = NearIndex(config.threshold), {}, []
    for row, text in enumerate(pool.texts(part=config.part)):
        own = shingles(text, config.ngram)
        sketch = index.sketch(own)
        similar = ((jaccard(own, kept[other]), -other) for other in index.candidates(sketch))
        similarity, other = max(similar, default=(0.0, 0))
        if similarity >= config.threshold:
            found.append((row, -other, similarity))
        else:
            kept[row] = own
            index.add(row, sketch)
    return found


@pytest.mark.parametrize("config", [DedupConfig(), DedupConfig(threshold=0.5, ngram=3, part="prompt")])
def test_duplicates_are_those_of_one_pass(config: DedupConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, _ = planted(tmp_path)
    expected = one_pass(pool, config)
    assert len(expected) > 40
    assert find_duplicates(pool, config) == expected
    monkeypatch.setattr(ranges, "ROWS", 17)
    monkeypatch.setattr(near, "TOGETHER", 5)
    assert find_duplicates(pool, config, tmp_path / "folder", Local(2).map) == expected
    assert len([*(tmp_path / "folder" / "bands").iterdir()]) == 15


def test_matches_do_not_depend_on_ranges_processes_or_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, _ = planted(tmp_path)
    texts = pool.texts(part="prompt")
    items = [Item(f"bench/{row}", texts[row], "") for row in (3, 11, 40, 90)]
    config = DecontaminationConfig()
    matches, counts = find_matches(pool, items, config)
    assert len(matches) > 8
    monkeypatch.setattr(ranges, "ROWS", 17)
    folder = tmp_path / "folder"
    assert find_matches(pool, items, config, folder, Local(2).map) == (matches, counts)
    files = sorted((folder / "ranges").iterdir())
    assert len(files) == 15
    files[4].unlink()
    before = {file: file.stat().st_mtime_ns for file in files if file.exists()}
    assert find_matches(pool, items, config, folder) == (matches, counts)
    assert {file: file.stat().st_mtime_ns for file in before} == before, "what was done is not done again"


def test_the_artifacts_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, file = planted(tmp_path, 120)
    references = write_jsonl(tmp_path / "items.jsonl", [record("i", "What is asked?", "bak bal bam " * 9)])
    stages: dict[str, tuple[Any, Any]] = {
        "dedup": (run_dedup, parse(DedupStage, {"pool": {"files": [str(file)]}})),
        "clean": (
            run_decontaminate,
            parse(DecontaminateStage, {"pool": {"files": [str(file)]}, "references": [str(references)]}),
        ),
    }
    alone = {name: run(stage, tmp_path / name, Workspace(tmp_path / "a")) for name, (run, stage) in stages.items()}
    monkeypatch.setattr(ranges, "ROWS", 17)
    for name, (run, stage) in stages.items():
        spread = run(stage, tmp_path / f"{name}-2", Workspace(tmp_path / "b", executor=Local(2)))
        assert files_of(spread.path) == files_of(alone[name].path)
        assert spread.manifest["key"] == alone[name].manifest["key"]
