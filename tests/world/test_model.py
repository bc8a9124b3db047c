"""Tokenizer, base model and cache: nothing unknown, answers come back exact, half a build is no world."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from paydirt.world import World, build, generate_world, world_dir
from paydirt.world.base_model import PretrainConfig, pretrain_base_model
from paydirt.world.pretraining import pretraining_documents
from paydirt.world.tokenizer import build_tokenizer

TINY = PretrainConfig(hidden=32, layers=1, heads=2, intermediate=64, steps=30, batch=4, length=32, warmup=5)


@pytest.fixture(scope="module")
def world() -> World:
    return generate_world(3)


@pytest.fixture(scope="module")
def documents(world: World) -> list[str]:
    return pretraining_documents(3, world.facts, 500)


@pytest.fixture(scope="module")
def tokenizer(world: World, documents: list[str]) -> PreTrainedTokenizerFast:
    return build_tokenizer([*documents, *build.world_texts(world)])


def test_every_text_tokenises_and_every_answer_comes_back(world: World, tokenizer: PreTrainedTokenizerFast) -> None:
    texts = build.world_texts(world)
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert all(tokenizer.unk_token_id not in ids for ids in encoded)
    answers = sorted({item.answer for item in world.pool})
    back = tokenizer.batch_decode(tokenizer(answers, add_special_tokens=False)["input_ids"])
    assert [text.strip() for text in back] == answers


def test_chat_form(tokenizer: PreTrainedTokenizerFast) -> None:
    text = f"<|user|>\nWhat is 3 plus 4?\n<|assistant|>\n7{tokenizer.eos_token}\n"
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"])
    asked = ["<|user|>", "\n", "what", "is", "3", "plus", "4", "?", "\n"]
    assert tokens == [*asked, "<|assistant|>", "\n", "7", "</s>", "\n"]
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3
    assert tokenizer.unk_token_id not in tokenizer("A stranger's <script>, héllo {x}!")["input_ids"]


def test_pretraining_learns_and_repeats_itself(documents: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    one, two = (pretrain_base_model(documents, tokenizer, 3, TINY, progress=False) for _ in range(2))
    other = pretrain_base_model(documents, tokenizer, 4, TINY, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))
    ids = torch.tensor([tokenizer(documents[0], add_special_tokens=False)["input_ids"]])
    chance = torch.log(torch.tensor(float(len(tokenizer))))
    assert one(input_ids=ids, labels=ids).loss < chance


def test_cache_takes_only_whole_worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("paydirt.world.base_model.pretrain_base_model", killed)
        with pytest.raises(KeyboardInterrupt):
            world_dir(3, tmp_path, TINY, progress=False)
    assert list(tmp_path.iterdir()) == []

    leftover = tmp_path / f"world-v{build.WORLD_VERSION}-seed3{build._suffix(TINY)}.{os.getpid()}.part"
    (leftover / "pool").mkdir(parents=True)  # what SIGKILL leaves
    made = world_dir(3, tmp_path, TINY, progress=False)
    assert not leftover.exists()
    assert (made / "pool" / "handbook.jsonl").exists()
    stamp = (made / "world.json").stat().st_mtime_ns
    assert world_dir(3, tmp_path, TINY, progress=False) == made
    assert (made / "world.json").stat().st_mtime_ns == stamp
    assert isinstance(AutoModelForCausalLM.from_pretrained(made / "model"), LlamaForCausalLM)
    assert AutoTokenizer.from_pretrained(made / "model").eos_token == "</s>"


def test_lora_attaches(documents: list[str], tokenizer: PreTrainedTokenizerFast) -> None:
    from peft import LoraConfig, get_peft_model

    model = pretrain_base_model(documents, tokenizer, 3, PretrainConfig(**{**vars(TINY), "steps": 1}), progress=False)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]))
    assert 0 < adapted.get_nb_trainable_parameters()[0] < adapted.get_nb_trainable_parameters()[1]
