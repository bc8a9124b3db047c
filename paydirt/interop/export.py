"""Finished selections for other trainers: messages in JSONL under the seeds' name, a file for each trainer, and a receipt.

What enters: selection directories. What leaves: `<name>.jsonl`, rows `{"dataset", "id", "messages", "source", "score",
"rank", "weight"}` (open-instruct's form, which TRL's SFTTrainer takes as it is), each as often as it was taken; how to
register them with four trainers (`trainers`); the chat form as a Jinja template; `README.md` and `receipt.json`
(`receipt`, `card`). Exports to the same folder add up: a second one leaves the first where it is.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from paydirt.core.artifacts import (
    MANIFEST,
    Artifact,
    Replace,
    build,
    cache_root,
    damaged,
    file_digest,
    open_artifact,
    read_json,
    reading,
    write_atomic,
)
from paydirt.core.claims import locked
from paydirt.core.config import Config, PathText, dump_yaml
from paydirt.core.progress import say
from paydirt.data.jinja import jinja_of
from paydirt.data.pool import Pool
from paydirt.interop import trainers
from paydirt.interop.card import card
from paydirt.interop.gain import study_of
from paydirt.interop.naming import SEEDED, data_name, method_name
from paydirt.interop.order import Turns, in_order
from paydirt.interop.receipt import encoder_of, pool_of, receipt
from paydirt.scoring.base import scorer_of
from paydirt.selection.policies.base import make_policy
from paydirt.selection.select import requested_fraction, taken_ids
from paydirt.stages import Workspace

VERSION = 3
RECEIPT = "receipt.json"
BLOCK = 2048


class ExportStage(Config):
    """Selections as files for other trainers, all in one folder."""

    exports: dict[str, PathText] = Field(description="name: directory of a finished selection")
    weights: dict[str, float] = Field({}, description="name: its weight in a mixture; empty: all rows of every file")
    turns: Turns = Field("repair", description="turns in an order that trainers refuse: repair (counted) or refuse")
    study: PathText | None = Field(None, description="study to say from what was gained over random data")


def export(
    selection: Path,
    out: Path,
    name: str | None = None,
    cache: Path | None = None,
    replace: Replace = "nothing",
    weight: float | None = None,
    turns: Turns = "repair",
    study: Path | None = None,
) -> Artifact:
    """Add the selection to the exports in `out`.

    ValueError where its pool, or what it would be named after, cannot be found, and where another selection was exported
    there under that name.
    """
    out, chosen = Path(out).absolute(), open_artifact(selection, "select")
    name = name or name_of(chosen)
    if not re.fullmatch(r"[\w.+-]+", name) or name in ("README", Path(trainers.MIXTURE).stem):
        raise ValueError(
            f"--name {name!r}: give letters, digits, '.', '-', '_' and '+': it names a file and a data set"
        )
    with locked(out.with_name(out.name + ".adding")):  # two that add must not each leave the other's out
        before = exports_in(out)
        if name in before and before[name] != str(chosen.path.absolute()) and replace != "anything":
            raise ValueError(
                f"{out}: {name} there is another selection ({before[name]}); give this one a --name, or --force to "
                "replace it"
            )
        weights: dict[str, float] = Artifact(out).manifest["config"].get("weights", {}) if before else {}
        weights = weights if weight is None else {**weights, name: weight}
        every = {**before, name: str(chosen.path.absolute())}
        config = ExportStage(
            exports=every,
            weights={n: weights.get(n, 1.0) for n in every} if weights else {},
            turns=turns,
            study=str(study) if study else _study_in(out) if before else None,
        )
        return run_export(config, out, Workspace(cache or cache_root(), replace=replace))


def _study_in(out: Path) -> str | None:
    """The study that the receipts of a folder of exports speak of."""
    named = Artifact(out).manifest["config"].get("study")
    return str(named) if named else None


def exports_in(out: Path) -> dict[str, str]:
    """Names and selections that a folder of exports holds; none where there is no such folder."""
    if not (out / MANIFEST).is_file() or Artifact(out).manifest["stage"] != "export":
        return {}
    with reading(out, MANIFEST):
        return {str(name): str(path) for name, path in Artifact(out).manifest["config"]["exports"].items()}


def run_export(config: ExportStage, out: Path, workspace: Workspace) -> Artifact:
    """Write every selection that is not there yet, and the entries of all."""
    if strange := sorted(set(config.weights) ^ set(config.exports)) if config.weights else []:
        raise ValueError(f"weights: give one for each of the exports or none; not for both: {', '.join(strange)}")
    if any(weight <= 0 for weight in config.weights.values()):
        raise ValueError("weights: must be above 0; leave a selection out to give it none")
    there, forced = exports_in(out), workspace.replace == "anything"
    before: dict[str, str] = Artifact(out).manifest["inputs"] if there else {}
    shares: dict[str, float] = Artifact(out).notes.get("fractions", {}) if there else {}
    inputs = {}
    for name, path in config.exports.items():
        gone = there.get(name) == path and not (Path(path) / MANIFEST).is_file()  # what was exported of it stays
        inputs[name] = before[name] if gone else open_artifact(Path(path), "select").fingerprint
    for name, path in config.exports.items():
        place = Path(config.study) if config.study else study_of(Path(path))
        if place is not None and (place / "results.parquet").is_file():
            inputs[f"{name}:results"] = file_digest(place / "results.parquet")
    if config.study:
        table = Path(config.study) / "results.parquet"
        if not table.is_file():
            raise ValueError(f"--study {config.study}: holds no results.parquet; give the directory of a study")

    def make(part: Path) -> dict[str, Any]:
        counts: dict[str, int] = {}
        fractions: dict[str, float | None] = {}
        receipts: dict[str, dict[str, Any]] = {}
        template = ""
        for name, path in config.exports.items():
            if (Path(path) / MANIFEST).is_file():
                chosen = open_artifact(Path(path), "select")
                receipts[name] = _write(chosen, part / f"{name}.jsonl", workspace, config)
                template = template or _template(receipts[name], chosen, workspace)
                fractions[name] = requested_fraction(Path(path))
            else:
                shutil.copyfile(out / f"{name}.jsonl", part / f"{name}.jsonl")
                receipts[name], fractions[name] = read_json(out, RECEIPT)[name], shares.get(name)
            counts[name] = receipts[name]["rows"]
        ordered = any(told["origin"].get("curriculum") for told in receipts.values())
        _entries(part, counts, config.weights, template, ordered)
        taken = trainers.shares(counts, config.weights)
        write_atomic(part / RECEIPT, json.dumps(receipts, indent=1, ensure_ascii=False, default=str))
        write_atomic(part / "README.md", card(receipts, counts, taken, config.weights))
        changed: Counter[str] = Counter()
        for told in receipts.values():
            changed.update({what: entry["count"] for what, entry in told["turns"].items()})
        facts = {
            "names": ", ".join(counts),
            "examples": sum(counts.values()),
            "by_name": counts,
            "fractions": fractions,
        }
        return {**facts, "turns_repaired": dict(changed), "in_the_mixture": taken if config.weights else {}}

    # Where nothing that was there goes or becomes another, nobody need be asked.
    adds = workspace.replace == "nothing" and there.items() <= config.exports.items()
    replace: Replace = "same stage" if adds else workspace.replace
    identity = {"names": list(config.exports), "weights": config.weights, "turns": config.turns}
    if forced and out.exists():
        say(f"{out}: written again")
    return build(out, "export", config.to_dict(), inputs, make, identity, version=VERSION, replace=replace)


def _entries(part: Path, counts: dict[str, int], weights: dict[str, float], template: str, ordered: bool) -> None:
    """The files that tell trainers of the data, and the mixture for those that cannot weigh."""
    names = list(counts)
    write_atomic(part / "dataset_info.json", json.dumps(trainers.dataset_info(names), indent=2))
    mixtures = {
        "llama_factory": trainers.llama_factory(names, weights, ordered),
        "axolotl": trainers.axolotl(names, weights, ordered),
        "trl": trainers.trl(names, weights, bool(template), ordered),
        "open_instruct": trainers.open_instruct(counts, weights),
    }
    for name, values in mixtures.items():
        write_atomic(part / f"{name}.yaml", "# Paths are relative to this folder: run there.\n" + dump_yaml(values))
    if template:
        write_atomic(part / "chat_template.jinja", template)
    if weights and len(names) > 1:
        with open(part / trainers.MIXTURE, "w", encoding="utf-8") as handle:
            handle.writelines(_mixed(part, trainers.shares(counts, weights)))


def _mixed(part: Path, taken: dict[str, int]) -> Iterator[str]:
    """Lines of all files, each file's spread evenly over the mixture and in its own order."""
    places = [
        ((k + 0.5) / count, number, name) for number, (name, count) in enumerate(taken.items()) for k in range(count)
    ]
    handles = {name: open(part / f"{name}.jsonl", encoding="utf-8") for name in taken}  # noqa: SIM115 - closed below
    try:
        for _, _, name in sorted(places):
            yield handles[name].readline()
    finally:
        for handle in handles.values():
            handle.close()


