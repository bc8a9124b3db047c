"""A finished selection for other trainers: messages in JSONL under the seeds' name, and how to register it.

What enters: a selection directory. What leaves: `<name>.jsonl`, rows `{"dataset", "id", "messages"}` in rank order
(open-instruct's form, which TRL's SFTTrainer takes as it is), `dataset_info.json` for LLaMA-Factory and `axolotl.yaml`,
each holding an entry to copy. Exports to the same folder add up: a second one leaves the first where it is.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pydantic import Field

from paydirt.core.artifacts import MANIFEST, Artifact, Replace, build, cache_root, open_artifact, reading, write_atomic
from paydirt.core.config import Config, PathText, dump_yaml, parse
from paydirt.core.files import locked
from paydirt.core.types import Example
from paydirt.data.pool import PoolConfig
from paydirt.interop.naming import SEEDED, data_name, method_name
from paydirt.selection.select import requested_fraction, selected_ids
from paydirt.stages import Workspace


class ExportStage(Config):
    """Selections as files for other trainers, all in one folder."""

    exports: dict[str, PathText] = Field(description="name: directory of a finished selection")


def export(
    selection: Path, out: Path, name: str | None = None, cache: Path | None = None, replace: Replace = "nothing"
) -> Artifact:
    """Add the selection to the exports in `out`.

    ValueError where its pool, or what it would be named after, cannot be found, and where another selection was exported
    there under that name.
    """
    out, chosen = Path(out).absolute(), open_artifact(selection, "select")
    name = name or name_of(chosen)
    with locked(out.with_name(out.name + ".adding")):  # two that add must not each leave the other's out
        before = exports_in(out)
        if name in before and before[name] != str(chosen.path.absolute()) and replace != "anything":
            raise ValueError(
                f"{out}: {name} there is another selection ({before[name]}); give this one a --name, or --force to "
                "replace it"
            )
        config = ExportStage(exports={**before, name: str(chosen.path.absolute())})
        return run_export(config, out, Workspace(cache or cache_root(), replace=replace))


def exports_in(out: Path) -> dict[str, str]:
    """Names and selections that a folder of exports holds; none where there is no such folder."""
    if not (out / MANIFEST).is_file() or Artifact(out).manifest["stage"] != "export":
        return {}
    with reading(out, MANIFEST):
        return {str(name): str(path) for name, path in Artifact(out).manifest["config"]["exports"].items()}


def run_export(config: ExportStage, out: Path, workspace: Workspace) -> Artifact:
    """Write every selection that is not there yet, and the entries of all."""
    there, forced = exports_in(out), workspace.replace == "anything"
    before: dict[str, str] = Artifact(out).manifest["inputs"] if there else {}
    shares: dict[str, float] = Artifact(out).notes.get("fractions", {}) if there else {}
    inputs = {}
    for name, path in config.exports.items():
        gone = there.get(name) == path and not (Path(path) / MANIFEST).is_file()  # what was exported of it stays
        inputs[name] = before[name] if gone else open_artifact(Path(path), "select").fingerprint

    def make(part: Path) -> dict[str, Any]:
        counts: dict[str, int] = {}
        fractions: dict[str, float | None] = {}
        for name, path in config.exports.items():
            if not forced and before.get(name) == inputs[name] and (out / f"{name}.jsonl").is_file():
                shutil.copyfile(out / f"{name}.jsonl", part / f"{name}.jsonl")
            else:
                _write(open_artifact(Path(path), "select"), part / f"{name}.jsonl", workspace)
            there_still = (Path(path) / MANIFEST).is_file()
            fractions[name] = requested_fraction(Path(path)) if there_still else shares.get(name)
            with open(part / f"{name}.jsonl", "rb") as handle:
                counts[name] = sum(1 for _ in handle)
        entries = {name: llama_factory_entry(name) for name in counts}
        write_atomic(part / "dataset_info.json", json.dumps(entries, indent=2))
        stanzas = [axolotl_entry(f"{name}.jsonl") for name in counts]
        write_atomic(part / "axolotl.yaml", dump_yaml({"datasets": stanzas}))
        return {"names": ", ".join(counts), "examples": sum(counts.values()), "by_name": counts, "fractions": fractions}

    # Where nothing that was there goes or becomes another, nobody need be asked.
    adds = workspace.replace == "nothing" and there.items() <= config.exports.items()
    replace: Replace = "same stage" if adds else workspace.replace
    return build(out, "export", config.to_dict(), inputs, make, {"names": list(config.exports)}, replace=replace)


def _write(chosen: Artifact, path: Path, workspace: Workspace) -> None:
    """The chosen examples in rank order, as messages."""
    config = parse(PoolConfig, chosen.config["pool"], where=str(chosen.path))
    pool, ids = workspace.pool(config), selected_ids(chosen.path)
    with open(path, "w", encoding="utf-8") as handle:
        for example in pool.take(pool.rows_of(ids)):
            handle.write(json.dumps(row_of(example), ensure_ascii=False) + "\n")


def name_of(chosen: Artifact) -> str:
    """The seeds' name of a selection, from the configs that made it."""
    with reading(chosen.path, MANIFEST):
        config = chosen.config
        scores, policy = Path(config["scores"]), str(config["selection"]["policy"]["name"])
        fraction, drawn = config["budget"].get("fraction"), config["seed"]
    found = open_artifact(scores, "score")
    with reading(found.path, MANIFEST):
        scored = found.config
        scorer, target, seed = (
            str(scored["method"]["name"]),
            str((scored["target"] or {}).get("name", "any")),
            scored["seed"] or drawn,
        )
    if fraction is None:
        raise ValueError(f"{chosen.path}: was cut by another budget than a fraction, so give the export a --name")
    return data_name(target, float(fraction), method_name(scorer, policy), seed if scorer in SEEDED else None)


def row_of(example: Example) -> dict[str, Any]:
    messages = [{"role": m.role, "content": m.content} for m in example.messages]
    return {"dataset": example.source, "id": example.id, "messages": messages}


def llama_factory_entry(name: str) -> dict[str, Any]:
    """What LLaMA-Factory's `data/dataset_info.json` needs to find messages of role and content."""
    tags = {"role_tag": "role", "content_tag": "content"}
    tags |= {f"{role}_tag": role for role in ("user", "assistant", "system")}
    return {
        "file_name": f"{name}.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": tags,
    }


def axolotl_entry(path: str) -> dict[str, Any]:
    """An entry of axolotl's `datasets:`; it trains on assistant turns, as we do."""
    return {
        "path": path,
        "ds_type": "json",
        "type": "chat_template",
        "field_messages": "messages",
        "message_property_mapping": {"role": "role", "content": "content"},
        "roles_to_train": ["assistant"],
    }
