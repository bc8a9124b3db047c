"""Gradient features against their rivals, in one run on one machine; prints ratios.

    python benchmarks/gradients.py                      # r 32 and 128, float32 (and bfloat16 where the CPU has it)
    python benchmarks/gradients.py --quality            # distortion of the sketch against dense, at equal k
    python benchmarks/gradients.py --memory             # peak memory of 1,000 and of 10,000 examples

Rivals: (a) the published way: one example at a time, concatenate, Adam, traker's BasicProjector on 16 examples at a
time as the LESS code calls it; (b) bergson, where it is installed; (c) a plain batched forward and backward of the
same batches, which makes no features at all. A rival that is not installed is skipped, and said to be.
The model is a 10.6M-parameter Llama with random weights and a LoRA adapter on q, k, v, o that has taken a few steps;
the texts are `../shared/data/train` where present (words hashed into the vocabulary), else random.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor, nn

from paydirt.data.batches import IGNORED, length_bucketed
from paydirt.data.encoding import Encoded
from paydirt.gradients.batches import gradient_batch
from paydirt.gradients.directions import AdamSettings, adam_published
from paydirt.gradients.features import Features
from paydirt.gradients.influence import similarity_of
from paydirt.gradients.moments import Moments
from paydirt.gradients.per_example import PerExample, clean_name, trainable
from paydirt.gradients.projection import Projection
from paydirt.gradients.store import Store, pack_rows, plan_shards, write_shards

VOCAB = 8192
POOL = Path(__file__).resolve().parents[2] / "shared" / "data" / "train"


def make_model(rank: int, dtype: torch.dtype = torch.float32, hidden: int = 256, layers: int = 8) -> nn.Module:
    """Llama with LoRA (10.6M base parameters by default); eager attention, the faster one at head size 32 on CPUs."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=hidden, intermediate_size=hidden * 11 // 4, num_hidden_layers=layers,
        num_attention_heads=hidden // 32, num_key_value_heads=hidden // 32, max_position_embeddings=1024,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=4 * rank, target_modules=targets)).to(dtype)


