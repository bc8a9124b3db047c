"""Versions of the libraries whose numbers enter results: in every manifest, and in the keys of the stages that use them."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Sequence

from paydirt import __version__

RECORDED = (
    *("torch", "transformers", "tokenizers", "peft", "accelerate", "datasets", "sentence-transformers", "lm-eval"),
    *("numpy", "scipy", "scikit-learn", "faiss-cpu"),
)


def versions() -> dict[str, str]:
    """What ran: paydirt, Python and the libraries whose numbers enter results."""
    return {"paydirt": __version__, "python": platform.python_version(), **library_versions(RECORDED)}


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of those libraries that are installed."""
    found = {name: _version(name) for name in sorted(set(names))}
    return {name: version for name, version in found.items() if version}


@functools.cache
def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
