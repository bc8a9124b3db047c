"""A finished selection for other trainers: messages in JSONL under the seeds' name, and how to register it.

What enters: a selection directory. What leaves: `<name>.jsonl`, rows `{"dataset", "id", "messages"}` in rank order
(open-instruct's form, which TRL's SFTTrainer takes as it is), `dataset_info.json` for LLaMA-Factory and `axolotl.yaml`,
each holding an entry to copy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from paydirt.artifacts import Artifact, build, open_artifact, write_atomic
from paydirt.config import dump_yaml, parse
from paydirt.data.pool import PoolConfig, open_pool
from paydirt.interop.naming import SEEDED, data_name, method_name
from paydirt.selection.select import requested_fraction, selected_ids
from paydirt.types import Example


def export(selection: Path, out: Path, name: str | None = None, cache: Path | None = None) -> Artifact:
    """Write the selection to `out`. ValueError where its pool, or what it would be named after, cannot be found."""
    chosen = open_artifact(selection, "select")
    name = name or name_of(chosen)
    ids = selected_ids(chosen.path)

    def make(part: Path) -> dict[str, Any]:
        pool = open_pool(parse(PoolConfig, chosen.manifest["config"]["pool"], where=str(selection)), cache)
        with open(part / f"{name}.jsonl", "w", encoding="utf-8") as handle:
            for example in pool.take(pool.rows_of(ids)):
                handle.write(json.dumps(row_of(example), ensure_ascii=False) + "\n")
        write_atomic(part / "dataset_info.json", json.dumps({name: llama_factory_entry(name)}, indent=2))
        write_atomic(part / "axolotl.yaml", dump_yaml({"datasets": [axolotl_entry(f"{name}.jsonl")]}))
        return {"name": name, "examples": len(ids), "fraction": requested_fraction(chosen.path)}

    return build(out, "export", {"selection": str(selection), "name": name}, {"selection": chosen.fingerprint}, make)


def name_of(chosen: Artifact) -> str:
    """The seeds' name of a selection, from the configs that made it."""
    config = chosen.manifest["config"]
    scored = open_artifact(Path(config["scores"]), "score").manifest["config"]
    scorer, policy = str(scored["method"]["name"]), str(config["selection"]["policy"]["name"])
    fraction = config["budget"].get("fraction")
    if fraction is None:
        raise ValueError(f"{chosen.path}: was cut by another budget than a fraction, so give the export a --name")
    seed = (scored["seed"] or config["seed"]) if scorer in SEEDED else None
    return data_name(str(scored["target"]["name"]), float(fraction), method_name(scorer, policy), seed)


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
