"""Perplexity: how surprising an example is to a model that was tuned on the references.

One forward pass over the pool with logits only where they are scored. Losses of single tokens are kept as a shared
artifact: with `tokens: all` every token's, from which the supervised-only score is read without another pass.
Top, mid and low are selection policies, not scorers; the published scripts' shuffle inside thirds is their option
`shuffle_third`. Higher score = higher perplexity (METHODS section 2), and the default policy is `low`: what was measured
here, and what the published script called "top" does, though its text says the highest. Texts longer than the model's
positions are read in windows, each token counted once, so the mean weighs windows by their tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from paydirt.artifacts import Artifact, build, fingerprint
from paydirt.config import parse
from paydirt.cost.forms import forward_flops
from paydirt.cost.ledger import Ledger
from paydirt.cost.measure import FlopMeter
from paydirt.data.encoding import Encoded
from paydirt.data.tokens import row_key
from paydirt.models.load import ModelConfig, model_fingerprint
from paydirt.progress import track
from paydirt.scorers.base import Job, Scorer
from paydirt.training.config import TrainConfig
from paydirt.training.shared import tuned_model
from paydirt.types import Cost

MAX_LOG = 80.0  # exp beyond this leaves float32


class Perplexity(Scorer):
    """exp(mean negative log-likelihood) under a model tuned on the references."""

    name: ClassVar[str] = "ppl"
    needs_model: ClassVar[bool] = True
    cost_note: ClassVar[str] = "2 P T + tuning on the references"
    use_when: ClassVar[str] = "train model at least 5x the selector; mid and top are policies too"
    default_policy: ClassVar[str] = "low"

    tokens: Literal["supervised", "all"] = Field("supervised", description="tokens whose loss is averaged")
    tune_epochs: float = Field(25, ge=0, description="epochs on the references; 0 scores with the model as it is")
    tune_method: Literal["lora", "full"] = Field("lora", description="parameters tuned on the references")
    tune_learning_rate: float = Field(2e-5, gt=0, description="highest rate of the tuning's linear schedule")
    tune_batch_size: int = Field(32, ge=1, description="sequences an optimizer step of the tuning")
    tune_seed: int = Field(0, description="of the references' order and fresh LoRA parameters")
    token_budget: int = Field(4096, ge=1, description="padded tokens in a batch")

    def training(self) -> TrainConfig:
        return parse(
            TrainConfig,
            {
                "method": self.tune_method,
                "learning_rate": self.tune_learning_rate,
                "epochs": self.tune_epochs,
                "batch_size": self.tune_batch_size,
            },
        )

    def predict_cost(self, job: Job) -> Cost:
        """Tuning on the references, then one forward pass over the pool's real tokens."""
        from paydirt.training.train import predict_training_cost

        total = job.tokens.total
        length = total / max(1, len(job.tokens))
        forward = forward_flops(job.architecture, total, length, job.convention)
        cost = Cost(forward, total, {"forward": forward})
        if self.tune_epochs:
            tokens = sum(len(e.ids) for e in job.references)
            tuning = predict_training_cost(
                self.training(), job.architecture, tokens, len(job.references), job.convention
            )
            cost = cost + Cost(tuning.flops, tuning.tokens, {"tuning": tuning.flops})
        return cost

    def prepare(self, job: Job) -> Artifact:
        """Per-token losses of the whole pool, under the tuned model."""
        model = job.selector
        if self.tune_epochs:
            ids = [e.id for e in job.target.references]
            purpose = f"references-{job.target.name}"
            tuned = tuned_model(
                job.shared,
                purpose,
                model,
                job.encoder,
                job.references,
                ids,
                self.training(),
                self.tune_seed,
                job.convention,
            )
            job.meter.charge(tuned)
            model = model.model_copy(update={"path": str(tuned.path / "model"), "tokenizer": None})
        losses = pool_losses(job, model, self.tokens, self.token_budget)
        job.meter.charge(losses)
        return losses

    def score_rows(self, job: Job, state: Artifact, start: int, stop: int) -> np.ndarray:
        means = read_mean_losses(job, state, start, stop, self.tokens)
        return np.exp(np.minimum(means, MAX_LOG))


def pool_losses(job: Job, model: ModelConfig, which: str, token_budget: int) -> Artifact:
    """Negative log-likelihood of single tokens for every pool row, as a shared artifact of one .npz a shard.

    `which` is "supervised" or "all". An `all` artifact of the same model serves `supervised` too.
    """
    inputs = {
        "pool": job.pool.fingerprint,
        "rows": row_key(job.pool),
        "encoder": job.encoder.fingerprint,
        "model": model_fingerprint(model.path),
    }

    def place(kind: str) -> Path:
        return job.shared / "losses" / fingerprint([inputs, kind, job.shard_rows, model.dtype])

    wanted = which if which == "all" or not (place("all") / "manifest.json").exists() else "all"
    settings = {"model": model.to_dict(), "tokens": wanted, "shard_rows": job.shard_rows}
    identity = {"tokens": wanted, "shard_rows": job.shard_rows}

    def make(part: Path) -> dict[str, Any]:
        return _write_losses(job, model, part, wanted, token_budget)

    return build(place(wanted), "losses", settings, inputs, make, identity)


def _write_losses(job: Job, config: ModelConfig, part: Path, which: str, token_budget: int) -> dict[str, Any]:
    from paydirt.evaluation.loss import token_losses
    from paydirt.models.load import load_model

    model = load_model(config)
    window = int(getattr(model.config, "max_position_embeddings", 0) or 0) or None
    meter = FlopMeter()
    with Ledger(part).record("losses", which, device=str(model.device)) as entry:
        for shard, (start, stop) in enumerate(track(job.shards(), "perplexity", job.shard_rows, len(job.pool))):
            path = part / f"{shard:05d}.npz"
            if path.exists():
                continue
            examples = [job.tokens[row] for row in range(start, stop)]
            if which == "all":
                examples = [Encoded(e.ids, np.ones(len(e.ids), dtype=bool)) for e in examples]
            losses = token_losses(model, examples, job.encoder.pad_id, token_budget, meter, window=window)
            offsets = np.cumsum([0, *(len(part) for part in losses)])
            unfinished = path.with_suffix(".part.npz")
            np.savez(unfinished, losses=np.concatenate(losses), offsets=offsets)
            unfinished.rename(path)
        entry.measured_flops, entry.tokens = meter.flops, job.tokens.total
    return {"examples": len(job.pool), "measured_flops": meter.flops, "tokens": which}


def read_mean_losses(job: Job, artifact: Artifact, start: int, stop: int, which: str) -> np.ndarray:
    """Mean loss [stop - start] in nats over supervised or all tokens.

    An example without a supervised token cannot be ranked by one: it gets the mean loss of the others in its shard, and
    selection leaves it out anyway.
    """
    with np.load(artifact.path / f"{start // job.shard_rows:05d}.npz") as stored:
        losses, offsets = stored["losses"], stored["offsets"]
    means = np.full(stop - start, np.nan)
    for i in range(stop - start):
        part = losses[offsets[i] : offsets[i + 1]]
        if which == "supervised" and artifact.notes["tokens"] == "all":
            part = part[job.tokens[start + i].supervised[1:]]
        if len(part):
            means[i] = part.mean(dtype=np.float64)
    known = means[np.isfinite(means)]
    return np.where(np.isfinite(means), means, known.mean() if len(known) else 0.0)
