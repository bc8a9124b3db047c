"""What was run, as pairs of a name and a statement: pool, models, recipe, seeds, convention, versions."""

from __future__ import annotations

from typing import Any

from paydirt.report import page_numbers as show
from paydirt.report.page_study import StudyFiles
from paydirt.report.tables import total_cost
from paydirt.study.schema import ZERO_SHOT
from paydirt.study.table import coverage


def facts(study: StudyFiles) -> list[tuple[str, str]]:
    """Name and statement, in reading order; what is not known is left out."""
    stated = [
        ("Pool", _pool(study)),
        ("Left out of the pool", _losses(study)),
        ("Tasks", _tasks(study)),
        ("Model tuned", _model(study)),
        ("Selector model", str((study.config.get("selector") or {}).get("path") or "")),
        ("Training", _training(study.config.get("training") or {})),
        ("Methods", ", ".join(study.methods)),
        ("Fractions", ", ".join(show.percent(f) for f in sorted({r["fraction"] for r in study.rows if r["fraction"]}))),
        ("Seeds", _seeds(study)),
        ("Cost convention", str(study.config.get("convention") or "")),
        ("Spent", _spent(study)),
        ("Versions", _versions(study)),
    ]
    return [(name, text) for name, text in stated if text]


def summary(study: StudyFiles) -> str:
    """One sentence for the head of the page."""
    fractions = len({r["fraction"] for r in study.rows if r["fraction"]})
    seeds = len({r["seed"] for r in study.rows if r.get("seed") is not None})
    tasks = len({p.task for p in study.panels})
    pool = f"{show.count(len(study.pool))} candidate examples, " if study.pool is not None else ""
    parts = [(len(study.methods), "method"), (fractions, "fraction"), (seeds, "seed"), (tasks, "task")]
    grid = " × ".join(f"{n} {name}{'' if n == 1 else 's'}" for n, name in parts)
    return f"{pool}{grid}; tuned model: {', '.join(dict.fromkeys(p.model for p in study.panels))}."


def _pool(study: StudyFiles) -> str:
    if study.pool is None:
        return "its import is no longer there"
    notes, sources = study.pool.notes, study.pool.source_counts()
    listed = ", ".join(f"{name or '(no source)'} {show.count(n)}" for name, n in list(sources.items())[:8])
    more = f" and {len(sources) - 8} more" if len(sources) > 8 else ""
    tokens = _encoding(study).get("tokens")
    length = f", {show.count(tokens)} tokens" if tokens else ""
    return (
        f"{show.count(len(study.pool))} examples{length}; sources: {listed}{more}; "
        f"form {notes.get('form')}, fingerprint {study.pool.fingerprint[:12]}"
    )


def _encoding(study: StudyFiles) -> dict[str, Any]:
    """Counts of the encoding, as a score stage noted them."""
    for row in study.rows:
        if (scores := study.scores(row)) and (notes := scores.notes.get("encoding")):
            return dict(notes)
    return {}


def _losses(study: StudyFiles) -> str:
    """Everything dropped or cut on the way in, zero or not: nothing is silent."""
    notes = _encoding(study)
    stated = []
    if study.pool is not None:
        stated.append(_skipped(study.pool.notes.get("skipped") or {}))
    if notes:
        stated.append(f"{show.count(notes.get('without_supervised_tokens', 0))} without a supervised token")
        stated.append(f"{show.count(notes.get('truncated', 0))} truncated at the length limit")
    return "; ".join(stated)


def _skipped(reasons: dict[str, Any]) -> str:
    """Records that the import left out, by reason: {reason: {"count": n, "first": [places]}}."""
    counts = {reason: int(entry["count"]) for reason, entry in reasons.items()}
    listed = ", ".join(f"{reason} {show.count(n)}" for reason, n in counts.items())
    return f"{show.count(sum(counts.values()))} records skipped at import" + (f" ({listed})" if listed else "")


def _tasks(study: StudyFiles) -> str:
    out = []
    for task in dict.fromkeys(p.task for p in study.panels):
        target, rows = study.target(task), [r for r in study.rows if r["task"] == task]
        tested = study.evaluation(next((r for r in rows if r["method"] == ZERO_SHOT), rows[0]))
        parts = [f"{len(target.references)} references in {len(target.subtasks)} subtasks"] if target else []
        if tested:
            parts.append(f"{show.count(tested.notes.get('n', 0))} test items, {rows[0]['metric']}")
        out.append(f"{task} ({'; '.join(parts)})" if parts else task)
    return ", ".join(out)


def _model(study: StudyFiles) -> str:
    sizes = [r["train_params"] for r in study.rows if r.get("train_params")]
    path = (study.config.get("model") or {}).get("path")
    name = str(path or ", ".join(dict.fromkeys(p.model for p in study.panels)))
    return f"{name}, {sizes[0] / 1e6:.3g}M parameters" if sizes else name


def _training(values: dict[str, Any]) -> str:
    if not values:
        return ""
    rank = (values.get("lora") or {}).get("r")
    how = f"LoRA, rank {rank}" if values.get("method") == "lora" else "all parameters"
    return (
        f"{how}; learning rate {values.get('learning_rate'):g}, batch {values.get('batch_size')}, "
        f"{values.get('epochs'):g} epochs, {values.get('precision')}"
    )


def _seeds(study: StudyFiles) -> str:
    seeds = sorted({r["seed"] for r in study.rows if r.get("seed") is not None})
    if not seeds:
        return ""
    one = " (a single seed: spread is unknown, and nothing here ranks methods)" if len(seeds) == 1 else ""
    covers = coverage(study.rows)
    return ", ".join(map(str, seeds)) + one + (f"; {covers}" if covers else "")


def _spent(study: StudyFiles) -> str:
    total = total_cost(study)
    if not total.seconds:
        return ""
    return (
        f"{show.flops(total.flops)} FLOPs and {show.seconds(total.seconds)} of work on {total.devices} for {total.models} "
        "tuned models, by the ledgers (selecting that serves several tasks is charged to each)"
    )


def _versions(study: StudyFiles) -> str:
    """Versions of the last evaluation; two sets are said to be two."""
    found = [e.manifest["versions"] for r in study.rows if (e := study.evaluation(r))]
    distinct = [dict(t) for t in dict.fromkeys(tuple(v.items()) for v in found)]
    texts = [", ".join(f"{name} {version}" for name, version in versions.items()) for versions in distinct]
    return texts[0] if len(texts) == 1 else "; some runs with: ".join(texts)
