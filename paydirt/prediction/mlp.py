"""The seed's head: one hidden layer of 512 units (document 001), on features instead of an encoder.

Early stopping on a tenth of the points; the best epoch's weights are kept. Runs on the CPU in float32, seeded.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

Array = np.ndarray


class Head:
    """Regression of [m, C] values by mean squared error."""

    def __init__(self, units: int = 512, epochs: int = 100, patience: int = 10, seed: int = 0) -> None:
        self.units, self.epochs, self.patience, self.seed = units, epochs, patience, seed

    def fit(self, x: Array, y: Array) -> Head:
        import torch

        self.mean, self.scale = y.mean(axis=0), max(float(y.std()), 1e-12)
        wanted = torch.as_tensor((y - self.mean) / self.scale, dtype=torch.float32)
        self._train(x, wanted, y.shape[1], torch.nn.functional.mse_loss)
        return self

    def predict(self, x: Array) -> Array:
        return self._raw(x) * self.scale + self.mean

    def _raw(self, x: Array) -> Array:
        import torch

        with torch.no_grad():
            return np.asarray(self.model(torch.as_tensor(x, dtype=torch.float32)), dtype=np.float64)

    def _train(self, x: Array, y: Any, outputs: int, loss_of: Any) -> None:
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            rows = torch.as_tensor(x, dtype=torch.float32)
            kept = torch.randperm(len(rows))
            held, kept = kept[: len(rows) // 10], kept[len(rows) // 10 :]
            self.model = torch.nn.Sequential(
                torch.nn.Linear(x.shape[1], self.units),
                torch.nn.ReLU(),
                torch.nn.Dropout(0.2),
                torch.nn.Linear(self.units, outputs),
            )
            optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.05)
            best, state, waited = float("inf"), copy.deepcopy(self.model.state_dict()), 0
            for _ in range(self.epochs):
                self.model.train()
                for batch in kept[torch.randperm(len(kept))].split(64):
                    optimizer.zero_grad()
                    loss_of(self.model(rows[batch]), y[batch]).backward()
                    optimizer.step()
                self.model.eval()
                with torch.no_grad():
                    error = float(loss_of(self.model(rows[held]), y[held])) if len(held) else 0.0
                if error < best:
                    best, state, waited = error, copy.deepcopy(self.model.state_dict()), 0
                elif (waited := waited + 1) >= self.patience:
                    break
            self.model.load_state_dict(state)
            self.model.eval()


class LevelHead(Head):
    """Classification into three levels by cross-entropy."""

    def fit(self, x: Array, y: Array) -> LevelHead:
        import torch

        self._train(x, torch.as_tensor(y), 3, torch.nn.functional.cross_entropy)
        return self

    def predict_proba(self, x: Array) -> Array:
        raw = self._raw(x)
        odds = np.exp(raw - raw.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)
