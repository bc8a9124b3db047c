"""What lm-eval needs beside itself, kept from breaking on a machine without network, and announced where it is degraded.

lm-eval's IFEval imports nltk and downloads `punkt_tab` (how English sentences end) at import. We never download: where
the data is missing a small stand-in of ours in the same format takes its place, which knows common abbreviations but has
no learnt collocations. langdetect draws at random; it gets a fixed seed, so that verdicts repeat.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

from paydirt.core.artifacts import cache_root, write_atomic

REMEDY = "pip install 'paydirt-llm[eval]'"
PUNKT = "tokenizers/punkt_tab/english"
# How an abbreviation looks to Punkt: lower case, without its last full stop.
ABBREVIATIONS = """
mr mrs ms dr prof sr jr st vs etc inc ltd co corp vol al ca cf dept est gen gov hon lt maj col capt sen rep rev jan feb
aug sep sept oct nov dec tues wed fri e.g i.e a.m p.m u.s u.k u.n u.s.a ph.d b.a m.a d.c a.d b.c b c d e f g h j k l m n
p r s t v w
"""
DEGRADED_PUNKT = (
    "nltk's punkt_tab is not on this machine: sentences are counted with a small list of abbreviations "
    "(for the full data: python -m nltk.downloader punkt_tab)"
)


def require_lm_eval() -> None:
    """ValueError with the remedy where lm-eval is not installed; its notices are silenced, our own are shown."""
    if importlib.util.find_spec("lm_eval") is None:
        raise ValueError(f"standard benchmarks are graded by lm-eval, which is not installed: {REMEDY}")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    import datasets
    import lm_eval.api.task

    datasets.disable_progress_bars()
    lm_eval.api.task.tqdm = lambda items, **_: items  # a bar for each of 57 subjects drowns the one that matters


def prepare_ifeval() -> list[str]:
    """Make lm-eval's IFEval importable without network; returns what is degraded, in words. ValueError names a lack."""
    for module in ("nltk", "langdetect", "immutabledict"):
        if importlib.util.find_spec(module) is None:
            raise ValueError(f"lm-eval's IFEval needs {module}, which is not installed: {REMEDY}")
    import langdetect  # type: ignore[import-untyped]
    import nltk  # type: ignore[import-untyped]

    langdetect.DetectorFactory.seed = 0
    try:
        nltk.data.find(PUNKT)
    except LookupError:
        nltk.data.path.append(str(_stand_in()))
        return [DEGRADED_PUNKT]
    # The stand-in is found again by later calls of the same process; it stays degraded.
    return [DEGRADED_PUNKT] if str(_place()) in map(str, nltk.data.path) else []


def _place() -> Path:
    return cache_root() / "nltk-stand-in"


def _stand_in() -> Path:
    """A folder with `tokenizers/punkt_tab/english`: abbreviations of ours, everything learnt left empty."""
    folder = _place() / PUNKT
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"abbrev_types.txt": "\n".join(ABBREVIATIONS.split()) + "\n"}
    for name in ("abbrev_types.txt", "collocations.tab", "sent_starters.txt", "ortho_context.tab"):
        write_atomic(folder / name, texts.get(name, ""))
    return _place()
