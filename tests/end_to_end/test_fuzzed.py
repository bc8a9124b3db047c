"""What the fuzzer has found, each kind by name: status 2, the place and a remedy, where there was a traceback or worse."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.command import environment
from support.data import pool_records, write_jsonl
from support.stages import Tiny

from paydirt.stages import Workspace

ADVISE = ("--train-params", "1e6", "--pool-tokens", "1e4", "--budget", "1e12")
GOOD = {"method": "random", "model": "m", "task": "t", "fraction": 0.1, "score": 0.5, "total_flops": 1e12, "seed": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("null\n", "line 1: expected a JSON object with named fields, found NoneType"),
        ("[1]\n", "line 1: expected a JSON object with named fields, found list"),
        (json.dumps(GOOD) + "\n{\n", "line 2: malformed JSON at column 2"),
        (json.dumps({"a": 1})[:-1] + ', "b": ' + "9" * 5000 + "}\n", "line 1: JSON with an integer of thousands"),
    ],
)
def test_lines_of_a_results_table_that_are_no_records(tmp_path: Path, text: str, said: str) -> None:
    """Arrow's reader of JSON lines died of `null` (signal 11), so that this needs a process of its own."""
    (tmp_path / "results.jsonl").write_text(text)
    command = [sys.executable, "-m", "paydirt", "advise", *ADVISE, "--results", str(tmp_path / "results.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == 2, done
    assert said in " ".join(done.stderr.split())


def test_columns_of_a_results_table_need_not_begin_in_its_first_line(tmp_path: Path) -> None:
    from paydirt.analysis.loading import load_results

    write_jsonl(tmp_path / "results.jsonl", [{**GOOD, "seed": 0}, {**GOOD, "metric": "f1", "score": 1}])
    results = load_results(tmp_path / "results.jsonl")
    assert results.numbers["score"].tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("artifact", "key"), [("selection", "selection"), ("selection", "budget"), ("scores", "method"), ("scores", "seed")]
)
def test_an_export_of_what_lacks_a_part_of_its_config(
    paydirt: Any, tiny: Tiny, tmp_path: Path, artifact: str, key: str
) -> None:
    workspace = Workspace(tmp_path / "cache")
    scores = tiny.score("bm25", tmp_path / "scores", workspace)
    chosen = tiny.select(scores, tmp_path / "selection", workspace, {"fraction": 0.1})
    manifest = tmp_path / artifact / "manifest.json"
    facts = json.loads(manifest.read_text())
    del facts["config"][key]
    manifest.write_text(json.dumps(facts))
    code, _, said = paydirt("export", chosen.path, "--out", tmp_path / "o", "--cache", tmp_path / "cache")
    assert code == 2, said
    found = re.search(
        rf"{tmp_path / artifact}: damaged: manifest.json .*make it again: paydirt (run .*--force)",
        " ".join(said.split()),
    )
    assert found, said
    assert paydirt(*found[1].split(), "--cache", tmp_path / "cache")[0] == 0
    assert paydirt("export", chosen.path, "--out", tmp_path / "o", "--cache", tmp_path / "cache")[0] == 0


@pytest.mark.parametrize("device", ["-1", "", "cuda:-1", "meta", "xla", "gpu"])
@pytest.mark.parametrize("verb", ["train", "score", "evaluate"])
def test_a_device_that_is_none(paydirt: Any, tiny: Tiny, tmp_path: Path, verb: str, device: str) -> None:
    target = ("--target", "t", "--references", tiny.root / "references.jsonl")
    command = {
        "train": ("train", "--data", tiny.root / "pool.jsonl", "--model", tiny.model, "--device"),
        "score": ("score", "rds", "--pool", tiny.root / "pool.jsonl", *target, "--model", tiny.model, "--model-device"),
        "evaluate": ("evaluate", tiny.model, *target, "--test", tiny.root / "test.jsonl", "--device"),
    }[verb]
    code, _, said = paydirt(*command, device, "--out", tmp_path / "o", "--cache", tmp_path / "cache")
    assert code == 2, said
    assert f"device {device!r}: " in said


@pytest.mark.parametrize("what", ["text", "gone and new", "damaged too"])
def test_the_remedy_for_scores_of_a_changed_pool_works(paydirt: Any, tiny: Tiny, tmp_path: Path, what: str) -> None:
    rows = pool_records()
    write_jsonl(tmp_path / "pool.jsonl", rows)
    references, cache = tiny.root / "references.jsonl", ("--cache", tmp_path / "cache")
    score = ("score", "bm25", "--pool", tmp_path / "pool.jsonl", "--target", "t", "--references", references)
    assert paydirt(*score, "--out", tmp_path / "scores", *cache)[0] == 0
    rows[3]["messages"][0]["content"] += " today"
    if what == "gone and new":
        rows[4]["id"] = "fresh"
    write_jsonl(tmp_path / "pool.jsonl", rows)
    if what == "damaged too":
        (tmp_path / "scores" / "rows.parquet").write_bytes(b"PAR1")
    select = ("select", tmp_path / "scores", "--count", 3, "--out", tmp_path / "o", *cache)
    code, _, said = paydirt(*select)
    assert code == 2
    remedy = re.search(r"make it again: paydirt (run \S+ --out \S+ --force)", " ".join(said.split()))
    assert remedy, said
    assert paydirt(*remedy[1].split(), *cache)[0] == 0
    assert paydirt(*select)[0] == 0


@pytest.mark.parametrize("value", ["{x}", "[]", "[seeds]", "1", "no-such"])
def test_a_training_recipe_that_is_no_name(paydirt: Any, tiny: Tiny, tmp_path: Path, value: str) -> None:
    command = ("train", "--data", tiny.root / "pool.jsonl", "--model", tiny.model, "--set", f"recipe={value}")
    code, _, said = paydirt(*command, "--out", tmp_path / "o", "--cache", tmp_path / "cache")
    assert code == 2, said
    assert "recipe" in said


LONG, DEEP = '{"a": ' + "9" * 5000 + "}", '{"a": ' * 100_000
HUGE = '{"id": "x", "score": ' + "9" * 400 + "}"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        *((name, text) for text in (LONG, DEEP) for name in ("pool.jsonl", "pool.json", "config.json", "labels.jsonl")),
        ("labels.jsonl", HUGE),
        *(("less/eval/tydiqa/tydiqa-one-shot.json", text) for text in (LONG, DEEP)),
    ],
    ids=lambda value: value[:20],
)
def test_numbers_of_thousands_of_digits_and_deep_nesting_are_named_with_their_file(
    paydirt: Any, tiny: Tiny, tmp_path: Path, file: str, text: str
) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    pool, out = tiny.root / "pool.jsonl", ("--out", tmp_path / "o", "--cache", tmp_path / "cache")
    target = ("--target", "t", "--references", tiny.root / "references.jsonl")
    command: dict[str, tuple] = {
        "pool": ("score", "random", "--pool", path, *target, *out),
        "labels": ("score", "oracle", "--pool", pool, *target, "--labels", path, *out),
        "config": ("cost", "bm25", "--model", path, "--pool-tokens", "1e6", "--pool-examples", 10),
        "tydiqa-one-shot": ("score", "bm25", "--pool", pool, "--target", "tydiqa", "--data", tmp_path / "less", *out),
    }
    code, _, said = paydirt(*command[path.stem])
    assert code == 2, said
    assert str(path) in said
    assert len(said) < 2000


