"""End to end: what a person can get wrong. Exit code 2, no traceback, and a message with the place and the remedy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from support.data import record, write_jsonl
from support.models import byte_tokenizer, save, tiny_llama
from support.stages import Tiny

from paydirt.core.config import dump_yaml


@pytest.fixture
def fails(paydirt, tmp_path: Path):
    """`fails(pattern, *arguments)`: the command ends with 2 and says what `pattern` matches, whatever was wrong."""

    def run(pattern: str, *arguments: Any) -> str:
        code, out, err = paydirt(*arguments)
        text = out + err
        assert code == 2, f"exit code {code}: {text}"
        assert "Traceback" not in text
        flat = re.sub(r"\s+", " ", text)
        assert re.search(pattern, flat), f"{pattern!r} is not in: {flat}"
        finished = [p.relative_to(tmp_path) for p in tmp_path.rglob("manifest.json")]
        assert all(p.parts[0] == "cache" for p in finished), "a command that fails leaves nothing that looks finished"
        return flat

    return run


@pytest.fixture
def score(tiny: Tiny, tmp_path: Path):
    """Arguments of `paydirt score METHOD`, any part replaced."""

    def arguments(method: str = "bm25", pool: Any = None, references: Any = None, out: Any = None, *more: Any) -> list:
        return [
            *("score", method, "--pool", pool or tiny.root / "pool.jsonl", "--target", "t"),
            *("--references", references or tiny.root / "references.jsonl", "--out", out or tmp_path / "out"),
            *("--cache", tmp_path / "cache", *more),
        ]

    return arguments


@pytest.fixture
def scores(paydirt, score, tmp_path: Path) -> Path:
    code, _, err = paydirt(*score(out=tmp_path / "cache" / "scores"))
    assert code == 0, err
    return tmp_path / "cache" / "scores"


class TestNames:
    def test_unknown_method(self, fails, score) -> None:
        fails("bm52", *score("bm52"))

    def test_unknown_option(self, fails, score) -> None:
        fails("--varient", *score("bm25", None, None, None, "--varient", "okapi"))

    def test_wrong_choice_names_the_choices(self, fails, score) -> None:
        fails("variant.*okapi.*lucene", *score("bm25", None, None, None, "--variant", "okapy"))

    def test_unknown_target(self, fails, tiny: Tiny, tmp_path: Path) -> None:
        arguments = ["--pool", tiny.root / "pool.jsonl", "--out", tmp_path / "o", "--target", "mmul"]
        fails("unknown target 'mmul'; did you mean 'mmlu'", "score", "bm25", *arguments)

    def test_unknown_policy(self, fails, scores, tmp_path: Path) -> None:
        fails("unknown policy 'topp'; did you mean 'top'", "select", scores, "--policy", "topp", "--count", 3,
              "--out", tmp_path / "o")  # fmt: skip

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"fractoins": [0.1]}, r"recipe.yaml: unknown key 'fractoins'; did you mean 'fractions'\?"),
            ({"methods": ["bm52"]}, r"unknown method 'bm52'; did you mean 'bm25'\?"),
            ({"methods": [{"name": "bm25", "varient": "okapi"}]}, r"unknown key 'varient'; did you mean 'variant'\?"),
            ({"training": {"learning_rat": 1}}, r"unknown key 'training.learning_rat'; did you mean 'learning_rate'\?"),
            ({"model": {"path": "x", "dtyp": "f"}}, r"unknown key 'model.dtyp'; did you mean 'dtype'\?"),
            ({"selector": {"path": "x", "dtyp": "f"}}, r"unknown key 'selector.dtyp'; did you mean 'dtype'\?"),
            ({"targets": [{"name": "t", "refrences": "x"}]}, r"'targets.0.refrences'; did you mean 'references'\?"),
            ({"evaluation": "exact_mach"}, r"did you mean 'exact_match'\?"),
            ({"fractions": [1.5]}, "a fraction is at most 1.*1.5"),
            ({"methods": []}, "methods"),
            ({"methods": ["bm25", "bm25"]}, "same method label 'bm25'"),
            ({"stage": "scroe"}, r"unknown stage 'scroe'; did you mean 'score'\?"),
        ],
        ids=lambda v: str(v)[:40],
    )
    def test_recipe(self, fails, tiny: Tiny, tmp_path: Path, changes: dict, message: str) -> None:
        recipe = {"pool": tiny.pool, "targets": [tiny.target], "model": tiny.model_config, "methods": ["bm25"]}
        path = tmp_path / "recipe.yaml"
        path.write_text(dump_yaml(recipe | changes))
        fails(message, "run", path, "--out", tmp_path / "study")

    def test_recipe_that_is_not_there_or_not_yaml(self, fails, tmp_path: Path) -> None:
        fails("no-recipe.yaml: no such file", "run", tmp_path / "no-recipe.yaml")
        (tmp_path / "bad.yaml").write_text("pool: [1, 2\nname: x\n")
        fails("bad.yaml:[0-9]+: not valid YAML", "run", tmp_path / "bad.yaml")
        (tmp_path / "list.yaml").write_text("- 1\n")
        fails("list.yaml: expected a mapping", "run", tmp_path / "list.yaml")
        fails(f"{tmp_path.name}", "run", tmp_path)
        (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
        fails("binary.yaml", "run", tmp_path / "binary.yaml")


class TestData:
    def test_malformed_json_line(self, fails, score, tmp_path: Path) -> None:
        path = tmp_path / "bad.jsonl"
        path.write_text(json.dumps(record("a", "hi", "ho")) + '\n{"id": "b", \n')
        fails(r"bad.jsonl:2", *score(pool=path))

    @pytest.mark.parametrize("text", ["", "\n\n"])
    def test_empty_pool(self, fails, score, tmp_path: Path, text: str) -> None:
        (tmp_path / "empty.jsonl").write_text(text)
        fails("the pool is empty.*empty.jsonl", *score(pool=tmp_path / "empty.jsonl"))

    def test_empty_target(self, fails, score, tmp_path: Path) -> None:
        (tmp_path / "none.jsonl").write_text("")
        fails("none.jsonl: no examples in it; give at least one", *score(references=tmp_path / "none.jsonl"))

    def test_missing_files(self, fails, score, tmp_path: Path) -> None:
        fails("gone.jsonl", *score(pool=tmp_path / "gone.jsonl"))
        fails("gone.jsonl", *score(references=tmp_path / "gone.jsonl"))
        fails("not a finished paydirt artifact", "select", tmp_path / "gone", "--count", 3, "--out", tmp_path / "o")

    def test_unknown_form(self, fails, score, tmp_path: Path) -> None:
        path = write_jsonl(tmp_path / "odd.jsonl", [{"question": "x", "reply": "y"}])
        fails("odd.jsonl:1: unknown form.*question, reply.*known forms", *score(pool=path))
        fails("odd.jsonl:1: unknown form", *score(references=write_jsonl(tmp_path / "odd.jsonl", [{"a": "x"}])))

    def test_references_without_answers_are_said(self, paydirt: Any, score, tmp_path: Path) -> None:
        path = write_jsonl(tmp_path / "odd.jsonl", [{"question": "x", "reply": "y"}])
        code, _, said = paydirt(*score(references=path))
        assert code == 0, said
        assert (
            "1 of 1 have no answer, and serve methods that read prompts alone; the first has the fields question, "
            in said
        )

    def test_reference_without_a_supervised_token(self, fails, score, tiny: Tiny, tmp_path: Path) -> None:
        """Too long a prompt for max_length: the reference is named, not silently worth nothing."""
        path = write_jsonl(
            tmp_path / "long.jsonl", [record("fine", "hi", "ho"), record("long", "word " * 60, "answer")]
        )
        arguments = score("ppl", None, path, None, "--model", tiny.model, "--max-length", 40)
        fails(
            "reference 'long' of target 't' has no supervised token after max_length 40; raise max_length", *arguments
        )

    def test_target_that_is_tested_on_itself(self, fails, tiny: Tiny, tmp_path: Path) -> None:
        both = tiny.root / "references.jsonl"
        fails("is also the test example", "evaluate", tiny.model, "--target", "t", "--references", both, "--test", both,
              "--out", tmp_path / "o")  # fmt: skip

    def test_nothing_to_test_on(self, fails, tiny: Tiny, tmp_path: Path) -> None:
        fails("has no test examples; give a test file", "evaluate", tiny.model, "--target", "t", "--references",
              tiny.root / "references.jsonl", "--out", tmp_path / "o", "--cache", tmp_path / "cache")  # fmt: skip

    def test_oracle_labels(self, fails, score, tmp_path: Path) -> None:
        fails("no labels at .*gone.jsonl", *score("oracle", None, None, None, "--labels", tmp_path / "gone.jsonl"))
        labels = tmp_path / "labels.jsonl"
        labels.write_text('{"id": "sums-000", "score": 1}\n')
        fails("no label for example 'capitals-001'", *score("oracle", None, None, None, "--labels", labels))
        labels.write_text('{"id": "sums-000", "score": 1}\n{"id": \n')
        fails("labels.jsonl:2", *score("oracle", None, None, None, "--labels", labels))
        labels.write_text('{"id": "sums-000", "value": 1}\n')
        fails("labels.jsonl:1", *score("oracle", None, None, None, "--labels", labels))


class TestBudget:
    @pytest.mark.parametrize(
        ("budget", "message"),
        [
            (["--count", 61], "budget of 61 examples of 60 is over the pool.*at most 60"),
            (["--fraction", 1.5], "for 1.5 % of the pool give 1.5%"),
            (["--fraction", 0.001], "below one example; the smallest fraction here is 0.017"),
            (["--count", 0], "below one example"),
            (["--words", 10_000_000], "over the pool, which holds"),
            (["--words", 1], "below one example: the best one alone has"),
            (["--tokens", 100], "error: a budget of tokens needs lengths in tokens, and these scores hold words"),
            (["--flops", 1e9], "error: a budget of FLOPs needs lengths in tokens, and these scores hold words"),
            ([], "exactly one of fraction, count, tokens, words, flops; got none"),
            (["--count", 5, "--fraction", 0.5], "exactly one of"),
            (["--policy", "quota", "--share", "summs=1", "--count", 5], "no source 'summs'; did you mean 'sums'"),
            (["--policy", "round_robin", "--over", "task", "--count", 5], "over.*subtask"),
            (["--within", "median", "--count", 5], "within.*mean"),
        ],
        ids=lambda v: str(v)[:40],
    )
    def test_budget(self, fails, scores: Path, tmp_path: Path, budget: list, message: str) -> None:
        fails(message, "select", scores, *budget, "--out", tmp_path / "o", "--cache", tmp_path / "cache")


class TestModels:
    @pytest.fixture
    def train(self, tiny: Tiny, tmp_path: Path):
        def arguments(model: Path | None = None, *more: Any) -> list:
            return [
                *("train", "--data", tiny.root / "pool.jsonl", "--model", model or tiny.model, "--max-length", 128),
                *("--out", tmp_path / "o", "--cache", tmp_path / "cache", *more),
            ]

        return arguments

    def test_no_model_there(self, fails, train, tmp_path: Path) -> None:
        (tmp_path / "hollow").mkdir()
        fails("hollow: no tokenizer could be loaded", *train(tmp_path / "hollow"))
        byte_tokenizer().save_pretrained(tmp_path / "hollow")
        fails("hollow: no causal language model could be loaded", *train(tmp_path / "hollow"))

    def test_tokenizer_without_chat_template(self, fails, train) -> None:
        fails("has no chat template; use template tulu or llama2", *train(None, "--template", "tokenizer"))

    def test_tokenizer_without_eos(self, fails, train, tmp_path: Path) -> None:
        model = save(tiny_llama(eos_token_id=None), byte_tokenizer(eos=False), tmp_path / "m")
        fails("no end-of-sequence token; set eos_token", *train(model))

    def test_tokenizer_without_pad_works(self, paydirt, train, tmp_path: Path) -> None:
        """Padding is masked everywhere, so eos serves: this is no error."""
        model = save(tiny_llama(pad_token_id=None), byte_tokenizer(pad=False), tmp_path / "m")
        code, _, err = paydirt(*train(model, "--method", "full", "--batch-size", 16))
        assert code == 0, err

    def test_a_method_that_needs_a_model(self, fails, score) -> None:
        fails("needs a selector model; give --model", *score("ppl"))

    def test_lora_targets_that_match_nothing(self, fails, tiny: Tiny, tmp_path: Path) -> None:
        stage = {"stage": "train", "pool": tiny.pool, "model": tiny.model_config, "encoding": {"max_length": 128}}
        (tmp_path / "t.yaml").write_text(dump_yaml(stage | {"training": {"lora": {"targets": ["c_attn"]}}}))
        fails("no module is named any of .*linear modules here: .*q_proj", "run", tmp_path / "t.yaml", "--out",
              tmp_path / "o", "--cache", tmp_path / "cache")  # fmt: skip

    def test_loss_that_is_not_a_number(self, fails, train, tmp_path: Path) -> None:
        """Weights broken from the start, seen at the first logged step."""
        model = tiny_llama()
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight.fill_(float("inf"))
        broken = save(model, byte_tokenizer(), tmp_path / "broken")
        fails(
            "training step 1: (loss|grad_norm) is (nan|inf).*lower the learning rate",
            *train(broken, "--method", "full"),
        )

    def test_loss_that_is_lost_after_the_last_logged_step(self, fails, train) -> None:
        """A rate that destroys the weights within 6 steps, fewer than are between two lines of the log."""
        fails("loss is (nan|inf).*lower the learning rate",
              *train(None, "--method", "full", "--learning-rate", "1e30", "--batch-size", "10"))  # fmt: skip

    def test_training_options(self, fails, train) -> None:
        fails("batch_size 10 is not a multiple of micro_batch_size 4",
              *train(None, "--batch-size", 10, "--micro-batch-size", 4))  # fmt: skip
        fails(r"unknown training recipe 'sedes'; did you mean 'seeds'\?", *train(None, "--recipe", "sedes"))
        fails("learning_rate.*greater than 0", *train(None, "--learning-rate", "-1"))


class TestPlaces:
    @pytest.mark.parametrize("out", ["/dev/null/x", "{tmp}/file/x"])
    def test_unwritable_output(self, fails, score, tmp_path: Path, out: str) -> None:
        (tmp_path / "file").write_text("in the way")
        fails("cannot write there .*choose another --out", *score(out=out.format(tmp=tmp_path)))

    def test_unwritable_study(self, fails, tiny: Tiny, tmp_path: Path) -> None:
        recipe = {"pool": tiny.pool, "targets": [tiny.target], "model": tiny.model_config, "methods": ["bm25"]}
        (tmp_path / "recipe.yaml").write_text(dump_yaml(recipe))
        fails("/dev/null/x: cannot write there", "run", tmp_path / "recipe.yaml", "--out", "/dev/null/x")

    def test_output_that_is_a_file_or_a_strangers(self, fails, score, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        fails("file: exists and was not made by paydirt", *score(out=tmp_path / "file"))
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "notes.txt").write_text("mine")
        fails("folder: exists and was not made by paydirt", *score(out=tmp_path / "folder"))
        assert (tmp_path / "folder" / "notes.txt").read_text() == "mine"

    def test_unwritable_cache(self, fails, score) -> None:
        fails(
            "cannot write there",
            *[a if str(a).find("cache") < 0 or str(a) == "--cache" else "/dev/null/c" for a in score()],
        )

    def test_the_wrong_kind_of_artifact(self, fails, scores: Path, tiny: Tiny, tmp_path: Path) -> None:
        from paydirt.stages import Workspace

        trained = tiny.train(tmp_path / "cache" / "trained", Workspace(tmp_path / "cache"), {"batch_size": 64})
        fails("holds the output of stage 'train', expected 'score'", "select", trained.path, "--count", 3,
              "--out", tmp_path / "o")  # fmt: skip
