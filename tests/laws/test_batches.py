"""Laws of batches: who shares a batch, and how much padding it has, changes no answer and no loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.models import byte_tokenizer, tiny_gpt2, tiny_llama
from support.stages import ENCODING, Tiny

from paydirt.core.types import Example, Message, Target
from paydirt.data.encoding import Encoder, EncodingConfig
from paydirt.stages import Workspace, read_result
from paydirt.tasks.benchmark import make_benchmark


def examples(n: int = 12) -> tuple[Example, ...]:
    """Prompts of 1 to n words, so that batches hold much padding."""
    return tuple(
        Example(f"e{i}", (Message("user", "word " * (i + 1)), Message("assistant", "yes, " * (i % 3 + 1))))
        for i in range(n)
    )


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("pad", [True, False])
def test_generation_does_not_depend_on_the_batch(make, pad: bool) -> None:
    """Greedy answers one at a time and in padded batches are the same text; without a pad token too."""
    model, encoder = make(), Encoder(byte_tokenizer(pad=pad), EncodingConfig(max_length=128))
    one_by_one = make_benchmark({"name": "exact_match", "token_budget": 1}).generate(model, encoder, examples())
    together = make_benchmark({"name": "exact_match", "token_budget": 4096}).generate(model, encoder, examples())
    assert one_by_one == together
    assert any(one_by_one), "this test needs answers"


def test_greedy_answers_equal_a_plain_loop_over_the_argmax() -> None:
    import torch

    model, encoder = tiny_llama(), Encoder(byte_tokenizer(), EncodingConfig(max_length=128))
    benchmark = make_benchmark({"name": "exact_match", "extra_tokens": 3})
    test = examples(4)
    longest = max(len(encoder.tokenizer(e.answer).input_ids) for e in test)
    expected = []
    for example in test:
        ids, out = encoder.encode_prompt(example.messages).tolist(), []
        for _ in range(longest + 1 + 3):
            with torch.no_grad():
                token = int(model(input_ids=torch.tensor([ids + out])).logits[0, -1].argmax())
            out.append(token)
            if token == encoder.tokenizer.eos_token_id:
                break
        expected.append(encoder.tokenizer.decode(out, skip_special_tokens=True))
    assert benchmark.generate(model, encoder, test) == expected


def test_the_answer_asked_for_is_the_last_assistant_turn() -> None:
    """Also where a user has the last word: the prompt stops before the answer that is compared."""
    encoder = Encoder(byte_tokenizer(), EncodingConfig(max_length=128))
    plain = (Message("user", "word word"), Message("assistant", "yes"))
    followed = Example("x", (*plain, Message("user", "thanks")))
    benchmark = make_benchmark("exact_match")
    model = tiny_llama()
    assert benchmark.generate(model, encoder, (followed,)) == benchmark.generate(model, encoder, (Example("y", plain),))


def test_an_evaluation_does_not_depend_on_the_batch(tiny: Tiny, tmp_path: Path) -> None:
    results = []
    for budget in (1, 100, 8192):
        benchmark = {"name": "exact_match", "token_budget": budget}
        tiny.evaluate(tmp_path / str(budget), Workspace(tmp_path / "shared"), benchmark=benchmark)
        results.append(read_result(tmp_path / str(budget)).metrics)
    for other in results[1:]:
        assert other["exact_match"] == results[0]["exact_match"]
        for name, value in results[0].items():
            assert other[name] == pytest.approx(value, rel=1e-5)


def test_a_reference_without_a_supervised_token_is_an_error_in_evaluation_too() -> None:
    encoder = Encoder(byte_tokenizer(), EncodingConfig(max_length=8))
    target = Target("t", examples(1), ("all",), examples(2)[1:])
    with pytest.raises(ValueError, match=r"'e[01]'.*no supervised token"):
        make_benchmark("exact_match").evaluate(tiny_llama(), encoder, target)


@pytest.mark.parametrize("method", ["random", "length", "bm25"])
def test_a_model_path_may_move(tiny: Tiny, tmp_path: Path, method: str) -> None:
    """What decides is the content: the same model elsewhere gives artifacts that are up to date."""
    import shutil

    moved = shutil.copytree(tiny.model, tmp_path / "moved")
    workspace = Workspace(tmp_path / "shared")
    tiny.score(method, tmp_path / "s", workspace)
    again = tiny.score(method, tmp_path / "s", workspace, model={"path": str(moved), "device": "cpu"})
    assert not again.fresh


def test_encoding_settings_are_part_of_a_score(tiny: Tiny, tmp_path: Path) -> None:
    """Another template or length gives other token counts, so the scores are made again."""
    workspace = Workspace(tmp_path / "shared", replace="same stage")
    first = tiny.score("length", tmp_path / "s", workspace)
    other = tiny.score("length", tmp_path / "s", workspace, encoding=ENCODING | {"max_length": 16})
    assert first.fresh
    assert other.fresh
    assert other.notes["encoding"]["truncated"] > 0
    assert np.isfinite(other.notes["encoding"]["tokens"])


def test_a_broken_model_is_an_error_not_a_missing_number(tmp_path: Path) -> None:
    import torch

    model, encoder = tiny_llama(), Encoder(byte_tokenizer(), EncodingConfig(max_length=128))
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    target = Target("t", examples(1), ("all",), examples(2)[1:])
    with pytest.raises(ValueError, match="loss is nan"):
        make_benchmark("exact_match").evaluate(model, encoder, target)
