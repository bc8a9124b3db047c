"""What a forward pass of transformers makes the host wait for on an accelerator, and need not.

Without an attention mask, transformers looks whether positions restart within a row (packed sequences) and reads the answer
from the device, before every batch: the device runs dry meanwhile. Our rows hold one text each.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOOK = "find_packed_sequence_indices"


@contextmanager
def no_packed_rows() -> Iterator[None]:
    """Forward passes of the block are told that no row holds several texts; nothing happens where transformers does not
    look."""
    from transformers import masking_utils

    look: Any = getattr(masking_utils, LOOK, None)
    if look is None:
        yield
        return
    setattr(masking_utils, LOOK, lambda *args, **kwargs: None)
    try:
        yield
    finally:
        setattr(masking_utils, LOOK, look)
