"""The API against the command and the stages: the same bytes, the same words, nothing computed twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.data import pool_records, reference_records
from support.stages import ENCODING, TRAINING, Tiny, files_of

import paydirt as pay
from paydirt.core.artifacts import cache_root
from paydirt.core.units import number
from paydirt.selection.scores import Scores

CPU: dict[str, Any] = {"device": "cpu"}


@pytest.fixture(scope="module")
def pool(tiny: Tiny) -> pay.Pool:
    return pay.Pool.from_records(tiny.root / "pool.jsonl")


@pytest.fixture(scope="module")
def target(tiny: Tiny) -> pay.Target:
    return pay.Target.from_records(tiny.root / "references.jsonl", name="t", test=tiny.root / "test.jsonl")


@pytest.fixture(scope="module")
def model(tiny: Tiny) -> dict[str, Any]:
    return {"path": tiny.model, "device": "cpu"}


@pytest.fixture(scope="module")
def rds(pool: pay.Pool, target: pay.Target, model: dict[str, Any]) -> pay.Scores:
    return pay.score(pool, target, pay.RDS(), model=model, encoding=ENCODING)


@pytest.fixture(scope="module")
def bm25(pool: pay.Pool, target: pay.Target, model: dict[str, Any]) -> pay.Scores:
    return pay.score(pool, target, "bm25", model=model, encoding=ENCODING)


@pytest.fixture(scope="module")
def picked(bm25: pay.Scores) -> pay.Selection:
    return pay.select(bm25, fraction=0.2, policy="round_robin")


class TestSameAsTheCommand:
    def test_scores_and_selections_have_the_same_bytes(
        self, paydirt: Any, tiny: Tiny, bm25: pay.Scores, picked: pay.Selection, tmp_path: Path
    ) -> None:
        words = ["--pool", tiny.root / "pool.jsonl", "--target", "t", "--references", tiny.root / "references.jsonl"]
        words += ["--model", tiny.model, "--model-device", "cpu", "--max-length", "128", "--out", tmp_path / "s"]
        code, _, said = paydirt("score", "bm25", *words)
        assert code == 0, said
        assert files_of(bm25.path) == files_of(tmp_path / "s")
        code, _, said = paydirt(
            "select", tmp_path / "s", "--fraction", "0.2", "--policy", "round_robin", "--out", tmp_path / "c"
        )
        assert code == 0, said
        assert files_of(picked.path) == files_of(tmp_path / "c")
        assert picked.ids == json.loads((tmp_path / "c" / "selection.json").read_text())["ids"]

    FAULTS: tuple[tuple[list[str], dict[str, Any]], ...] = (
        (["score", "bm25", "--set", "kk=1"], {"method": {"name": "bm25", "kk": 1}}),
        (["score", "ifd"], {"method": "ifd"}),
        (["score", "random", "--max-length", "1"], {"method": "random", "encoding": {"max_length": 1}}),
        (["score", "rds", "--model", "no/where"], {"method": "rds", "model": "no/where"}),
    )

    @pytest.mark.parametrize(("words", "values"), FAULTS, ids=lambda v: str(v)[:40])
    def test_faults_of_scoring_have_the_same_words(
        self, paydirt: Any, tiny: Tiny, pool: pay.Pool, target: pay.Target, tmp_path: Path, words: Any, values: Any
    ) -> None:
        common = ["--pool", tiny.root / "pool.jsonl", "--target", "t", "--references", tiny.root / "references.jsonl"]
        code, _, said = paydirt(*words, *common, "--out", tmp_path / "s")
        assert code == 2, said
        with pytest.raises(ValueError) as caught:
            pay.score(pool, target, values.pop("method"), **values)
        assert type(caught.value) is ValueError
        assert f"error: {caught.value}" in said

    @pytest.mark.parametrize(
        ("words", "values"),
        [
            ([], {}),
            (["--fraction", "5"], {"fraction": "5"}),
            (["--count", "3", "--fraction", "0.1"], {"count": 3, "fraction": 0.1}),
            (["--words", "30"], {"words": 30}),
            (["--count", "61"], {"count": 61}),
            (["--policy", "tob", "--count", "3"], {"policy": "tob", "count": 3}),
            (["--policy", "quota", "--share", "x=1", "--count", "3"],
             {"policy": {"name": "quota", "shares": {"x": 1}}, "count": 3}),
        ],
        ids=lambda v: str(v)[:40],
    )  # fmt: skip
    def test_faults_of_selecting_have_the_same_words(
        self, paydirt: Any, bm25: pay.Scores, tmp_path: Path, words: list[str], values: dict[str, Any]
    ) -> None:
        code, _, said = paydirt("select", bm25.path, *words, "--out", tmp_path / "c")
        assert code == 2, said
        with pytest.raises(ValueError) as caught:
            pay.select(bm25, **values)
        assert type(caught.value) is ValueError
        assert f"error: {caught.value}" in said

    def test_a_cost_told_in_numbers(self, paydirt: Any, tiny: Tiny) -> None:
        numbers = ["--pool-tokens", "1e6", "--pool-examples", "5e3", "--references", "20", "--hardware", "a100"]
        code, shown, said = paydirt("cost", "less", "--model", tiny.model, *numbers)
        assert code == 0, said
        quote = pay.cost("less", model=tiny.model, pool_tokens=1e6, pool_examples=5e3, references=20, hardware="a100")
        rows = [line.split("│") for line in shown.splitlines() if line.startswith("│")]
        assert [(row[1].strip(), row[2].strip(), row[3].strip()) for row in rows] == [
            (line.part.strip(), number(line.flops), f"{line.hours:.3g}") for line in quote.lines
        ]
        assert quote.total == quote.selecting + quote.training

    def test_a_cost_of_objects_is_that_of_a_dry_run(
        self, paydirt: Any, tiny: Tiny, pool: pay.Pool, target: pay.Target, rds: pay.Scores, model: dict[str, Any]
    ) -> None:
        quote = pay.cost("rds", pool, target, model=model, encoding=ENCODING)
        assert quote.selecting == rds.notes["predicted_flops"] > 0
        with pytest.raises(ValueError, match="give both objects, or pool_tokens"):
            pay.cost("rds", pool, model=model)


class TestNothingIsComputedTwice:
    def test_the_place_is_the_content(self, tiny: Tiny, bm25: pay.Scores, target: pay.Target, model: Any) -> None:
        """The same records from memory find what the file's have made."""
        assert bm25.path.parent == cache_root() / "scores"
        again = pay.score(pay.Pool.from_records(pool_records()), target, pay.BM25(), model=model, encoding=ENCODING)
        assert again.path == bm25.path
        assert not again.artifact.fresh
        other = pay.score(
            pay.Pool.from_records(pool_records()), target, pay.BM25(k1=2.0), model=model, encoding=ENCODING
        )
        assert other.path != bm25.path

    def test_a_place_that_is_named(self, pool: pay.Pool, target: pay.Target, tmp_path: Path) -> None:
        scores = pay.score(pool, target, "length", out=tmp_path / "mine")
        assert scores.path == tmp_path / "mine"
        assert pay.Scores.open(tmp_path / "mine").ids == pool.ids
        with pytest.raises(ValueError, match=r"holds the finished output of another config .*random"):
            pay.score(pool, target, "random", seed=4, out=tmp_path / "mine")
        assert pay.score(pool, target, "random", seed=4, out=tmp_path / "mine", force=True).artifact.fresh


