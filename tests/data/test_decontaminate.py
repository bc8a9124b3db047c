"""Decontamination: planted leaks are found by either test, boilerplate and short items are told apart, files read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.data import shared_data, write_jsonl

pytest.importorskip("datasketch", reason="near-duplicates need the extra `dedup`")

from paydirt.core.types import Item
from paydirt.data.curate.decontaminate import DecontaminationConfig, decontaminate
from paydirt.data.curate.shingles import contained, jaccard, ngrams, shingles, word_hashes, words
from paydirt.data.pool import Pool, PoolConfig, open_pool
from paydirt.data.subset import read_config

LONG = "the quick brown fox jumps over the lazy dog while a grey cat watches from the old stone wall near my house"
SHORT = "name the seven hills on which rome was built"
HEAD = "read the following paragraph with care and then answer the question that comes after it in one word"


def record(id: str, prompt: str, answer: str = "Yes.", **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}],
        **more,
    }


@pytest.fixture
def pool(tmp_path: Path) -> tuple[Pool, PoolConfig]:
    first = [
        record("clean", "What is a fox? It is a small animal of the woods that eats mice, berries and the odd hen."),
        record("inside", f"Tell me, is this true: {LONG.upper()}! Or is it not?", extra={"kept": 1}),
        record("in-answer", "Write a sentence.", f"Gladly. {LONG}."),
        record("near", " ".join(LONG.split()[:-1]) + " barn"),
    ]
    second = [
        record("short", f"Please {SHORT}, in order."),
        record("boilerplate", f"{HEAD}: who wrote it?"),
    ]
    files = {
        "one": str(write_jsonl(tmp_path / "a.jsonl", first)),
        "two": str(write_jsonl(tmp_path / "b.jsonl", second)),
    }
    config = PoolConfig(files=files)
    return open_pool(config, tmp_path / "cache"), config


ITEMS = [
    Item("fox/1", LONG),
    Item("rome/1", SHORT),
    Item("tiny/1", "Is it?"),
    *(Item(f"task/{n}", f"{HEAD} {n} {n + 1} {n + 2}") for n in range(7)),
]


def test_leaks_are_left_out_and_reported(pool: tuple[Pool, PoolConfig], tmp_path: Path) -> None:
    made = decontaminate(*pool, ITEMS, DecontaminationConfig(), tmp_path / "out")
    matches = [json.loads(line) for line in (made.path / "matches.jsonl").read_text().splitlines()]
    by_id = {(m["id"], m["kind"]): m for m in matches}
    assert {id for id, kind in by_id if kind == "overlap"} == {"inside", "in-answer", "near", "short"}
    assert by_id["near", "near-duplicate"]["similarity"] >= 0.8
    assert by_id["boilerplate", "boilerplate"]["items_with_run"] == 7
    assert by_id["inside", "overlap"]["item"] == "fox/1"
    assert LONG in by_id["inside", "overlap"]["item_text"]
    assert "QUICK BROWN FOX" in by_id["inside", "overlap"]["example_text"]
    assert by_id["short", "overlap"]["shared"] == SHORT
    assert made.notes["excluded"] == 4
    assert made.notes["first_too_short"] == ["tiny/1"]
    left = open_pool(read_config(made.path), tmp_path / "cache")
    assert left.ids() == ["clean", "boilerplate"]
    assert left.source_counts() == {"one": 1, "two": 1}
    assert left.example(0) == pool[0].example(0)
    again = decontaminate(*pool, ITEMS, DecontaminationConfig(), tmp_path / "out")
    assert not again.fresh


def test_a_near_duplicate_without_a_long_run(tmp_path: Path) -> None:
    """Every 12th word differs, so no 13 words in a row are shared; at 0.4 the sets are near."""
    item = " ".join(f"word{n}" for n in range(60))
    changed = " ".join("other" if n % 12 == 11 else f"word{n}" for n in range(60))
    config = PoolConfig(files=str(write_jsonl(tmp_path / "p.jsonl", [record("a", changed), record("b", "Nothing.")])))
    pool = open_pool(config, tmp_path / "cache")
    found = decontaminate(pool, config, [Item("x/1", item)], DecontaminationConfig(near=0.4), tmp_path / "out")
    assert found.notes["by_kind"] == {"overlap": 0, "near-duplicate": 1, "boilerplate": 0}
    strict = decontaminate(pool, config, [Item("x/1", item)], DecontaminationConfig(near=0.9), tmp_path / "strict")
    assert strict.notes["excluded"] == 0


def test_nothing_to_look_for_is_an_error(pool: tuple[Pool, PoolConfig], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no items to look for"):
        decontaminate(*pool, [], DecontaminationConfig(), tmp_path / "out")


def test_shingles_of_words() -> None:
    assert words("Hello, WORLD -- d'accord… привет!") == ["hello", "world", "d", "accord", "привет"]
    text = "a b c d e f"
    assert len(shingles(text, 5)) == 2
    assert len(shingles("a b", 5)) == 1
    assert len(shingles("", 5)) == 0
    assert jaccard(shingles(text, 2), shingles("a b c d e g", 2)) == pytest.approx(4 / 6)
    assert ngrams(word_hashes(["a", "b", "c"]), 2).tolist() != ngrams(word_hashes(["b", "a", "c"]), 2).tolist()
    assert contained(shingles("a b c", 1), shingles("b d", 1)).sum() == 1


def test_the_real_references_are_found(tmp_path: Path, paydirt: Any) -> None:
    """A pool that holds one item of each benchmark loses exactly those, through the command."""
    data = shared_data()
    from paydirt.tasks.contamination import items_against

    items = {i.id.split("/")[0] + "/" + i.id.split("/")[1]: i for i in items_against(["mmlu", "bbh"], str(data))}
    leaks = [record(f"leak-{n}", items[key].text) for n, key in enumerate(("mmlu/test", "bbh/test", "mmlu/reference"))]
    pool = write_jsonl(tmp_path / "pool.jsonl", [*leaks, record("fine", "What is the capital of Peru?", "Lima.")])
    out = tmp_path / "out"
    code, shown, said = paydirt("decontaminate", "--pool", pool, "--data", data, "--against", "mmlu,bbh", "--out", out)
    assert code == 0, said
    assert "excluded: 3" in shown
    assert "mmlu in pool" in shown
