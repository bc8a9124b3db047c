"""Complete strategies: which method, which selector model, how much data, with or without a store, and what each costs.

Costs come from what is known best: what a pilot measured for this model first, the closed forms of `paydirt.cost` for
the given architectures next, and for a bare parameter count a Llama-shaped stand-in under `6NT`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from paydirt.analysis.names import method_key, method_name
from paydirt.analysis.points import family
from paydirt.analysis.results import ZERO_SHOT, Panel
from paydirt.cost.architecture import Architecture
from paydirt.cost.facts import told
from paydirt.cost.forms import training_flops
from paydirt.cost.methods import ALIASES
from paydirt.cost.methods import selection_cost as priced
from paydirt.scoring.base import SCORERS, make_scorer

FRACTIONS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
METHODS = ("Random", "BM25", "Embed", "PPL", "LESS")
EMBED_PARAMS = 110e6  # GTR-T5-base, the published embedder
# What the numbers of a job may be: beyond these a closed form means nothing, or never ends.
RANGES: dict[str, tuple[float, float]] = {
    "train_params": (1e3, 1e15), "pool_tokens": (1.0, 1e18), "references": (0.0, 1e9), "tasks": (1, 1e6),
    "pool_examples": (1.0, 1e15), "reference_tokens": (0.0, 1e15), "selector_params": (1e3, 1e15),
    "embed_params": (1e3, 1e15), "seq_len": (1.0, 1e8), "checkpoints": (1, 1e4), "projection_dim": (1, 1e7),
}  # fmt: skip
PER_DECADE = 10  # sizes considered beside the job's fractions
FEWEST = 100  # examples below which no run is considered, unless a thousandth of the pool is less
REFERENCES = 100.0  # assumed for the cost where nobody told their number
NO_REFERENCES = {"random", "length", "ifd"}  # methods that read none
FORM_OF_FAMILY = {
    "gradient": "gradient",
    "perplexity": "ppl",
    "lexical": "bm25",
    "embedding": "embed",
    "baseline": "random",
}


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to spend a budget on one task. FLOPs are per task; `store` tells whether a gradient store is shared."""

    method: str
    fraction: float
    selection_flops: float
    training_flops: float
    selector_params: float = float("nan")
    store: bool = False

    @property
    def total_flops(self) -> float:
        return self.selection_flops + self.training_flops

    @property
    def label(self) -> str:
        """Method, selector and store in a few words; the fraction is shown apart."""
        selector = f" @{_short(self.selector_params)}" if np.isfinite(self.selector_params) else ""
        return f"{self.method}{selector}{' (shared store)' if self.store else ''}"


def _short(params: float) -> str:
    return f"{params / 1e9:.3g}B" if params >= 1e9 else f"{params / 1e6:.3g}M"


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be tuned and what may be tried. Tokens and examples are the pool's; `budget` FLOPs are per task.

    `references` None: not told, 100 are assumed for their cost; 0: there are none, and methods that need them are left out.
    `seq_len` None: the pool's mean length.
    """

    train_params: float
    pool_tokens: float
    references: float | None = None
    tasks: int = 1
    task: str = ""
    model: str = ""
    pool_examples: float | None = None
    reference_tokens: float | None = None
    methods: tuple[str, ...] = METHODS
    fractions: tuple[float, ...] = FRACTIONS
    selector_params: tuple[float, ...] = ()
    embed_params: float = EMBED_PARAMS
    seq_len: float | None = None
    lora: bool = False
    checkpoints: int = 4
    projection_dim: int = 8192
    train_architecture: Architecture | None = field(default=None, repr=False)
    selector_architectures: tuple[Architecture, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            for one in value if isinstance(value, tuple) else (value,):
                if one is not None and not low <= one <= high:
                    raise ValueError(f"{name} lies in [{low:g}, {high:g}], not {one:g}")
        if self.pool_examples is not None and self.pool_examples > self.pool_tokens:
            raise ValueError(f"pool_examples {self.pool_examples:g} exceed pool_tokens {self.pool_tokens:g}")
        wrong = [f for f in self.fractions if not 0 < f <= 1]
        if wrong or not self.fractions:
            raise ValueError(f"fractions lie in (0, 1], not {wrong[0] if wrong else 'nothing'}")

    @property
    def examples(self) -> float:
        """Pool examples; 360 tokens each, as in the published pool, when not told."""
        return self.pool_examples or max(self.pool_tokens / 360, 1.0)

    @property
    def sizes(self) -> list[float]:
        """Shares of the pool that are considered: the job's fractions and a grid of ten a decade, whatever the budget."""
        smallest = min(1e-3, FEWEST / self.examples, *self.fractions)
        steps = int(np.floor(-np.log10(smallest) * PER_DECADE + 1e-9))
        return sorted({*self.fractions, *(10 ** (-k / PER_DECADE) for k in range(steps + 1))})

    @property
    def mean_length(self) -> float:
        """Positions that a token attends to in the cost forms: as given, else the pool's mean length."""
        return self.seq_len if self.seq_len is not None else self.pool_tokens / self.examples

    @property
    def full_training_flops(self) -> float:
        """FLOPs of one pass over the whole pool."""
        if self.train_architecture is not None:
            return training_flops(self.train_architecture, self.pool_tokens, self.mean_length, lora=self.lora)
        arch = nominal_architecture(self.train_params)
        scale = self.train_params / arch.active_parameters
        return training_flops(arch, self.pool_tokens, 0, "6NT", lora=self.lora) * scale

    @property
    def selectors(self) -> tuple[float, ...]:
        """Selector sizes to try: as given, else 7B as published, never larger than the train model."""
        if self.selector_architectures:
            return tuple(float(a.parameters) for a in self.selector_architectures)
        return self.selector_params or (min(7e9, self.train_params),)


