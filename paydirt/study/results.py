"""The results table of a study: one row a run, and what each run cost.

FLOPs are closed forms over the tokens that were really read, under the study's convention, so that they do not depend on
the machine; the ledgers hold the measured counts beside them, and `measured_training_flops` repeats one here.

`model` is a name for people; `model_id`, a fingerprint of the untuned model, and `train_params` say which one it was.
`seed` is the training's, `selection_seed` the selection's; null where the method draws nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from paydirt.core.artifacts import open_artifact
from paydirt.selection.select import selected_ids
from paydirt.stages import read_result
from paydirt.study.recipe import MethodEntry, Study
from paydirt.study.schema import SCHEMA

RESULTS = "results.parquet"


class Run(NamedTuple):
    """Where the parts of one run lie."""

    target: str
    entry: MethodEntry
    fraction: float
    seed: int
    scores: Path
    selection: Path
    model: Path
    evaluation: Path


def write_results(study: Study, out: Path, runs: list[Run], zero_shot: dict[str, Path], model_id: str) -> Path:
    """Write `results.parquet` and the same rows as `results.jsonl`; returns the Parquet path."""
    rows = [_row(study, out, run) for run in runs]
    rows = [*(_zero_row(name, path) for name, path in zero_shot.items()), *rows]
    named: dict[str, Any] = {"model": model_label(study.model.path), "model_id": model_id}
    named["train_params"] = next((r["train_params"] for r in rows if r.get("train_params")), None)
    rows = [row | named for row in rows]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    part = out / (RESULTS + ".part")
    pq.write_table(table, part)
    part.replace(out / RESULTS)
    lines = out / "results.jsonl.part"
    lines.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    lines.replace(out / "results.jsonl")
    return out / RESULTS


def model_label(path: str) -> str:
    """A hub id as it is, a folder by its last two parts: `world/model`, since many are called `model`."""
    return "/".join(Path(path).parts[-2:]).lstrip("/")


def _row(study: Study, out: Path, run: Run) -> dict[str, Any]:
    scores, selection = open_artifact(run.scores, "score"), open_artifact(run.selection, "select")
    model, result = open_artifact(run.model, "train"), read_result(run.evaluation)
    selecting, training = (
        float(scores.notes["charged_flops"]),
        float(model.notes["predicted_flops"][study.convention]),
    )
    return {
        "task": run.target,
        "method": run.entry.label,
        "metric": result.main,
        "fraction": run.fraction,
        "seed": run.seed,
        "selection_seed": study.selection_seed(run.entry, run.seed),
        "score": result.score,
        "reference_loss": result.metrics.get("reference_loss"),
        "precision": _precision(study, run),
        "n_examples": model.notes["examples"],
        "tokens": model.notes["tokens"],
        "selection_flops": selecting,
        "training_flops": training,
        "total_flops": selecting + training,
        "measured_training_flops": model.notes["measured_flops"],
        "selection_seconds": scores.manifest["seconds"] + selection.manifest["seconds"],
        "training_seconds": model.manifest["seconds"],
        "train_params": model.notes["total_parameters"],
        "selector_params": scores.notes.get("selector_params"),
        "selection": str(run.selection.relative_to(out)),
        "tuned_model": str(run.model.relative_to(out)),
        **_how_evaluated(run.evaluation),
    }


def _zero_row(target: str, path: Path) -> dict[str, Any]:
    """The untuned model: no data, no FLOPs, no seed."""
    result = read_result(path)
    zeros = dict.fromkeys(("n_examples", "tokens", "selection_flops", "training_flops", "total_flops"), 0)
    return {
        "task": target,
        "method": "zero-shot",
        "metric": result.main,
        "fraction": 0.0,
        "score": result.score,
        "reference_loss": result.metrics.get("reference_loss"),
        **zeros,
        **_how_evaluated(path),
    }


def _how_evaluated(path: Path) -> dict[str, Any]:
    """What the score was measured with: the benchmark, its standard error, settings and versions as JSON."""
    artifact, result = open_artifact(path, "evaluate"), read_result(path)
    return {
        "benchmark": result.settings.get("benchmark") or artifact.manifest["config"]["benchmark"]["name"],
        "score_stderr": result.metrics.get(f"{result.main}_stderr"),
        "n_items": result.n,
        "evaluation_settings": json.dumps(result.settings, ensure_ascii=False, sort_keys=True),
        "evaluation_versions": json.dumps(artifact.manifest["versions"], sort_keys=True),
    }


def _precision(study: Study, run: Run) -> float | None:
    """Share of the chosen examples that the labels call relevant (else: score 1), where the study has labels."""
    if study.truth is None:
        return None
    lines = Path(study.truth.replace("{target}", run.target)).read_text(encoding="utf-8").splitlines()
    right = {row["id"] for row in map(json.loads, lines) if row.get("relevant", row["score"] >= 1)}
    ids = selected_ids(run.selection)
    return sum(i in right for i in ids) / len(ids)
