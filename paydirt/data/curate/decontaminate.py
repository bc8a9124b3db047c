"""Find pool examples that hold benchmark items or references, and leave them out: with a report, never silently.

Three tests, all on words without the letters of options (`shingles.unlabelled`). An example *overlaps* an item when they
share a run of 13 words (Brown et al., arXiv 2005.14165, appendix C). An item, or its question alone, that is shorter must
be found whole: from 8 words anywhere, with its options from 4 words anywhere, shorter ones as a prompt of nothing else.
An example *nearly duplicates* an item when the word 5-grams of its prompt, or of the whole, have a Jaccard similarity of
0.8 with the item's; candidates come from MinHash (datasketch), and each is checked on the sets themselves. A run of words
that stands in many items (a task's own boilerplate) proves no leak: alone it is reported as such and does not exclude.
In scripts without spaces a word is a character, and twice as many are asked for.

What enters: a pool and items. What leaves in a directory: `clean/<source>.jsonl`, `matches.jsonl` (one line a match, with
both texts), `report.json`.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from paydirt.core.artifacts import Artifact, Replace, build, fingerprint, open_artifact, write_atomic
from paydirt.core.config import Config
from paydirt.core.types import Example, Item, Target
from paydirt.data.curate.minhash import LOWEST, NearIndex
from paydirt.data.curate.ranges import Range, Spread, here, over_ranges
from paydirt.data.curate.shingles import (
    Hashes,
    all_ngrams,
    contained,
    dense,
    jaccard,
    ngrams,
    shingles,
    unlabelled,
    word_hashes,
    words,
)
from paydirt.data.pool import Pool, PoolConfig
from paydirt.data.subset import rows_without, write_config, write_rows

BLOCK = 512
SHORTEST_PROMPT = 3  # words; of fewer nobody can say where they are from
_OPTION = re.compile(r"^\s*(?:options\s*:|[(\[]?[Aa][)\].:]\s)", re.MULTILINE | re.IGNORECASE)
SHOWN = 2000  # characters of each text in the report
OVERLAP, NEAR, BOILERPLATE = "overlap", "near-duplicate", "boilerplate"


class DecontaminationConfig(Config):
    """What counts as a leak."""

    ngram: int = Field(13, ge=2, description="words that an example and an item must share in a row")
    shortest: int = Field(
        8, ge=1, description="shorter items must be the whole prompt; from here to `ngram` words they must stand whole"
    )
    options: int = Field(4, ge=1, description="words from which a question with its options is looked for anywhere")
    common: int = Field(5, ge=1, description="a run that stands in more items than this is boilerplate, not a leak")
    near: float = Field(
        0.8, ge=LOWEST, le=1, description="Jaccard similarity of word 5-grams that makes a near-duplicate"
    )
    near_ngram: int = Field(5, ge=1)


@dataclass(frozen=True)
class Match:
    """One example and one item that it holds. `shared` is the run of words, or the similarity of near-duplicates."""

    kind: str
    id: str
    source: str
    item: str
    shared: str
    items_with_run: int
    similarity: float
    example_text: str
    item_text: str


class RunIndex:
    """Runs of words of all items: which item each is from, and in how many items it stands."""

    def __init__(self, items: Sequence[Item], config: DecontaminationConfig) -> None:
        self.short: list[str] = []
        self.whole: dict[bytes, tuple[int, int]] = {}  # short prompt: first item with it, and how many have it
        parts: dict[int, list[tuple[Hashes, int]]] = defaultdict(list)
        for number, item in enumerate(items):
            runs, prompts = probes(item, config)
            for n, hashes in runs:
                parts[n].append((hashes, number))
            for prompt in prompts:
                first, count = self.whole.get(prompt, (number, 0))
                self.whole[prompt] = (first, count + 1)
            if not runs and not prompts:
                self.short.append(item.id)
        self.lengths: dict[int, tuple[Hashes, npt.NDArray[np.int64], npt.NDArray[np.int64]]] = {}
        for n, found in sorted(parts.items(), reverse=True):
            runs_of = np.concatenate([hashes for hashes, _ in found])
            owners = np.repeat([number for _, number in found], [len(hashes) for hashes, _ in found])
            keys, first_at, counts = np.unique(runs_of, return_index=True, return_counts=True)
            self.lengths[n] = (keys, owners[first_at], counts)

    def find(self, hashes: Sequence[Hashes]) -> Iterator[tuple[int, int, int, int, int]]:
        """(text, place, length, item, items with the run) of each text's rarest shared run."""
        best: dict[int, tuple[int, int, int, int]] = {}
        starts = np.cumsum([0, *(len(h) for h in hashes)])
        flat = np.concatenate(hashes) if len(hashes) else np.zeros(0, dtype=np.uint64)
        for n, runs in all_ngrams(flat, max(self.lengths, default=0)):
            if n not in self.lengths:
                continue
            keys, owners, counts = self.lengths[n]
            for place in np.flatnonzero(contained(runs, keys)):
                text = int(np.searchsorted(starts, place, side="right")) - 1
                if place + n > starts[text + 1]:  # a run over the end of a text
                    continue
                at = np.searchsorted(keys, runs[place])
                count = int(counts[at])
                if text not in best or count < best[text][3]:
                    best[text] = (int(place - starts[text]), n, int(owners[at]), count)
        for text, found in sorted(best.items()):
            yield (text, *found)