def _write(chosen: Artifact, path: Path, workspace: Workspace, config: ExportStage) -> dict[str, Any]:
    """The chosen examples as messages, in rank order or that of their curriculum; returns their receipt."""
    pool = pool_of(chosen, workspace)
    found, turns = rows_of(chosen, pool, config.turns)
    with open(path, "w", encoding="utf-8") as handle:
        for row in found:
            handle.writelines([json.dumps(row.data, ensure_ascii=False) + "\n"] * row.times)
    if not found:
        raise ValueError(f"{chosen.path}: no example has an answer after a question, so there is nothing to export")
    written = [row.data for row in found]
    told = receipt(chosen, sorted(written, key=lambda r: r["rank"]), pool, workspace, config.study)
    return {"rows": sum(row.times for row in found), "examples": len(found), "turns": turns, **told}


class ExportedRow:
    """One row as it is written, and how often."""

    def __init__(self, data: dict[str, Any], times: int) -> None:
        self.data, self.times = data, times


def rows_of(chosen: Artifact, pool: Pool, how: Turns) -> tuple[list[ExportedRow], dict[str, Any]]:
    """The rows of a selection in the order to train in, and what had to be done to their turns: {what: count, first id}.

    Examples come from the pool, whatever forms its files have. ValueError naming the example where `how` refuses.
    """
    with reading(chosen.path, "scores.parquet"):
        names = ["id", "score", "rank", "times", "weight", "order"]
        table = pq.read_table(chosen.path / "scores.parquet", columns=names)
        table = table.filter(pc.is_valid(table["rank"])).sort_by("order")
    columns = {name: table[name].to_pylist() for name in names}
    if Counter(taken_ids(chosen.path)) != dict(zip(columns["id"], columns["times"])):
        raise damaged(chosen.path, "selection.json and scores.parquet do not name the same examples")
    places = pool.rows_of(columns["id"])
    turns: dict[str, dict[str, Any]] = {}
    often = sum(columns["times"]) / len(places)  # rows are written so often: a weight is of one of them, mean 1
    out: list[ExportedRow] = []
    for start in range(0, len(places), BLOCK):
        for number, example in enumerate(pool.take(places[start : start + BLOCK]), start):
            ordered = in_order(example.messages)
            for what in ordered.changes:
                if how == "refuse":
                    raise ValueError(
                        f"{pool.place(int(places[number]))}: example {example.id!r}: trainers refuse its order of turns "
                        f"({what}); mend it, or let --turns repair do that"
                    )
                entry = turns.setdefault(what, {"count": 0, "first": example.id})
                entry["count"] += 1
            if not ordered.turns:
                continue
            data = {
                "dataset": example.source,
                "id": example.id,
                "messages": [{"role": role, "content": text} for role, text in ordered.turns],
                "source": example.source,
                "score": _finite(columns["score"][number]),
                "rank": int(columns["rank"][number]),
                "weight": float(columns["weight"][number]) * often / columns["times"][number],
            }
            out.append(ExportedRow(data, int(columns["times"][number])))
    return out, turns


