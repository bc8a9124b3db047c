"""Reference: Okapi equals rank_bm25, the other variants equal bm25s, words are those of Python's own split."""

from __future__ import annotations

import gzip
import json
import string
from pathlib import Path

import numpy as np
import pytest
from support.data import record, shared_data, write_jsonl
from support.stages import Tiny

from paydirt.core.config import parse
from paydirt.scorers.bm25 import count_words, words
from paydirt.selection.scores import Scores
from paydirt.stages import ScoreStage, Workspace, score

VARIANTS = {"robertson": "robertson", "lucene": "lucene", "atire": "atire", "bm25l": "bm25l", "bm25+": "bm25+"}


def plain_words(text: str) -> list[str]:
    """What the source documents do (METHODS section 2)."""
    return text.lower().translate(str.maketrans("", "", string.punctuation)).split()


def run(pool: Path, references: list[dict], tmp_path: Path, **options) -> Scores:
    target = write_jsonl(tmp_path / "references.jsonl", references)
    stage = parse(
        ScoreStage,
        {
            "pool": {"files": [str(pool)]},
            "target": {"name": "t", "references": str(target)},
            "method": {"name": "bm25", **options},
        },
    )
    out = tmp_path / f"scores-{options.get('variant', 'okapi')}"
    return Scores(score(stage, out, Workspace(tmp_path / "shared")).path)


def similarities(scores: Scores) -> np.ndarray:
    return np.concatenate([b for _, b in scores.blocks()])


