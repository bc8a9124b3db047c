"""DSIR against its definition, and its draw against drawing in proportion to the weights."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.utils import murmurhash3_32
from support.stages import Tiny

from paydirt.scorers.dsir import gumbel
from paydirt.selection.scores import Scores
from paydirt.stages import Workspace


def definition(pool: list[str], references: list[str], buckets: int) -> list[float]:
    """Hashed unigrams and bigrams; sum of counts x (log p - log q), shares smoothed by 1e-8."""

    def grams(text: str) -> Counter[int]:
        words = re.findall(r"\w+|[^\w\s]+", text.lower())
        terms = words + [" ".join(pair) for pair in itertools.pairwise(words)]
        return Counter(abs(murmurhash3_32(term)) % buckets for term in terms)

    p, q = (sum((grams(t) for t in texts), Counter()) for texts in (references, pool))
    ratio = [np.log(p[b] / p.total() + 1e-8) - np.log(q[b] / q.total() + 1e-8) for b in range(buckets)]
    return [sum(n * ratio[b] for b, n in grams(text).items()) for text in pool]


def test_it_is_the_log_weight_of_hashed_words(tiny: Tiny, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "shared")
    stage = tiny.score_stage("dsir")
    pool, target = workspace.pool(stage.pool), workspace.target(stage.target)
    for buckets in (50, 10_000):
        out = tmp_path / str(buckets)
        scores = Scores(tiny.score({"name": "dsir", "buckets": buckets}, out, workspace).path)
        texts = pool.texts(0, len(pool), "full")
        asked = ["\n".join(m.content for m in e.messages) for e in target.references]
        np.testing.assert_allclose(scores.column(0), definition(texts, asked, buckets), rtol=1e-5, atol=1e-4)


def test_words_of_the_references_rank_first(tiny: Tiny, tmp_path: Path) -> None:
    made = tiny.score("dsir", tmp_path / "a", Workspace(tmp_path / "shared"))
    scores = Scores(made.path)
    value, chat = scores.column(0), scores.sources == "chat"
    assert value[~chat].mean() > value[chat].mean() + 10


def test_the_noise_draws_in_proportion_to_the_weights() -> None:
    """The largest of log-weight + Gumbel noise is i with probability w_i / sum w (Gumbel-max; Yellott 1977)."""
    weights = np.asarray([0.5, 0.3, 0.2])
    wins = np.zeros(3)
    for seed in range(4000):
        wins[np.argmax(np.log(weights) + [gumbel(seed, id) for id in "abc"])] += 1
    np.testing.assert_allclose(wins / wins.sum(), weights, atol=4 * np.sqrt(0.25 / 4000))


def test_a_draw_is_the_weight_and_noise_of_that_seed(tiny: Tiny, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "shared")
    plain = Scores(tiny.score("dsir", tmp_path / "a", workspace).path)
    for seed in (0, 1):
        drawn = Scores(tiny.score({"name": "dsir", "draw_seed": seed}, tmp_path / f"s{seed}", workspace).path)
        noise = [gumbel(seed, id) for id in plain.ids]
        np.testing.assert_allclose(drawn.column(0), plain.column(0) + noise, rtol=1e-5, atol=1e-4)
