"""Published tensors become scores and stores, keyed by id; pickles and wrong counts are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.data import pool_records, write_jsonl

from paydirt.gradients.influence import score_stores
from paydirt.gradients.store import Store
from paydirt.interop.published import import_gradients, read_tensor
from paydirt.scores import Scores

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
    store = Store(tmp_path / "store")
    made = import_gradients(
        published / "bbh-sgd/dim16", list("abcd"), tmp_path / "refs", checkpoint="105", direction="sgd", dtype="float32"
    )
    names = ("x", "x", "y", "y")
    found = torch.cat([scores for _, scores in score_stores([store], [Store(made).load()], names, [1.0])])
    cosine = torch.nn.functional.normalize(rows) @ torch.nn.functional.normalize(references).T
    expected = torch.stack([cosine[:, :2].mean(1), cosine[:, 2:].mean(1)]).amax(0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert store.tensors(0)[0][0] == next(r["id"] for r in pool_records() if r["source"] == "sums")
    with pytest.raises(ValueError, match="for 3 examples"):
        import_gradients(folder, list("abc"), tmp_path / "bad", checkpoint="1", direction="adam")
