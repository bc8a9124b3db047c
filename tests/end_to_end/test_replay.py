"""Every artifact's config.yaml makes it again, byte for byte, from any directory; and nothing finished goes unasked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.data import write_jsonl
from support.stages import Tiny, files_of

import paydirt as pay

COMMON = ("--cache", "cache")
POOL = ("--pool", "pool.jsonl")
TARGET = ("--target", "t", "--references", "references.jsonl")
SCORE = ("score", "bm25", *POOL, *TARGET)
SELECT = ("select", "scores", "--count", 6)
MODEL = ("--model", "model", "--max-length", 128)
# What makes each kind of artifact, typed with relative paths; those that need another come after it.
KINDS: dict[str, tuple] = {
    "scores": SCORE,
    "oracle": ("score", "oracle", *POOL, *TARGET, "--labels", "labels.jsonl"),
    "selection": SELECT,
    "trained": ("train", "--data", "selection/selection.jsonl", *MODEL, "--method", "full", "--batch-size", 8),
    "evaluation": ("evaluate", "model", *TARGET, "--test", "test.jsonl", "--max-length", 128),
    "graded": ("evaluate", "--benchmark", "ifeval", "--data", "less", "--responses", "responses.jsonl"),
    "exported": ("export", "selection", "--name", "mine"),
    "deduplicated": ("dedup", *POOL, "--ngram", 2),
    "clean": ("decontaminate", *POOL, "--references", "references.jsonl"),
    "split": ("split", *POOL, "--points", 0.5),
    "tiny": ("tiny", *POOL, "--vocabulary", 300),
    "imported": ("import-scores", "published", "--pool", "a=pool.jsonl"),
    "gradients": ("import-gradients", "published/dim4", *POOL, "--checkpoint", "105"),
}
NEEDS = {"selection": ["scores"], "trained": ["scores", "selection"], "exported": ["scores", "selection"]}


@pytest.fixture
def place(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of one's own to type commands in, with everything under it."""
    here = tmp_path / "here"
    here.mkdir()
    for file in ("pool.jsonl", "references.jsonl", "test.jsonl", "labels.jsonl"):
        (here / file).write_bytes((tiny.root / file).read_bytes())
    (here / "model").symlink_to(tiny.model)
    (here / "published").mkdir()
    torch.save(torch.arange(60.0), here / "published" / "a_influence_score.pt")
    (here / "published" / "dim4").mkdir()
    torch.save(torch.nn.functional.normalize(torch.arange(240.0).reshape(60, 4)), here / "published/dim4/all_orig.pt")
    monkeypatch.chdir(here)
    return here