def nominal_architecture(params: float) -> Architecture:
    """A Llama-shaped model of about `params` parameters: heads of 128, as many layers as heads, 32k words."""
    # Below 10M parameters a 32k vocabulary alone would be larger: narrower heads, small vocabulary.
    head, vocab = (128, 32000) if params >= 1e7 else (16, 256)

    def size(heads: int) -> float:
        return 12.0 * (head * heads) ** 2 * heads + 2 * vocab * head * heads

    heads = 1
    while size(heads + 1) <= params:
        heads += 1
    width = head * heads
    return Architecture(
        heads, width, int(width * 8 / 3), heads, heads, head, vocab, name=f"a model of {_short(params)} parameters"
    )


def selection_form(method: str) -> str:
    """The method of ours whose closed form prices a method: its own, else its family's, else "random" (no cost known)."""
    name = method_name(method).representation
    name = ALIASES.get(name, name)
    return name if name in SCORERS.names() else FORM_OF_FAMILY.get(family(method), "random")


def selection_cost(
    job: Job, method: str, selector: float, store: bool, pilot: Panel | None = None, pilot_tokens: float | None = None
) -> float:
    """FLOPs per task of selecting by `method`: as a pilot measured it, scaled to the job's pool, else by closed form.

    A measured cost on a pool of `pilot_tokens` is multiplied by what the closed form says of both pools (by their tokens
    where the form is free). 0 for the free methods and, without a pilot, for those of unknown kind.
    """
    predicted = _predicted(job, method, selector, store)
    measured = _measured(method, selector, pilot)
    if measured is None:
        return predicted
    if pilot_tokens and abs(pilot_tokens / job.pool_tokens - 1) > 1e-6:
        share = pilot_tokens / job.pool_tokens
        small = replace(job, pool_tokens=pilot_tokens, pool_examples=max(job.examples * share, 1.0))
        there = _predicted(small, method, selector, False)
        measured *= _predicted(job, method, selector, False) / there if there > 0 else 1 / share
    return measured / job.tasks if family(method) == "gradient" and store else measured


def _predicted(job: Job, method: str, selector: float, store: bool) -> float:
    """The closed form's FLOPs per task, by the one function that `cost` and `--dry-run` use."""
    form = selection_form(method)
    options: dict[str, object] = {}
    if form == "gradient":
        options = {"checkpoints": job.checkpoints, "warmup_epochs": max(4, job.checkpoints), "k": job.projection_dim}
    scorer = make_scorer({"name": form, **options})
    match = [a for a in job.selector_architectures if abs(a.parameters - selector) < 0.01 * selector]
    arch = match[0] if match else nominal_architecture(selector if np.isfinite(selector) else job.train_params)
    facts = told(
        job.pool_tokens,
        job.examples,
        REFERENCES if job.references is None else job.references,
        job.reference_tokens,
        architecture=arch,
        answer_tokens=job.pool_tokens,  # the most that it can be
        encoder_parameters=job.embed_params,
        convention="architectural" if match else "6NT",
        tasks=job.tasks if store else 1,
    )
    cost = priced(scorer, facts).flops
    # An embedder's own size is told; a stand-in's is brought to the size that was asked for.
    bare = scorer.needs_model and not match and np.isfinite(selector)
    return cost * (selector / arch.active_parameters if bare else 1)


def needs_references(method: str) -> bool:
    """Whether a method of a known kind compares the pool with references; one of an unknown kind is not refused."""
    known = selection_form(method) != "random" or family(method) in FORM_OF_FAMILY
    return known and method_name(method).representation not in NO_REFERENCES


def _measured(method: str, selector: float, pilot: Panel | None) -> float | None:
    """Selection FLOPs of the method in the pilot, when it ran there (with this selector, where it is told)."""
    for curve in pilot.curves.values() if pilot is not None else ():
        same = not (np.isfinite(selector) and np.isfinite(curve.selector_params)) or curve.selector_params == selector
        if method_key(curve.method) == method_key(method) and same and np.isfinite(curve.selection_flops).any():
            return float(np.nanmedian(curve.selection_flops))
    return None


def needs_selector(method: str) -> bool:
    """Whether the method reads the pool with a language model whose size is a choice."""
    return family(method) in ("gradient", "perplexity") or method_name(method).representation == "rds"


def strategies(
    job: Job, budget: float, pilot: Panel | None = None, pilot_tokens: float | None = None
) -> list[Strategy]:
    """All strategies that `budget` FLOPs per task afford, zero-shot included, at `Job.sizes`.

    The sizes are the same at every budget, so that more budget never offers less. Selecting more than 95 % of the pool
    is not selecting: training on everything appears once, as Random at 1.

    With several tasks a gradient method appears with a shared store and without one.
    """
    full = job.full_training_flops
    found = [Strategy(ZERO_SHOT, 0.0, 0.0, 0.0)]
    for method in job.methods:
        if job.references == 0 and needs_references(method):
            continue
        for selector in job.selectors if needs_selector(method) else (float("nan"),):
            for store in (False, True) if family(method) == "gradient" and job.tasks > 1 else (False,):
                price = selection_cost(job, method, selector, store, pilot, pilot_tokens)
                # The whole pool is one strategy under any name, and cheapest as Random.
                most = 1.0 if method_key(method) == "random" else 0.95
                found += [Strategy(method, f, price, f * full, selector, store) for f in job.sizes
                          if f <= most and price + f * full <= budget]  # fmt: skip
    return found


def choices(asked: Sequence[Strategy]) -> dict[str, list[int]]:
    """Indices of strategies by label: one entry per method, selector and store."""
    groups: dict[str, list[int]] = {}
    for i, s in enumerate(asked):
        groups.setdefault(s.label, []).append(i)
    return groups
