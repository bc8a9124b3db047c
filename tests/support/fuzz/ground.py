"""What the fuzzer starts from: good files and one finished artifact of each kind, made by the command itself."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml

from support import data, models
from support.fuzz.process import call, server
from support.stages import Tiny

ENCODING = ["--max-length", "128"]
TRAINING = ["--method", "full", "--learning-rate", "1e-3", "--batch-size", "8", "--epochs", "1"]


@dataclass
class Ground:
    """Folder of good files; artifacts lie under `runs/`."""

    root: Path

    @property
    def pool(self) -> str:
        return str(self.root / "pool.jsonl")

    @property
    def target(self) -> list[str]:
        return ["--target", "t", "--references", str(self.root / "references.jsonl")]

    def run(self, name: str) -> Path:
        return self.root / "runs" / name

    def make(self, *arguments: Any) -> None:
        done = call([str(a) for a in arguments], self.root, limit=240, cache=self.root / "cache")
        assert done.code == 0, f"paydirt {' '.join(map(str, arguments))}: {done.code}\n{done.text}"

    @cached_property
    def options(self) -> dict[str, list[tuple[str, bool]]]:
        """Of each verb ("score bm25") its options and whether they take a value."""
        place = self.root / "options.json"
        process = server().Process(target=_describe, args=(str(place),))
        process.start()
        process.join(60)
        return json.loads(place.read_text())


def of_tiny(tiny: Tiny, root: Path) -> Ground:
    """The tiny files under one folder, with no artifact yet."""
    for name in ("pool", "references", "test"):
        (root / f"{name}.jsonl").write_bytes((tiny.root / f"{name}.jsonl").read_bytes())
    (root / "model").symlink_to(tiny.model)
    return Ground(root)


def build(root: Path) -> Ground:
    """Make everything once; takes half a minute."""
    from tasks.layout import write_layout

    root.mkdir(parents=True, exist_ok=True)
    ground = Ground(root)
    data.write_all(root)
    for source in ("sums", "chat"):
        rows = [r for r in data.pool_records() if r["source"] == source]
        data.write_jsonl(root / "published" / f"{source}.jsonl", rows)
        torch.save(torch.arange(len(rows), dtype=torch.float32), root / "published" / f"{source}_influence_score.pt")
    (root / "published" / "dim8").mkdir()
    torch.save(torch.nn.functional.normalize(torch.randn(20, 8)), root / "published" / "dim8" / "all_orig.pt")
    write_layout(root / "less")
    model = models.save_tiny_llama(root / "model")
    scoring = ["--pool", ground.pool, *ground.target, *ENCODING]
    ground.make("score", "random", *scoring, "--model", model, "--out", ground.run("random"))
    ground.make("score", "bm25", *scoring, "--out", ground.run("bm25"))
    ground.make("score", "ppl", *scoring, "--model", model, "--tune-epochs", "0", "--out", ground.run("ppl"))
    ground.make("select", ground.run("random"), "--fraction", "0.2", "--out", ground.run("selection"))
    chosen = ground.run("selection") / "selection.jsonl"
    ground.make("train", "--data", chosen, "--model", model, *TRAINING, *ENCODING, "--out", ground.run("tuned"))
    testing = [*ground.target, "--test", root / "test.jsonl", *ENCODING]
    ground.make("evaluate", ground.run("tuned") / "model", *testing, "--out", ground.run("evaluation"))
    ground.make("dedup", "--pool", ground.pool, "--out", ground.run("dedup"))
    ground.make("split", "--pool", ground.pool, "--out", ground.run("split"))
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe(ground)))
    ground.make("run", root / "recipe.yaml", "--out", ground.run("study"))
    return ground


def recipe(ground: Ground) -> dict[str, Any]:
    return {
        "name": "fuzzed",
        "pool": {"files": [ground.pool], "form": "auto", "on_bad": "raise"},
        "targets": [
            {"name": "t", "references": str(ground.root / "references.jsonl"), "test": str(ground.root / "test.jsonl")}
        ],
        "model": {"path": str(ground.root / "model"), "device": "cpu", "dtype": "float32"},
        "encoding": {"template": "tulu", "max_length": 128},
        "methods": ["random", {"name": "bm25", "variant": "okapi"}],
        "fractions": [0.1, 0.2, 0.4],
        "seeds": [1],
        "training": {"method": "full", "learning_rate": 1e-3, "batch_size": 8, "epochs": 1, "save": "no"},
        "workers": 1,
    }


def copy_run(ground: Ground, name: str, folder: Path) -> Path:
    return Path(shutil.copytree(ground.run(name), folder / name))


def _describe(place: str) -> None:
    import contextlib
    import runpy
    import sys

    import typer

    sys.argv = ["paydirt", "--version"]
    with contextlib.suppress(SystemExit):
        runpy.run_module("paydirt", run_name="__main__")
    from paydirt import cli

    found: dict[str, list[tuple[str, bool]]] = {}

    def walk(command: Any, name: str) -> None:
        if hasattr(command, "commands"):
            for part, inner in command.commands.items():
                walk(inner, f"{name} {part}".strip())
            return
        options = [
            (max(p.opts, key=len), not getattr(p, "is_flag", False))
            for p in command.params
            if p.opts[0].startswith("--")
        ]
        found[name] = [(flag, takes) for flag, takes in options if flag not in ("--help", "--out", "--cache")]

    walk(typer.main.get_command(cli.app), "")
    Path(place).write_text(json.dumps(found))
