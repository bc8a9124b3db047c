"""Other trainers take an export as it is: TRL trains on it, LLaMA-Factory's and axolotl's own parsers read it."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from support.stages import ENCODING, Tiny

from paydirt.core.types import Message
from paydirt.data.encoding import Encoder, EncodingConfig
from paydirt.stages import Workspace


@pytest.fixture(scope="module")
def export(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two selections of 6 and 12 examples as a mixture of weights 2 and 1."""
    from paydirt.interop.export import export as run

    folder = tmp_path_factory.mktemp("export")
    space = Workspace(folder / "shared")
    for name, method, fraction, weight in (("near", "bm25", 0.1, 2.0), ("long", "length", 0.2, 1.0)):
        scores = tiny.score(method, folder / f"{name}-scores", space)
        chosen = tiny.select(scores, folder / name, space, {"fraction": fraction})
        run(chosen.path, folder / "export", name, cache=folder / "shared", weight=weight)
    return folder / "export"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def entry(export: Path, name: str) -> dict[str, Any]:
    return yaml.safe_load((export / f"{name}.yaml").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_trl_trains_on_the_mixture_and_learns_the_same_tokens(
    export: Path, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SFTTrainer, two steps on `trl.yaml`'s mixture: its labels are ours, token for token."""
    pytest.importorskip("trl")
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DatasetMixtureConfig, SFTConfig, SFTTrainer, get_dataset

    monkeypatch.chdir(export)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    said = entry(export, "trl")
    mixture = get_dataset(DatasetMixtureConfig(datasets=said["datasets"]))["train"]
    assert mixture["id"] == [r["id"] for r in rows(export / "near.jsonl")] + [
        r["id"] for r in rows(export / "long.jsonl")[:3]
    ]
    tokenizer = AutoTokenizer.from_pretrained(tiny.model)
    tokenizer.chat_template = Path(said["chat_template_path"]).read_text(encoding="utf-8")
    arguments = SFTConfig(
        output_dir=str(tmp_path / "out"), max_steps=2, per_device_train_batch_size=2, report_to=[], use_cpu=True, bf16=False,
        assistant_only_loss=said["assistant_only_loss"], max_length=128, logging_steps=1, save_strategy="no",
        gradient_checkpointing=False,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(tiny.model)
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=mixture, processing_class=tokenizer)
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    encoder = Encoder(AutoTokenizer.from_pretrained(tiny.model), EncodingConfig(**ENCODING))
    for theirs, row in zip(trainer.train_dataset, mixture):
        ours = encoder.encode([Message(m["role"], m["content"]) for m in row["messages"]])
        assert theirs["input_ids"] == ours.ids.tolist()
        assert [label != -100 for label in theirs["labels"]] == ours.supervised.tolist()


def test_the_template_is_the_encoder_s_in_every_form(tiny: Tiny) -> None:
    """Jinja and our own renderer give the same text and mask, system turns and several turns included."""
    from transformers import AutoTokenizer

    from paydirt.data.jinja import jinja_of

    talk = [("system", " Be kind. "), ("user", "Hello "), ("assistant", " Hi there."), ("user", "More?")]
    talk.append(("assistant", "No."))
    messages = [Message(role, text) for role, text in talk]
    for values in ({"template": "tulu"}, {"template": "tulu", "newline_label": True}, {"template": "llama2"}):
        tokenizer = AutoTokenizer.from_pretrained(tiny.model)
        encoder = Encoder(tokenizer, EncodingConfig(**values))
        ours = encoder.encode(messages)
        tokenizer.chat_template = jinja_of(encoder)
        turns = [{"role": role, "content": text} for role, text in talk]
        made = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
        assert made["input_ids"] == ours.ids.tolist(), values
        assert [bool(m) for m in made["assistant_masks"]] == ours.supervised.tolist(), values
        opened = tokenizer.apply_chat_template(turns[:2], tokenize=True, add_generation_prompt=True, return_dict=True)
        assert opened["input_ids"] == encoder.encode_prompt(messages[:2]).tolist(), values


@pytest.fixture
def llama_factory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """LLaMA-Factory's own modules without its packages' `__init__`, which import what only media need."""
    found = importlib.util.find_spec("llamafactory")
    if found is None or not found.submodule_search_locations:
        pytest.skip("pip install --no-deps llamafactory")
    root = Path(found.submodule_search_locations[0])
    for name in ("llamafactory", "llamafactory.data", "llamafactory.hparams", "llamafactory.extras"):
        package = ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        monkeypatch.setitem(sys.modules, name, package)
    yield
    for name in [n for n in sys.modules if n.startswith("llamafactory")]:
        sys.modules.pop(name)


def test_llama_factory_finds_converts_and_mixes(export: Path, llama_factory: None, tmp_path: Path) -> None:
    """Its parser reads `dataset_info.json`, its converter keeps every row, its arguments take the probabilities."""
    from datasets import load_dataset
    from llamafactory.data.converter import SharegptDatasetConverter
    from llamafactory.data.data_utils import merge_dataset
    from llamafactory.data.parser import get_dataset_list
    from llamafactory.hparams.data_args import DataArguments

    said = entry(export, "llama_factory")
    known = {k: v for k, v in said.items() if k in DataArguments.__dataclass_fields__}
    assert set(said) - set(known) == {"stage", "do_train"}, "of its training arguments"
    arguments = DataArguments(**known)
    assert arguments.dataset == ["near", "long"]
    assert arguments.interleave_probs == pytest.approx([2 / 3, 1 / 3], abs=1e-5)
    made = []
    for attributes in get_dataset_list(arguments.dataset, str(export)):
        data = load_dataset(
            "json", data_files=str(export / attributes.dataset_name), split="train", cache_dir=str(tmp_path)
        )
        convert = SharegptDatasetConverter(attributes, arguments)
        converted = [convert(row) for row in data]
        assert all(row["_response"] and row["_response"][0]["role"] == "assistant" for row in converted), (
            "none is skipped"
        )
        made.append(data)
    mixed = merge_dataset(made, arguments, seed=0)
    assert {row["id"] for row in mixed} <= {row["id"] for data in made for row in data}


def test_axolotl_s_schema_takes_the_entries(export: Path) -> None:
    schema = pytest.importorskip("axolotl.utils.schemas.datasets", reason="pip install --no-deps axolotl")
    (stanza,) = entry(export, "axolotl")["datasets"]
    assert set(stanza) <= set(schema.SFTDataset.model_fields), "its model ignores what it does not know"
    taken = schema.SFTDataset(**stanza)
    assert taken.message_property_mappings == {"role": "role", "content": "content"}
    mixture = rows(export / taken.path)
    names = {name: [r["id"] for r in rows(export / f"{name}.jsonl")] for name in ("near", "long")}
    assert len(mixture) == 9, "6 of one and 3 of the other"
    assert [r["id"] for r in mixture if r["id"] in names["near"]][:6] == names["near"]
    assert "train_on_eos" in stanza


def test_the_order_of_a_curriculum_reaches_trainers(
    tiny: Tiny, tmp_path: Path, paydirt: Any, monkeypatch: pytest.MonkeyPatch, llama_factory: None
) -> None:
    """Rows in its order, best last; each trainer's config knows the key, and TRL's trainer reads them one by one."""
    space = Workspace(tmp_path / "shared")
    scores = tiny.score("bm25", tmp_path / "scores", space)
    selection = {"policy": "top", "curriculum": "best_last"}
    chosen = tiny.select(scores, tmp_path / "s", space, {"count": 8}, selection=selection)
    out = tmp_path / "e"
    code, _, said = paydirt("export", chosen.path, "--name", "n", "--out", out, "--cache", space.shared)
    assert code == 0, said
    assert [r["rank"] for r in rows(out / "n.jsonl")] == [*range(8, 0, -1)]
    assert entry(out, "llama_factory")["disable_shuffling"] is True
    arguments = pytest.importorskip("llamafactory.hparams.finetuning_args")
    assert "disable_shuffling" in arguments.FinetuningArguments.__dataclass_fields__
    told = entry(out, "axolotl")
    assert (told["shuffle_merged_datasets"], told["curriculum_sampling"]) == (False, True)
    pytest.importorskip("trl")
    from trl import DatasetMixtureConfig, SFTConfig, SFTTrainer, get_dataset

    monkeypatch.chdir(out)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    told = entry(out, "trl")
    mixture = get_dataset(DatasetMixtureConfig(datasets=told["datasets"]))["train"]
    strategy = {"train_sampling_strategy": told["train_sampling_strategy"]}
    config = SFTConfig(output_dir=str(tmp_path / "out"), report_to=[], use_cpu=True, bf16=False, **strategy)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny.model)
    tokenizer.chat_template = Path(told["chat_template_path"]).read_text(encoding="utf-8")
    model = AutoModelForCausalLM.from_pretrained(tiny.model)
    trainer = SFTTrainer(model=model, args=config, train_dataset=mixture, processing_class=tokenizer)
    assert [*trainer._get_train_sampler()] == [*range(8)]


def test_open_instruct_s_mixer(export: Path) -> None:
    """Pairs of file and count, as its loader reads them: a count without a point is so many rows."""
    said = entry(export, "open_instruct")
    assert said["dataset_mixer_list"] == ["near.jsonl", "6", "long.jsonl", "3"]
    assert said["dataset_mixer_list_splits"] == ["train"]
    assert all(set(r) >= {"dataset", "id", "messages"} for r in rows(export / "near.jsonl"))


def test_without_weights_every_row_of_every_file_is_taken(tiny: Tiny, tmp_path: Path, paydirt: Any) -> None:
    space = Workspace(tmp_path / "shared")
    scores = tiny.score("bm25", tmp_path / "scores", space)
    for number in (3, 5):
        chosen = tiny.select(scores, tmp_path / f"s{number}", space, {"count": number})
        assert paydirt("export", chosen.path, "--out", tmp_path / "e", "--name", f"best{number}")[0] == 0
    assert entry(tmp_path / "e", "open_instruct")["dataset_mixer_list"] == ["best3.jsonl", "3", "best5.jsonl", "5"]
    assert "interleave_probs" not in entry(tmp_path / "e", "llama_factory")
    assert [d["path"] for d in entry(tmp_path / "e", "axolotl")["datasets"]] == ["best3.jsonl", "best5.jsonl"]
    assert not (tmp_path / "e" / "mixture.jsonl").exists()


def test_the_columns_say_score_rank_source_and_weight(export: Path) -> None:
    found = rows(export / "near.jsonl")
    assert [r["rank"] for r in found] == list(range(1, 7))
    assert [r["score"] for r in found] == sorted((r["score"] for r in found), reverse=True)
    assert {r["source"] for r in found} <= {"sums", "capitals", "chat"}
    assert [r["weight"] for r in found] == [1.0] * 6


MIXED = (
    (
        "chat.jsonl",
        {"messages": [{"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "Apple."}]},
    ),
    ("alpaca.jsonl", {"instruction": "Name a fruit", "input": "that is yellow", "output": "Banana."}),
    ("shared.jsonl", {"conversations": [{"from": "human", "value": "A fruit?"}, {"from": "gpt", "value": "Fig."}]}),
    ("qa.jsonl", {"question": "Which fruit is green?", "answer": "Lime."}),
)


def test_a_selection_of_mixed_forms_is_exported_whole(jsonl: Any, tiny: Tiny, tmp_path: Path) -> None:
    from paydirt.interop.export import export as run

    files = [jsonl(name, record) for name, record in MIXED]
    space = Workspace(tmp_path / "shared")
    scores = tiny.score("bm25", tmp_path / "scores", space, pool={"files": files})
    chosen = tiny.select(scores, tmp_path / "all", space, {"count": 4}, pool={"files": files})
    made = run(chosen.path, tmp_path / "export", "mixed", cache=tmp_path / "shared")
    answers = {r["messages"][-1]["content"] for r in rows(made.path / "mixed.jsonl")}
    assert answers == {"Apple.", "Banana.", "Fig.", "Lime."}
    assert all([m["role"] for m in r["messages"]] == ["user", "assistant"] for r in rows(made.path / "mixed.jsonl"))


def turns(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in pairs]}


ODD = (
    turns(("assistant", "Welcome!"), ("user", "Name a fruit."), ("user", "A green one."), ("assistant", "Lime.")),
    turns(("user", "Name a fruit."), ("system", "Be brief."), ("assistant", "Fig."), ("user", "Thanks!")),
    turns(("system", "Be kind."), ("system", "Be brief."), ("user", "Name a fruit."), ("assistant", "Date.")),
    turns(("assistant", "Nobody asked for a fruit.")),
)


def test_turns_are_put_in_order_and_every_change_is_told(jsonl: Any, tiny: Tiny, tmp_path: Path, paydirt: Any) -> None:
    pool = {"files": [jsonl("odd.jsonl", *ODD)]}
    space = Workspace(tmp_path / "shared")
    scores = tiny.score("bm25", tmp_path / "scores", space, pool=pool)
    chosen = tiny.select(scores, tmp_path / "all", space, {"count": 4}, pool=pool)
    code, _, said = paydirt(
        "export", chosen.path, "--name", "odd", "--out", tmp_path / "e", "--cache", tmp_path / "shared"
    )
    assert code == 0, said
    found = {r["messages"][-1]["content"]: r["messages"] for r in rows(tmp_path / "e" / "odd.jsonl")}
    assert [m["content"] for m in found["Lime."]] == ["Name a fruit.\n\nA green one.", "Lime."]
    assert [m["content"] for m in found["Fig."]] == ["Name a fruit.\n\nBe brief.", "Fig."]
    assert [m["role"] for m in found["Date."]] == ["system", "user", "assistant"]
    assert len(found) == 3
    told = json.loads((tmp_path / "e" / "receipt.json").read_text())["odd"]["turns"]
    assert {what: entry["count"] for what, entry in told.items()} == {
        "neighbouring turns of one role joined": 3,
        "assistant turn before any question left out": 1,
        "late system text moved into the user turn beside it": 1,
        "user turn after the last answer left out": 1,
        "no answer follows a question": 1,
    }
    code, _, said = paydirt("export", chosen.path, "--name", "odd", "--out", tmp_path / "f", "--turns", "refuse")
    assert code == 2
    assert "odd.jsonl" in said
    assert "--turns repair" in said
