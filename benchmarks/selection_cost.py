"""How much of the full gradients' selection a cheaper method finds, for what share of their FLOPs, on the real pool.

    python benchmarks/selection_cost.py --work /tmp/selection-cost          # about two hours on two cores
    python benchmarks/selection_cost.py --work /tmp/selection-cost --only table
    python benchmarks/selection_cost.py --work /tmp/quick --examples 1024 --steps 60 --points 256

A sample of the pool beside this repository, a small Llama pre-trained on that pool on the spot, BBH and MMLU as targets.
Full gradients are LESS's: a warm-up of four epochs on 5 %, four checkpoints. Everything is an artifact under --work: a
second run finds it. Shares are of FLOPs, warm-up, references, features and predictor included, by closed form over the
real tokens. Three parts:

- `variants`: each way to make gradients cheaper, on a sixth of the pool, costs as for the whole;
- `learned`: document 001's table, predictor points and diagnostics;
- `frontier`: every method's recall of the true top 5 % against its share of the cost.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from paydirt.core.artifacts import write_atomic
from paydirt.core.config import parse
from paydirt.core.progress import say
from paydirt.data.encoding import EncodingConfig
from paydirt.data.pool import PoolConfig, open_pool
from paydirt.data.subset import write_rows
from paydirt.models.load import ModelConfig
from paydirt.models.tiny import TinyConfig, tiny_model
from paydirt.prediction.budget import closed_form
from paydirt.prediction.diagnostics import recall_of_top, spearman
from paydirt.prediction.passes import learn, one_score
from paydirt.scoring.base import Job, make_scorer
from paydirt.selection.scores import Reduction, reduced
from paydirt.tasks import TargetConfig, load_target

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
FULL = {
    "name": "gradient",
    "warmup_learning_rate": 1e-3,
    "k": 32768,
    "lora": {"r": 16, "alpha": 64},
    "token_budget": 1024,
}
# How each variant differs from FULL; the selector model "small" has two layers of half the width.
ONE = {"checkpoints": 1}
SHORT = {"warmup_epochs": 1, "warmup_fraction": 0.02}
VARIANTS: dict[str, dict[str, Any]] = {
    "full, another warm-up seed": {"warmup_seed": 1},
    "2 checkpoints": {"checkpoints": 2},
    "1 checkpoint": ONE,
    "1 checkpoint, 1 epoch on 2 %": SHORT,
    "smaller selector (2 layers, width 64)": {"model": "small"},
    "1 checkpoint, 4 epochs on 1 %": ONE | {"warmup_fraction": 0.01},
    "no warm-up (sgd)": {"warmup_epochs": 0, "direction": "sgd"},
    "1 checkpoint, k 1024": ONE | {"k": 1024},
    "1 checkpoint, last 3 of 6 layers": ONE | {"layers": 3},
    "1 checkpoint, last layer": ONE | {"layers": 1},
    "1 checkpoint, 256 tokens": ONE | {"max_tokens": 256},
    "1 checkpoint, 64 tokens": ONE | {"max_tokens": 64},
    "all of it: 1 epoch on 2 %, 3 layers, 128 tokens": SHORT | {"layers": 3, "max_tokens": 128},
}


KINDS = ["random", "length", "bm25", "embed", "rds", "cheaper gradients", "learned", "cascade"]


class Bench:
    """The sample, the models and the jobs of one work folder; measurements are kept in `rows.json`."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.work = options, options.work.absolute()
        self.shared = self.work / "cache"
        source = open_pool(PoolConfig(files=[str(SHARED / "train" / "*.jsonl.gz")]), self.shared)
        sample = self.work / "pool"
        if not sample.exists():
            rows = np.random.default_rng(0).permutation(len(source))[: options.examples]
            write_rows(source, np.sort(rows), sample)
        self.pool = open_pool(PoolConfig(files=[str(sample / "*.jsonl")]), self.shared)
        sizes = {"selector": TinyConfig(vocabulary=4096, hidden=128, layers=6, steps=options.steps)}
        sizes["small"] = TinyConfig(vocabulary=4096, hidden=64, layers=2, steps=options.steps)
        self.models = {name: tiny_model(source, self.work / name, 0, size) for name, size in sizes.items()}
        for name, model in self.models.items():
            say(f"{name}: {model.notes['parameters']} parameters, loss {model.notes['training_loss']:.2f} of "
                f"{model.notes['loss_of_chance']:.2f} nats by chance")  # fmt: skip
        self.file = self.work / "rows.json"
        self.rows: dict[str, dict[str, Any]] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def job(self, target: str, name: str, model: str = "selector") -> Job:
        out = self.work / "jobs" / target / name.replace("/", "-").replace(" ", "_")
        out.mkdir(parents=True, exist_ok=True)
        config = ModelConfig(path=str(self.models[model].path / "model"), device="cpu")
        loaded = load_target(parse(TargetConfig, {"name": target, "data": str(SHARED / "eval")}))
        return Job(self.pool, loaded, out, self.shared, config, EncodingConfig(max_length=2048))

    def full(self, target: str) -> tuple[np.ndarray, float]:
        """True influence [N, R] and its cost by closed form."""
        path = self.work / f"truth-{target}.npz"
        if not path.exists():
            job, method = self.job(target, "full"), make_scorer(FULL)
            values = method.values(job)
            with open(path, "wb") as file:
                np.savez(file, values=values, counted=job.meter.flops)
        with np.load(path) as stored:
            return stored["values"], make_scorer(FULL).predict_cost(self.job(target, "full")).flops

    def score(self, target: str, values: np.ndarray, how: Reduction | None = None) -> np.ndarray:
        """[N] by LESS's reduction, or another."""
        job = self.job(target, "full")
        return reduced(values, make_scorer(FULL).columns(job.target), how or make_scorer(FULL).reduction)

    def row(self, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if key not in self.rows:
            started = time.perf_counter()
            self.rows[key] = measure() | {"seconds": round(time.perf_counter() - started, 1)}
            write_atomic(self.file, json.dumps(self.rows, indent=1))
            say(f"{key}: {self.rows[key]}")
        return self.rows[key]


def spent(job: Job, scorer: Any) -> float:
    """FLOPs by closed form of what a method has done."""
    if scorer.name == "cascade":
        stages = json.loads((job.out / "cascade.json").read_text())["stages"]
        return float(sum(stage["flops"] for stage in stages))
    if scorer.name == "learned":
        return closed_form(json.loads((job.out / "diagnostics.json").read_text())["cost"])
    return float(scorer.predict_cost(job).flops)


def compare(true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    recalls = {f"recall {share:.0%}": recall_of_top(true, found, share) for share in (0.05, 0.1, 0.25)}
    return recalls | {"spearman": spearman(true, found)}


def variants(bench: Bench, target: str) -> None:
    """Each cheaper gradient on a sixth of the pool; its cost as it would be for the whole."""
    values, whole = bench.full(target)
    true = bench.score(target, values)
    rows = np.sort(np.random.default_rng(1).permutation(len(true))[: len(true) // 6])
    for name, change in VARIANTS.items():

        def measure(name: str = name, change: dict[str, Any] = change) -> dict[str, Any]:
            model = change.get("model", "selector")
            method = make_scorer(FULL | {k: v for k, v in change.items() if k != "model"})
            part = bench.job(target, name, model)
            share = method.predict_cost(part).flops / whole
            if change.keys() == {"checkpoints"}:  # the whole pool's store is there
                return compare(true[rows], method.scores(part)[rows]) | {"share": share}
            return compare(true[rows], method.scores(part.asking(rows, part.out))) | {"share": share}

        bench.row(f"variants/{target}/{name}", measure)


def frontier(bench: Bench, target: str) -> None:
    """Recall against cost for the methods as a user runs them, on the whole pool."""
    values, whole = bench.full(target)
    true = bench.score(target, values)

    def method(name: str, config: dict[str, Any] | str) -> None:
        def measure() -> dict[str, Any]:
            job = bench.job(target, name)
            found = make_scorer(config).scores(job)
            return compare(true, found) | {"share": spent(job, make_scorer(config)) / whole}

        bench.row(f"frontier/{target}/{name}", measure)

    method("random", "random")
    method("length", {"name": "length", "part": "supervised"})
    method("bm25", "bm25")
    method("embed", {"name": "embed", "encoder": "minilm"})
    method("rds", "rds")
    for used in (2, 1):
        method(f"gradient, last {used}", FULL | {"checkpoints": used})
    method("gradient, 1 epoch on 2 %", FULL | ONE | SHORT)
    points = bench.options.points
    last = {k: v for k, v in FULL.items() if k != "name"} | ONE
    for n in (points // 10, points):
        method(f"learned, {n} points", {"name": "learned", "points": n, "gradient": last, "refuse": False})
    for share in (0.15, 0.25):
        method(f"cascade, {share:.0%}", cascade(share, ONE, proxy_tokens=64, learner="ridge"))


def cascade(share: float, cheaper: dict[str, Any], **options: Any) -> dict[str, Any]:
    """The default cascade with this benchmark's gradients, made cheaper, and options of its predictor."""
    from paydirt.scorers.cascade import Cascade

    learned = next(stage.method for stage in Cascade().stages if stage.method.name == "learned")
    gradient = FULL | cheaper
    stages = [learned.to_dict() | {"truth": gradient} | options, gradient]
    return {"name": "cascade", "stages": stages, "share": share, "full": FULL}


def learned(bench: Bench, target: str) -> None:
    """Document 001's table: aggregations of the influence over all references, three levels and the value itself."""
    values, whole = bench.full(target)
    cases = [(how, "score", "kernel") for how in ("mean", "max", "min", "subtasks")]
    cases += [("mean", "score", "ridge"), ("mean", "score", "boosting"), ("mean", "references", "kernel")]
    for aggregation, predict, learner in cases:

        def measure(how: str = aggregation, predict: str = predict, learner: str = learner) -> dict[str, Any]:
            config = {"name": "learned", "points": bench.options.points, "aggregation": how, "refuse": False}
            config |= {"predict": predict, "learner": learner}
            config |= {"truth": FULL}
            job = bench.job(target, f"learned-{how}-{predict}-{learner}")
            scorer = make_scorer(config)
            outcome = learn(scorer, job)
            true = bench.score(target, values, scorer.reduction)
            report = outcome.report["predictor"]
            kept = {k: v for k, v in report.items() if k != "calibration"}
            kept |= {"slope": report["calibration"]["slope"], "alone": outcome.report["features_alone"]}
            parts = [outcome.predictor.predict(outcome.inputs.rows(a, b)) for a, b in job.shards()]
            found = one_score(scorer, outcome.truth, np.concatenate(parts))
            rest = np.setdiff1d(np.arange(len(true)), outcome.truth.rows)
            unseen = compare(true[rest], found[rest])
            spread = ((true[rest] - true[rest].mean()) ** 2).sum()
            unseen["r2"] = float(1 - ((true[rest] - found[rest]) ** 2).sum() / spread)
            return {"cross-validated": kept, "unseen": unseen, "share": spent(job, scorer) / whole}

        bench.row(f"learned/{target}/{aggregation}/{predict}/{learner}", measure)


def tables(bench: Bench, target: str) -> None:
    """The measurements of a target as Markdown."""

    def lines(prefix: str) -> list[tuple[str, dict[str, Any]]]:
        start = f"{prefix}/{target}/"
        return [(k.removeprefix(start), v) for k, v in bench.rows.items() if k.startswith(start)]

    print(f"\n{target}: cheaper gradients\n")
    print("| gradients | share of FLOPs | recall of top 5 % | 10 % | 25 % | rank correlation |")
    print("| --- | --- | --- | --- | --- | --- |")
    for prefix in ("variants", "frontier"):
        if prefix == "frontier":
            print(f"\n{target}: methods\n")
            print("| method | share of FLOPs | recall of top 5 % | 10 % | 25 % | rank correlation |")
            print("| --- | --- | --- | --- | --- | --- |")
        for name, v in lines(prefix):
            recalls = " | ".join(f"{v[f'recall {share}']:.2f}" for share in ("5%", "10%", "25%"))
            print(f"| {name} | {v['share']:.1%} | {recalls} | {v['spearman']:.2f} |")
    print(f"\n{target}: predicting influence (cross-validated on the points; R2 and correlation on all unseen)\n")
    print(
        "| influence | predicts | learner | accuracy | R2 | rank correlation | top 5 % | unseen R2 | unseen correlation |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, v in lines("learned"):
        how, predicts, learner = name.split("/")
        c, u = v["cross-validated"], v["unseen"]
        print(f"| {how} | {predicts} | {learner} | {c['accuracy']:.3f} | {c['r2']:.3f} | {c['spearman']:.3f} | "
              f"{c['recall_top_5%']:.2f} | {u['r2']:.3f} | {u['spearman']:.3f} |")  # fmt: skip


def figure(bench: Bench, targets: list[str]) -> None:
    """Recall of the true top 5 % against the share of the full gradients' FLOPs, a panel a target."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, len(targets), figsize=(6 * len(targets), 4.5), sharey=True, squeeze=False)
    for axis, target in zip(axes[0], targets):
        groups: dict[str, list[tuple[float, float, str]]] = {}
        for key, v in bench.rows.items():
            part, of, name = key.split("/", 2)
            if of == target and part in ("frontier", "variants"):
                kind = "cheaper gradients" if part == "variants" or name.startswith("gradient") else name.split(",")[0]
                groups.setdefault(kind, []).append((100 * v["share"], v["recall 5%"], name))
        for kind, points in groups.items():
            x, y, _ = zip(*sorted(points))
            x = [max(value, 0.02) for value in x]
            axis.plot(x, y, "o-" if kind in ("cascade",) else "o", color=f"C{KINDS.index(kind)}", label=kind, ms=5)
        axis.plot([10, 25], [0.8, 0.9], "k*", ms=11, label="aim")
        axis.set(
            xscale="log", xlabel="share of full gradients' FLOPs, % (free methods at 0.02)", title=target, ylim=(0, 1)
        )
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("recall of the true top 5 %")
    axes[0][0].legend(fontsize=8, loc="upper left")
    fig.tight_layout()
    fig.savefig(bench.work / "recall.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of everything that is made")
    parser.add_argument("--targets", nargs="+", default=["bbh", "mmlu"])
    parser.add_argument("--examples", type=int, default=12_288, help="sampled from the pool")
    parser.add_argument("--steps", type=int, default=800, help="of pre-training")
    parser.add_argument("--points", type=int, default=3000, help="of the predictor")
    parser.add_argument("--only", choices=["full", "variants", "learned", "frontier", "table"])
    options = parser.parse_args()
    bench = Bench(options)
    for target in options.targets:
        if options.only in (None, "full"):
            values, flops = bench.full(target)
            say(f"{target}: full gradients {values.shape}, {flops:.3g} FLOPs")
        for name, part in (("variants", variants), ("learned", learned), ("frontier", frontier)):
            if options.only in (None, name):
                part(bench, target)
        tables(bench, target)
    figure(bench, options.targets)


if __name__ == "__main__":
    main()
