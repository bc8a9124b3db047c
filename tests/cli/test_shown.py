"""What verbs show of what they made: numbers of three digits with units, counts whole, no Python."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import data, models
from support.command import call

from paydirt.core.units import lines_of_notes, number

PYTHON = re.compile(
    r"[{}]|\['|\bNone\b|\bTrue\b|\bFalse\b|\b0\.0*[1-9]\d{3,}|[1-9]\d*\.\d{3,}"
)  # and more than three digits
NUMBERS = st.integers(-(10**15), 10**15) | st.floats(allow_nan=False) | st.booleans() | st.none()
VALUES = st.recursive(
    NUMBERS | st.text("abc", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=12) | st.dictionaries(st.text("ab_", min_size=1, max_size=6), inner, max_size=12)
    ),
    max_leaves=30,
)


@pytest.mark.parametrize(
    ("notes", "lines"),
    [
        ({"examples": 103018}, ["examples: 103,018"]),
        ({"predicted_flops": 1722104005.0}, ["predicted: 1.72e+09 FLOPs"]),
        ({"training_flops": 12}, ["training: 12 FLOPs"]),
        ({"missed": 4.891034972122348e-05}, ["missed: 4.89e-05"]),
        ({"seconds": 1.23456}, ["seconds: 1.23"]),
        ({"resumed_from": None, "charges": {}, "names": []}, []),
        ({"charges": {"tuned/a_b": 62361600.0}}, ["charges: tuned/a_b 6.24e+07 FLOPs"]),
        ({"encoding": {"truncated": 0, "kept_whole": True}}, ["encoding: truncated 0, kept_whole yes"]),
        ({"embed": {"cut": {"pool": 1, "references": 2}}}, ["embed: cut (pool 1, references 2)"]),
        ({"ids": list(range(11))}, ["ids: 0, 1, 2, 3, 4, 5, 6, 7, and 3 more"]),
        ({"precision": "fp32"}, ["precision: fp32"]),
    ],
)
def test_notes_in_words(notes: dict[str, Any], lines: list[str]) -> None:
    assert lines_of_notes(notes) == lines


@given(st.dictionaries(st.text("abc_", min_size=1, max_size=8), VALUES, max_size=6))
def test_no_note_is_shown_as_python(notes: dict[str, Any]) -> None:
    """Whatever a stage notes; and each note that says something has its line."""
    lines = lines_of_notes(notes)
    assert not [line for line in lines if PYTHON.search(line)]
    assert len(lines) == sum(value is not None and value not in ({}, [], "") for value in notes.values())


def test_counts_keep_their_digits() -> None:
    assert number(1234567) == "1,234,567"
    assert number(1234567.0, "FLOPs") == "1.23e+06 FLOPs"


def test_what_verbs_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A score that tunes, a selection, a training, a deduplication, an export; and what inspect tells of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAYDIRT_CACHE", str(tmp_path / "cache"))
    data.write_all(tmp_path)
    model = str(models.save_tiny_llama(tmp_path / "model"))
    target = ["--target", "t", "--references", "references.jsonl", "--max-length", "128", "--model", model]
    fine = ["--model", model, "--method", "full", "--max-length", "128", "--batch-size", "8", "--epochs", "1"]
    verbs = [
        ["score", "ppl", "--pool", "pool.jsonl", *target, "--tune-epochs", "1", "--out", "scores"],
        ["select", "scores", "--fraction", "0.2", "--out", "chosen"],
        ["train", "--data", "chosen/selection.jsonl", *fine, "--out", "tuned"],
        ["dedup", "--pool", "pool.jsonl", "--out", "deduplicated"],
        ["export", "chosen", "--out", "exported"],
    ]
    shown = {}
    for verb in verbs:
        code, out, err = call(monkeypatch, capsys, verb)
        assert code == 0, err
        assert PYTHON.search(out) is None, out
        code, told, err = call(monkeypatch, capsys, ["inspect", verb[-1]])
        assert code == 0, err
        assert PYTHON.search(re.sub(r"versions: .*|finished \S+", "", told)) is None, told
        assert "pool " in told or verb[0] == "export", "what became of the records"
        shown[verb[0]] = out
    assert re.search(r"charged: \d\.?\d*e\+\d+ FLOPs", shown["score"])
    assert re.search(r"measured: \d\.?\d*e\+\d+ FLOPs", shown["train"])
    assert "predicted: 6NT " in shown["train"]
