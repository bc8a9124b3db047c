"""How other trainers are told of an export: one small file for each of them, in the trainer's own keys.

What enters: names of exported files, their rows, and weights where a mixture is wanted. What leaves: plain values, which
tests hand to the trainers' own parsers. All paths are relative to the folder of the export, so that it can be moved:
run the trainer there. Sources: TRL 1.16 DatasetMixtureConfig; axolotl 0.19 `utils/schemas/datasets.py`; LLaMA-Factory
0.9.5 `data/parser.py` and `hparams/data_args.py`; open-instruct `dataset_transformation.py`.

Where rows stand in the order of a curriculum (`ordered`), trainers are told not to shuffle; open-instruct has no such key.
A mixture of weights w takes the largest total of which every file can give its share w / sum(w), best first, as TRL does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MIXTURE = "mixture.jsonl"
ROLES = ("user", "assistant", "system")


def shares(rows: Mapping[str, int], weights: Mapping[str, float] | None) -> dict[str, int]:
    """Rows that a mixture takes of each file; all of them without weights."""
    if not weights:
        return dict(rows)
    whole = sum(weights[name] for name in rows)
    total = min(count * whole / weights[name] for name, count in rows.items())
    return {name: min(count, round(weights[name] / whole * total)) for name, count in rows.items()}


def dataset_info(names: list[str]) -> dict[str, Any]:
    """LLaMA-Factory's `dataset_info.json`: where it finds turns and roles."""
    tags = {"role_tag": "role", "content_tag": "content"} | {f"{role}_tag": role for role in ROLES}
    columns = {"messages": "messages"}
    return {n: {"file_name": f"{n}.jsonl", "formatting": "sharegpt", "columns": columns, "tags": tags} for n in names}


def llama_factory(names: list[str], weights: Mapping[str, float] | None, ordered: bool = False) -> dict[str, Any]:
    """Keys for LLaMA-Factory's training YAML; weights become probabilities of interleaving."""
    said: dict[str, Any] = {"stage": "sft", "do_train": True, "dataset_dir": ".", "dataset": ",".join(names)}
    said |= {"disable_shuffling": True} if ordered else {}
    if weights and len(names) > 1:
        whole = sum(weights[name] for name in names)
        said |= {
            "mix_strategy": "interleave_under",
            "interleave_probs": ",".join(f"{weights[name] / whole:.6g}" for name in names),
        }
    return said


def axolotl(names: list[str], weights: Mapping[str, float] | None, ordered: bool = False) -> dict[str, Any]:
    """axolotl's `datasets:`. It has neither weights nor interleaving, so a weighted mixture is a file of its own."""
    files = [MIXTURE] if weights and len(names) > 1 else [f"{name}.jsonl" for name in names]
    order = {"shuffle_merged_datasets": not ordered} | ({"curriculum_sampling": True} if ordered else {})
    return {"datasets": [_axolotl_entry(file) for file in files], **order}


def _axolotl_entry(path: str) -> dict[str, Any]:
    return {
        "path": path,
        "ds_type": "json",
        "type": "chat_template",
        "field_messages": "messages",
        "message_property_mappings": {"role": "role", "content": "content"},
        "roles_to_train": ["assistant"],
        "train_on_eos": "turn",
    }


def trl(names: list[str], weights: Mapping[str, float] | None, template: bool, ordered: bool = False) -> dict[str, Any]:
    """TRL's dataset mixture, for `trl sft --config trl.yaml`; with our chat form the loss is on answers alone."""
    entries: list[dict[str, Any]] = []
    for name in names:
        entry: dict[str, Any] = {"path": "json", "data_files": f"{name}.jsonl", "split": "train"}
        if weights and len(names) > 1:
            entry["fraction"] = float(weights[name])
        entries.append(entry)
    ours = {"assistant_only_loss": True, "chat_template_path": "chat_template.jinja"}
    order = {"train_sampling_strategy": "sequential"} if ordered else {}
    return {"datasets": entries, **(ours if template else {}), **order}


def open_instruct(rows: Mapping[str, int], weights: Mapping[str, float] | None) -> dict[str, Any]:
    """open-instruct's mixer: file, then rows to take of it, for every file; `train` is the only split of a JSONL."""
    taken = shares(rows, weights)
    pairs = [text for name, count in taken.items() for text in (f"{name}.jsonl", str(count))]
    return {"dataset_mixer_list": pairs, "dataset_mixer_list_splits": ["train"]}
