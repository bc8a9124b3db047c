"""The receipt of an exported selection: what a colleague needs to check it, as plain values for JSON and for the card.

What enters: a finished selection, the rows that were written of it, and its pool. What leaves: where it came from and how to
make it again, counts by source, sample examples with their nearest references, what was dropped and why, a decoded proof of
mask and stop token, contamination with the text, the ledger, and what it bought over random data where a study tells. What
cannot be told says why (`why_not`), and is never left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from paydirt.core.artifacts import MANIFEST, Artifact, open_artifact
from paydirt.core.config import parse
from paydirt.core.types import Message, Target
from paydirt.cost.ledger import Ledger, spent
from paydirt.data.encoding import Encoder, EncodingConfig
from paydirt.data.pool import Pool, PoolConfig
from paydirt.interop.gain import gain, study_of
from paydirt.models.load import ModelConfig
from paydirt.selection.scores import Scores
from paydirt.stages import Workspace
from paydirt.tasks import TargetConfig, load_target

SAMPLE = 6
NEAREST = 3
DECODED = 2
CHECKED = 20_000  # rows whose masks are counted; of more, as many evenly apart
SHOWN = 600  # characters of a text
MATCHES = 20
UPSTREAM = ("dedup", "decontaminate", "split")

Row = dict[str, Any]
NOT_TOLD = (ValueError, ImportError, OSError)


def receipt(chosen: Artifact, rows: Sequence[Row], pool: Pool, space: Workspace, study: str | None) -> dict[str, Any]:
    """All that is known of a selection; `rows` are the exported ones, in rank order."""
    scored = [_scored(path) for path in _scores_of(chosen)]
    sample = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int))]
    place = Path(study) if study else study_of(chosen.path)
    return {
        "origin": origin(chosen, scored),
        "sources": sources(rows, pool),
        "sample": [near(row, scored) for row in sample],
        "dropped": dropped(chosen, scored),
        "mask": told(lambda: mask(rows, scored, space)),
        "contamination": told(lambda: contamination(rows, scored, pool)),
        "cost": cost(chosen, scored),
        "gain": told(lambda: gain(place, chosen.path)) if place else {"why_not": "no study was named (--study)"},
    }


def told(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `ask` says, or why it cannot."""
    try:
        return ask()
    except NOT_TOLD as reason:
        return {"why_not": str(reason).splitlines()[0]}


def _scores_of(chosen: Artifact) -> list[str]:
    config = chosen.config
    return [config["scores"], *(other["scores"] for other in config.get("others", []))]


def _scored(path: str) -> Artifact | None:
    return open_artifact(Path(path), "score") if (Path(path) / MANIFEST).is_file() else None


def origin(chosen: Artifact, scored: Sequence[Artifact | None]) -> dict[str, Any]:
    """Who chose it: methods, targets, policy, budget; and every config that makes it again."""
    config = chosen.config
    weights = [config.get("weight", 1.0), *(other["weight"] for other in config.get("others", []))]
    methods = []
    for path, weight, one in zip(_scores_of(chosen), weights, scored):
        of = one.config if one else {}
        methods.append(
            {
                "method": (of.get("method") or {}).get("name", "published"),
                "target": (of.get("target") or {}).get("name", ""),
                "weight": weight,
                "seed": of.get("seed"),
                "scores": path,
                "there": one is not None,
            }
        )
    return {
        "selection": str(chosen.path),
        "fingerprint": chosen.fingerprint,
        "finished": chosen.manifest.get("finished"),
        "versions": chosen.manifest.get("versions", {}),
        "methods": methods,
        "policy": (config["selection"]["policy"] or {}).get("name"),
        "curriculum": config["selection"].get("curriculum"),
        "budget": {k: v for k, v in config["budget"].items() if v is not None},
        "replay": {
            "select": {"stage": "select", **config},
            **{f"score {n}": {"stage": "score", **one.config} for n, one in enumerate(scored, 1) if one},
        },
    }


def sources(rows: Sequence[Row], pool: Pool) -> dict[str, dict[str, int]]:
    """Examples of each source in the pool, and rows of it that were written."""
    written = Counter(row["source"] for row in rows)
    return {name: {"pool": count, "exported": written.get(name, 0)} for name, count in pool.source_counts().items()}


# ---- nearest references -------------------------------------------------------------------------------------------------


