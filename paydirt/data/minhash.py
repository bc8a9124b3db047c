"""Near neighbours among sets of hashed shingles, by MinHash and banding from datasketch.

A thin layer: it hands our hashes over, shares one set of permutations, and names the remedy where datasketch is missing.
Candidates are what the bands give; whoever asks checks them on the sets themselves, so nothing is wrongly found, and a
pair at the threshold is missed with the probability that datasketch's choice of bands leaves.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from paydirt.data.shingles import Hashes

PERMUTATIONS = 128
HIGHEST = 0.95
REMEDY = "near-duplicates are found with datasketch, which is not installed: pip install 'paydirt-llm[dedup]'"


class NearIndex:
    """Sets by number; `candidates` gives those that may be as similar as `threshold`."""

    def __init__(self, threshold: float) -> None:
        if importlib.util.find_spec("datasketch") is None:
            raise ValueError(REMEDY)
        from datasketch import MinHash, MinHashLSH

        self._template = MinHash(num_perm=PERMUTATIONS, hashfunc=_low_bits)
        # Above this datasketch would cut too few bands; the sets themselves are checked anyway.
        self._bands = MinHashLSH(threshold=min(threshold, HIGHEST), num_perm=PERMUTATIONS)

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
