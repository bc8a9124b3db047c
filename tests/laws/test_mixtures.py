"""Selections of several shares, targets and orders, on disk as a user gets them: chosen, counted, written, refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.data import reference_records, write_jsonl
from support.stages import Tiny

from paydirt.core.artifacts import Artifact
from paydirt.selection.policies.base import POLICIES
from paydirt.selection.scores import Scores
from paydirt.selection.select import selected_ids, taken_ids
from paydirt.selection.vectors import open_vectors
from paydirt.stages import Workspace

COUNT = {"count": 12}


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "cache")


@pytest.fixture
def scored(tiny: Tiny, here: Workspace, tmp_path: Path) -> Artifact:
    """BM25: one column for each of the two subtasks."""
    return tiny.score("bm25", tmp_path / "bm25", here)


def records(selection: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (selection / "selection.jsonl").read_text().splitlines()]


def table(selection: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in pq.read_table(selection / "scores.parquet").to_pylist()}


def test_shares_by_a_field_of_the_records(tiny: Tiny, scored: Artifact, here: Workspace, tmp_path: Path) -> None:
    """`level` is a field that no score sees; every prefix keeps its shares."""
    quota = {"name": "quota", "by": "level", "shares": {"0": 2, "3": 1}}
    made = tiny.select(scored, tmp_path / "s", here, COUNT, quota)
    levels = [r["level"] for r in records(made.path)]
    assert Counter(levels) == {0: 8, 3: 4}
    assert all(abs(levels[:k].count(0) - k * 2 / 3) <= 1 for k in range(12))
    with pytest.raises(ValueError, match=r"pool\.jsonl:1: .*no field 'levle' to share by; did you mean 'level'\?"):
        tiny.select(scored, tmp_path / "t", here, COUNT, {"name": "quota", "by": "levle"})
    with pytest.raises(ValueError, match=r"the field 'messages' of .* is list, which names no group"):
        tiny.select(scored, tmp_path / "t", here, COUNT, {"name": "quota", "by": "messages"})


def test_shares_of_tokens(tiny: Tiny, scored: Artifact, here: Workspace, tmp_path: Path) -> None:
    """Half of the tokens each, though chat is the longer; by examples it would be far from that."""
    half = {"name": "quota", "shares": {"chat": 1, "capitals": 1}}
    tokens = {}
    for unit in ("tokens", "examples"):
        made = tiny.select(scored, tmp_path / unit, here, COUNT, {**half, "unit": unit})
        tokens[unit] = Counter()
        for id, row in table(made.path).items():
            tokens[unit][id.split("-")[0]] += row["tokens"] if row["rank"] else 0
    longest = max(row["tokens"] for row in table(tmp_path / "tokens").values())
    assert abs(tokens["tokens"]["chat"] - tokens["tokens"]["capitals"]) <= longest
    assert abs(tokens["examples"]["chat"] - tokens["examples"]["capitals"]) > longest


def test_temperature_evens_shares_out(tiny: Tiny, scored: Artifact, here: Workspace, tmp_path: Path) -> None:
    given = {"name": "quota", "shares": {"chat": 9, "sums": 1}}
    for temperature, chat in ((1, 9), (2, 7.5), (1e6, 5)):  # 3 : 1 at temperature 2
        made = tiny.select(scored, tmp_path / f"{chat}", here, {"count": 10}, {**given, "temperature": temperature})
        assert abs(Counter(r["source"] for r in records(made.path))["chat"] - chat) <= 0.5


def test_a_dry_group_is_repeated_counted_and_trained_so(
    tiny: Tiny, scored: Artifact, here: Workspace, tmp_path: Path
) -> None:
    """`repeat: 3` takes no example more often; the budget counts each time, and so does training."""
    quota = {"name": "quota", "by": "subtask", "repeat": 3, "shares": {"sums": 1, "capitals": 9}}
    made = tiny.select(scored, tmp_path / "s", here, {"count": 60}, quota)
    taken = Counter(taken_ids(made.path))
    assert sum(taken.values()) == made.notes["taken"] == 60
    assert list(dict.fromkeys(taken_ids(made.path))) == selected_ids(made.path)
    assert set(taken.values()) <= {1, 2, 3}
    assert max(taken.values()) > 1
    rows = table(made.path)
    assert {id: rows[id]["times"] for id in taken} == dict(taken)
    assert sum(rows[id]["tokens"] * n for id, n in taken.items()) == made.notes["tokens"]
    np.testing.assert_allclose(np.mean([rows[id]["weight"] for id in taken]), 1)
    assert len(records(made.path)) == len(taken), "each record once; times says how often"
    once = tiny.select(scored, tmp_path / "once", here, {"count": 20}, "top")
    trained = [tiny.train(tmp_path / f"m{i}", here, selection=str(s.path)) for i, s in enumerate((made, once))]
    assert [t.notes["examples"] for t in trained] == [60, 20]


def test_several_targets_take_turns_by_weight_or_sum_their_ranks(tiny: Tiny, here: Workspace, tmp_path: Path) -> None:
    targets = {}
    for name in ("sums", "capitals"):
        own = [r for r in reference_records() if r["subtask"] == name]
        place = write_jsonl(tmp_path / f"{name}.jsonl", own)
        target = {"name": name, "references": str(place)}
        targets[name] = tiny.score("bm25", tmp_path / name, here, target=target)
    others = [{"scores": str(targets["capitals"].path), "weight": 1}]
    turns = tiny.select(targets["sums"], tmp_path / "turns", here, COUNT, others=others, weight=3)
    order = selected_ids(turns.path)
    tops = {}
    for name, scores in targets.items():
        tops[name] = selected_ids(tiny.select(scores, tmp_path / f"top-{name}", here, {"count": 60}).path)
    expected: list[str] = []
    for name in ("sums", "sums", "capitals", "sums") * 3:
        expected.append(next(id for id in tops[name] if id not in expected))
    assert order == expected
    selection = {"policy": "top", "combine": "ranks"}
    ranks = tiny.select(targets["sums"], tmp_path / "ranks", here, COUNT, others=others, selection=selection)
    total = {id: tops["sums"].index(id) + tops["capitals"].index(id) for id in tops["sums"]}
    assert selected_ids(ranks.path) == sorted(total, key=lambda id: (total[id], id))[:12]
    row = table(ranks.path)[selected_ids(ranks.path)[0]]
    assert {"score[sums]", "score[capitals]"} <= set(row)
    assert row["score"] == -(total[row["id"]] / 2 + 1)
    with pytest.raises(ValueError, match="sums: given twice; a target counts for more by its weight"):
        tiny.select(targets["sums"], tmp_path / "x", here, COUNT, others=[{"scores": str(targets["sums"].path)}])
    with pytest.raises(ValueError, match="weight and combine are of several targets"):
        tiny.select(targets["sums"], tmp_path / "x", here, COUNT, weight=3)


def test_curricula_order_the_file_and_leave_the_ranks(
    tiny: Tiny, scored: Artifact, here: Workspace, tmp_path: Path
) -> None:
    plain = tiny.select(scored, tmp_path / "plain", here, COUNT)
    length = tiny.score("length", tmp_path / "length", here)
    tokens = {id: row["tokens"] for id, row in table(plain.path).items()}
    best = selected_ids(plain.path)
    short = sorted(best, key=lambda id: (tokens[id], -best.index(id)))
    for curriculum, more, expected in (
        ("best_last", {}, best[::-1]),
        ("short_first", {}, short),
        ("easy_first", {"difficulty": str(length.path)}, short),
    ):
        selection = {"policy": "top", "curriculum": curriculum, **more}
        made = tiny.select(scored, tmp_path / curriculum, here, COUNT, selection=selection)
        assert selected_ids(made.path) == best
        assert [r["id"] for r in records(made.path)] == expected
        rows = table(made.path)
        assert [rows[id]["order"] for id in expected] == list(range(1, 13))
        assert [rows[id]["rank"] for id in best] == list(range(1, 13))
    for wrong, message in (
        ({"curriculum": "easy_first"}, "needs difficulty"),
        ({"difficulty": "x"}, "easy_first goes by"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny.select(scored, tmp_path / "x", here, COUNT, selection={"policy": "top", **wrong})


def test_masses_are_weights_and_draws_are_repeats(tiny: Tiny, here: Workspace, tmp_path: Path) -> None:
    scores = tiny.score("rds", tmp_path / "rds", here)
    largest = tiny.select(scores, tmp_path / "largest", here, COUNT, "transport")
    rows = table(largest.path)
    weights = [rows[id]["weight"] for id in selected_ids(largest.path)]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] > weights[-1]
    drawn = tiny.select(
        scores, tmp_path / "drawn", here, COUNT, {"name": "transport", "draw": True, "eps": 0.001}, seed=1
    )
    assert len(taken_ids(drawn.path)) == 12
    few = tiny.select(scores, tmp_path / "knn", here, {"count": 50}, {"name": "knn", "nearest": 4})
    assert few.notes["beyond_mass"] == 50 - few.notes["with_mass"] > 0


def test_vectors_from_wherever_they_lie(tiny: Tiny, here: Workspace, tmp_path: Path) -> None:
    """Scores that left a column, the column itself, and a file of the same vectors give the same selection."""
    rds = tiny.score("rds", tmp_path / "rds", here)
    bm25 = tiny.score("bm25", tmp_path / "bm25", here)
    (column,) = (here.shared / "hidden").iterdir()
    ids, blocks = zip(*open_vectors(str(column)).blocks())
    flat = {"id": [id for some in ids for id in some], "vector": np.concatenate(blocks).tolist()}
    pq.write_table(pa.table(flat), tmp_path / "own.parquet")
    chosen = []
    for place in (rds.path, column, tmp_path / "own.parquet"):
        policy = {"name": "mmr", "weight": 0.3, "vectors": str(place)}
        chosen.append(selected_ids(tiny.select(bm25, tmp_path / f"s{len(chosen)}", here, COUNT, policy).path))
    assert chosen[0] == chosen[1] == chosen[2]
    assert chosen[0] != selected_ids(tiny.select(bm25, tmp_path / "top", here, COUNT).path)
    del flat["id"][0], flat["vector"][0]
    pq.write_table(pa.table(flat), tmp_path / "own.parquet")
    with pytest.raises(ValueError, match="no vector for 1 of 60 examples"):
        tiny.select(bm25, tmp_path / "s2", Workspace(here.shared, replace="anything"), COUNT, policy)
    for place, message in (
        (bm25.path, "left no vectors"),
        (tmp_path / "nowhere", "no vectors at .*nowhere: give finished"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny.select(bm25, tmp_path / "x", here, COUNT, {"name": "mmr", "vectors": str(place)})


def test_gradients_are_vectors_too(tiny: Tiny, here: Workspace, tmp_path: Path) -> None:
    """Of two checkpoints side by side: cosines are the means of theirs. `own` is what the scores left, and the default."""
    method = {"name": "gradient", "k": 64, "warmup_epochs": 2, "warmup_learning_rate": 1e-3, "lora": {"r": 2}}
    made = tiny.score(method, tmp_path / "gradient", here)
    parts = [open_vectors(str(place)) for place in sorted((here.shared / "gradients").iterdir())]
    assert len(parts) == 2
    ids = Scores(made.path).ids.tolist()
    with open_vectors(str(made.path), here.shared).unit(ids) as both, parts[0].unit(ids) as a, parts[1].unit(ids) as b:
        np.testing.assert_allclose(both @ both.T, (a @ a.T + b @ b.T) / 2, atol=1e-5)
        own = {"id": ids, "vector": np.asarray(both).tolist()}
    pq.write_table(pa.table(own), tmp_path / "own.parquet")
    chosen = []
    for place in ({}, {"vectors": "own"}, {"vectors": str(made.path)}, {"vectors": str(tmp_path / "own.parquet")}):
        policy = {"name": "tsds", "nearest": 30, **place}
        done = tiny.select(made, tmp_path / f"s{len(chosen)}", here, COUNT, policy)
        assert done.notes["with_mass"] > 0
        chosen.append(selected_ids(done.path))
    assert chosen == [chosen[0]] * 4


@pytest.mark.parametrize("name", [n for n in POLICIES.names() if "vectors" in POLICIES.get(n).model_fields])
@pytest.mark.parametrize("vectors", ["own", "similarities"])
def test_without_vectors_the_remedy_is_named(
    name: str, vectors: str, tiny: Tiny, scored: Artifact, here: Workspace, tmp_path: Path
) -> None:
    """BM25 leaves no vectors (and no cosines, for tsds); length, one number an example, has no similarities either."""
    scores = scored if vectors == "own" else tiny.score("length", tmp_path / "length", here)
    remedy = r"as vectors \(--vectors\) give finished scores of embed|no cosines.* use scores of embed, rds or gradient"
    with pytest.raises(ValueError, match=remedy):
        tiny.select(scores, tmp_path / "x", here, COUNT, {"name": name, "vectors": vectors})


def test_words_for_vectors_are_no_folders(tiny: Tiny, here: Workspace, tmp_path: Path, monkeypatch: Any) -> None:
    """A folder called as a word is reached by `./`; another word is another selection, made anew."""
    (tmp_path / "own").mkdir()
    monkeypatch.chdir(tmp_path)
    rds = tiny.score("rds", tmp_path / "rds", here)
    for word in ("own", "similarities"):
        made = tiny.select(
            rds, tmp_path / "s", Workspace(here.shared, replace="anything"), COUNT, {"name": "mmr", "vectors": word}
        )
        assert made.config["selection"]["policy"]["vectors"] == word
        assert made.fresh
    again = tiny.select(rds, tmp_path / "s", here, COUNT, {"name": "mmr", "vectors": word})
    assert not again.fresh
    with pytest.raises(ValueError, match=f"no vectors at {tmp_path / 'own'}"):
        tiny.select(rds, tmp_path / "x", here, COUNT, {"name": "mmr", "vectors": "./own"})


def test_repeats_reach_training_and_exports(
    paydirt: Any, tiny: Tiny, scored: Artifact, here: Workspace, tmp_path: Path
) -> None:
    """Trained on by the command as in a study, by its file or its directory; exported weights do not count them again."""
    quota = {"name": "quota", "by": "subtask", "repeat": 3, "shares": {"sums": 1, "capitals": 9}}
    made = tiny.select(scored, tmp_path / "s", here, {"count": 60}, quota)
    once = tiny.select(scored, tmp_path / "once", here, COUNT)
    model = ["--model", tiny.model, "--max-length", 128, "--method", "full", "--cache", here.shared]
    for number, (data, examples) in enumerate(
        ((made.path / "selection.jsonl", 60), (made.path, 60), (once.path, 12), (once.path / "selection.jsonl", 12))
    ):
        out = tmp_path / f"m{number}"
        code, _, said = paydirt("train", "--data", data, *model, "--epochs", 1, "--out", out)
        assert code == 0, said
        assert Artifact(out).notes["examples"] == examples
    assert "taken 60 times in all" in paydirt("train", "--data", made.path, *model, "--epochs", 1, "--out", out)[2]
    code, _, said = paydirt(
        "train", "--data", made.path, "--data", tiny.root / "test.jsonl", *model, "--out", tmp_path / "x"
    )
    assert code == 2
    assert "is trained on alone" in said
    assert paydirt("export", made.path, "--name", "n", "--out", tmp_path / "e")[0] == 0
    rows = [json.loads(line) for line in (tmp_path / "e" / "n.jsonl").read_text().splitlines()]
    assert Counter(row["id"] for row in rows) == Counter(taken_ids(made.path))
    np.testing.assert_allclose([row["weight"] for row in rows], 1)


def test_an_export_is_named_after_all_its_targets(paydirt: Any, tiny: Tiny, here: Workspace, tmp_path: Path) -> None:
    for name in ("sums", "capitals"):
        own = [r for r in reference_records() if r["subtask"] == name]
        target = {"name": name, "references": str(write_jsonl(tmp_path / f"{name}.jsonl", own))}
        tiny.score("bm25", tmp_path / name, here, target=target)
    cache = ["--cache", here.shared]
    for policy, ending in (("top", ""), ("random", "-random-seed5")):
        out = tmp_path / f"s-{policy}"
        flags = ["--policy", policy, "--fraction", 0.1, "--seed", 5, "--out", out, *cache]
        assert paydirt("select", tmp_path / "sums", tmp_path / "capitals", *flags)[0] == 0
        code, _, said = paydirt("export", out, "--out", tmp_path / "e", *cache)
        assert code == 0, said
        assert (tmp_path / "e" / f"sums+capitals-train-p0.10-bm25{ending}.jsonl").is_file()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("transport", "so they are no cosines"),
        ("knn", "so they are no cosines"),
        ({"name": "quota", "by": "subset"}, "no field 'subset'"),
        ({"name": "quota", "policy": {"name": "quota", "repeat": 2}}, "takes examples more than once"),
    ],
)
def test_what_cannot_be_is_refused(
    policy: Any, message: str, tiny: Tiny, scored: Artifact, here: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        tiny.select(scored, tmp_path / "x", here, COUNT, policy)


@pytest.mark.parametrize("policy", ["knn", "transport", "doubly_greedy", "round_robin", "mmr", "k_centre", "facility"])
def test_what_would_be_top_under_another_name_is_refused(
    policy: str, tiny: Tiny, here: Workspace, tmp_path: Path
) -> None:
    """One number an example: nothing to spread, to take turns over or to compare by."""
    length = tiny.score("length", tmp_path / "length", here)
    with pytest.raises(ValueError, match=r"one column|one subtask|have one"):
        tiny.select(length, tmp_path / "x", here, COUNT, policy)


def test_the_command_reaches_all_of_it(paydirt, tiny: Tiny, tmp_path: Path) -> None:
    shared = ["--cache", tmp_path / "cache"]
    pool = ["--pool", tiny.root / "pool.jsonl", "--target", "t", "--references", tiny.root / "references.jsonl"]
    for name in ("rds", "bm25"):
        model = ["--model", tiny.model, "--max-length", 128]
        code, _, said = paydirt("score", name, *pool, *shared, *model, "--out", tmp_path / name)
        assert code == 0, said
    for number, flags in enumerate(
        (
            [tmp_path / "bm25", "--policy", "mmr", "--vectors", tmp_path / "rds", "--set", "weight=0.3"],
            [tmp_path / "bm25", "--policy", "quota", "--set", "by=level", "--set", "policy=round_robin"],
            [tmp_path / "bm25", tmp_path / "rds", "--weight", 2, "--weight", 1, "--combine", "ranks"],
            [tmp_path / "rds", "--policy", "knn", "--curriculum", "best_last"],
        )
    ):
        code, out, said = paydirt("select", *flags, "--count", 10, *shared, "--out", tmp_path / f"o{number}")
        assert code == 0, said
        assert "examples: 10" in out
        code, out, said = paydirt(
            "run", tmp_path / f"o{number}" / "config.yaml", *shared, "--out", tmp_path / f"r{number}"
        )
        assert code == 0, said
        assert selected_ids(tmp_path / f"r{number}") == selected_ids(tmp_path / f"o{number}")
    for flags, message in (
        (["--policy", "top", "--vectors", tmp_path / "rds"], "--vectors is an option of tsds"),
        (["--set", "nearest=3"], "an option of a policy; name it with --policy"),
        (["--weight", 2, "--weight", 3], "--weight: 2 for 1 targets"),
        (["--policy", "knn", "--set", "neerest=3"], "unknown key 'neerest'; did you mean 'nearest'?"),
    ):
        code, _, said = paydirt("select", tmp_path / "rds", *flags, "--count", 3, *shared, "--out", tmp_path / "x")
        assert code == 2
        assert message in said