@pytest.mark.parametrize(
    ("verb", "flags"),
    [
        ("train", ("--epochs", "1e9")),
        ("gradient", ("--warmup-epochs", str(2**64 + 1))),
        ("ppl", ("--tune-epochs", "1e308")),
    ],
)
def test_a_training_that_would_never_end_is_refused(
    paydirt: Any, tiny: Tiny, tmp_path: Path, verb: str, flags: tuple[str, str]
) -> None:
    target = ("--target", "t", "--references", tiny.root / "references.jsonl")
    data = ("--data",) if verb == "train" else ("score", verb, *target, "--pool")
    command = (*(("train",) if verb == "train" else ()), *data, tiny.root / "pool.jsonl", "--model", tiny.model)
    code, _, said = paydirt(*command, *flags, "--out", tmp_path / "o", "--cache", tmp_path / "cache")
    assert code == 2, said
    assert "less than or equal to 10000" in " ".join(said.split())


def test_an_array_whose_header_is_damaged(paydirt: Any, tiny: Tiny, tmp_path: Path) -> None:
    """numpy tokenises the header, and a bracket without its fellow is a TokenError, which no list of errors had."""
    scores = tiny.score("bm25", tmp_path / "scores", Workspace(tmp_path / "cache"))
    path = scores.path / "values" / "00000.npy"
    path.write_bytes(path.read_bytes().replace(b"), }", b"(, }", 1).ljust(path.stat().st_size))
    code, _, said = paydirt("select", scores.path, "--count", 3, "--out", tmp_path / "o", "--cache", tmp_path / "cache")
    assert code == 2, said
    assert "values/00000.npy cannot be read (" in " ".join(said.split())


@pytest.mark.parametrize("name", ["/", "../sums", "a/b", "[", "**"])
def test_published_scores_of_a_name_that_is_no_files(paydirt: Any, tiny: Tiny, tmp_path: Path, name: str) -> None:
    """A name becomes part of a file's name, and "/" made it a path that searching a folder refuses."""
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "x_bm25_score.pt").write_bytes(b"")
    command = ("import-scores", tmp_path / "published", "--pool", f"sums={tiny.root / 'pool.jsonl'}", "--task", name)
    code, _, said = paydirt(*command, "--out", tmp_path / "o", "--cache", tmp_path / "cache")
    assert code == 2, said
    assert "expected one sums_<kind>_score.pt" in " ".join(said.split())


@pytest.mark.parametrize("row", [{"input": "Q"}, {"target": "A"}, "Q", None, []])
def test_an_item_of_bbh_that_lacks_a_field(paydirt: Any, tiny: Tiny, tmp_path: Path, row: Any) -> None:
    """What is decontaminated against is read before it is tested on."""
    from tasks.layout import write_layout

    write_layout(tmp_path / "less")
    [path, *_] = sorted((tmp_path / "less").rglob("bbh/test/*.json"))
    path.write_text(json.dumps({"examples": [{"input": "Q", "target": "A"}, row]}))
    command = ("decontaminate", "--pool", tiny.root / "pool.jsonl", "--against", "bbh", "--data", tmp_path / "less")
    code, _, said = paydirt(*command, "--out", tmp_path / "o", "--cache", tmp_path / "cache")
    assert code == 2, said
    assert f"{path.name}: examples[1] has no `input` and `target`" in " ".join(said.split())
