"""Law: whatever a YAML file holds, reading it gives plain values or an error that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from paydirt.cli.options import with_settings
from paydirt.core.config import dump_yaml, read_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 5000, "nested too deeply"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: 2026-13-45", "does not fit its YAML tag"),
        ("a: 2026-11-21", "a: '2026-11-21' is read as a date; put it in quotes"),
        ("a: {b: 2026-11-21 10:00:00}", r"a\.b: .* is read as a datetime"),
        ("a: !!int words", "does not fit its YAML tag"),
        ("a: !!float words", "does not fit its YAML tag"),
        ("a: !!bool words", "does not fit its YAML tag"),
        ("a: !!timestamp words", "not valid YAML|does not fit its YAML tag"),
        ("a: !!binary '***'", "x.yaml"),
        ("a: !!binary aGk=", "read as a bytes"),
        ("a: !!set {b, c}", "read as a set"),
        ("a: !!python/object:os.system x", "x.yaml:1: not valid YAML"),
        ("a: [1, !unknown x]", "x.yaml:1: not valid YAML"),
        ("1: a", "the key 1 is of type int"),
        ("a: {true: 1}", "a: the key True is of type bool"),
        ("? [a]\n: b", "x.yaml"),
        ("a: \x00", "x.yaml"),
        ("a: &a [*a]", "aliases"),
        (BOMB, "aliases"),
        ("- a", "expected a mapping"),
        ("", "expected a mapping"),
    ],
    ids=lambda v: str(v)[:24],
)
def test_what_is_no_config_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as found:
        read_yaml(path)
    assert "x.yaml" in str(found.value)


def test_aliases_of_a_recipe_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: &l {r: 8}\nb: [*l, *l]\nc: null\nd: 1.5\ne: yes\n")
    assert read_yaml(path) == {"a": {"r": 8}, "b": [{"r": 8}, {"r": 8}], "c": None, "d": 1.5, "e": True}
    path.write_text(dump_yaml({"a": "2026-11-21"}))
    assert read_yaml(path) == {"a": "2026-11-21"}, "what we write we can read"


@pytest.mark.parametrize("value", ["2026-13-45", "!!int words", "[" * 5000])
def test_a_setting_is_read_the_same_way(value: str) -> None:
    with pytest.raises(ValueError, match=r"--set a=.*does not fit its YAML tag"):
        with_settings({}, [f"a={value}"])


@pytest.mark.parametrize("stage", ["[score]", "{a: b}", "3", "null", "scor"])
def test_a_stage_is_a_name(paydirt, tmp_path: Path, stage: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"stage: {stage}\n")
    code, _, said = paydirt("run", path, "--out", tmp_path / "o")
    assert code == 2
    assert "stage" in said