class TestScores:
    def test_explain_gives_the_nearest_references(self, rds: pay.Scores, target: pay.Target) -> None:
        stored, texts = Scores(rds.path), {e.id: e.messages[0].content for e in target.references}
        for row, id in ((0, "sums-000"), (41, "chat-041")):
            values = {c.id: float(v) for c, v in zip(stored.columns, stored.row(row))}
            found = rds.explain(id, 3)
            assert [n.reference for n in found] == sorted(values, key=lambda k: -values[k])[:3]
            assert [n.similarity for n in found] == sorted(values.values(), reverse=True)[:3]
            assert all(texts[n.reference] in n.text for n in found)
        assert rds.explain("sums-000")[0].subtask == "sums"

    def test_explain_needs_references(
        self, bm25: pay.Scores, rds: pay.Scores, pool: pay.Pool, target: pay.Target
    ) -> None:
        with pytest.raises(ValueError, match="bm25 leaves one column a subtask"):
            bm25.explain("sums-000")
        with pytest.raises(ValueError, match="length leaves one number an example"):
            pay.score(pool, target, "length").explain("sums-000")
        with pytest.raises(ValueError, match=r"no example 'sums-0000' among these 60 scores; did you mean 'sums-000'"):
            rds.explain("sums-0000")

    def test_as_a_table(self, rds: pay.Scores, pool: pay.Pool) -> None:
        pytest.importorskip("pandas")
        frame = rds.to_pandas()
        score, parts = Scores(rds.path).reduce()
        assert list(frame["id"]) == pool.ids
        np.testing.assert_array_equal(frame["score"], score)
        np.testing.assert_array_equal(frame[["score[sums]", "score[capitals]"]], parts)


