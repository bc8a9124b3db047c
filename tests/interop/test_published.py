"""Published tensors become scores and stores, keyed by id; pickles and wrong counts are refused."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.data import pool_records, write_jsonl

from paydirt.gradients.influence import score_stores
from paydirt.gradients.store import Store
from paydirt.interop.gradient_folders import GradientsStage, import_gradients
from paydirt.interop.published import read_tensor
from paydirt.selection.scores import Scores

SOURCES = ("sums", "chat")


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Two sources and, beside them, the score of each example: its number in the source's file."""
    for source in SOURCES:
        rows = [r for r in pool_records() if r["source"] == source]
        write_jsonl(tmp_path / f"{source}.jsonl", rows)
        torch.save(torch.arange(len(rows), dtype=torch.float32), tmp_path / f"{source}_influence_score.pt")
    return tmp_path


def pools(root: Path) -> list[Any]:
    return [part for s in SOURCES for part in ("--pool", f"{s}={root / s}.jsonl")]


def test_scores_are_selected_by(paydirt: Any, published: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    code, _, said = paydirt("import-scores", published, *pools(published), "--task", "bbh", "--out", out)
    assert code == 0, said
    scores = Scores(out)
    assert scores.reduce()[0].tolist() == [*range(20), *range(20)]
    code, _, said = paydirt("select", out, "--count", 2, "--out", tmp_path / "selection")
    assert code == 0, said
    ids = json.loads((tmp_path / "selection" / "selection.json").read_text())["ids"]
    last = {s: [r["id"] for r in pool_records() if r["source"] == s][-1] for s in SOURCES}
    assert set(ids) == set(last.values())


def test_a_column_a_subtask(paydirt: Any, published: Path, tmp_path: Path) -> None:
    for source in SOURCES:
        torch.save(torch.rand(20, 3), published / f"{source}_bm25_score.pt")
    code, _, said = paydirt("import-scores", published, *pools(published), "--out", tmp_path / "scores")
    assert code == 2
    assert "or give --kind" in said
    command = ["import-scores", published, *pools(published), "--kind", "bm25", "--out", tmp_path / "scores"]
    assert paydirt(*command)[0] == 0
    assert len(Scores(tmp_path / "scores").columns) == 3


def test_wrong_counts_are_refused(paydirt: Any, published: Path, tmp_path: Path) -> None:
    torch.save(torch.zeros(19), published / "chat_influence_score.pt")
    code, _, said = paydirt("import-scores", published, *pools(published), "--out", tmp_path / "scores")
    assert code == 2
    assert "holds 19 rows, the pool 20 examples of 'chat'" in said


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


def test_pickles_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(Evil(), tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="not a file of plain tensors"):
        read_tensor(tmp_path / "evil.pt")
    assert "run" not in capsys.readouterr().out
    torch.save({"a": torch.zeros(3)}, tmp_path / "dict.pt")
    with pytest.raises(ValueError, match="expected one float tensor"):
        read_tensor(tmp_path / "dict.pt")


CCDS = {"bm25_score_100": "bm25", "ppl_score_epoch25": "ppl", "embedding_scores": "embedding"}


@pytest.mark.parametrize("kind", ["<f8", ">f8", "<f4", "<f2"])
def test_arrays_of_any_float_are_read_as_numpy_has_them(tmp_path: Path, kind: str) -> None:
    for array in (np.arange(6.0).astype(kind), np.asfortranarray(np.arange(6.0).reshape(2, 3).astype(kind))):
        torch.save(array, tmp_path / "x.pt")
        assert read_tensor(tmp_path / "x.pt").tolist() == array.tolist()


@pytest.mark.parametrize("name", CCDS)
@pytest.mark.parametrize("legacy", [False, True])
def test_one_numpy_array_a_target(paydirt: Any, published: Path, tmp_path: Path, name: str, legacy: bool) -> None:
    """What CCDS writes: a pickled numpy array over all sources, in the order of the train files."""
    for path in published.glob("*.pt"):
        path.unlink()
    place = published / f"mmlu_{name}.pt"
    torch.save(np.arange(40, dtype=np.float64)[::-1], place, _use_new_zipfile_serialization=not legacy)
    for source in (published, place):
        out = tmp_path / f"scores-{source.name}"
        code, _, said = paydirt("import-scores", source, *pools(published), "--task", "mmlu", "--out", out)
        assert code == 0, said
        scores = Scores(out)
        assert scores.reduce()[0].tolist() == list(range(39, -1, -1))
        assert scores.sources.tolist() == ["sums"] * 20 + ["chat"] * 20
    torch.save(np.arange(39.0), place)
    code, _, said = paydirt("import-scores", place, *pools(published), "--out", tmp_path / "o")
    assert code == 2
    assert "holds 39 rows, the pool 40 examples in all" in said


class EvilArray(np.ndarray):
    def __reduce__(self) -> Any:
        return (print, ("run",))


@pytest.mark.parametrize(
    "value",
    [
        np.array(["a", "b"], dtype=object),
        np.array([Evil()], dtype=object),
        np.array([1, 2]),
        np.array(["text"]),
        np.zeros(3, dtype=[("a", "f4")]),
        np.zeros(3, dtype="complex128"),
        np.float64([1.0, np.nan]),
        np.zeros(3).view(EvilArray),
        np.float64(3.0),
        [1.0, 2.0],
        torch.arange(3),
        torch.zeros(2, 2, 2),
        torch.zeros(3, 0),
        torch.zeros(3, device="meta"),
        torch.eye(3).to_sparse(),
        torch.tensor([0.0, float("nan")]),
        torch.tensor([[0.0, 1.0], [float("inf"), 0.0]]),
    ],
    ids=lambda v: f"{type(v).__name__}-{getattr(v, 'dtype', '')}-{tuple(getattr(v, 'shape', ()))}",
)
def test_what_is_not_plain_numbers_is_refused(value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt: "):
        read_tensor(tmp_path / "x.pt")
    assert "run" not in capsys.readouterr().out


def refused(text: bytes, path: Path) -> bool:
    """Whether a file of these bytes is refused by name; any other failure fails the test."""
    path.write_bytes(text)
    try:
        read_tensor(path)
    except ValueError as error:
        return path.name in str(error)
    return False


@pytest.mark.parametrize("legacy", [False, True])
def test_cut_and_flipped_files_are_clean_errors(tmp_path: Path, legacy: bool) -> None:
    """Sixty lengths, and 300 damaged bytes: a tensor or a ValueError that names the file, never anything else."""
    torch.save(np.arange(8.0), tmp_path / "x.pt", _use_new_zipfile_serialization=not legacy)
    whole = (tmp_path / "x.pt").read_bytes()
    draw = random.Random(3)
    damaged = [whole[:n] for n in range(0, len(whole), max(1, len(whole) // 60))]
    for _ in range(300):
        bytes_ = bytearray(whole)
        bytes_[draw.randrange(len(bytes_))] = draw.randrange(256)
        damaged.append(bytes(bytes_))
    failed = [text for text in damaged if refused(text, tmp_path / "y.pt")]
    assert len(failed) >= 60
    for odd in (tmp_path, tmp_path / "gone.pt"):
        with pytest.raises(ValueError, match="not a file of plain tensors"):
            read_tensor(odd)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.full((20, 4), float("nan")), r"all_orig\.pt: row 0 \(from 0\) is not finite"),
        (torch.cat([torch.ones(17, 4), torch.full((3, 4), float("inf"))]), "row 17"),
        (torch.zeros(20, 0), "has no column"),
        (torch.zeros(20), "for 20 examples"),
    ],
)
def test_gradients_that_are_none_are_refused(
    paydirt: Any, published: Path, tmp_path: Path, tensor: torch.Tensor, message: str
) -> None:
    folder = published / "dim4"
    folder.mkdir()
    torch.save(tensor, folder / "all_orig.pt")
    command = ["import-gradients", folder, "--pool", published / "sums.jsonl", "--checkpoint", "1"]
    code, _, said = paydirt(*command, "--out", tmp_path / "store")
    assert code == 2
    assert re.search(message, said)
    assert not (tmp_path / "store").exists()


def test_gradient_folders_become_stores(paydirt: Any, published: Path, tmp_path: Path) -> None:
    """Imported rows give the cosine that the published matching computes from the same tensors."""
    rows, references = torch.randn(20, 16), torch.randn(4, 16)
    for name, tensor in (("dolly-adam/dim16", rows), ("bbh-sgd/dim16", references)):
        (published / name).mkdir(parents=True)
        torch.save(torch.nn.functional.normalize(tensor), published / name / "all_orig.pt")
    folder = published / "dolly-adam" / "dim16"
    command = ["import-gradients", folder, "--pool", published / "sums.jsonl", "--checkpoint", "105"]
    code, _, said = paydirt(*command, "--dtype", "float32", "--out", tmp_path / "store")
    assert code == 0, said
    store = Store(tmp_path / "store" / "store")
    options = {"checkpoint": "105", "dtype": "float32", "pool": {"files": ["any"]}, "folder": "any"}
    tensors = published / "bbh-sgd/dim16/all_orig.pt"
    made = import_gradients(tensors, list("abcd"), tmp_path / "refs", GradientsStage(**options, direction="sgd"))
    names = ("x", "x", "y", "y")
    found = torch.cat([scores for _, scores in score_stores([store], [Store(made).load()], names, [1.0])])
    cosine = torch.nn.functional.normalize(rows) @ torch.nn.functional.normalize(references).T
    expected = torch.stack([cosine[:, :2].mean(1), cosine[:, 2:].mean(1)]).amax(0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert store.tensors(0)[0][0] == next(r["id"] for r in pool_records() if r["source"] == "sums")
    with pytest.raises(ValueError, match="for 3 examples"):
        import_gradients(folder / "all_orig.pt", list("abc"), tmp_path / "bad", GradientsStage(**options))
