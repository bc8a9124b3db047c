"""Reference: the encoded pool on disk is what encoding one by one gives, and its counts are those of a plain loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.data import record, write_jsonl
from support.models import byte_tokenizer
from support.stages import Tiny

from paydirt.columns import token_store
from paydirt.data.encoding import Encoder, EncodingConfig
from paydirt.data.pool import PoolConfig, open_pool


def test_rows_notes_and_lengths(tiny: Tiny, tmp_path: Path) -> None:
    pool = open_pool(PoolConfig(**tiny.pool), tmp_path)
    encoder = Encoder(byte_tokenizer(), EncodingConfig(max_length=30))
    store = token_store(pool, encoder, tmp_path, shard_rows=7)  # several shards, the last one short
    alone = [encoder.encode(e.messages) for e in pool.examples()]
    assert len(store) == len(pool) == len(alone)
    for row, one in enumerate(alone):
        np.testing.assert_array_equal(store[row].ids, one.ids)
        np.testing.assert_array_equal(store[row].supervised, one.supervised)
    assert store.lengths.tolist() == [len(e.ids) for e in alone]
    assert store.supervised_lengths.tolist() == [int(e.supervised[1:].sum()) for e in alone]
    assert store.total == sum(len(e.ids) for e in alone)
    without = sum(e.n_supervised == 0 for e in alone)
    assert 0 < without < len(alone), "this test needs examples that truncation leaves without an answer"
    assert store.notes == {
        "examples": len(pool),
        "tokens": store.total,
        "supervised_tokens": sum(e.n_supervised for e in alone),
        "truncated": sum(e.truncated for e in alone),
        "without_supervised_tokens": without,
        "system_folded": 0,
    }


def test_another_row_order_is_another_store(tiny: Tiny, tmp_path: Path) -> None:
    """A pool's fingerprint does not depend on order, flat arrays do: they must not be taken for each other."""
    encoder = Encoder(byte_tokenizer())
    pools = [open_pool(PoolConfig(**config), tmp_path) for config in (tiny.pool, tiny.shuffled)]
    assert pools[0].fingerprint == pools[1].fingerprint
    stores = [token_store(pool, encoder, tmp_path) for pool in pools]
    for pool, store in zip(pools, stores):
        for row in (0, 17, 59):
            np.testing.assert_array_equal(store[row].ids, encoder.encode(pool.example(row).messages).ids)


def test_an_example_of_one_token_has_nothing_supervised(tmp_path: Path) -> None:
    """The first token has no prediction, so it cannot be supervised, whatever its mask says."""
    path = write_jsonl(tmp_path / "p.jsonl", [record("x", "hi", "yes")])
    pool = open_pool(PoolConfig(files=[str(path)]), tmp_path)
    encoder = Encoder(byte_tokenizer(), EncodingConfig(max_length=8))
    assert token_store(pool, encoder, tmp_path).supervised_lengths.tolist() == [0]


def test_folded_system_turns_are_counted_and_said(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A chat template without a place for them, as Gemma's: every example with one is counted."""
    from support.models import CHATML, EOS, byte_tokenizer

    plain = CHATML.replace("<|im_end|>", EOS)
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + plain
    pool = open_pool(PoolConfig(**tiny.pool), tmp_path)
    encoder = Encoder(byte_tokenizer(chat_template=refusing), EncodingConfig(template="tokenizer"))
    store = token_store(pool, encoder, tmp_path)
    folded = sum(any(m.role == "system" for m in pool.example(row).messages) for row in range(len(pool)))
    assert store.notes["system_folded"] == folded > 0
    assert f"{folded} system turns were put at the head of the user turn" in " ".join(capsys.readouterr().err.split())