class TestSelections:
    def test_a_dataset_of_the_records_best_first(self, picked: pay.Selection, pool: pay.Pool) -> None:
        found = picked.to_dataset()
        assert found["id"][:] == picked.ids
        assert len(picked) == 12
        assert found.to_list() == [pool[id] for id in picked.ids]

    def test_a_field_that_some_records_lack_or_that_has_two_types(self, target: pay.Target) -> None:
        """Nothing is dropped: an absent field is null; values that no column can hold are an error."""
        rows = pool_records()
        rows[-1]["late"] = "only here"
        assert pay.Pool.from_records(rows).to_dataset()["late"][-2:] == [None, "only here"]
        rows[-1]["level"] = "three"
        with pytest.raises(ValueError, match=r"the field 'level' has values of several types .*use records\(\)"):
            pay.Pool.from_records(rows).to_dataset()

    def test_overlap_counts_shared_ids(self, picked: pay.Selection, rds: pay.Scores) -> None:
        other = pay.select(rds, count=6)
        found = picked.overlap(other)
        assert found.shared == len(set(picked.ids[:6]) & set(other.ids))
        assert (found.count, found.by_chance) == (6, 10.0)
        assert (found.method_a, found.method_b) == ("bm25-round_robin", "rds-top")
        assert picked.overlap(picked).percent == 100

    def test_overlap_of_other_pools_is_refused(self, picked: pay.Selection, target: pay.Target) -> None:
        scores = pay.score(pay.Pool.from_records(pool_records()[:30]), target, "length")
        with pytest.raises(ValueError, match="of different pools"):
            picked.overlap(pay.select(scores, count=3))

    def test_one_table_of_ranks(self, picked: pay.Selection) -> None:
        table = picked.to_arrow()
        ranks = dict(zip(table["id"].to_pylist(), table["rank"].to_pylist()))
        assert [ranks[id] for id in picked.ids] == list(range(1, 13))
        assert sum(rank is None for rank in ranks.values()) == 48


def test_train_and_evaluate(picked: pay.Selection, target: pay.Target, model: dict[str, Any], pool: pay.Pool) -> None:
    """The encoding of the scores is that of the training and of the test; both are found again."""
    tuned = pay.train(picked, model, training=TRAINING)
    assert tuned.notes["examples"] == 12
    assert tuned.config["encoding"]["max_length"] == 128
    result = pay.evaluate(tuned, target)
    assert result.artifact.manifest["config"]["encoding"]["max_length"] == 128
    assert result.result.n == 3
    assert result.score == result.metrics["exact_match"]
    assert set(result.by_subtask) == {"sums", "capitals"}
    assert not pay.evaluate(pay.train(picked, model, training=TRAINING), target).artifact.fresh
    assert pay.train(picked, model, training=TRAINING | {"epochs": 2}).path != tuned.path
    whole = pay.train(pool, model, training=pay.TrainConfig(**TRAINING), encoding=ENCODING)
    assert whole.notes["examples"] == 60
    zero_shot = pay.evaluate(model, target, "exact_match", encoding=pay.EncodingConfig(**ENCODING))
    assert zero_shot.path != result.path
    assert pay.evaluate(tuned.model, target, encoding=ENCODING).score == result.score
    with pytest.raises(ValueError, match=r"^train: training.epochs: "):
        pay.train(picked, model, training={"epochs": 0})
    with pytest.raises(ValueError, match=r"^TrainConfig: epochs: "):
        pay.TrainConfig(epochs=0)


