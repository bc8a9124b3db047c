"""Near neighbours among sets of hashed shingles, by MinHash and banding from datasketch.

A thin layer: it hands our hashes over, shares one set of permutations, chooses the bands, and names the remedy where
datasketch is missing. Candidates are what the bands give; whoever asks checks them on the sets themselves, so nothing is
wrongly found. Two sets of similarity s share one of b bands of r rows with probability 1 - (1 - s^r)^b (Leskovec et al.,
Mining of Massive Datasets, 3.4): of all r the largest is taken that misses a pair at the threshold with at most `MISS`.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from paydirt.data.curate.shingles import Hashes

PERMUTATIONS = 128
MISS = 1e-3
LOWEST = 0.06  # below it 128 permutations cannot promise MISS
REMEDY = "near-duplicates are found with datasketch, which is not installed: pip install 'paydirt-llm[dedup]'"


def miss(similarity: float, bands: int, rows: int) -> float:
    """Probability that two sets of this similarity share none of the bands."""
    return (1 - similarity**rows) ** bands


def banding(threshold: float) -> tuple[int, int]:
    """(bands, rows in each): the fewest candidates among those that miss a pair at `threshold` with at most MISS.

    ValueError for thresholds that no banding of 128 permutations serves.
    """
    if not LOWEST <= threshold <= 1:
        raise ValueError(
            f"similarity {threshold:g}: near-duplicates are looked for from {LOWEST} to 1; give one of those"
        )
    rows = next(r for r in range(16, 0, -1) if miss(threshold, PERMUTATIONS // r, r) <= MISS)
    return PERMUTATIONS // rows, rows


class NearIndex:
    """Sets by number; `candidates` gives those that may be as similar as `threshold`."""

    def __init__(self, threshold: float) -> None:
        if importlib.util.find_spec("datasketch") is None:
            raise ValueError(REMEDY)
        from datasketch import MinHash, MinHashLSH

        bands, rows = banding(threshold)
        self.miss = miss(threshold, bands, rows)  # probability that a pair at the threshold is not a candidate
        self._template = MinHash(num_perm=PERMUTATIONS, hashfunc=_low_bits)
        self._bands = MinHashLSH(num_perm=PERMUTATIONS, params=(bands, rows))

    def sketch(self, shingles: Hashes) -> Any:
        """What stands for a set in the bands."""
        sketch = self._template.copy()
        sketch.update_batch(shingles.tolist())
        return sketch

    def add(self, number: int, sketch: Any) -> None:
        self._bands.insert(number, sketch)

    def candidates(self, sketch: Any) -> list[int]:
        """Numbers in order, those of sets that share a band."""
        return sorted(self._bands.query(sketch))


def _low_bits(value: int) -> int:
    """Shingles are hashed already; datasketch's permutations work on 32 bits."""
    return value & 0xFFFFFFFF
