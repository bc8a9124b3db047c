"""The encoded pool on disk: flat memory-mapped arrays, built once for a pool, tokenizer and template.

What enters: a pool and an encoder. What leaves: a `TokenStore`, row by row `Encoded` examples without encoding again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from paydirt.core.artifacts import Artifact, build, cache_root
from paydirt.core.progress import say, track
from paydirt.data.encoding import Encoded, Encoder
from paydirt.data.pool import Pool
from paydirt.data.tally import note_encoding

BLOCK = 4096


class TokenStore:
    """Token ids, masks and lengths of every pool row, memory-mapped.

    `lengths` [N] and `supervised_lengths` [N] are in tokens after truncation.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.path, self.notes = artifact.path, artifact.notes
        self.offsets: np.ndarray = np.load(artifact.path / "offsets.npy", mmap_mode="r")
        self.supervised_lengths: np.ndarray = np.load(artifact.path / "supervised_lengths.npy", mmap_mode="r")
        total = int(self.offsets[-1])
        shape = (total,)
        self._ids = np.memmap(artifact.path / "ids.bin", np.int32, "r", shape=shape) if total else np.zeros(0, np.int32)
        self._mask = np.memmap(artifact.path / "mask.bin", bool, "r", shape=shape) if total else np.zeros(0, bool)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Encoded:
        start, stop = int(self.offsets[row]), int(self.offsets[row + 1])
        return Encoded(np.asarray(self._ids[start:stop]), np.asarray(self._mask[start:stop]))

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def total(self) -> int:
        """Tokens in the whole pool."""
        return int(self.offsets[-1])


class TokenPart(TokenStore):
    """Some rows of a token store, seen as one; `notes` count this part."""

    def __init__(self, whole: TokenStore, rows: np.ndarray) -> None:
        self._whole, self._rows = whole, rows
        self.supervised_lengths = np.asarray(whole.supervised_lengths[rows])
        self._lengths = np.asarray(whole.offsets[rows + 1] - whole.offsets[rows])
        self.notes = {
            "examples": len(rows),
            "tokens": self.total,
            "supervised_tokens": int(self.supervised_lengths.sum(dtype=np.int64)),
            "without_supervised_tokens": int(np.sum(self.supervised_lengths == 0)),
        }

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Encoded:
        return self._whole[int(self._rows[row])]

    @property
    def lengths(self) -> np.ndarray:
        return self._lengths

    @property
    def total(self) -> int:
        return int(self._lengths.sum(dtype=np.int64))


def row_key(pool: Pool) -> str:
    """Hash of the ids in row order: a pool's fingerprint does not depend on order, flat arrays do."""
    digest = hashlib.sha256()
    for start in range(0, len(pool), BLOCK):
        digest.update("\n".join(pool.ids(start, min(start + BLOCK, len(pool)))).encode())
    return digest.hexdigest()[:16]


def token_store(pool: Pool, encoder: Encoder, cache: Path | None = None) -> TokenStore:
    """Encode `pool`, or open what an earlier run encoded."""
    rows = row_key(pool)
    inputs = {"pool": pool.fingerprint, "rows": rows, "encoder": encoder.fingerprint}
    name = f"{pool.fingerprint[:12]}-{rows[:12]}-{encoder.fingerprint[:12]}"

    def make(part: Path) -> dict[str, Any]:
        offsets, supervised, truncated, folded = [0], [], 0, 0
        with open(part / "ids.bin", "wb") as ids_file, open(part / "mask.bin", "wb") as mask_file:
            for start in track(range(0, len(pool), BLOCK), "encoding", BLOCK, len(pool)):
                examples = pool.examples(start, min(start + BLOCK, len(pool)))
                folded += sum(encoder.folds_system and any(m.role == "system" for m in e.messages) for e in examples)
                for encoded in encoder.encode_examples(examples):
                    ids_file.write(encoded.ids.astype(np.int32).tobytes())
                    mask_file.write(encoded.supervised.tobytes())
                    offsets.append(offsets[-1] + len(encoded.ids))
                    supervised.append(encoded.n_supervised)
                    truncated += encoded.truncated
        np.save(part / "offsets.npy", np.asarray(offsets, dtype=np.int64))
        np.save(part / "supervised_lengths.npy", np.asarray(supervised, dtype=np.int32))
        unsupervised = int(np.sum(np.asarray(supervised) == 0))
        if folded:
            say(f"{folded} system turns were put at the head of the user turn: the chat template has no place for them")
        return {
            "examples": len(pool),
            "tokens": offsets[-1],
            "supervised_tokens": int(np.sum(supervised)),
            "truncated": truncated,
            "without_supervised_tokens": unsupervised,
            "system_folded": folded,
        }

    root = cache or cache_root()
    store = TokenStore(build(root / "tokens" / name, "tokens", encoder.config.to_dict(), inputs, make))
    note_encoding(pool.fingerprint, store.notes)
    return store