def probes(item: Item, config: DecontaminationConfig) -> tuple[list[tuple[int, Hashes]], list[bytes]]:
    """What shows that a text holds `item`: runs (their length and hashes), and whole prompts where it is too short."""
    runs: dict[int, list[Hashes]] = defaultdict(list)
    prompts = []
    stem = item.stem or question_of(item.text)
    for text, options in ((item.text, stem.strip() != item.text.strip()), (stem, False)):
        found = words(unlabelled(text))
        hashes, times = word_hashes(found), 2 if dense(found) else 1
        n = min(len(hashes), config.ngram * times)
        if n >= min((config.options if options else config.shortest) * times, config.ngram):
            runs[n].append(ngrams(hashes, n))
        elif n >= SHORTEST_PROMPT:
            prompts.append(hashes.tobytes())
    return [(n, np.unique(np.concatenate(found))) for n, found in runs.items()], list(dict.fromkeys(prompts))


def question_of(text: str) -> str:
    """What stands before the first option of a multiple-choice question; all of any other text."""
    first = _OPTION.search(text)
    return text[: first.start()] if first and text[: first.start()].strip() else text


def reference_items(target: Target) -> list[Item]:
    """References and test examples of a target, prompt and answer."""
    kinds = (("reference", target.references), ("test", target.test))
    return [
        Item(f"{target.name}/{kind}/{e.id}", f"{e.prompt}\n{e.answer}", question_of(e.prompt))
        for kind, examples in kinds
        for e in examples
    ]


class Search:
    """What is looked for, indexed once a process."""

    def __init__(self, items: Sequence[Item], config: DecontaminationConfig) -> None:
        self.items, self.config = items, config
        self.runs, self.near = RunIndex(items, config), NearIndex(config.near)
        self.sets = [shingles(unlabelled(item.text), config.near_ngram) for item in items]
        for number, item_set in enumerate(self.sets):
            if len(item_set) > config.near_ngram:  # a handful of 5-grams is too little to be a duplicate of
                self.near.add(number, self.near.sketch(item_set))
        self.known = np.unique(np.concatenate(self.sets)) if self.sets else np.zeros(0, dtype=np.uint64)

    def matches(self, examples: Sequence[Example]) -> Iterator[Match]:
        """All matches of a block of examples, in their order."""
        items, config, runs = self.items, self.config, self.runs
        texts = [words(unlabelled("\n".join(m.content for m in e.messages))) for e in examples]
        overlaps = {text: rest for text, *rest in runs.find([word_hashes(text) for text in texts])}
        for row, example in enumerate(examples):
            found = overlaps.get(row)
            prompt = words(unlabelled(example.prompt))
            if found is None and (short := runs.whole.get(word_hashes(prompt).tobytes())):
                texts[row], found = prompt, [0, len(prompt), *short]
            if found is not None:
                place, n, item, count = found
                kind = OVERLAP if count <= config.common else BOILERPLATE
                shared = " ".join(texts[row][place : place + n])
                yield _match(kind, example, items[item], shared, count, 0.0)
            best = _nearest(example, self.near, self.sets, self.known, config)
            if best is not None:
                yield _match(NEAR, example, items[best[0]], "", 1, best[1])


def find_matches(
    pool: Pool,
    items: Sequence[Item],
    config: DecontaminationConfig,
    folder: Path | None = None,
    spread: Spread = here,
) -> tuple[list[Match], dict[str, Any]]:
    """All matches in pool order, and counts of what could not be looked for; `folder` keeps what is done."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="paydirt-") as place:
            return find_matches(pool, items, config, Path(place), spread)
    folder.mkdir(parents=True, exist_ok=True)
    asked = folder / "items.json"
    text = json.dumps({"items": [list(item) for item in items], "config": config.to_dict()})
    write_atomic(asked, text)
    wanted = str(asked), fingerprint(text)
    files = over_ranges(pool, _search_range, wanted, folder / "ranges", "decontaminating", spread)
    matches = [Match(**json.loads(line)) for file in files for line in file.read_bytes().splitlines()]
    return matches, account(RunIndex(items, config), items, config)


def account(runs: RunIndex, items: Sequence[Item], config: DecontaminationConfig) -> dict[str, Any]:
    """Counts of what was looked for, and of what could not be."""
    return {
        "items": len(items),
        "items_too_short": len(runs.short),
        "first_too_short": runs.short[:5],
        "near_missed": NearIndex(config.near).miss,
    }


def matches_among(
    pool: Pool, rows: Sequence[int], items: Sequence[Item], config: DecontaminationConfig
) -> tuple[list[Match], dict[str, Any]]:
    """The same for some rows of a pool, in this process."""
    search = Search(items, config)
    blocks = (pool.take(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK))
    return [match for block in blocks for match in search.matches(block)], account(search.runs, items, config)


@lru_cache(maxsize=1)
def _search(asked: str, digest: str) -> Search:
    """The search that lies at `asked`; `digest` tells it from another one that lay there."""
    found = json.loads(Path(asked).read_text(encoding="utf-8"))
    return Search([Item(*item) for item in found["items"]], DecontaminationConfig(**found["config"]))


def _search_range(asked: Range) -> bytes:
    """The range's matches, a JSON line each."""
    search, pool, lines = _search(*asked.asked), asked.open(), []
    for start in range(asked.start, asked.stop, BLOCK):
        for match in search.matches(pool.examples(start, min(start + BLOCK, asked.stop))):
            lines.append(json.dumps(asdict(match)) + "\n")  # in ASCII, so that only line ends end a line
    return "".join(lines).encode()


