"""The demo: a study of every method on the built-in world, for both of its targets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from paydirt.core.artifacts import cache_root, write_atomic
from paydirt.core.config import dump_yaml, parse
from paydirt.core.progress import say
from paydirt.study.recipe import Study
from paydirt.study.run import run_study

# Chosen on worlds 0 to 2, which LOG.md reports: what they do to scores there is a fit, not a forecast.
TRAINING = {"method": "full", "learning_rate": 1e-3, "batch_size": 16, "epochs": 3, "save": "no"}
PERPLEXITY = {"tune_method": "full", "tune_learning_rate": 1e-3, "tune_epochs": 5, "tune_batch_size": 8}
GRADIENT = {
    "warmup_learning_rate": 1e-3,
    "warmup_batch_size": 16,
    "warmup_epochs": 2,
    "lora": {"r": 8, "alpha": 32, "dropout": 0.0},
    "k": 1024,
}
DROP = {"method": "full", "rate": 1e-3, "depth": 5, "tune_batch_size": 8}
# True loss drops of some examples, words and lengths for the rest: a tenth of what gradients cost.
CASCADE = {
    "stages": [{"name": "learned", "rounds": 4, "truth": {"name": "drop", **DROP}}, {"name": "drop", **DROP}],
    "full": {"name": "gradient", **GRADIENT},
    "share": 0.1,
}


def prepare_world(out: Path, seed: int = 0) -> Path:
    """Write the world of `seed` with truth files and a recipe to `out`; the base model is trained once and cached."""
    from paydirt.world import TARGETS, relevant_ids, true_scores, world_dir

    if not (out / "recipe.yaml").exists():
        say(f"building the world of seed {seed} (its base model is trained on the spot, once)")
        made = world_dir(seed, cache_root())
        shutil.copytree(made, out, dirs_exist_ok=True)
        (out / "truth").mkdir(exist_ok=True)
        for target in TARGETS:
            scores, right = true_scores(made, target), relevant_ids(made, target)
            rows = [{"id": i, "score": s, "relevant": i in right} for i, s in scores.items()]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            write_atomic(out / "truth" / f"{target}.jsonl", text)
        write_atomic(out / "recipe.yaml", dump_yaml(recipe(out.absolute(), list(TARGETS))))
    return out


def recipe(world: Path, targets: list[str]) -> dict[str, Any]:
    """The demo's study, as its recipe file holds it."""
    return {
        "name": "demo",
        "pool": {"files": {p.stem: str(p) for p in sorted((world / "pool").glob("*.jsonl"))}},
        "targets": [
            {
                "name": name,
                "references": str(world / "targets" / name / "references.jsonl"),
                "test": str(world / "targets" / name / "test.jsonl"),
            }
            for name in targets
        ],
        "model": {"path": str(world / "model")},
        "encoding": {"template": "tulu", "max_length": 128},
        "methods": [
            "random",
            "bm25",
            {"name": "embed", "encoder": "minilm"},
            {"name": "rds", "policy": {"name": "round_robin", "over": "reference"}, "label": "rds"},
            *(
                {"name": "ppl", **PERPLEXITY, "policy": policy, "label": f"ppl-{policy}"}
                for policy in ("top", "mid", "low")
            ),
            {"name": "gradient", **GRADIENT},
            {"name": "drop", **DROP},
            {"name": "cascade", **CASCADE},
            {"name": "oracle", "labels": str(world / "truth" / "{target}.jsonl")},
        ],
        "fractions": [0.025, 0.05, 0.1, 0.25, 1.0],
        "seeds": [3, 6],
        "selection_seeds": "fixed",  # one warm-up a method: twice the gradients would not fit the demo's minutes
        "training": TRAINING,
        "evaluation": {"name": "exact_match"},
        "truth": str(world / "truth" / "{target}.jsonl"),
    }


def run_demo(out: Path, seed: int = 0, quick: bool = False) -> Path:
    """Prepare the world under `out/world`, run the study in `out/study`; returns the results table's path."""
    world = prepare_world(out / "world", seed)
    values = recipe(world.absolute(), [p.name for p in sorted((world / "targets").iterdir(), reverse=True)])
    if quick:
        values |= {"fractions": [0.025, 0.05], "seeds": [3]}
    return run_study(parse(Study, values, where="demo"), out / "study")
