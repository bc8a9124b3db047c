"""How alike selections are: shared ids at several fractions, by source, and rank correlation of whole rankings.

In: rankings, best first, as sequences of example ids by method; everything is keyed by id, so rankings may come from
different runs and orders. The published figure 6 counts the share of one selection that is in the other, in percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paydirt.analysis.results import Floats, Ints

FRACTIONS = (0.025, 0.1, 0.5)


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two selections of `count` examples: `shared` of them in both, `by_chance` expected of random selections."""

    method_a: str
    method_b: str
    fraction: float
    count: int
    shared: int
    by_chance: float
    source: str = ""

    @property
    def percent(self) -> float:
        """Shared examples as a percentage of the selection; NaN for an empty one."""
        return 100.0 * self.shared / self.count if self.count else float("nan")


def _ranks(rankings: Mapping[str, Sequence[str]]) -> tuple[dict[str, Ints], pa.Array]:
    """Per method, the rank of every known id ([I], -1 where it does not rank it), and the ids."""
    if len(rankings) < 2:
        raise ValueError(f"overlap needs at least two rankings, got {len(rankings)}")
    arrays = {name: pa.array(ids, pa.string()) for name, ids in rankings.items()}
    known = pc.unique(pa.chunked_array(list(arrays.values())))
    ranks = {}
    for name, ids in arrays.items():
        where = pc.index_in(ids, known).to_numpy(zero_copy_only=False)
        rank = np.full(len(known), -1, dtype=np.int64)
        rank[where] = np.arange(len(ids))
        if (rank >= 0).sum() != len(ids):
            twice = next(v["values"] for v in pc.value_counts(ids).to_pylist() if v["counts"] > 1)
            raise ValueError(f"ranking {name!r} holds id {twice!r} more than once")
        ranks[name] = rank
    return ranks, known


def overlaps(
    rankings: Mapping[str, Sequence[str]],
    fractions: Sequence[float] = FRACTIONS,
    *,
    pool_size: int | None = None,
    sources: Mapping[str, str] | None = None,
) -> list[Overlap]:
    """Every pair at every fraction of the pool (default: the longest ranking); with `sources`, each source as well.

    A ranking shorter than a fraction asks for is an error, because the overlap would look smaller than it is.
    """
    ranks, known = _ranks(rankings)
    size = pool_size or max(len(ids) for ids in rankings.values())
    groups: dict[str, np.ndarray] = {"": np.ones(len(known), dtype=bool)}
    if sources is not None:
        origin = np.array([sources.get(i, "unknown") for i in known.to_pylist()], dtype=object)
        groups |= {str(s): origin == s for s in dict.fromkeys(origin)}
    found = []
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise ValueError(f"fractions lie in (0, 1], not {fraction}")
        count = max(1, round(fraction * size))
        short = [name for name, ids in rankings.items() if len(ids) < count]
        if short:
            raise ValueError(
                f"ranking {short[0]!r} has {len(rankings[short[0]])} ids, {fraction:g} of {size} is {count}"
            )
        chosen = {name: (rank >= 0) & (rank < count) for name, rank in ranks.items()}
        for a, b in combinations(rankings, 2):
            for source, inside in groups.items():
                mine = chosen[a] & inside
                both = int((mine & chosen[b]).sum())
                found.append(Overlap(a, b, fraction, int(mine.sum()), both, 100.0 * fraction, source))
    return found


def overlaps_from_table(table: pa.Table) -> list[Overlap]:
    """Overlaps from a table of percents (percent_selected, method_a, method_b, overlap_percent), counts per 10,000."""
    needed = {"percent_selected", "method_a", "method_b", "overlap_percent"}
    if missing := sorted(needed - set(table.column_names)):
        raise ValueError(
            f"an overlap table needs a column {missing[0]!r}; this one has {', '.join(table.column_names)}"
        )
    return [
        Overlap(r["method_a"], r["method_b"], r["percent_selected"] / 100, 10_000, round(100 * r["overlap_percent"]),
                r["percent_selected"])
        for r in table.to_pylist()
    ]  # fmt: skip


def overlap_table(found: Sequence[Overlap]) -> pa.Table:
    """The inverse: a row per pair, fraction and source, for Parquet."""
    return pa.Table.from_pylist(
        [{"percent_selected": 100 * o.fraction, "method_a": o.method_a, "method_b": o.method_b, "source": o.source,
          "overlap_percent": o.percent, "by_chance_percent": o.by_chance, "selected": o.count, "shared": o.shared}
         for o in found]
    )  # fmt: skip


def rank_correlation(rankings: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], float]:
    """Spearman's rho between each pair over the ids both rank (equals `scipy.stats.spearmanr`); NaN for fewer than 3."""
    ranks, _ = _ranks(rankings)
    return {(a, b): _spearman(ranks[a], ranks[b]) for a, b in combinations(rankings, 2)}


def _spearman(a: Ints, b: Ints) -> float:
    both = (a >= 0) & (b >= 0)
    if both.sum() < 3:
        return float("nan")
    # Ranks without ties; ranking again within the common ids keeps them 0..n-1.
    x, y = (np.argsort(np.argsort(side[both])).astype(np.float64) for side in (a, b))
    return float(np.corrcoef(x, y)[0, 1])


def source_mix(ranking: Sequence[str], sources: Mapping[str, str], fraction: float = 1.0) -> dict[str, float]:
    """Share of each source in the best `fraction` of a ranking; the pool's own mix at 1."""
    top = ranking[: max(1, round(fraction * len(ranking)))]
    names = [sources.get(i, "unknown") for i in top]
    return {s: names.count(s) / len(names) for s in sorted(set(names))}


def matrix(found: Sequence[Overlap], fraction: float) -> tuple[list[str], Floats]:
    """Symmetric matrix of percents at a fraction, 100 on the diagonal, for a heat map."""
    here = [o for o in found if abs(o.fraction - fraction) < 1e-9 and not o.source]
    names = list(dict.fromkeys([n for o in here for n in (o.method_a, o.method_b)]))
    table = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(table, 100.0)
    for o in here:
        i, j = names.index(o.method_a), names.index(o.method_b)
        table[i, j] = table[j, i] = o.percent
    return names, table
