"""The world on disk: written whole or not at all, cached by seed and version, and read back with its truth.

<world>/
  pool/<source>.jsonl             id, source, messages: all that a scorer may see
  targets/<name>/references.jsonl id, subtask, messages
  targets/<name>/test.jsonl       likewise; no problem of it is in the pool or among the references
  labels.jsonl                    id, skill, clean: the truth, for the oracle and for precision alone
  pretrain.jsonl                  text: what the base model read
  model/                          tokenizer and base model, as transformers saves them
  world.json                      seed, version, counts, which skill each target wants
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paydirt.core.artifacts import cache_root
from paydirt.world.generate import World, generate_world
from paydirt.world.pretraining import pretraining_documents

if TYPE_CHECKING:
    from paydirt.world.base_model import PretrainConfig

# Raise with every change of wording, facts, mixture, model or schedule: the cache knows no other sign of it.
WORLD_VERSION = 2
DOCUMENTS = 30_000


def world_dir(
    seed: int, cache: Path | None = None, pretrain: PretrainConfig | None = None, progress: bool = True
) -> Path:
    """The folder of the world of `seed`, built on the first call (about a minute) and found on the next.

    It is built beside its place and renamed when whole, so a killed build is never taken for a world; of two processes
    that build at once the first to finish wins and the other takes its result.
    """
    final = (cache or cache_root()) / f"world-v{WORLD_VERSION}-seed{seed}{_suffix(pretrain)}"
    if final.is_dir():
        return final
    part = final.with_name(f"{final.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        write_world(part, seed, pretrain, progress)
        part.rename(final)
    except OSError:
        if not final.is_dir():
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return final


def _suffix(pretrain: PretrainConfig | None) -> str:
    """Nothing for the standard model; a digest of the settings for any other."""
    if pretrain is None:
        return ""
    return "-" + hashlib.sha256(repr(pretrain).encode()).hexdigest()[:8]


def write_world(out_dir: Path, seed: int, pretrain: PretrainConfig | None = None, progress: bool = True) -> World:
    """Write text, labels, tokenizer and base model of the world of `seed` into `out_dir`; give back its text."""
    from paydirt.world.base_model import pretrain_base_model
    from paydirt.world.tokenizer import build_tokenizer

    world = generate_world(seed)
    documents = pretraining_documents(seed, world.facts, DOCUMENTS)
    write_text(out_dir, world)
    _write_jsonl(out_dir / "pretrain.jsonl", ({"text": text} for text in documents))
    tokenizer = build_tokenizer([*documents, *world_texts(world)])
    model = pretrain_base_model(documents, tokenizer, seed, pretrain, progress)
    tokenizer.save_pretrained(str(out_dir / "model"))
    model.save_pretrained(str(out_dir / "model"))
    return world


def write_text(out_dir: Path, world: World) -> None:
    """Write everything but the base model and its reading."""
    for source in sorted({item.source for item in world.pool}):
        rows = ({"id": i.id, "source": source, "messages": i.messages} for i in world.pool if i.source == source)
        _write_jsonl(out_dir / "pool" / f"{source}.jsonl", rows)
    for name, target in world.targets.items():
        for part, items in (("references", target.references), ("test", target.test)):
            rows = ({"id": i.id, "subtask": i.subtask, "messages": i.messages} for i in items)
            _write_jsonl(out_dir / "targets" / name / f"{part}.jsonl", rows)
    labels = ({"id": id, "skill": label.skill, "clean": label.clean} for id, label in world.labels.items())
    _write_jsonl(out_dir / "labels.jsonl", labels)
    about = {
        "version": WORLD_VERSION,
        "seed": world.seed,
        "pool": len(world.pool),
        "targets": {name: target.skill for name, target in world.targets.items()},
    }
    (out_dir / "world.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def world_texts(world: World) -> list[str]:
    """Every prompt and answer of pool and targets."""
    items = [*world.pool, *(i for t in world.targets.values() for i in (*t.references, *t.test))]
    return [text for item in items for text in (item.prompt, item.answer)]


def true_scores(world: Path, target: str) -> dict[str, float]:
    """What a scorer that knows the truth would say of every pool id.

    1 for the target's skill answered rightly; 0.5 for other skills answered rightly; 0.25 for other skills answered
    wrongly; 0 for the target's skill answered wrongly, which is the worst to learn from.
    """
    skill = _target_skill(world, target)
    return {
        row["id"]: (1.0 if row["clean"] else 0.0) if row["skill"] == skill else (0.5 if row["clean"] else 0.25)
        for row in _read_jsonl(world / "labels.jsonl")
    }


def relevant_ids(world: Path, target: str, clean_only: bool = False) -> set[str]:
    """Ids of the pool examples of the target's skill: what precision is counted against."""
    skill = _target_skill(world, target)
    rows = _read_jsonl(world / "labels.jsonl")
    return {row["id"] for row in rows if row["skill"] == skill and (row["clean"] or not clean_only)}


def _target_skill(world: Path, target: str) -> str:
    skills: dict[str, str] = json.loads((world / "world.json").read_text(encoding="utf-8"))["targets"]
    if target not in skills:
        raise ValueError(f"the built-in world has no target {target!r}; it has {', '.join(sorted(skills))}")
    return skills[target]


def _write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
