"""Where stages find what they share: one place for artifacts, and what is open, so that a study opens its pool once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from paydirt.columns import TokenStore, token_store
from paydirt.core.artifacts import Replace, cache_root, fingerprint
from paydirt.core.config import Config
from paydirt.core.types import Target
from paydirt.data.encoding import Encoder, EncodingConfig
from paydirt.data.pool import Pool, PoolConfig, open_pool
from paydirt.execution import Executor, Local
from paydirt.models.load import ModelConfig, load_tokenizer, model_fingerprint, model_identity
from paydirt.tasks import TargetConfig, load_target

T = TypeVar("T")


@dataclass
class Workspace:
    """Where shared artifacts live, and what is already open: pools, targets, encoders.

    `replace` says what a stage may put its output in the place of: a study owns its folder, a person is asked.
    """

    shared: Path = field(default_factory=cache_root)
    replace: Replace = "nothing"
    executor: Executor = field(default_factory=Local)
    _open: dict[str, Any] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process goes where things lie, not what is open."""
        return Workspace, (self.shared, self.replace)

    def _once(self, kind: str, config: Config, make: Callable[[], T]) -> T:
        key = f"{kind}:{fingerprint(config.to_dict())}"
        if key not in self._open:
            self._open[key] = make()
        return self._open[key]

    def pool(self, config: PoolConfig) -> Pool:
        return self._once("pool", config, lambda: open_pool(config, self.shared))

    def target(self, config: TargetConfig) -> Target:
        return self._once("target", config, lambda: load_target(config))

    def encoder(self, model: ModelConfig, encoding: EncodingConfig) -> Encoder:
        tokenizer = self._once("tokenizer", model, lambda: load_tokenizer(model))
        return self._once(f"encoder {fingerprint(encoding.to_dict())}", model, lambda: Encoder(tokenizer, encoding))

    def tokens(self, pool: PoolConfig, model: ModelConfig, encoding: EncodingConfig) -> TokenStore:
        encoder = self.encoder(model, encoding)

        def encode() -> TokenStore:
            return token_store(self.pool(pool), encoder, self.shared, model, self.executor.fill)

        return self._once(f"tokens {encoder.fingerprint}", pool, encode)

    def model_fingerprint(self, model: ModelConfig) -> str:
        return self._once("model", model, lambda: model_fingerprint(model.path, model.revision))

    def model_identity(self, model: ModelConfig) -> dict[str, Any]:
        return self._once("identity", model, lambda: model_identity(model))
