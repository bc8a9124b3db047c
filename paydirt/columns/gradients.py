"""Gradient features: every example's update direction at one checkpoint, projected to k numbers and stored small.

A shard holds unit rows in the store's precision, their norms and, for int8, a scale each (see `gradients.store`); bfloat16
rows lie there as int16. FLOPs of a row are a closed function of its lengths (`extrapolated`), whose weights the first
worker finds by counting a dozen examples and leaves in the column's folder.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from paydirt.columns.products import products
from paydirt.columns.spec import Block, Spec
from paydirt.columns.store import PoolColumn
from paydirt.columns.tokens import TokensRef, TokenStore
from paydirt.cost.measure import count_flops
from paydirt.data.encoding import Encoded
from paydirt.models.load import LoraSpec, ModelConfig, attach_lora, load_model

CALIBRATION = "calibration.json"
LAYER_NUMBER = re.compile(r"\.(?:layers|h|blocks?)\.(\d+)\.")


Fitted = dict[str, list[float]]
"""What a row costs: `weights` of its terms and their `scale`, and the `projection` of one row."""


class GradientFeatures(Spec):
    """Features [n, k] of pool examples at one checkpoint, zeros where nothing is supervised."""

    name: ClassVar[str] = "gradients"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "peft")
    places: ClassVar[frozenset[str]] = frozenset({"model", "moments"})

    tokens: TokensRef
    model: ModelConfig
    identity: dict[str, Any]
    moments: str | None = None
    moments_digest: str = ""
    direction: str = "sgd"
    projection: Literal["sketch", "rademacher"] = "sketch"
    k: int = 8192
    projection_seed: int = 0
    lora: LoraSpec | None = None  # fresh parameters on a model that was not warmed up
    lora_seed: int = 0
    layers: int | None = None
    max_tokens: int | None = None
    store_dtype: Literal["int8", "float16", "bfloat16", "float32"] = "int8"
    token_budget: int = 2048

    @property
    def size(self) -> int:
        return self.tokens.size

    def open(self, folder: Path) -> GradientWorker:
        return GradientWorker(self, folder)


class Similarities(GradientFeatures):
    """Cosines float32 [n, C] of features with given rows [C, k]: what is kept where features are not."""

    name: ClassVar[str] = "similarities"
    places: ClassVar[frozenset[str]] = GradientFeatures.places | {"references"}

    references: str
    digest: str  # of the references

    def open(self, folder: Path) -> SimilarityWorker:
        return SimilarityWorker(self, folder)


class GradientWorker:
    """A collector that stays open, and the weights of the row's cost."""

    def __init__(self, spec: GradientFeatures, folder: Path) -> None:
        self.spec, self.collect = spec, Collector(spec).__enter__()
        self.device = str(self.collect.features.device)
        path = folder / CALIBRATION
        if not path.exists():
            part = path.with_name(f".{uuid.uuid4().hex}.part")
            part.write_text(json.dumps(self.collect.calibrate()))
            with suppress(FileExistsError):
                os.link(part, path)  # who was first decides
            part.unlink()
        self.weights = json.loads(path.read_text())

    @property
    def remarks(self) -> dict[str, str]:
        """How this process found that batches fit its memory, for the cost line of a file."""
        return {"activations": "recomputed" if self.collect.features.recomputed else "kept"}

    def __call__(self, rows: np.ndarray) -> Block:
        tokens = self.collect.lengths(rows)[0]
        flops = self.collect.row_flops(rows, self.weights)
        return Block(self.values(rows), flops, tokens.astype(np.int64))

    def values(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Features as they are stored."""
        import torch

        from paydirt.gradients.store import pack_rows

        packed = pack_rows(self.collect.of_pool(rows), self.spec.store_dtype)
        if self.spec.store_dtype == "bfloat16":
            packed["features"] = packed["features"].view(torch.int16)
        return {name: tensor.numpy() for name, tensor in packed.items()}


class SimilarityWorker(GradientWorker):
    """The same, matched at once."""

    def __init__(self, spec: Similarities, folder: Path) -> None:
        super().__init__(spec, folder)
        self.references = np.load(spec.references)

    def values(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        from paydirt.gradients.influence import unit

        return {"similarity": products(unit(self.collect.of_pool(rows)).numpy(), self.references)}


def stored_rows(block: Block, dtype: str) -> Any:
    """A block of the column as the `gradients.store.Rows` that matching multiplies."""
    import torch

    from paydirt.gradients.store import Rows

    features = torch.from_numpy(block.array("features"))
    if dtype == "bfloat16":
        features = features.view(torch.bfloat16)
    scale = torch.from_numpy(block.array("scale")) if dtype == "int8" else None
    return Rows(("",) * len(block), features, torch.from_numpy(block.array("norms")), scale)


class Collector:
    """Features of examples at one checkpoint: the model, its moments and the projection, loaded for a `with` block."""

    def __init__(self, spec: GradientFeatures) -> None:
        from paydirt.gradients.checkpoints import load_moments
        from paydirt.gradients.features import Features
        from paydirt.gradients.projection import Projection

        self.tokens, self.pool, self.max_tokens = spec.tokens.open(), spec.tokens.pool.open(), spec.max_tokens
        model = load_model(spec.model, train_adapter=True)
        if spec.lora is not None:
            model = attach_lora(model, spec.lora, spec.lora_seed).eval()
        moments = load_moments(spec.moments, model) if spec.moments else None
        if spec.layers is not None:
            freeze_below(model, spec.layers)
        self.projection = Projection(spec.k, spec.projection, spec.projection_seed)
        self.features = Features(model, self.projection, spec.direction, moments, spec.token_budget)

    def __enter__(self) -> Collector:
        self.features.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.features.__exit__(*error)

    def __call__(self, ids: Sequence[str], encoded: Sequence[Encoded], alone: bool = False) -> Any:
        """float32 [n, k]; examples without a supervised token get zeros, whose similarity is 0.

        `alone` computes them without what makes batches alike, as their FLOPs are counted.
        """
        import torch

        usable = [i for i, e in enumerate(encoded) if e.n_supervised]
        out = torch.zeros(len(encoded), self.projection.k)
        if usable:
            out[usable] = self.features([encoded[i] for i in usable], alone, [ids[i] for i in usable])[0]
        return out

    def of_pool(self, rows: np.ndarray, alone: bool = False) -> Any:
        """Features [n, k] of pool rows, in that order."""
        ids = [self.pool.id_at(int(row)) for row in rows]
        return self(ids, [window(self.tokens[int(row)], self.max_tokens) for row in rows], alone)

    def lengths(self, rows: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Tokens that are read of each of `rows`, and at most how many of them are supervised."""
        return read_lengths(self.tokens, self.max_tokens, rows)

    def calibrate(self) -> Fitted:
        """What a row's forward and backward cost by its lengths, from a few rows of all lengths counted one by one."""
        lengths, answers = self.lengths()
        some = spread_over(lengths)
        counts = [count_flops(partial(self.of_pool, np.asarray([row]), True))[0] for row in some]
        return fit_cost(lengths[some], answers[some], counts) | {"projection": [self.projection_flops(1)]}

    def row_flops(self, rows: np.ndarray, fitted: Fitted) -> np.ndarray:
        """FLOPs int64 [n] of `rows`: forward, backward and projection, whose additions are counted by closed form."""
        return row_costs(*self.lengths(rows), fitted)

    def projection_flops(self, examples: int) -> float:
        """Of projecting so many examples."""
        return self.projection.flops(self.features.parameters) * examples


def known_costs(column: PoolColumn, rows: np.ndarray) -> np.ndarray | None:
    """FLOPs int64 [n] that `rows` cost in a column of features, computed or not; None before its first row."""
    spec = column.spec
    assert isinstance(spec, GradientFeatures)
    path = column.path / CALIBRATION
    if not path.exists():
        return None
    return row_costs(*read_lengths(spec.tokens.open(), spec.max_tokens, rows), json.loads(path.read_text()))


def read_lengths(
    tokens: TokenStore, most: int | None, rows: np.ndarray | slice = slice(None)
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens that are read of each of `rows`, at most `most`, and at most how many of them are supervised."""
    lengths = np.asarray(tokens.lengths[rows])
    if most:
        lengths = np.minimum(lengths, most)
    return lengths, np.minimum(tokens.supervised_lengths[rows], lengths)


def row_costs(lengths: np.ndarray, answers: np.ndarray, fitted: Fitted) -> np.ndarray:
    """FLOPs int64 [n] of rows of those lengths, projection included."""
    passes = np.round(cost_of(lengths, answers, fitted)).astype(np.int64)
    return np.asarray(passes + int(fitted["projection"][0]), dtype=np.int64)


def spread_over(lengths: np.ndarray, count: int = 12) -> np.ndarray:
    """Rows of the shortest, the longest and those between, evenly by rank."""
    order = np.argsort(lengths, kind="stable")
    return np.unique(order[np.linspace(0, len(order) - 1, min(count, len(order))).astype(int)])


def fit_cost(lengths: np.ndarray, answers: np.ndarray, counts: Sequence[float]) -> Fitted:
    """Weights of tokens, their square, supervised tokens and 1, from the `counts` of some examples.

    That is what a transformer's cost is made of, so a dozen examples determine it; a mean over a dozen would be off by
    a third where a few long texts hold most of the tokens.
    """
    terms = _terms(lengths, answers)
    scale = np.abs(terms).max(axis=0).clip(1)
    weights, *_ = np.linalg.lstsq(terms / scale, np.asarray(counts), rcond=1e-9)
    return {"weights": weights.tolist(), "scale": scale.tolist()}


def cost_of(lengths: np.ndarray, answers: np.ndarray, fitted: Fitted) -> np.ndarray:
    """FLOPs [n] of examples by the weights that `fit_cost` found."""
    terms = _terms(lengths, answers) / np.asarray(fitted["scale"])
    return np.clip((terms * np.asarray(fitted["weights"])).sum(axis=1), 0, None)


def _terms(lengths: np.ndarray, answers: np.ndarray) -> np.ndarray:
    return np.stack([lengths, np.square(lengths, dtype=np.float64), answers, np.ones(len(lengths))], axis=1)


def window(example: Encoded, most: int | None) -> Encoded:
    """At most `most` tokens around the first supervised one: half before it, or less where the answer is long enough."""
    if most is None or len(example.ids) <= most:
        return example
    first = int(np.argmax(example.supervised))
    start = min(max(0, first - most // 2), len(example.ids) - most)
    part = slice(start, start + most)
    return Encoded(example.ids[part], example.supervised[part])


def freeze_below(model: Any, layers: int) -> None:
    """Leave gradients only to the parameters of the last `layers` layers; ValueError where layers have no number."""
    numbers = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and (found := LAYER_NUMBER.search(name)):
            numbers[name] = int(found.group(1))
    if not numbers:
        raise ValueError(
            "gradient option layers: the model's trainable parameters name no numbered layer; leave it out"
        )
    first = max(numbers.values()) + 1 - layers
    for name, parameter in model.named_parameters():
        if numbers.get(name, -1) < first:
            parameter.requires_grad_(False)