def _nearest(
    example: Example, near: NearIndex, sets: Sequence[Hashes], known: Hashes, config: DecontaminationConfig
) -> tuple[int, float] | None:
    """The most similar item at or above the threshold: of the prompt, or of prompt and answer."""
    best: tuple[int, float] | None = None
    for text in (example.prompt, f"{example.prompt}\n{example.answer}"):
        own = shingles(unlabelled(text), config.near_ngram)
        # Jaccard >= t needs at least the share t of these shingles in some item: cheap to see, and rarely so.
        if len(own) <= config.near_ngram or contained(own, known).mean() < config.near:
            continue
        for number in near.candidates(near.sketch(own)):
            similarity = jaccard(own, sets[number])
            if similarity >= config.near and (best is None or similarity > best[1]):
                best = (number, similarity)
    return best


def _match(kind: str, example: Example, item: Item, shared: str, count: int, similarity: float) -> Match:
    text = "\n".join(f"{m.role}: {m.content}" for m in example.messages)
    return Match(
        kind, example.id, example.source, item.id, shared, count, round(similarity, 4), text[:SHOWN], item.text[:SHOWN]
    )


def decontaminate(
    pool: Pool,
    pool_config: PoolConfig,
    items: Sequence[Item],
    config: DecontaminationConfig,
    out: Path,
    told: dict[str, Any] | None = None,
    replace: Replace = "nothing",
    spread: Spread = here,
) -> Artifact:
    """Write the clean pool and the report to `out`, `told` being what `config.yaml` shall hold.

    ValueError where there is nothing to look for or nothing is left.
    """
    if not items:
        raise ValueError("decontamination has no items to look for; name a benchmark or a target")

    def make(part: Path) -> dict[str, Any]:
        matches, counts = find_matches(pool, items, config, part / "scratch", spread)
        shutil.rmtree(part / "scratch")
        leaked = {m.id for m in matches if m.kind != BOILERPLATE}
        kept = rows_without(pool, leaked)
        if not len(kept):
            raise ValueError(f"every example of the pool matches an item of {_benchmark(items[0].id)}; nothing is left")
        lines = [json.dumps(asdict(match), ensure_ascii=False) for match in matches]
        write_atomic(part / "matches.jsonl", "".join(line + "\n" for line in lines))
        files = write_rows(pool, kept, part / "clean")
        write_config(part, files, pool_config)
        found = {**counts, "examples": len(pool), "excluded": len(leaked), "kept": len(kept), **tally(matches)}
        write_atomic(part / "report.json", json.dumps(found, indent=1, ensure_ascii=False))
        return {**found, "pool": pool.account()}

    inputs = {"pool": pool.fingerprint, "items": fingerprint([list(item) for item in items])}
    inputs["records"] = open_artifact(pool.path).fingerprint  # which are written whole
    how = {
        **config.to_dict(),
        "form": pool_config.form,
        "on_bad": pool_config.on_bad,
        "prefix_ids": pool_config.prefix_ids,
    }
    told = told or config.to_dict()
    return build(out, "decontaminate", told, inputs, make, how, libraries=["numpy", "datasketch"], replace=replace)


def tally(matches: Sequence[Match]) -> dict[str, Any]:
    """Examples by kind, and leaked examples by benchmark and source."""
    kinds = {kind: len({m.id for m in matches if m.kind == kind}) for kind in (OVERLAP, NEAR, BOILERPLATE)}
    pairs = {(m.id, _benchmark(m.item), m.source) for m in matches if m.kind != BOILERPLATE}
    by: Counter[str] = Counter(f"{benchmark} in {source}" for _, benchmark, source in pairs)
    return {"by_kind": kinds, "by_benchmark_and_source": dict(sorted(by.items()))}


def _benchmark(item: str) -> str:
    return item.split("/")[0]
