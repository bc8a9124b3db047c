"""A text encoder fine-tuned with the seed's head of 512 units (document 001, whose encoder is frozen), any by name.

Enters: texts and values [m, C] of the points. Leaves: a `Predictor` that reads texts. Its FLOPs are charged by closed
form, 6 P T for an epoch and 2 P T to predict.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paydirt.models.identity import TOKENIZER, pinned
from paydirt.prediction.diagnostics import levels_of
from paydirt.prediction.learners import Levels, Scaled

Array = np.ndarray
UNITS = 512
EPOCHS = 4


class EncoderHead:
    """A fine-tuned encoder; `predict` gives values [n, C], `predict_proba` levels [n, 3] where it classifies."""

    def __init__(self, path: str, max_tokens: int, device: str, seed: int) -> None:
        self.path, self.max_tokens, self.device, self.seed = path, max_tokens, device, seed

    def fit(self, texts: list[str], y: Array, classify: bool) -> EncoderHead:
        import torch
        from transformers import AutoModel, AutoTokenizer

        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.tokenizer = AutoTokenizer.from_pretrained(self.path, **pinned(self.path, wanted=TOKENIZER))
            self.body = AutoModel.from_pretrained(self.path, **pinned(self.path)).to(self.device)
            width, self.outputs = self.body.config.hidden_size, 3 if classify else y.shape[1]
            self.head = torch.nn.Sequential(
                torch.nn.Linear(width, UNITS), torch.nn.ReLU(), torch.nn.Linear(UNITS, self.outputs)
            ).to(self.device)
            self.classify = classify
            self.mean: Any = 0.0 if classify else y.mean(axis=0)
            self.scale = 1.0 if classify else max(float(y.std()), 1e-12)
            wanted = torch.as_tensor(y if classify else (y - self.mean) / self.scale)
            wanted = wanted.to(self.device) if classify else wanted.float().to(self.device)
            loss_of = torch.nn.functional.cross_entropy if classify else torch.nn.functional.mse_loss
            weights = [*self.body.parameters(), *self.head.parameters()]
            optimizer = torch.optim.AdamW(weights, lr=5e-5)
            self.body.train()
            for _ in range(EPOCHS):
                for rows in torch.randperm(len(texts)).split(16):
                    optimizer.zero_grad()
                    loss_of(self._outputs([texts[int(i)] for i in rows]), wanted[rows]).backward()
                    torch.nn.utils.clip_grad_norm_(weights, 1.0)
                    optimizer.step()
            self.body.eval()
        return self

    def predict(self, texts: list[str]) -> Array:
        return self._all(texts) * self.scale + self.mean

    def predict_proba(self, texts: list[str]) -> Array:
        raw = self._all(texts)
        odds = np.exp(raw - raw.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def _all(self, texts: list[str]) -> Array:
        import torch

        order = np.argsort([-len(t) for t in texts], kind="stable")
        out = np.empty((len(texts), self.outputs))
        with torch.no_grad():
            for at in range(0, len(order), 32):
                rows = order[at : at + 32]
                out[rows] = self._outputs([texts[i] for i in rows]).cpu().double().numpy()
        return out

    def _outputs(self, texts: list[str]) -> Any:
        batch = self.tokenizer(
            texts, truncation=True, max_length=self.max_tokens, padding=True, return_tensors="pt"
        ).to(self.device)
        hidden = self.body(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        return self.head((hidden * mask).sum(1) / mask.sum(1))


class _Texts(Scaled):
    """A fitted encoder among the predictors: texts need no scaling."""

    def __init__(self, estimator: EncoderHead) -> None:
        super().__init__(estimator, np.zeros(1), np.ones(1))

    def inside(self, features: Any) -> Any:
        return features


def fit_encoder(
    path: str, max_tokens: int, device: str, seed: int, texts: list[str], values: Array, scores: Array | None
) -> Any:
    """Fine-tune on `texts`: regression of `values` [m, C], or of the level of `scores` [m] where they are given."""
    head = EncoderHead(path, max_tokens, device, seed)
    if scores is None:
        return _Texts(head.fit(texts, values, classify=False))
    levels = levels_of(scores)
    means = np.stack([values[levels == level].mean(axis=0) for level in range(3)])
    return Levels(_Texts(head.fit(texts, levels, classify=True)), means)