def test_a_study(tiny: Tiny, target: pay.Target, model: dict[str, Any], tmp_path: Path) -> None:
    recipe = {
        "name": "small", "pool": tiny.pool, "targets": [tiny.target], "model": model, "encoding": ENCODING,
        "methods": ["random", "length"], "fractions": [0.1], "seeds": [3], "training": TRAINING, "workers": 1,
    }  # fmt: skip
    made = pay.study(recipe, out=tmp_path / "study")
    table = made.results.to_arrow()
    assert table["method"].to_pylist() == ["zero-shot", "random", "length"]
    assert made.report.is_file()
    assert made.path == tmp_path / "study"
    pytest.importorskip("pandas")
    assert list(made.results.to_pandas()["method"]) == table["method"].to_pylist()
    with pytest.raises(ValueError, match="study: unknown key 'method'; did you mean 'methods'"):
        pay.study({**recipe, "method": []})
    with pytest.raises(ValueError, match=r"nowhere\.yaml: no such file"):
        pay.study("nowhere.yaml")


def test_advice() -> None:
    advice = pay.advise(train_params=7e9, pool_tokens=1e8, references=285, budget=1e19)
    assert advice.best.strategy.label in repr(advice)
    with pytest.raises(ValueError, match="say what is to be tuned"):
        pay.advise(pool_tokens=1e8)


def test_reprs_are_one_line(
    pool: pay.Pool, target: pay.Target, rds: pay.Scores, picked: pay.Selection, tiny: Tiny
) -> None:
    quote = pay.cost("random", model=tiny.model, pool_tokens=1e6, pool_examples=5e3)
    for thing, words in (
        (pool, "60 examples of 3 sources"),
        (target, "t: 5 references of 2 subtasks, 3 to test on"),
        (rds, "rds of 60 examples for t"),
        (picked, "12 examples, 0.2 of the pool by bm25-round_robin"),
        (quote, "random: "),
    ):
        assert words in repr(thing)
        assert "\n" not in repr(thing)
        assert quote is thing or str(thing.path) in repr(thing)


def test_where_it_runs_changes_nothing(
    pool: pay.Pool, target: pay.Target, model: dict[str, Any], rds: pay.Scores, tmp_path: Path
) -> None:
    """Two processes fill a new cache with the same bytes."""
    from unittest import mock

    with mock.patch.dict("os.environ", {"PAYDIRT_CACHE": str(tmp_path / "cache")}):
        two = pay.score(pool, target, "rds", model=model, encoding=ENCODING, execution=pay.Local(workers=2))
    assert two.artifact.fresh
    assert two.path.is_relative_to(tmp_path)
    assert files_of(two.path) == files_of(rds.path)


def test_an_executor_that_does_not_exist_is_refused(pool: pay.Pool, target: pay.Target) -> None:
    with pytest.raises(ValueError, match=r"execution: expected paydirt.Local\(...\), .* or None, found a str"):
        pay.score(pool, target, "length", execution="ray")  # type: ignore[arg-type]


def test_references_that_have_changed_explain_nothing(pool: pay.Pool, model: dict[str, Any], tmp_path: Path) -> None:
    from support.data import write_jsonl

    path = write_jsonl(tmp_path / "references.jsonl", reference_records())
    scores = pay.score(
        pool, pay.Target.from_records(path, name="t"), "rds", model=model, encoding=ENCODING, out=tmp_path / "s"
    )
    assert scores.explain("sums-000")
    write_jsonl(path, reference_records()[:4])
    with pytest.raises(ValueError, match="the references of 't' have changed since"):
        pay.Scores.open(tmp_path / "s").explain("sums-000")
