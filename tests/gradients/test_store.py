"""Laws of the store: resume changes no byte, half a file is no file, and only like is compared with like."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from paydirt.gradients.features import Features
from paydirt.gradients.influence import check_stores
from paydirt.gradients.projection import Projection
from paydirt.gradients.store import Store, pack_rows, plan_shards, write_shards

from .tiny import random_examples, tiny_model

MANIFEST = {
    "model": "a1", "checkpoint": "checkpoint-2", "projection": {"kind": "sketch", "k": 16, "seed": 0},
    "parameters": {"count": 3}, "loss": "mean", "template": "tulu", "direction": "sgd", "dtype": "int8",
}  # fmt: skip


def rows_of(ids) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(map(ord, "".join(ids))))
    return pack_rows(torch.randn(len(ids), 16, generator=generator), "int8")


def contents(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(path.iterdir()) if not p.name.endswith(".part")}


def ids(n: int) -> list[str]:
    return [f"ex-{i}" for i in range(n)]


def test_an_interrupted_run_is_resumed_to_the_same_bytes(tmp_path):
    plan = plan_shards(ids(25), 10)
    whole = contents(write_shards(tmp_path / "whole", MANIFEST, plan, rows_of))
    calls = []

    def dies(shard):
        calls.append(shard)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rows_of(shard)

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "killed", MANIFEST, plan, dies)
    with pytest.raises(ValueError, match="unfinished"):
        Store(tmp_path / "killed")
    key = next(name for name in whole if name.endswith(".safetensors"))
    (tmp_path / "killed" / f"{key}.part").write_bytes(b"half")
    told: list[tuple[int, bool]] = []
    write_shards(tmp_path / "killed", MANIFEST, plan, rows_of, lambda n, new: told.append((n, new)))
    assert told == [(10, False), (10, True), (5, True)]
    assert contents(tmp_path / "killed") == whole
    assert len(Store(tmp_path / "killed")) == 25


CHILD = """
import os, signal, sys, torch
torch.set_num_threads(1)
from tests.gradients.test_store import real_store
real_store(sys.argv[1], die_after=int(sys.argv[2]))
"""


def real_store(path, die_after=None) -> Path:
    """Features of a tiny model, written in shards of 4; kills its own process half-way through a shard if asked."""
    model, examples = tiny_model("llama"), {str(i): e for i, e in enumerate(random_examples(12))}
    done = 0
    with Features(model, Projection(64), token_budget=64) as features:

        def compute(shard):
            nonlocal done
            found = features([examples[i] for i in shard])[0]
            if done == die_after:
                Path(path, "something.safetensors.part").write_bytes(b"half a shard")
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            return pack_rows(found, "bfloat16")

        return write_shards(path, MANIFEST, plan_shards(list(examples), 4), compute)


def test_killed_twice_with_sigkill_ends_with_the_same_bytes(tmp_path):
    torch.set_num_threads(1)
    whole = contents(real_store(tmp_path / "whole"))
    for _ in range(2):
        child = subprocess.run(
            [sys.executable, "-c", CHILD, str(tmp_path / "killed"), "1"], cwd=Path(__file__).parents[2], check=False
        )
        assert child.returncode == -signal.SIGKILL
    assert contents(real_store(tmp_path / "killed")) == whole


def test_workers_that_share_the_shards_leave_what_one_leaves(tmp_path):
    plan = plan_shards(ids(25), 10)
    whole = contents(write_shards(tmp_path / "one", MANIFEST, plan, rows_of))
    for start in (1, 0):
        write_shards(tmp_path / "two", MANIFEST, plan, rows_of, part=slice(start, None, 2))
    assert contents(tmp_path / "two") == whole


@pytest.mark.parametrize("key", ["model", "checkpoint", "projection", "parameters", "loss", "template"])
def test_what_is_not_comparable_is_refused_naming_the_key_and_both_values(tmp_path, key):
    plan = plan_shards(ids(3))
    a = Store(write_shards(tmp_path / "a", MANIFEST, plan, rows_of))
    b = Store(write_shards(tmp_path / "b", {**MANIFEST, key: "different"}, plan, rows_of))
    with pytest.raises(ValueError, match=f"'{key}' is .* in one and 'different' in the other"):
        check_stores([a], [b])
    check_stores([a], [Store(write_shards(tmp_path / "c", {**MANIFEST, "direction": "adam"}, plan, rows_of))])


def test_a_directory_is_not_mixed_with_another_store(tmp_path):
    write_shards(tmp_path, MANIFEST, plan_shards(ids(3)), rows_of)
    with pytest.raises(ValueError, match="holds another store: 'dtype' is 'int8' in one and 'float16' in the other"):
        write_shards(tmp_path, {**MANIFEST, "dtype": "float16"}, plan_shards(ids(3)), rows_of)


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("float16", 1e-3), ("bfloat16", 5e-3), ("int8", 0.02)])
def test_rows_come_back_by_id(tmp_path, dtype, error):
    features = torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
    place = {i: row for row, i in enumerate(ids(20))}
    compute = lambda shard: pack_rows(features[[place[i] for i in shard]], dtype)  # noqa: E731
    store = Store(write_shards(tmp_path, MANIFEST, plan_shards(ids(20), 7), compute))
    got = store.load(["ex-19", "ex-0", "ex-8"])
    expected = torch.nn.functional.normalize(features[[19, 0, 8]], dim=1)
    assert float((got - expected).norm(dim=1).max()) < error
    torch.testing.assert_close(torch.cat([rows.norms for rows in store.shards()]), features.norm(dim=1))
    with pytest.raises(ValueError, match="first 'unknown'"):
        store.load(["unknown"])


def test_repeated_ids_are_refused():
    with pytest.raises(ValueError, match="'b' occurs more than once"):
        plan_shards(["a", "b", "c", "b"])


def test_the_manifest_is_plain_json(tmp_path):
    write_shards(tmp_path, MANIFEST, plan_shards(ids(3)), rows_of)
    assert json.loads((tmp_path / "manifest.json").read_text())["template"] == "tulu"
