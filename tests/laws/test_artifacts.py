"""Laws of artifacts: a directory is whole or absent, its key decides, and nobody else's files are touched."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from paydirt.core import files
from paydirt.core.artifacts import MANIFEST, build, open_artifact


def make_file(text: str = "hello"):
    def make(part: Path) -> dict[str, int]:
        (part / "data.txt").write_text(text)
        return {"letters": len(text)}

    return make


def refuse(part: Path) -> None:
    raise AssertionError("this must not be made again")


def test_same_key_is_not_made_again(tmp_path: Path) -> None:
    first = build(tmp_path / "a", "s", {"x": 1}, {"in": "f"}, make_file())
    second = build(tmp_path / "a", "s", {"x": 1}, {"in": "f"}, refuse)
    assert first.fresh
    assert not second.fresh
    assert second.notes == {"letters": 5}
    assert not (tmp_path / "a.part").exists()


@pytest.mark.parametrize(
    "changes",
    [{"config": {"x": 2}}, {"inputs": {"in": "g"}}, {"version": 2}, {"libraries": ("numpy",)}],
    ids=["config", "inputs", "version", "libraries"],
)
def test_another_key_is_made_again(tmp_path: Path, changes: dict) -> None:
    values = {"stage": "s", "config": {"x": 1}, "inputs": {"in": "f"}}
    build(tmp_path / "a", make=make_file(), **values)
    again = build(tmp_path / "a", make=make_file("changed"), **(values | changes))
    assert again.fresh
    assert (again.path / "data.txt").read_text() == "changed"


def test_identity_decides_when_it_is_given(tmp_path: Path) -> None:
    """A path in the config may change as long as what it leads to is the same."""
    build(tmp_path / "a", "s", {"path": "here"}, {}, make_file(), identity={"x": 1})
    assert not build(tmp_path / "a", "s", {"path": "there"}, {}, refuse, identity={"x": 1}).fresh


def test_half_made_output_is_never_taken_for_whole(tmp_path: Path) -> None:
    def dies(part: Path) -> None:
        (part / "data.txt").write_text("hal")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "a", "s", {}, {}, dies)
    assert not (tmp_path / "a").exists()
    with pytest.raises(ValueError, match=r"unfinished \(.*a\.part exists\): run its stage again"):
        open_artifact(tmp_path / "a")


def test_what_is_half_made_is_continued_with_the_same_key_and_dropped_with_another(tmp_path: Path) -> None:
    def dies(part: Path) -> None:
        (part / "shard-0").write_text("done")
        raise KeyboardInterrupt

    seen: list[list[str]] = []

    def looks(part: Path) -> None:
        seen.append(sorted(p.name for p in part.iterdir() if p.name.startswith("shard")))

    for name, config in (("same", {"x": 1}), ("other", {"x": 2})):
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path / name, "s", {"x": 1}, {}, dies)
        build(tmp_path / name, "s", config, {}, looks)
    assert seen == [["shard-0"], []]


def test_a_failed_rebuild_leaves_the_old_output_in_place(tmp_path: Path) -> None:
    build(tmp_path / "a", "s", {"x": 1}, {}, make_file("old"))

    def fails(part: Path) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        build(tmp_path / "a", "s", {"x": 2}, {}, fails)
    assert (tmp_path / "a" / "data.txt").read_text() == "old"


@pytest.mark.parametrize("name", ["a", "a.part"])
def test_a_strangers_directory_is_refused_and_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=rf"{name}: exists and was not made by paydirt"):
        build(tmp_path / "a", "s", {}, {}, refuse)
    assert [p.name for p in (tmp_path / name).iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ['{"name": "my web app"}', "not json", "[]"])
def test_a_strangers_manifest_is_not_ours(tmp_path: Path, text: str) -> None:
    """Other programs write a `manifest.json` too; their directory must not be replaced."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match="not made by paydirt"):
        build(tmp_path / "a", "s", {}, {}, refuse)
    assert (tmp_path / "a" / MANIFEST).read_text() == text


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(ValueError, match="a: exists and was not made by paydirt"):
        build(tmp_path / "a", "s", {}, {}, refuse)


def test_an_empty_directory_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert build(tmp_path / "a", "s", {}, {}, make_file()).fresh


@pytest.mark.parametrize("out", ["/dev/null/x", "{file}/x", "{file}/deeper/x"])
def test_an_unwritable_place_is_named_with_a_remedy(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"cannot write there \(.*\); choose another --out"):
        build(Path(out.format(file=tmp_path / "file")), "s", {}, {}, refuse)


def test_the_manifest_tells_what_made_it_and_what_it_holds(tmp_path: Path) -> None:
    made = build(tmp_path / "a", "s", {"x": 1}, {"in": "f"}, make_file())
    manifest = json.loads((made.path / MANIFEST).read_text())
    assert manifest["stage"] == "s"
    assert manifest["config"] == {"x": 1}
    assert manifest["inputs"] == {"in": "f"}
    assert list(manifest["outputs"]) == ["data.txt"]
    assert {"paydirt", "python", "torch", "transformers", "numpy"} <= manifest["versions"].keys()
    with pytest.raises(ValueError, match="holds the output of stage 's', expected 'score'"):
        open_artifact(made.path, "score")


