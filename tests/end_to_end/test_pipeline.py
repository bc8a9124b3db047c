"""End to end: the commands that a person types, on tiny files, from a pool to an evaluated model and a report."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.command import start
from support.data import CAPITALS
from support.stages import Tiny, files_of

from paydirt.core.artifacts import open_artifact
from paydirt.core.config import dump_yaml, read_yaml


@pytest.fixture
def flags(tiny: Tiny, tmp_path: Path) -> dict[str, list]:
    """The flags that most commands share."""
    return {
        "pool": ["--pool", tiny.root / "pool.jsonl"],
        "target": ["--target", "tiny", "--references", tiny.root / "references.jsonl"],
        "test": ["--test", tiny.root / "test.jsonl"],
        "model": ["--model", tiny.model],
        "cache": ["--cache", tmp_path / "cache"],
    }


@pytest.fixture
def selection(paydirt, flags, tmp_path: Path) -> Path:
    """10 examples chosen by bm25."""
    paydirt("score", "bm25", *flags["pool"], *flags["target"], *flags["cache"], "--out", tmp_path / "scores")
    code, _, err = paydirt("select", tmp_path / "scores", "--count", 10, *flags["cache"], "--out", tmp_path / "sel")
    assert code == 0, err
    return tmp_path / "sel"


def test_score_select_in_the_terminal(paydirt, flags, tiny: Tiny, tmp_path: Path) -> None:
    """Scores first, then any number of selections of them; the chosen records keep their fields and rank order."""
    score = ["score", "bm25", *flags["pool"], *flags["target"], *flags["cache"], "--out", tmp_path / "scores"]
    code, out, err = paydirt(*score)
    assert code == 0, err
    assert f"wrote {tmp_path / 'scores'}" in out
    code, out, _ = paydirt(*score)
    assert code == 0
    assert "is up to date; nothing was done" in out

    for policy in ("top", "round_robin"):
        place = tmp_path / policy
        code, out, err = paydirt(
            *("select", tmp_path / "scores", "--policy", policy, "--fraction", 0.25, *flags["cache"], "--out", place)
        )
        assert code == 0, err
        assert "examples: 15" in out
        chosen = [json.loads(line) for line in (place / "selection.jsonl").read_text().splitlines()]
        originals = {r["id"]: r for r in map(json.loads, (tiny.root / "pool.jsonl").read_text().splitlines())}
        assert all(record == originals[record["id"]] for record in chosen), "every original field is kept"
        table = pq.read_table(place / "scores.parquet").to_pylist()
        assert len(table) == 60
        ranked = sorted((r for r in table if r["rank"] is not None), key=lambda r: r["rank"])
        assert [r["id"] for r in ranked] == [r["id"] for r in chosen]
        assert [r["rank"] for r in ranked] == list(range(1, 16))
        assert {"score[sums]", "score[capitals]", "source", "tokens"} <= table[0].keys()
        if policy == "top":
            assert [r["score"] for r in ranked] == sorted((r["score"] for r in ranked), reverse=True)
            assert min(r["score"] for r in ranked) >= max(r["score"] for r in table if r["rank"] is None)
    assert {r["source"] for r in chosen} == {"sums", "capitals"}, "references are sums and capitals, never chat"


@pytest.mark.parametrize(
    ("method", "precision"), [("lora", "fp32"), ("lora", "bf16"), ("full", "fp32"), ("full", "bf16")]
)
def test_train_and_evaluate_what_was_selected(
    paydirt, flags, selection: Path, tmp_path: Path, method: str, precision: str
) -> None:
    data, model = selection / "selection.jsonl", tmp_path / "trained"
    options = ["--method", method, "--precision", precision, "--batch-size", 4, "--learning-rate", "1e-3"]
    code, out, err = paydirt(
        *("train", "--data", data, *flags["model"], "--max-length", 128, *options, *flags["cache"], "--out", model)
    )
    assert code == 0, err
    assert "steps: 3" in out
    assert (model / "model" / ("adapter_config.json" if method == "lora" else "config.json")).exists()
    assert not list(model.rglob("*.bin")), "no pickles are left"
    code, out, err = paydirt(
        *("evaluate", model / "model", *flags["target"], *flags["test"], "--max-length", 128, *flags["cache"]),
        *("--out", tmp_path / "evaluated"),
    )
    assert code == 0, err
    assert "exact_match" in out
    result = json.loads((tmp_path / "evaluated" / "result.json").read_text())
    assert result["n"] == 3
    assert result["metrics"]["reference_loss"] > 0
    [line] = (tmp_path / "evaluated" / "ledger.jsonl").read_text().splitlines()
    assert json.loads(line)["finished"]


def test_tuning_can_teach_the_answer(paydirt, tiny: Tiny, flags, tmp_path: Path) -> None:
    """The chain is closed: what is trained, with this mask and template, is what generation is graded on."""
    from support.data import record, write_jsonl

    facts = [record(f"f-{c}", f"Capital of {c}?", CAPITALS[c]) for c in CAPITALS]
    write_jsonl(tmp_path / "facts.jsonl", facts)
    write_jsonl(tmp_path / "test.jsonl", facts[:3])
    train = ["train", "--data", tmp_path / "facts.jsonl", *flags["model"], "--max-length", 64, *flags["cache"]]
    train += ["--method", "full", "--batch-size", 6, "--epochs", 150, "--learning-rate", "1e-2", "--save", "no"]
    code, _, err = paydirt(*train, "--out", tmp_path / "trained")
    assert code == 0, err
    code, _, err = paydirt(
        *("evaluate", tmp_path / "trained" / "model", *flags["target"], "--test", tmp_path / "test.jsonl"),
        *("--max-length", 64, *flags["cache"], "--out", tmp_path / "evaluated"),
    )
    assert code == 0, err
    assert json.loads((tmp_path / "evaluated" / "result.json").read_text())["metrics"]["exact_match"] == 1.0


def test_dry_run_prints_a_cost_and_writes_nothing(paydirt, flags, tmp_path: Path) -> None:
    out_dir = tmp_path / "scores"
    code, out, err = paydirt(
        *("score", "ppl", *flags["pool"], *flags["target"], *flags["model"], "--max-length", 128, *flags["cache"]),
        *("--out", out_dir, "--dry-run"),
    )
    assert code == 0, err
    assert "FLOPs" in out
    assert "nothing was run" in out
    assert not out_dir.exists()


def test_a_recipe_runs_to_a_table_and_replays(paydirt, tiny: Tiny, tmp_path: Path) -> None:
    """`paydirt run recipe.yaml`, then the same again, then any of its artifacts from the config.yaml it holds."""
    recipe = {
        "name": "tiny",
        "pool": tiny.pool,
        "targets": [tiny.target],
        "model": tiny.model_config,
        "encoding": {"max_length": 128},
        "methods": ["bm25"],
        "fractions": [0.1],
        "seeds": [1],
        "training": {"method": "full", "batch_size": 4},
        "workers": 1,
    }
    (tmp_path / "recipe.yaml").write_text(dump_yaml(recipe))
    study = tmp_path / "study"
    code, out, err = paydirt("run", tmp_path / "recipe.yaml", "--out", study, "--dry-run")
    assert code == 0, err
    assert "nothing was run" in out
    code, out, err = paydirt("run", tmp_path / "recipe.yaml", "--out", study)
    assert code == 0, err
    assert "zero-shot" in out
    assert "bm25" in out
    assert (study / "results.parquet").exists()
    code, out, err = paydirt("run", study / "config.yaml", "--out", study)
    assert code == 0, err
    assert "0 artifacts made" in err

    for part in ("scores", "selections", "models", "evaluations"):
        original = sorted((study / part).rglob("manifest.json"))[0].parent
        assert read_yaml(original / "config.yaml")["stage"] in ("score", "select", "train", "evaluate")
        place = tmp_path / "again" / part
        code, _, err = paydirt("run", original / "config.yaml", "--out", place, "--cache", tmp_path / "cache")
        assert code == 0, err
        assert open_artifact(place).fingerprint == open_artifact(original).fingerprint
        assert files_of(place) == files_of(original)
        code, out, err = paydirt("inspect", original)
        assert code == 0, err
        assert open_artifact(original).fingerprint in out


def test_the_command_itself_answers() -> None:
    """`python -m paydirt`, in a process of its own: version, help of every method, and the exit code of a mistake."""
    process = start("--version")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.startswith("paydirt ")
    process = start("score", "bm52")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "bm52" in out


def test_help_lists_every_method_with_its_flags(paydirt) -> None:
    from paydirt.scoring.base import SCORERS

    code, out, _ = paydirt("score", "--help")
    assert code == 0
    for name in SCORERS.names():
        assert name in out
    code, out, _ = paydirt("score", "bm25", "--help")
    assert code == 0
    for flag in ("--variant", "--k1", "--document", "--pool", "--references"):
        assert flag in out
