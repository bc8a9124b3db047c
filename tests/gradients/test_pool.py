"""A pool scored through a store and without one: the same numbers, resumable both."""

from __future__ import annotations

import pytest
import torch

from paydirt.gradients import (
    Features,
    Projection,
    Store,
    manifest_of,
    read_similarity,
    reduce_similarity,
    score_stores,
    write_similarity,
    write_store,
)
from paydirt.gradients.checkpoints import load_moments

from .test_features import random_moments
from .tiny import random_examples, tiny_model

SUBTASKS = ["a", "b", "a"]


def test_stored_and_unstored_scores_agree(tmp_path):
    examples = {e.id: e for e in random_examples(23)}
    pool, references = list(examples)[:20], list(examples)[20:]
    encode = lambda ids: [examples[i] for i in ids]  # noqa: E731
    weights, stores, direct, reference_rows = [0.75, 0.25], [], [], []
    for seed, name in enumerate(["checkpoint-1", "checkpoint-2"]):
        model = tiny_model("llama", seed=seed)
        with Features(model, Projection(256)) as plain:
            reference_rows.append(plain(encode(references))[0])
        with Features(model, Projection(256), "adam_published", random_moments(model)) as features:
            manifest = manifest_of(features, name, "tulu, 2048 tokens")
            path = write_store(tmp_path / name, features, pool, encode, manifest, "float32", shard_size=8)
            stores.append(Store(path))
            rows = reference_rows[-1]
            direct.append(
                write_similarity(tmp_path / f"{name}-s", features, pool, encode, manifest, rows, shard_size=8)
            )
    assert stores[0].manifest["direction"]["name"] == "adam_published"
    stored = dict(zip_all(score_stores(stores, reference_rows, SUBTASKS, weights)))
    unstored = dict(zip_all((i, reduce_similarity(s, SUBTASKS)) for i, s in read_similarity(direct, weights)))
    assert list(stored) == list(unstored) == pool
    torch.testing.assert_close(torch.tensor(list(stored.values())), torch.tensor(list(unstored.values())))


def zip_all(blocks):
    for ids, values in blocks:
        yield from zip(ids, values.tolist(), strict=True)


def test_other_moments_are_another_manifest():
    model = tiny_model("llama")
    moments = random_moments(model)
    first = manifest_of(Features(model, Projection(8), "adam_published", moments), "c", "t")
    next(iter(moments.first.values())).mul_(2)
    second = manifest_of(Features(model, Projection(8), "adam_published", moments), "c", "t")
    assert first["direction"] != second["direction"]
    assert {k: v for k, v in first.items() if k != "direction"} == {k: v for k, v in second.items() if k != "direction"}


def test_weights_must_match_checkpoints(tmp_path):
    with pytest.raises(ValueError, match="1 checkpoints, 2 weights"):
        next(read_similarity([tmp_path], [0.5, 0.5]))


@pytest.mark.parametrize("source", ["memory", "file"])
def test_a_killed_store_resumes_with_another_number_of_threads(tmp_path, source):
    """Sums of the moments differ in their last bit with the thread count; what they are does not."""
    model = tiny_model("llama", lora=False, vocab_size=6007)  # large enough for torch to share out a sum
    moments = random_moments(model)
    if source == "file":
        names = [n for n, p in model.named_parameters() if p.requires_grad]
        entries = {n: {"exp_avg": moments.first[n], "exp_avg_sq": moments.second[n], "step": 3} for n in names}
        torch.save({"state": entries, "param_groups": [{"params": names}]}, tmp_path / "optimizer.pt")
    examples = {e.id: e for e in random_examples(8)}

    class Killed(Exception): ...

    def write(threads: int, stop: bool):
        torch.set_num_threads(threads)
        found = load_moments(tmp_path, model) if source == "file" else moments
        features = Features(model, Projection(16), "adam_published", found)

        def shard_done(rows: int, computed: bool) -> None:
            if stop:
                raise Killed

        with features:
            manifest = manifest_of(features, "c", "t")
            encode = lambda ids: [examples[i] for i in ids]  # noqa: E731
            return write_store(
                tmp_path / "s", features, list(examples), encode, manifest, shard_size=4, on_shard=shard_done
            )

    before = torch.get_num_threads()
    try:
        with pytest.raises(Killed):
            write(1, stop=True)
        for threads in (2, 3, 4):
            assert len(Store(write(threads, stop=False))) == 8
    finally:
        torch.set_num_threads(before)