def near(row: Row, scored: Sequence[Artifact | None]) -> dict[str, Any]:
    """One exported example, and by every method that compares, what it is most like and how much."""
    found: list[dict[str, Any]] = []
    for one in filter(None, scored):
        scores, method = Scores(one.path), (one.config.get("method") or {}).get("name", "published")
        if not scores.pairwise:
            found.append({"method": method, "why_not": "gives one number an example and compares with no reference"})
            continue
        at = np.flatnonzero(scores.ids == row["id"])
        values = scores.row(int(at[0]))
        target = _target(one)
        texts = {e.id: f"{e.prompt}\n{e.answer}"[:SHOWN] for e in target.references} if target else {}
        for column in np.argsort(-values, kind="stable")[:NEAREST]:
            of = scores.columns[int(column)]
            told_text = texts.get(of.id) or _one_of(of.subtask, target)
            found.append(
                {
                    "method": method,
                    "reference": of.id,
                    "subtask": of.subtask,
                    "influence": float(values[column]),
                    "text": told_text,
                }
            )
    text = "\n".join(f"{m['role']}: {m['content']}" for m in row["messages"])
    return {k: row[k] for k in ("id", "source", "score", "rank")} | {"text": text[:SHOWN], "nearest": found}


def _one_of(subtask: str, target: Target | None) -> str:
    """A reference of a subtask, where a method compares with the subtask as a whole."""
    pairs = zip(target.references, target.subtask_of) if target else ()
    return next((f"(one of its references) {e.prompt}\n{e.answer}"[:SHOWN] for e, name in pairs if name == subtask), "")


def _target(one: Artifact) -> Target | None:
    try:
        return load_target(parse(TargetConfig, one.config["target"]))
    except (*NOT_TOLD, KeyError):
        return None


# ---- what was dropped ---------------------------------------------------------------------------------------------------


def dropped(chosen: Artifact, scored: Sequence[Artifact | None]) -> dict[str, Any]:
    """Counts with first places: at import, in encoding, in selecting, and in the pools that this pool was made of."""
    notes = chosen.notes
    encoding: dict[str, Any] = next((one.notes["encoding"] for one in scored if one and one.notes.get("encoding")), {})
    return {
        "import": notes.get("pool", {}),
        "encoding": {k: encoding[k] for k in ("truncated", "without_supervised_tokens") if k in encoding},
        "selecting": {
            "without a supervised token": notes.get("excluded_without_supervised_tokens", 0),
            "word-for-word repeats kept": notes.get("exact_repeats", 0),
        },
        "before": [_upstream(artifact) for artifact in upstream(chosen)],
    }


def upstream(chosen: Artifact) -> list[Artifact]:
    """The artifacts whose files the pool was read from: dedup, decontaminate and split, and what those were made of."""
    found: dict[Path, Artifact] = {}
    waiting = [chosen.config.get("pool") or {}]
    while waiting:
        files = waiting.pop().get("files") or []
        for file in files.values() if isinstance(files, dict) else files:
            for folder in list(Path(str(file)).parents)[:2]:
                if folder in found or not (folder / MANIFEST).is_file():
                    continue
                artifact = Artifact(folder)
                if artifact.manifest.get("stage") in UPSTREAM:
                    found[folder] = artifact
                    waiting.append(artifact.manifest["config"].get("pool") or {})
    return list(found.values())


def _upstream(artifact: Artifact) -> dict[str, Any]:
    import json

    notes = {k: v for k, v in artifact.notes.items() if k != "pool"}
    first: list[dict[str, Any]] = []
    for name in ("matches.jsonl", "removed.jsonl"):
        if (artifact.path / name).is_file():
            with open(artifact.path / name, encoding="utf-8") as lines:
                first = [json.loads(line) for line, _ in zip(lines, range(MATCHES))]
    return {"stage": artifact.manifest["stage"], "path": str(artifact.path), "notes": notes, "first": first}


# ---- mask and stop token ------------------------------------------------------------------------------------------------


def encoder_of(scored: Sequence[Artifact | None], space: Workspace) -> Encoder:
    """The encoder that the scores were made with; ValueError where none was."""
    for one in filter(None, scored):
        config = one.config
        if config.get("model"):
            model = parse(ModelConfig, config["model"])
            return space.encoder(model, parse(EncodingConfig, config.get("encoding") or {}))
    raise ValueError(
        "the scores were made without a model, so there is no tokenizer to show masks with (score with --model)"
    )