def read_examples(n: int, shortest: int = 128, longest: int = 256) -> list[Encoded]:
    """n examples of `shortest` to `longest` tokens, the last two thirds of them supervised."""
    generator = torch.Generator().manual_seed(0)
    texts: list[list[int]] = []
    for path in sorted(POOL.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line, _ in zip(lines, range(40 * n), strict=False):
                words = " ".join(m["content"] for m in json.loads(line)["messages"]).split()
                if len(words) >= shortest and len(texts) < 4 * n:
                    texts.append([zlib.crc32(word.encode()) % VOCAB for word in words[:longest]])
    if not texts:
        print(f"{POOL} is not there: random tokens instead of real text")
        lengths = torch.randint(shortest, longest + 1, (n,), generator=generator).tolist()
        texts = [torch.randint(0, VOCAB, (length,), generator=generator).tolist() for length in lengths]
    order = torch.randperm(len(texts), generator=generator)[:n].tolist()
    return [Encoded(t := np.asarray(texts[i]), np.arange(len(t)) >= len(t) // 3) for i in order]


def warm_up(model: nn.Module, examples: list[Encoded], steps: int = 20) -> Moments:
    """A few Adam steps on LoRA, so that B is not zero and the moments are real."""
    optimizer = torch.optim.Adam(trainable(model).values(), lr=1e-3)
    for step in range(steps):
        batch = gradient_batch(examples[4 * step % len(examples) :][:4])
        logits = model(input_ids=batch.input_ids).logits.float()
        F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED).backward()
        optimizer.step()
        optimizer.zero_grad()
    state = {clean_name(name): optimizer.state[p] for name, p in trainable(model).items()}
    first = {name: s["exp_avg"].float() for name, s in state.items()}
    return Moments(first, {name: s["exp_avg_sq"].float() for name, s in state.items()}, AdamSettings(step=steps))


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Best of `repeats`: the machine's other tenants only ever add time."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def plain_pass(model: nn.Module, examples: list[Encoded], budget: int) -> None:
    """Rival (c): what any training loop does with the same batches."""
    model.eval()
    for rows in length_bucketed([len(e.ids) for e in examples], budget):
        batch = gradient_batch([examples[row] for row in rows])
        logits = model(input_ids=batch.input_ids, use_cache=False).logits.float()
        F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED).backward()
        model.zero_grad(set_to_none=True)


def published_gradients(model: nn.Module, examples: list[Encoded], moments: Moments) -> Tensor:
    """Rival (a) without its projection: one backward per example, concatenated, Adam on the whole vector. [n, d]"""
    m = torch.cat([moments.first[clean_name(name)].flatten() for name in trainable(model)])
    v = torch.cat([moments.second[clean_name(name)].flatten() for name in trainable(model)])
    model.eval()
    rows = []
    for example in examples:
        ids = torch.from_numpy(example.ids.astype(np.int64))[None]
        labels = ids.masked_fill(~torch.from_numpy(example.supervised)[None], IGNORED)
        model(input_ids=ids, labels=labels).loss.backward()
        g = torch.cat([p.grad.float().flatten() for p in trainable(model).values() if p.grad is not None])
        rows.append(adam_published(g[None], m, v, moments.settings)[0])
        model.zero_grad(set_to_none=True)
    return torch.stack(rows)


def published_projection(vectors: Tensor, k: int, share: int) -> float | None:
    """Seconds that traker's BasicProjector takes for `vectors` at `k`; `share` of k is run, the time scaled up.

    It makes and multiplies the matrix in blocks of columns, so its time is proportional to k. None if not installed.
    """
    try:
        from trak.projectors import BasicProjector, ProjectionType
    except ImportError:
        return None
    projector = BasicProjector(
        vectors.shape[1], k // share, seed=0, proj_type=ProjectionType.rademacher, device="cpu", block_size=32,
        dtype=torch.float32,
    )  # fmt: skip
    return share * seconds(lambda: projector.project(vectors, model_id=0), 1)


def compare(rank: int, dtype: torch.dtype, arguments: argparse.Namespace) -> None:
    """One table: examples per second of each way, and how many times faster ours is."""
    model, examples = make_model(rank), read_examples(arguments.examples)
    moments = warm_up(model, examples)
    k, budget, n = arguments.k, arguments.token_budget, len(examples)
    d = sum(p.numel() for p in trainable(model).values())
    print(
        f"\nLoRA r {rank}, d {d / 1e6:.2f}M, k {k}, {str(dtype)[6:]}, {n} examples, {torch.get_num_threads()} threads"
    )
    rivals: dict[str, float] = {}
    sample = published_gradients(model, examples[:16], moments)
    per_gradient = seconds(lambda: published_gradients(model, examples[:8], moments), arguments.repeats) / 8
    for size in (1, 16):  # 16 at a time is the LESS code's interval; 1 at a time shows what the matrix costs
        projecting = published_projection(sample[:size], k, arguments.share)
        if projecting is None:
            print("  (a) skipped: traker is not installed")
            break
        rivals[f"(a) published, float32, {size} projected at a time"] = 1 / (per_gradient + projecting / size)
    rivals["(a) published, without projection"] = 1 / per_gradient
    for target in ("global", "per_module"):
        rate = bergson_rate(model, examples, k, target, budget)
        if rate is None:
            print("  (b) skipped: bergson is not installed")
            break
        rivals[f"(b) bergson, {target}, plain gradients"] = rate
    model = model.to(dtype)
    plain = ours = no_features = float("inf")
    with Features(model, Projection(k), "adam_published", moments, budget) as features:
        features(examples[:8])
        for _ in range(arguments.repeats):  # in turns, so that a noisy moment hits all of them
            ours = min(ours, seconds(lambda: features(examples), 1) / n)
            assert features.runner is not None
            no_features = min(no_features, seconds(lambda: drop_features(features.runner, examples, budget), 1) / n)
    for _ in range(arguments.repeats):
        plain = min(plain, seconds(lambda: plain_pass(model, examples, budget), 1) / n)
    rivals["(c) plain forward and backward"] = 1 / plain
    rivals["ours, gradients formed but not projected"] = 1 / no_features
    print(f"  {'ours':55s} {1 / ours:9.2f} examples/s")
    for name, rate in rivals.items():
        print(f"  {name:55s} {rate:9.3f} examples/s   ours is {1 / ours / rate:8.2f} x")


def drop_features(runner: PerExample | None, examples: list[Encoded], budget: int) -> None:
    """Our gradients, thrown away."""
    assert runner is not None
    for rows in length_bucketed([len(e.ids) for e in examples], budget):
        runner.run(gradient_batch([examples[row] for row in rows]), lambda name, lo, hi, gradient: None)


def bergson_rate(model: nn.Module, examples: list[Encoded], k: int, target: str, budget: int) -> float | None:
    """Rival (b) in examples per second over one of the same batches; None if it is not installed.

    `target` "global": one k-dimensional projection of the whole gradient, whose cosine error is that of dense.
    "per_module" (its default): two-sided, about k numbers over all modules; cheaper, of several times the error, and
    not able to follow Adam, which is elementwise on the gradient. Plain gradients: its Adam normaliser is left out.
    """
    try:
        from bergson import GradientProcessor, IndexConfig, InMemoryCollector
        from datasets import Dataset
    except ImportError:
        return None
    names = {name for name, m in model.named_modules() if isinstance(m, nn.Linear) and ".lora_" in name}
    batch = gradient_batch([examples[row] for row in length_bucketed([len(e.ids) for e in examples], budget)[0]])
    rows = {
        "input_ids": batch.input_ids.tolist(),
        "labels": batch.labels.tolist(),
        "length": [batch.length] * batch.size,
    }
    dimension = k if target == "global" else round((k / len(names)) ** 0.5)
    processor = GradientProcessor(projection_dim=dimension, projection_target=target, projection_seed=0)
    collector = InMemoryCollector(
        model=model, data=Dataset.from_dict(rows), cfg=IndexConfig(run_path="unused"), processor=processor,
        target_modules=names,
    )  # fmt: skip
    real = torch.arange(batch.length) < torch.tensor([int((row != 0).sum()) for row in batch.input_ids])[:, None]

    def work() -> None:
        with collector.with_batch(real):
            logits = model(input_ids=batch.input_ids, use_cache=False).logits.float()
            nll = F.cross_entropy(logits.transpose(1, 2), batch.labels, ignore_index=IGNORED, reduction="none")
            losses = nll.sum(1) / batch.supervised
            losses.sum().backward()
            collector.process_batch(list(range(batch.size)), losses=losses)
        model.zero_grad(set_to_none=True)

    return batch.size / seconds(work, 1)


def quality(rank: int, k: int, n: int) -> None:
    """Cosine error (root mean square) and Spearman with the exact cosines, n pool rows against n / 4 references."""
    model, examples = make_model(rank), read_examples(n + n // 4)
    moments = warm_up(model, examples)
    print(f"\nDistortion at k {k}, LoRA r {rank}, {n} x {n // 4} pairs")
    references = sgd_gradients(model, examples[n:], moments)
    for direction in ("adam_published", "sgd"):
        make = published_gradients if direction == "adam_published" else sgd_gradients
        exact = make(model, examples[:n], moments)
        truth = similarity_of(exact.double(), references.double())
        for kind, seed in [("sketch", 0), ("sketch", 1), ("sketch", 2), ("rademacher", 0)]:
            projection = Projection(k, kind, seed)  # type: ignore[arg-type]
            start = time.perf_counter()
            found = similarity_of(project(projection, exact, model), project(projection, references, model))
            took = (time.perf_counter() - start) / len(examples)
            error = float((found - truth).square().mean().sqrt())
            rank_all = spearmanr(found.flatten(), truth.flatten()).statistic
            rank_score = spearmanr(found.mean(1), truth.mean(1)).statistic
            print(
                f"  {direction:15s} {kind:11s} seed {seed}: cosine error {error:.4f}, Spearman {rank_all:.3f} (pairs) "
                f"{rank_score:.3f} (scores), {1e3 * took:.1f} ms per example"
            )


def sgd_gradients(model: nn.Module, examples: list[Encoded], moments: Moments) -> Tensor:
    """Plain gradients [n, d], by the loop."""
    rows = []
    for example in examples:
        ids = torch.from_numpy(example.ids.astype(np.int64))[None]
        labels = ids.masked_fill(~torch.from_numpy(example.supervised)[None], IGNORED)
        model(input_ids=ids, labels=labels).loss.backward()
        rows.append(torch.cat([p.grad.float().flatten() for p in trainable(model).values() if p.grad is not None]))
        model.zero_grad(set_to_none=True)
    return torch.stack(rows)


def project(projection: Projection, vectors: Tensor, model: nn.Module) -> Tensor:
    """[n, d] whole vectors -> [n, k]."""
    sums, start = projection.begin(len(vectors)), 0
    for name, p in trainable(model).items():
        projection.add(sums, vectors[:, start : start + p.numel()], clean_name(name), 0, p.numel())
        start += p.numel()
    return projection.finish(sums)


def memory_child(n: int) -> None:
    """Peak memory (MB) of writing a store of n short examples with a small model."""
    model = make_model(8, hidden=64, layers=2)
    examples = {str(i): e for i, e in enumerate(short_examples(n))}
    projection = Projection(8192)
    with tempfile.TemporaryDirectory() as directory, Features(model, projection) as features:

        def compute(ids: tuple[str, ...]) -> dict[str, Tensor]:
            return pack_rows(features([examples[i] for i in ids])[0], "int8")

        manifest = {"projection": projection.settings()}
        write_shards(directory, manifest, plan_shards(list(examples), 512), compute)  # type: ignore[arg-type]
        size = len(Store(directory))
    print(f"  {size} examples: peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def short_examples(n: int) -> list[Encoded]:
    rows = torch.randint(0, VOCAB, (n, 16), generator=torch.Generator().manual_seed(0)).tolist()
    return [Encoded(np.asarray(ids), np.arange(16) > 0) for ids in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--k", type=int, default=8192)
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--token-budget", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--share", type=int, default=64, help="run 1/share of BasicProjector's k and scale its time")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--memory-child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_child:
        memory_child(arguments.memory_child)
    elif arguments.memory:
        print("Peak memory of writing a store, one process each")
        for n in (1000, 10000):
            subprocess.run([sys.executable, __file__, "--memory-child", str(n)], check=True)
    elif arguments.quality:
        quality(arguments.ranks[0], arguments.k, arguments.examples)
    else:
        for rank in arguments.ranks:
            for dtype in arguments.dtypes:
                compare(rank, getattr(torch, dtype), arguments)


if __name__ == "__main__":
    main()
