"""Perplexity of a pool against one example at a time as published, in one run: ratio, agreement, peak memory.

    python benchmarks/perplexity.py [--examples 200] [--device cpu|cuda] [--dtype float32|bfloat16]

The rival reads each text alone through the model's own forward pass, with logits at every position, as the published
scripts do. Both sides start from the same token ids (real examples of ../shared/data, a byte-level tokenizer learnt on
them) and the same random Llama of about 10M parameters with a vocabulary of 32,000.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

SHARED = Path(os.environ.get("PAYDIRT_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def one_at_a_time(model, encoded, which: str) -> np.ndarray:
    """Mean loss [N] of each example alone; prompt tokens count for `all`, as in the published scripts."""
    out = []
    with torch.no_grad():
        for e in encoded:
            ids = torch.from_numpy(e.ids.astype(np.int64))[None].to(model.device)
            supervised = torch.from_numpy(e.supervised.copy())[None].to(model.device)
            labels = ids if which == "all" else torch.where(supervised, ids, -100)
            out.append(float(model(input_ids=ids, labels=labels).loss))
    return np.asarray(out)


def batched(model, encoded, which: str, budget: int) -> np.ndarray:
    from paydirt.data.encoding import Encoded
    from paydirt.tasks.loss import mean_losses, token_losses

    if which == "all":
        encoded = [Encoded(e.ids, np.ones(len(e.ids), dtype=bool)) for e in encoded]
    return mean_losses(token_losses(model, encoded, 0, budget))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--token-budget", type=int, default=2048)
    args = parser.parse_args()
    if not SHARED.exists():
        raise SystemExit(f"{SHARED}: no test data there; set PAYDIRT_SHARED")
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from paydirt.data.encoding import Encoder, EncodingConfig
    from paydirt.data.pool import PoolConfig, open_pool
    from paydirt.models.tiny import tiny_model

    with tempfile.TemporaryDirectory() as folder:
        pool = open_pool(PoolConfig(files=str(SHARED / "data/train/dolly.jsonl.gz")), Path(folder))
        tokenizer = AutoTokenizer.from_pretrained(tiny_model(pool, Path(folder) / "tiny").path / "model")
        encoder = Encoder(tokenizer, EncodingConfig(max_length=1024))
        rows = np.linspace(0, len(pool) - 1, args.examples).astype(int)
        encoded = [e for e in encoder.encode_batch([x.messages for x in pool.take(rows)]) if e.n_supervised]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000, hidden_size=192, intermediate_size=512, num_hidden_layers=8, num_attention_heads=6,
        tie_word_embeddings=True, max_position_embeddings=1024,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().to(args.device, getattr(torch, args.dtype))
    tokens = sum(len(e.ids) for e in encoded)
    size = sum(p.numel() for p in model.parameters())
    print(f"{len(encoded)} examples, {tokens} tokens, {size / 1e6:.1f}M parameters, {args.device}, {args.dtype}")
    batched(model, encoded[:4], "supervised", args.token_budget)  # warm up
    for which in ("supervised", "all"):
        seconds = {}
        started = time.perf_counter()
        ours = batched(model, encoded, which, args.token_budget)
        seconds["paydirt"] = time.perf_counter() - started
        started = time.perf_counter()
        theirs = one_at_a_time(model, encoded, which)
        seconds["one at a time"] = time.perf_counter() - started
        gap = float(np.abs(ours / theirs - 1).max())
        print(
            f"{which:10}  paydirt {seconds['paydirt']:.2f} s, one at a time {seconds['one at a time']:.2f} s, "
            f"ratio {seconds['one at a time'] / seconds['paydirt']:.2f}x; largest relative difference {gap:.1e}"
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB (both sides)")


if __name__ == "__main__":
    main()