def documents(pool: Path) -> list[list[str]]:
    opened = gzip.open if pool.suffix == ".gz" else open
    with opened(pool, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [plain_words("\n".join(m["content"] for m in row["messages"])) for row in rows]


def queries(references: list[dict]) -> list[list[str]]:
    """One query a subtask: the prompts of its references, joined."""
    groups: dict[str, list[str]] = {}
    for r in references:
        groups.setdefault(r["subtask"], []).append(r["messages"][0]["content"])
    return [plain_words("\n".join(texts)) for texts in groups.values()]


def synthetic(tmp_path: Path, n: int = 300) -> tuple[Path, list[dict]]:
    """Zipf-like text: common words in more than half of the documents (negative idf), words no document has."""
    draw = np.random.default_rng(0)
    vocabulary = np.asarray([f"w{i}" for i in range(400)])
    share = 1 / np.arange(1, 401) ** 1.1

    def text(size: int) -> str:
        return " ".join(draw.choice(vocabulary, size, p=share / share.sum()))

    pool = [record(f"p{i}", text(int(draw.integers(3, 80))), text(int(draw.integers(1, 40)))) for i in range(n)]
    references = [
        record(f"r{i}", text(60) + " unseen words here unseen", "answer", subtask="ab"[i % 2]) for i in range(5)
    ]
    return write_jsonl(tmp_path / "pool.jsonl", pool), references


def real(tmp_path: Path) -> tuple[Path, list[dict]]:
    """2,000 documents of the real pool, and the real shots of six BBH tasks."""
    with gzip.open(shared_data() / "train" / "flan_v2_p3.jsonl.gz", "rt", encoding="utf-8") as lines:
        pool = [json.loads(line) for line, _ in zip(lines, range(2000))]
    tasks = json.loads((shared_data() / "eval" / "bbh" / "bbh-three-shot.json").read_text(encoding="utf-8"))
    references = [
        record(f"{task}-{i}", shot, "x", subtask=task)
        for task, text in list(tasks.items())[:6]
        for i, shot in enumerate(text.split("\n\n")[-3:])
    ]
    return write_jsonl(tmp_path / "pool.jsonl", pool), references


@pytest.mark.parametrize("corpus", [synthetic, real])
def test_okapi_equals_rank_bm25(corpus, tmp_path: Path) -> None:
    rank_bm25 = pytest.importorskip("rank_bm25")
    pool, references = corpus(tmp_path)
    scores = run(pool, references, tmp_path)
    index = rank_bm25.BM25Okapi(documents(pool))
    expected = np.stack([index.get_scores(q) for q in queries(references)], axis=1)
    # Stored as float32: 1e-5 of the value's own size.
    np.testing.assert_allclose(similarities(scores), expected, rtol=1e-5, atol=1e-5)
    total, _ = scores.reduce()
    np.testing.assert_allclose(total, expected.mean(axis=1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{"k1": 0.9, "b": 0.4}, {"b": 0.0}, {"b": 1.0, "epsilon": 0.0}])
def test_okapi_parameters_mean_what_they_mean_in_rank_bm25(tmp_path: Path, options: dict) -> None:
    rank_bm25 = pytest.importorskip("rank_bm25")
    pool, references = synthetic(tmp_path)
    index = rank_bm25.BM25Okapi(documents(pool), **options)
    expected = np.stack([index.get_scores(q) for q in queries(references)], axis=1)
    np.testing.assert_allclose(similarities(run(pool, references, tmp_path, **options)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("corpus", [synthetic, real])
def test_variants_equal_bm25s(corpus, variant: str, tmp_path: Path) -> None:
    bm25s = pytest.importorskip("bm25s")
    pool, references = corpus(tmp_path)
    scores = run(pool, references, tmp_path, variant=variant)
    index = bm25s.BM25(method=VARIANTS[variant], k1=1.5, b=0.75, delta=0.5)
    index.index(documents(pool), show_progress=False)
    expected = np.stack([index.get_scores(q) for q in queries(references)], axis=1)
    np.testing.assert_allclose(similarities(scores), expected, rtol=2e-4, atol=2e-4)  # bm25s works in float32


SPACES = [chr(c) for c in range(0x3100) if chr(c).isspace()]


@pytest.mark.parametrize("space", SPACES, ids=lambda s: f"U+{ord(s):04X}")
def test_documents_are_split_as_queries_are(space: str) -> None:
    """Whatever Python calls white space: a word must not depend on the library that finds it."""
    text = f"one{space}two{space}{space}Two{space}"
    assert words(text) == plain_words(text) == ["one", "two", "two"]
    tf, lengths, frequency = count_words([text, "one"], {"one": 0, "two": 1})
    assert lengths.tolist() == [3, 1]
    assert tf.toarray().tolist() == [[1, 2], [1, 0]]
    assert frequency == {"one": 2, "two": 1}


def published_words(text: str) -> list[str]:
    """What the published script does to documents and queries, in its order of steps."""
    text = text.lower().replace("\n", " ")
    return text.translate(str.maketrans("", "", string.punctuation)).split(" ")


def test_the_published_words_queries_and_documents(tmp_path: Path) -> None:
    """Empty words count, tabs do not split, a query holds the answers, a document is the first message alone."""
    rank_bm25 = pytest.importorskip("rank_bm25")
    texts = ["a  b\tc", "", " a", "A - b\n\nc ", "b b  b", "c d", "?!", "e", "f g", "g\u00a0h"]
    pool = [record(f"p{i}", text or " ", f"answer {i}") for i, text in enumerate(texts)]
    references = [
        record("r0", "a -- b", "c  c", subtask="x"),
        record("r1", "b\tc", "g\u00a0h e", subtask="x"),
        record("r2", "e", "f", subtask="y"),
    ]
    path = write_jsonl(tmp_path / "pool.jsonl", pool)
    scores = run(path, references, tmp_path, words="spaces", query="full", document="first")
    index = rank_bm25.BM25Okapi([published_words(text or " ") for text in texts])
    asked = ["a -- b\nc  c\nb\tc\ng\u00a0h e", "e\nf"]
    expected = np.stack([index.get_scores(published_words(q)) for q in asked], axis=1)
    np.testing.assert_allclose(similarities(scores), expected, rtol=1e-5, atol=1e-5)
    plain = run(path, references, tmp_path / "plain")
    assert not np.allclose(similarities(plain), expected)


@pytest.mark.parametrize("text", ["", " ", "  ", "a", " a ", "a  b", "\n", "a\tb", "- -"])
def test_documents_are_split_as_published(text: str) -> None:
    expected = published_words(text)
    assert words(text, "spaces") == expected
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(expected))}
    tf, lengths, frequency = count_words([text], vocabulary, "spaces")
    assert lengths.tolist() == [len(expected)]
    assert dict(zip(vocabulary, tf.toarray()[0].tolist())) == {w: expected.count(w) for w in vocabulary}
    assert frequency == dict.fromkeys(vocabulary, 1)


def test_empty_texts_and_punctuation_count_no_words() -> None:
    tf, lengths, frequency = count_words(["", "  ", "?!...", "a-b it's", "ÄÖ Straße"], {"ab": 0, "its": 1, "äö": 2})
    assert lengths.tolist() == [0, 0, 0, 2, 2]
    assert tf.toarray().tolist() == [[0, 0, 0]] * 3 + [[1, 1, 0], [0, 0, 1]]
    assert frequency == {"ab": 1, "its": 1, "äö": 1, "straße": 1}


@pytest.mark.parametrize("document", ["full", "prompt", "first"])
def test_the_indexed_text_is_the_one_named(tiny: Tiny, tmp_path: Path, document: str) -> None:
    """`first` is the published code's, which indexes a system message where there is one."""
    rank_bm25 = pytest.importorskip("rank_bm25")
    rows = [json.loads(line) for line in (tiny.root / "pool.jsonl").read_text().splitlines()]
    keep = {
        "full": lambda messages: messages,
        "prompt": lambda messages: [m for m in messages if m["role"] == "user"],
        "first": lambda messages: messages[:1],
    }[document]
    texts = [plain_words("\n".join(m["content"] for m in keep(row["messages"]))) for row in rows]
    references = [json.loads(line) for line in (tiny.root / "references.jsonl").read_text().splitlines()]
    index = rank_bm25.BM25Okapi(texts)
    expected = np.stack([index.get_scores(q) for q in queries(references)], axis=1)
    scores = run(tiny.root / "pool.jsonl", references, tmp_path, document=document)
    np.testing.assert_allclose(similarities(scores), expected, rtol=1e-5, atol=1e-5)