def make(paydirt: Any, kind: str, out: Any = None, *more: Any) -> tuple[int, str, str]:
    for needed in NEEDS.get(kind, ()):
        if not Path(needed).exists():
            code, _, said = paydirt(*KINDS[needed], *COMMON, "--out", needed)
            assert code == 0, said
    return paydirt(*KINDS[kind], *COMMON, "--out", out or kind, *more)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_artifact_is_made_again_from_another_directory(
    paydirt: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "graded":
        pytest.importorskip("lm_eval", reason="the graders are an extra")
        from tasks.layout import write_layout

        write_layout(place / "less")
        answers = [
            {"prompt": "Say yes without commas.", "response": "yes"},
            {"prompt": "No commas at all.", "response": ","},
        ]
        write_jsonl(place / "responses.jsonl", answers)
    code, _, said = make(paydirt, kind)
    assert code == 0, said
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, shown, said = paydirt(
        "run", place / kind / "config.yaml", "--out", tmp_path / "again", "--cache", tmp_path / "other cache"
    )
    assert code == 0, said
    assert "up to date" not in shown
    assert files_of(tmp_path / "again").keys() == files_of(place / kind).keys()
    for name, content in files_of(place / kind).items():
        assert content == files_of(tmp_path / "again")[name], name
    first, second = (json.loads((p / "manifest.json").read_text()) for p in (place / kind, tmp_path / "again"))
    assert first["stage"] == second["stage"]
    assert first["key"] == second["key"]


class TestWhatIsFinishedStays:
    @pytest.mark.parametrize(
        ("kind", "command"),
        [
            ("trained", SELECT),
            ("scores", ("dedup", *POOL)),
            ("selection", ("tiny", *POOL)),
            ("tiny", ("split", *POOL)),
            ("split", SCORE),
            ("scores", ("export", "selection", "--name", "mine")),
        ],
    )
    def test_another_stages(self, paydirt: Any, place: Path, kind: str, command: tuple) -> None:
        make(paydirt, "selection")
        make(paydirt, kind, "precious")
        before = files_of(place / "precious")
        code, _, said = paydirt(*command, *COMMON, "--out", "precious")
        assert code == 2
        assert "holds the finished output of stage" in said
        assert "--force" in said
        assert files_of(place / "precious") == before
        assert paydirt(*command, *COMMON, "--out", "precious", "--force")[0] == 0

    @pytest.mark.parametrize(
        ("kind", "change", "named"),
        [
            ("scores", ("--variant", "lucene"), "method.variant"),
            ("selection", ("--policy", "random"), "selection.policy.name"),
            ("trained", ("--epochs", 2), "training.epochs"),
            ("split", ("--seed", 1), "seed"),
            ("tiny", ("--seed", 1), "seed"),
            ("deduplicated", ("--threshold", 0.5), "threshold"),
            ("clean", ("--near", 0.5), "settings.near"),
        ],
    )
    def test_another_configs(self, paydirt: Any, place: Path, kind: str, change: tuple, named: str) -> None:
        make(paydirt, kind)
        before = files_of(place / kind)
        code, _, said = make(paydirt, kind, None, *change)
        assert code == 2
        assert "output of another config" in said
        assert named in said
        assert files_of(place / kind) == before
        code, shown, said = make(paydirt, kind, None, *change, "--force")
        assert code == 0, said
        assert "wrote" in shown

    def test_the_same_command_after_the_pool_has_changed(self, paydirt: Any, place: Path) -> None:
        make(paydirt, "scores")
        with open(place / "pool.jsonl", "a") as handle:
            handle.write('{"id": "new", "prompt": "a", "completion": "b"}\n'.replace("prompt", "instruction"))
        text = (place / "pool.jsonl").read_text().replace("my dear friend", "my old friend").splitlines()[:60]
        (place / "pool.jsonl").write_text("\n".join(text) + "\n")
        code, shown, said = make(paydirt, "scores")
        assert code == 0, said
        assert "wrote" in shown

    def test_the_scores_that_are_selected_from(self, paydirt: Any, place: Path) -> None:
        make(paydirt, "scores")
        for force in ((), ("--force",)):
            code, _, said = paydirt(*SELECT, *COMMON, "--out", "scores", *force)
            assert code == 2
            assert "holds what this is made of" in said
        assert json.loads((place / "scores" / "manifest.json").read_text())["stage"] == "score"

    def test_the_model_and_the_data_that_are_trained_on(self, paydirt: Any, place: Path) -> None:
        make(paydirt, "trained")
        again = ("train", "--data", "pool.jsonl", "--model", "trained/model", "--max-length", 128, "--method", "full")
        for command, out in ((again, "trained"), (KINDS["trained"], "selection")):
            code, _, said = paydirt(*command, *COMMON, "--out", out, "--force")
            assert code == 2
            assert "holds what this is made of" in said
        assert (place / "trained" / "model" / "config.json").exists()

    def test_a_study_does_not_go_into_an_artifact(self, paydirt: Any, place: Path, tiny: Tiny) -> None:
        make(paydirt, "scores")
        recipe = {"pool": tiny.pool, "targets": [tiny.target], "model": tiny.model_config, "methods": ["bm25"]}
        (place / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        before = (place / "scores" / "config.yaml").read_text()
        code, _, said = paydirt("run", "recipe.yaml", "--out", "scores")
        assert code == 2
        assert "not a study" in said
        assert (place / "scores" / "config.yaml").read_text() == before


def test_what_is_moved_together_finds_itself(
    paydirt: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with pool, references, scores, selection and model is moved: selecting, exporting, training and replays of it
    go on there, and give the bytes that they gave."""
    for kind in ("scores", "selection", "trained"):
        code, _, said = make(paydirt, kind)
        assert code == 0, said
    before = {kind: files_of(place / kind) for kind in ("scores", "selection", "trained")}
    new = tmp_path / "elsewhere"
    place.rename(new)
    monkeypatch.chdir(tmp_path)
    code, _, said = paydirt("select", new / "scores", "--count", 6, "--out", tmp_path / "again")
    assert code == 0, said
    assert files_of(tmp_path / "again") == before["selection"]
    code, _, said = paydirt("export", new / "selection", "--name", "mine", "--out", tmp_path / "exported")
    assert code == 0, said
    for kind in before:
        code, _, said = paydirt("run", new / kind / "config.yaml", "--out", tmp_path / f"{kind}-again", *COMMON)
        assert code == 0, said
        assert files_of(tmp_path / f"{kind}-again") == before[kind]
    picked = pay.Selection.open(new / "selection")
    assert picked.scores.path == new / "scores"


def test_exports_add_up(paydirt: Any, place: Path) -> None:
    make(paydirt, "exported", "folder")
    assert paydirt("select", "scores", "--count", 3, *COMMON, "--out", "other")[0] == 0
    assert paydirt("export", "other", "--name", "second", *COMMON, "--out", "folder")[0] == 0
    folder = place / "folder"
    assert {p.name for p in folder.glob("*.jsonl")} == {"mine.jsonl", "second.jsonl"}
    assert list(json.loads((folder / "dataset_info.json").read_text())) == ["mine", "second"]
    stanzas = yaml.safe_load((folder / "axolotl.yaml").read_text())["datasets"]
    assert [s["path"] for s in stanzas] == ["mine.jsonl", "second.jsonl"]
    assert "nothing was done" in paydirt("export", "other", "--name", "second", *COMMON, "--out", "folder")[1]
    code, _, said = paydirt("export", "other", "--name", "mine", *COMMON, "--out", "folder")
    assert code == 2
    assert "mine there is another selection" in said
    first = (folder / "mine.jsonl").read_bytes()
    shutil.rmtree(place / "selection")  # what was exported of it stays
    assert paydirt("export", "scores", "--name", "x", *COMMON, "--out", "folder")[0] == 2
    assert paydirt("export", "other", "--name", "third", *COMMON, "--out", "folder")[0] == 0
    assert (folder / "mine.jsonl").read_bytes() == first


class TestAChangedPool:
    def change(self, place: Path, edit: Any) -> None:
        records = [json.loads(line) for line in (place / "pool.jsonl").read_text().splitlines()]
        write_jsonl(place / "pool.jsonl", edit(records))

    @pytest.mark.parametrize(
        ("edit", "said"),
        [
            (lambda r: [*r[:5], {**r[5], "messages": r[4]["messages"]}, *r[6:]], "changed under the same 60 ids"),
            (lambda r: r[1:], "1 examples are gone (first: 'sums-000')"),
            (lambda r: [*r, {**r[0], "id": "new"}], "1 examples are new (first: 'new')"),
        ],
        ids=["texts", "fewer", "more"],
    )
    def test_is_named_with_the_command_that_mends_it(self, paydirt: Any, place: Path, edit: Any, said: str) -> None:
        make(paydirt, "scores")
        self.change(place, edit)
        code, _, error = paydirt(*SELECT, *COMMON, "--out", "selection")
        assert code == 2
        assert "made of another pool than is there now" in error
        assert said in error
        command = error.split("paydirt ")[1].splitlines()[0].split()
        assert paydirt(*command, *COMMON)[0] == 0
        assert paydirt(*SELECT, *COMMON, "--out", "selection")[0] == 0

    def test_of_another_order_serves(self, paydirt: Any, place: Path) -> None:
        make(paydirt, "scores")
        self.change(place, lambda records: records[::-1])
        assert paydirt(*SELECT, *COMMON, "--out", "selection")[0] == 0

    def test_fields_that_no_score_sees_are_current_in_the_selection(self, paydirt: Any, place: Path) -> None:
        make(paydirt, "selection")
        self.change(place, lambda records: [{**r, "level": 99} for r in records])
        assert "wrote" in paydirt(*SELECT, *COMMON, "--out", "selection")[1]
        rows = [json.loads(line) for line in (place / "selection" / "selection.jsonl").read_text().splitlines()]
        assert {row["level"] for row in rows} == {99}
