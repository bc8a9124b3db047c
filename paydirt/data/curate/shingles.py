"""Texts as sets of hashed word n-grams: what decontamination and near-duplicate removal compare.

A word is what stands between white space once punctuation of any script has become white space and letters are small;
in scripts that write no space between words (Chinese, Japanese, Thai, ...) each character is one. `unlabelled` takes off
what a question wears in one place and not in another: the letters of its options, "Question:", "Answer:". Hashes are
64-bit and the same in every process.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying by it loses nothing modulo 2^64
# First words of the Unicode names of scripts written without spaces between words; some have a width before them.
SPACELESS = ("CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "YI")
# "A." "(b)" "C:" as options are lettered, "2)" where a line starts with it, and the names of a question's parts.
_LETTER = re.compile(r"(?<!\S)[(\[]?[A-Ja-j][)\].:](?!\S)|(?<!\w)[(\[][A-Ja-j][)\]]")
_NUMBER = re.compile(r"^\s*[(\[]?\d{1,2}[)\].:](?!\S)", re.MULTILINE)
_PART = re.compile(r"^\s*(?:question|answer|options|choices|answer choices|q|a)\s*:", re.MULTILINE | re.IGNORECASE)


class _Spaces(dict[int, str | int]):
    """A table for `str.translate`, filled as characters are met."""

    def __missing__(self, code: int) -> str | int:
        character = chr(code)
        if unicodedata.category(character)[0] in "PS":
            self[code] = " "
        else:
            self[code] = f" {character} " if _spaceless(character) else code
        return self[code]


def _spaceless(character: str) -> bool:
    return character > "\u0dff" and unicodedata.name(character, "").startswith(SPACELESS)


_SPACES = _Spaces()


def words(text: str) -> list[str]:
    return text.lower().translate(_SPACES).split()


def unlabelled(text: str) -> str:
    """`text` without the letters or numbers of options and the names of a question's parts."""
    return _PART.sub(" ", _NUMBER.sub(" ", _LETTER.sub(" ", text)))


def dense(found: Sequence[str]) -> bool:
    """Whether most of these words are single characters of a script without spaces, so that a word says less."""
    return 2 * sum(len(word) == 1 and _spaceless(word) for word in found) > len(found)


@lru_cache(maxsize=1 << 20)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")


@lru_cache
def _powers(n: int) -> Hashes:
    with np.errstate(over="ignore"):
        return np.cumprod(np.full(n, BASE, dtype=np.uint64), dtype=np.uint64)


def word_hashes(found: Sequence[str]) -> Hashes:
    """Hash [len(found)] of each word."""
    return np.fromiter((_word_hash(word) for word in found), dtype=np.uint64, count=len(found))


def ngrams(hashes: Hashes, n: int) -> Hashes:
    """Hash [T - n + 1] of each run of n words; empty where there are fewer."""
    if len(hashes) < n:
        return np.zeros(0, dtype=np.uint64)
    with np.errstate(over="ignore"):
        runs = np.lib.stride_tricks.sliding_window_view(hashes, n)
        return (runs * _powers(n)).sum(axis=1, dtype=np.uint64)


def all_ngrams(hashes: Hashes, most: int) -> Iterator[tuple[int, Hashes]]:
    """(n, `ngrams(hashes, n)`) for n from 1 to `most`, each from the one before it."""
    runs = np.zeros(len(hashes) + 1, dtype=np.uint64)
    for n in range(1, min(most, len(hashes)) + 1):
        with np.errstate(over="ignore"):
            runs = runs[:-1] + hashes[n - 1 :] * _powers(most)[n - 1]
        yield n, runs


def shingles(text: str, n: int) -> Hashes:
    """Distinct n-grams of a text, sorted; a text shorter than n words is one shingle of all its words."""
    hashes = word_hashes(words(text))
    return np.unique(ngrams(hashes, min(n, len(hashes)))) if len(hashes) else hashes


def contained(values: Hashes, keys: Hashes) -> npt.NDArray[np.bool_]:
    """Whether each of `values` [n] is among the sorted `keys`: a search each, where `np.isin` would sort them anew."""
    if not len(keys):
        return np.zeros(len(values), dtype=bool)
    return keys[np.minimum(np.searchsorted(keys, values), len(keys) - 1)] == values


def jaccard(a: Hashes, b: Hashes) -> float:
    """Shared over all, of two sorted sets."""
    shared = len(np.intersect1d(a, b, assume_unique=True))
    return shared / max(1, len(a) + len(b) - shared)