def test_the_fingerprint_is_of_the_bytes(tmp_path: Path) -> None:
    """Equal for equal outputs whenever and with whatever config they were made; not for others."""
    made = [build(tmp_path / n, "s", {"n": n}, {}, make_file(t)) for n, t in (("a", "x"), ("b", "x"), ("c", "y"))]
    assert made[0].fingerprint == made[1].fingerprint != made[2].fingerprint


def test_another_stages_output_is_replaced_only_when_that_is_asked_for(tmp_path: Path) -> None:
    """A trained model must not go because a selection was given its place."""
    build(tmp_path / "a", "train", {"x": 1}, {}, make_file("a model"))
    for unasked in ("nothing", "same stage"):
        with pytest.raises(ValueError, match=r"a: holds the finished output of stage 'train'.*--force"):
            build(tmp_path / "a", "select", {"x": 1}, {}, refuse, replace=unasked)
    assert (tmp_path / "a" / "data.txt").read_text() == "a model"
    assert build(tmp_path / "a", "select", {"x": 1}, {}, make_file(), replace="anything").fresh


def test_another_configs_output_is_kept_where_a_person_named_the_place(tmp_path: Path) -> None:
    build(tmp_path / "a", "s", {"x": {"y": 1}, "z": 0}, {"in": "f"}, make_file("old"), replace="nothing")
    with pytest.raises(
        ValueError, match=r"output of another config \(x\.y: 1, now 2\); choose another --out, or --force"
    ):
        build(tmp_path / "a", "s", {"x": {"y": 2}, "z": 0}, {"in": "f"}, refuse, replace="nothing")
    assert (tmp_path / "a" / "data.txt").read_text() == "old"
    # The same config with changed inputs is the same work made current.
    assert build(tmp_path / "a", "s", {"x": {"y": 1}, "z": 0}, {"in": "g"}, make_file("new"), replace="nothing").fresh


@pytest.mark.parametrize("path", ["a", "a/data.txt", "a/deeper/x.jsonl"])
@pytest.mark.parametrize("replace", ["same stage", "anything"])
def test_nothing_replaces_what_it_is_made_of(tmp_path: Path, path: str, replace: str) -> None:
    build(tmp_path / "a", "s", {"x": 1}, {}, make_file("old"))
    with pytest.raises(ValueError, match=r"holds what this is made of .* and would be deleted; choose another --out"):
        build(tmp_path / "a", "s", {"from": [{"p": str(tmp_path / path)}]}, {}, refuse, replace=replace)  # type: ignore[arg-type]
    assert (tmp_path / "a" / "data.txt").read_text() == "old"


@pytest.mark.parametrize("moment", ["swap", "first rename", "second rename"])
def test_a_kill_in_the_midst_of_replacing_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    build(tmp_path / "a", "s", {"x": 1}, {}, make_file("old"))
    rename, left = os.rename, [{"swap": 0, "first rename": 0, "second rename": 1}[moment]]

    def dying(*arguments: Any) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        rename(*arguments)

    with monkeypatch.context() as patch:
        if moment != "swap":  # a system that cannot swap two names
            patch.setattr(files, "_swap", lambda one, other: False)
        patch.setattr(os, "rename", dying)
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path / "a", "s", {"x": 2}, {}, make_file("new"))
    made = build(tmp_path / "a", "s", {"x": 2}, {}, refuse)  # all was made, so it is not made again
    assert (made.path / "data.txt").read_text() == "new"
    build(tmp_path / "a", "s", {"x": 3}, {}, make_file("newer"))
    assert (made.path / "data.txt").read_text() == "newer"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda path: path.write_text("hell"), "data.txt has 4 bytes instead of 5"),
        (lambda path: path.unlink(), "data.txt is missing"),
    ],
)
def test_damage_is_named_and_mended(tmp_path: Path, damage: Any, named: str, capsys: pytest.CaptureFixture) -> None:
    made = build(tmp_path / "a", "s", {}, {}, make_file())
    damage(made.path / "data.txt")
    with pytest.raises(ValueError, match=rf"a: damaged: {named}; make it again: paydirt run .*config.yaml .* --force"):
        open_artifact(tmp_path / "a")
    assert build(tmp_path / "a", "s", {}, {}, make_file()).fresh
    assert named in " ".join(capsys.readouterr().err.split())
    assert (open_artifact(tmp_path / "a").path / "data.txt").read_text() == "hello"


def test_changed_contents_of_the_same_size_are_found_by_verifying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (build(tmp_path / "a", "s", {}, {}, make_file()).path / "data.txt").write_text("jelly")
    open_artifact(tmp_path / "a")
    monkeypatch.setenv("PAYDIRT_VERIFY", "1")
    with pytest.raises(ValueError, match=r"data.txt has other contents than were written; make it again"):
        open_artifact(tmp_path / "a")
    assert build(tmp_path / "a", "s", {}, {}, make_file()).fresh


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"stage": 1}', '{"stage": "s", "key": "k", "outputs": []}', "[" * 99999]
)
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    made = build(tmp_path / "a", "s", {}, {}, make_file())
    (made.path / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=r"manifest.json is not one of paydirt's; make it again"):
        open_artifact(tmp_path / "a")
