"""RDS+: cosine between representations of the base model itself, one forward pass over the pool.

A text's representation is the mean of its last hidden states, position t weighted by t (later tokens have seen more);
arXiv 2503.01807, section 3. One pass over the pool serves every target, as embeddings do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from paydirt.artifacts import build, fingerprint
from paydirt.cost.facts import Facts
from paydirt.cost.forms import forward_flops
from paydirt.cost.ledger import Ledger
from paydirt.cost.measure import FlopMeter
from paydirt.data.batches import collate, length_bucketed
from paydirt.data.encoding import Encoded
from paydirt.data.tokens import row_key
from paydirt.models.load import load_model, model_fingerprint
from paydirt.progress import track
from paydirt.scorers.base import Job, Scorer
from paydirt.scores import Reduction
from paydirt.types import Cost


class RDS(Scorer):
    """Cosine of position-weighted mean hidden states (RDS+)."""

    name: ClassVar[str] = "rds"
    needs_model: ClassVar[bool] = True
    pairwise: ClassVar[bool] = True
    cost_note: ClassVar[str] = "2 P T"
    use_when: ClassVar[str] = "large pools; policy round_robin over references, as published"
    reduction: ClassVar[Reduction] = Reduction(within="mean", across="mean")

    token_budget: int = Field(4096, ge=1, description="padded tokens in a batch")

    def price(self, facts: Facts) -> Cost:
        """One forward pass over pool and references (the vocabulary head is left out of the work, not of the form)."""
        pool, shown = facts.pool, facts.references
        parts = {"forward": forward_flops(facts.model, pool.total, pool.mean, facts.convention)}
        parts["references"] = forward_flops(facts.model, shown.total, shown.mean, facts.convention)
        return Cost(sum(parts.values()), round(pool.total + shown.total), parts)

    def prepare(self, job: Job) -> tuple[Path, np.ndarray]:
        config = job.selector
        inputs = {
            "pool": job.pool.fingerprint,
            "rows": row_key(job.pool),
            "encoder": job.encoder.fingerprint,
            "model": model_fingerprint(config.path),
        }
        settings = {"dtype": config.dtype, "shard_rows": job.shard_rows}
        model = load_model(config)

        def make(part: Path) -> dict[str, Any]:
            meter = FlopMeter()
            with Ledger(part).record("rds", config.path, device=str(model.device)) as entry:
                for shard, (start, stop) in enumerate(track(job.shards(), "rds", job.shard_rows, len(job.pool))):
                    path = part / f"{shard:05d}.npy"
                    if not path.exists():
                        rows = self._represent(model, [job.tokens[i] for i in range(start, stop)], job, meter)
                        np.save(path.with_suffix(".part.npy"), rows)
                        path.with_suffix(".part.npy").rename(path)
                entry.measured_flops, entry.tokens = meter.flops, job.tokens.total
            return {"examples": len(job.pool), "measured_flops": meter.flops}

        store = build(job.shared / "rds" / fingerprint([inputs, settings]), "rds", settings, inputs, make)
        job.meter.charge(store)
        return store.path, self._represent(model, job.references, job, job.meter)

    def score_rows(self, job: Job, state: tuple[Path, np.ndarray], start: int, stop: int) -> np.ndarray:
        store, references = state
        return np.load(store / f"{start // job.shard_rows:05d}.npy", mmap_mode="r") @ references.T

    def _represent(self, model: Any, examples: list[Encoded], job: Job, meter: FlopMeter) -> np.ndarray:
        """Unit rows [n, hidden] in float32."""
        import torch

        out: list[Any] = [None] * len(examples)
        backbone = model.get_decoder()
        for rows in length_bucketed([len(e.ids) for e in examples], self.token_budget):
            batch = collate([examples[i] for i in rows], job.encoder.pad_id)
            ids, mask = batch.input_ids.to(model.device), batch.attention_mask.to(model.device)

            def forward(ids: Any = ids, mask: Any = mask) -> Any:
                with torch.no_grad():
                    return backbone(input_ids=ids, attention_mask=mask).last_hidden_state

            hidden = meter.run(forward, ids.numel()).float()
            weight = mask * torch.arange(1, ids.shape[1] + 1, device=ids.device)
            mean = (hidden * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)
            for row, vector in zip(rows, torch.nn.functional.normalize(mean, dim=1).cpu().numpy()):
                out[row] = vector
        return np.stack(out)
