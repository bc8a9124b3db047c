"""Say what a path holds: an artifact, a study, or a data file as the pool reader would see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paydirt.core.artifacts import MANIFEST, Artifact, open_artifact, read_json, reading
from paydirt.core.units import lines_of_notes, number
from paydirt.cost.ledger import Entry, Ledger
from paydirt.data.tally import lines_of


def describe(
    path: Path, how: dict[str, Any] | None = None, cache: Path | None = None, verify: bool = False
) -> list[str]:
    """Lines for a person; `how` says how a data file is to be read.

    ValueError where there is nothing to describe, or it is damaged.
    """
    path = Path(path)
    if (path / MANIFEST).is_file():
        artifact = open_artifact(path)
        if verify:
            artifact.check(contents=True)
        with reading(path):
            return _artifact(artifact) + (["  every byte is as it was written"] if verify else [])
    if (path / "results.parquet").is_file():
        return _study(path)
    if path.with_name(path.name + ".part").exists() and not path.exists():
        return [f"{path} is unfinished: {path.name}.part exists; run its stage again to continue it"]
    if not path.exists():
        raise ValueError(f"{path}: no such file or directory")
    return _data(path, how or {}, cache)


def _artifact(artifact: Artifact) -> list[str]:
    m = artifact.manifest
    lines = [f"{artifact.path}: output of stage {m['stage']}, finished {m['finished']} in {number(m['seconds'], 's')}"]
    lines += [f"  {line}" for line in lines_of_notes({k: v for k, v in m["notes"].items() if k != "pool"})]
    if "pool" in m["notes"]:
        lines += [f"  {line}" for line in lines_of(m["notes"]["pool"])]
    lines += [f"  input {k}: {v}" for k, v in m["inputs"].items()]
    lines += [f"  {len(m['outputs'])} files, fingerprint {m['fingerprint']}"]
    lines += [f"  versions: {', '.join(f'{k} {v}' for k, v in m['versions'].items())}"]
    for name in ("cascade.json", "diagnostics.json"):
        if (artifact.path / name).exists():
            lines += _told(read_json(artifact.path, name))
    lines += [_ledger_line(entry) for entry in Ledger(artifact.path).entries()]
    return [*lines, f"  run again with: paydirt run {artifact.path / 'config.yaml'}"]


def _told(report: dict[str, Any]) -> list[str]:
    """What a cascade spent where, or how well a predictor does on points that it has not seen."""
    if "stages" in report:
        lines = [f"  cascade: spent {report['spent']:.3g} of {report['budget']:.3g} FLOPs"]
        for stage in report["stages"]:
            lines.append(
                f"    {stage['method']}: saw {stage['seen']}, {stage['kept']} kept or computed, {stage['flops']:.3g} FLOPs "
                f"(counted {stage['counted']:.3g})"
            )
        return lines
    found = report["predictor"]
    recalls = ", ".join(f"{k.removeprefix('recall_top_')} {v:.2f}" for k, v in found.items() if k.startswith("recall"))
    features, held = ", ".join(report["features"]) or "texts", report["held_out_points"]
    lines = [
        f"  predictor from {features}, on {held} points held out in turn:",
        f"    accuracy on three levels {found['accuracy']:.3f} (chance {found['accuracy_of_chance']:.3f}), "
        f"R2 {found['r2']:.3f}, rank correlation {found['spearman']:.3f}, "
        f"slope of truth on prediction {found['calibration']['slope']:.2f}",
        f"    recall of the true top: {recalls}",
    ]
    alone = ", ".join(f"{name} {value:.3f}" for name, value in report["features_alone"].items())
    return [*lines, f"    rank correlation of features alone: {alone}"] if alone else lines


def _ledger_line(entry: Entry) -> str:
    measured = "not counted" if entry.measured_flops is None else f"{entry.measured_flops:.3g}"
    memory = f"{entry.peak_bytes / 2**20:.0f} MB on {entry.device}"
    return (
        f"  ledger {entry.stage} {entry.what}: predicted {entry.predicted_flops:.3g} FLOPs, measured {measured}, "
        f"{number(entry.tokens)} tokens, {number(entry.seconds, 's')}, peak {memory}"
    )


def _study(path: Path) -> list[str]:
    from paydirt.study.table import read_rows

    rows = read_rows(path / "results.parquet")
    methods = dict.fromkeys(r["method"] for r in rows)
    tasks = dict.fromkeys(r["task"] for r in rows)
    return [f"{path}: a study of {len(rows)} runs", f"  tasks: {', '.join(tasks)}", f"  methods: {', '.join(methods)}"]


def _data(path: Path, how: dict[str, Any], cache: Path | None) -> list[str]:
    from paydirt.core.config import parse
    from paydirt.data.pool import PoolConfig, open_pool

    pool = open_pool(parse(PoolConfig, {"files": [str(path)], **how}, where=str(path)), cache)
    lines = [f"{path}: {len(pool)} examples in form {pool.form!r}, fingerprint {pool.fingerprint}"]
    lines += [f"  {line}" for line in lines_of(pool.account())]
    lines += [f"  source {name}: {count}" for name, count in pool.source_counts().items()]
    first = pool.example(0)
    lines += [f"  first: {first.id}"] + [f"    {m.role}: {m.content[:100]!r}" for m in first.messages]
    return lines