def _finite(score: float | None) -> float | None:
    return None if score is None or not np.isfinite(score) else float(score)


def _template(told: dict[str, Any], chosen: Artifact, workspace: Workspace) -> str:
    """The chat form of the scores' encoder as a Jinja template; empty where there is none that marks its answers."""
    if "why_not" in told["mask"]:
        return ""
    scored = [open_artifact(Path(chosen.config["scores"]), "score")]
    made = jinja_of(encoder_of(scored, workspace))
    return made if "generation %}" in made else ""


def name_of(chosen: Artifact) -> str:
    """The seeds' name of a selection, from the configs that made it; several targets or methods are joined by "+"."""
    with reading(chosen.path, MANIFEST):
        config = chosen.config
        places = [config["scores"], *(other["scores"] for other in config.get("others", []))]
        policy = make_policy(config["selection"]["policy"])
        fraction, drawn = config["budget"].get("fraction"), config["seed"]
    names: dict[str, list[str]] = {"target": [], "method": []}
    seed = drawn if policy.draws else None
    for found in (open_artifact(Path(place), "score") for place in places):
        with reading(found.path, MANIFEST):
            scored, scorer = found.config, scorer_of(found.config)
            names["target"].append(str((scored["target"] or {}).get("name", "any")))
            names["method"].append(method_name(scorer, policy.name))
            if scorer in SEEDED and scored["method"]["name"] == scorer:  # of imported scores no seed is known
                seed = seed or scored["seed"]
    if fraction is None:
        raise ValueError(f"{chosen.path}: was cut by another budget than a fraction, so give the export a --name")
    target, method = ("+".join(dict.fromkeys(several)) for several in names.values())
    return data_name(target, float(fraction), method, seed)