def mask(rows: Sequence[Row], scored: Sequence[Artifact | None], space: Workspace) -> dict[str, Any]:
    """How many of the exported rows teach their answer and its stop token; and some, decoded, learnt parts marked."""
    encoder = encoder_of(scored, space)
    places = np.unique(np.linspace(0, len(rows) - 1, min(CHECKED, len(rows))).astype(int))
    stop = int(encoder.tokenizer.eos_token_id)
    counts: Counter[str] = Counter()
    for start in range(0, len(places), 256):
        chunk = [rows[i] for i in places[start : start + 256]]
        for row, one in zip(chunk, encoder.encode_batch([messages(row) for row in chunk])):
            answers = sum(m["role"] == "assistant" for m in row["messages"])
            counts["rows"] += 1
            counts["answers"] += answers
            counts["stop tokens learnt"] += int((one.ids[one.supervised] == stop).sum())
            counts["rows cut at max_length"] += one.truncated
            counts["rows with nothing learnt"] += one.n_supervised == 0
            counts["tokens"] += len(one.ids)
            counts["tokens learnt"] += one.n_supervised
    return {
        "tokenizer": encoder.tokenizer.name_or_path,
        "template": encoder.config.template,
        "max_length": encoder.config.max_length,
        "stop_token": str(encoder.tokenizer.eos_token),
        "checked": dict(counts),
        "of": len(rows),
        "decoded": [decoded(rows[i], encoder) for i in dict.fromkeys((0, len(rows) // 2))][:DECODED],
    }


def messages(row: Row) -> list[Message]:
    return [Message(turn["role"], turn["content"]) for turn in row["messages"]]


def decoded(row: Row, encoder: Encoder) -> dict[str, Any]:
    """One row as its tokens spell it: stretches of text, each learnt or not, and what the last learnt token is."""
    one = encoder.encode(messages(row))
    stretches = []
    for learnt, group in groupby(range(len(one.ids)), key=lambda i: bool(one.supervised[i])):
        ids = [int(one.ids[i]) for i in group]
        stretches.append({"learnt": learnt, "tokens": len(ids), "text": str(encoder.tokenizer.decode(ids))[:SHOWN]})
    learnt_ids = one.ids[one.supervised]
    last = str(encoder.tokenizer.decode([int(learnt_ids[-1])])) if len(learnt_ids) else ""
    return {"id": row["id"], "stretches": stretches, "last_learnt": last, "truncated": one.truncated}


# ---- contamination, cost ------------------------------------------------------------------------------------------------


def contamination(rows: Sequence[Row], scored: Sequence[Artifact | None], pool: Pool) -> dict[str, Any]:
    """Exported examples that hold a reference or test item of the targets, with both texts (`data.curate.decontaminate`)."""
    from paydirt.data.curate.decontaminate import DecontaminationConfig, matches_among, reference_items, tally
    from paydirt.tasks.contamination import items_against

    items: dict[str, Any] = {}
    sought: list[str] = []
    for one in filter(None, scored):
        if (target := _target(one)) is None:
            continue
        values = one.config["target"]
        items |= {item.id: item for item in reference_items(target)}
        sought.append(f"{target.name}: {len(target.references)} references, {len(target.test)} test examples")
        if values.get("data"):
            standard = items_against([target.name], values["data"])
            items |= {item.id: item for item in standard}
            sought.append(f"{target.name}: {len(standard)} items of the benchmark")
    if not items:
        raise ValueError("the target's files are not there any more, so there is nothing to look for")
    among = pool.rows_of(dict.fromkeys(row["id"] for row in rows)).tolist()
    matches, counts = matches_among(pool, among, list(items.values()), DecontaminationConfig())
    shown = [asdict(match) for match in matches[:MATCHES]]
    for match in shown:
        match |= {k: match[k][:SHOWN] for k in ("example_text", "item_text")}
    return {
        "sought": sought,
        "examples": len(among),
        **counts,
        **tally(matches),
        "matches": len(matches),
        "first": shown,
    }


def cost(chosen: Artifact, scored: Sequence[Artifact | None]) -> dict[str, Any]:
    """Ledger lines of the scores and the selection; FLOPs, tokens, seconds, bytes."""
    found = [(artifact, Ledger(artifact.path).entries()) for artifact in (*filter(None, scored), chosen)]
    lines = [{"of": str(artifact.path), **asdict(line)} for artifact, entries in found for line in entries]
    every = [line for _, entries in found for line in entries]
    return {"flops": spent(every), "seconds": sum(line.seconds for line in every), "lines": lines}


def pool_of(chosen: Artifact, space: Workspace) -> Pool:
    """The pool that a selection was made of."""
    return space.pool(parse(PoolConfig, chosen.config["pool"], where=str(chosen.path)))
