"""A model as lm-eval asks for it: transformers through our encoder, vLLM, recorded answers, or one only to be priced.

The chat form is the encoder's own, so a prompt has here the very tokens that it has in scoring and training. lm-eval
passes prompts on as strings; ours are remembered by their text, so that their ids need not be guessed again and a
special token spelled in the data stays text. Imports lm_eval and torch: only `benchmark` imports this, when it runs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM

from paydirt.core.progress import console
from paydirt.core.types import Message
from paydirt.data.encoding import Encoder
from paydirt.models.load import ModelConfig, base_of, is_adapter
from paydirt.tasks.spending import Expected, Spending, read_and_written

Chat = list[dict[str, str]]


def to_messages(history: Chat, fold_system: bool) -> list[Message]:
    """Our messages; `fold_system` puts what lm-eval calls a description at the head of the first user turn."""
    messages = [Message(turn["role"], turn["content"]) for turn in history]
    if fold_system and len(messages) > 1 and messages[0].role == "system":
        messages[:2] = [Message("user", messages[0].content + messages[1].content)]
    return messages


class EncodedLM(HFLM):
    """lm-eval's own transformers model, prompted through an `Encoder`.

    `truncated` counts prompts cut from the left, which keep their beginning-of-sequence token; `spending` what it costs.
    """

    def __init__(
        self,
        model: Any,
        encoder: Encoder,
        batch_size: int | str,
        fold_system: bool = False,
        spending: Expected | None = None,
    ) -> None:
        self.fold_system = fold_system
        self.opened: dict[str, tuple[tuple[Message, ...], str, list[int]]] = {}
        self.truncated: set[str] = set()
        self.encoder = encoder
        self.spending: Any = spending or Spending(model)
        super().__init__(pretrained=model, tokenizer=encoder.tokenizer, batch_size=batch_size, backend="causal")

    def apply_chat_template(self, chat_history: Chat, add_generation_prompt: bool = True) -> str:
        messages = to_messages(chat_history, self.fold_system)
        begun = "" if add_generation_prompt else messages.pop().content
        text, ids = self.encoder.open_prompt(messages, begun)
        self.opened[text] = (tuple(messages), begun, ids.tolist())
        return text

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return self.encoder.config.template if chat_template else None

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        self._expect_writing(requests)
        return super().generate_until(requests, disable_tqdm=disable_tqdm or not console.is_terminal)

    def _expect_writing(self, requests: list[Any]) -> None:
        for request in requests:
            context, options = request.args
            longest = int(options.get("max_gen_toks", self.max_gen_toks))
            length = min(len(self.tok_encode(context)), max(1, self.max_length - longest))
            self.spending.expect_writing([length], longest)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm or not console.is_terminal)

    def _expect_reading(self, requests: list[Any]) -> None:
        # Answers of one token to the same context are read off one pass.
        passes = {tuple(before + after[:-1]) for _, before, after in requests}
        self.spending.expect_reading([min(len(p), self.max_length) for p in passes])

    def _loglikelihood_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        self._expect_reading(requests)
        return super()._loglikelihood_tokens(requests, *args, **kwargs)

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        call = super()._model_call
        self.spending.tokens += inps.numel()
        logits: torch.Tensor = self.spending.reading.run(lambda: call(inps, *args, **kwargs), inps.numel())
        return logits

    def _model_generate(self, context: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        call = super()._model_generate
        made: torch.Tensor = self.spending.writing.run(lambda: call(context, *args, **kwargs), read_and_written)
        self.spending.tokens += made.numel()
        return made

    def tok_encode(self, string: str, *args: Any, **kwargs: Any) -> list[int]:
        known = self.opened.get(string)
        return known[2] if known else super().tok_encode(string, *args, **kwargs)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        known = self.opened.get(context)
        if known is None:
            before, after = super()._encode_pair(context, continuation)
        else:
            messages, begun, before = known
            # A token across the edge would belong to neither; where there is one the pieces are encoded apart.
            whole = self.encoder.open_prompt(messages, begun + continuation)[1].tolist()
            if whole[: len(before)] == before:
                after = whole[len(before) :]
            else:
                call: Any = self.tokenizer
                after = call(continuation, add_special_tokens=False)["input_ids"]
        room = max(1, self.max_length + 1 - len(after))
        if len(before) > room:
            self.truncated.add(context)
            before = self.encoder.keep_end(np.asarray(before), room).tolist()
        return before, after

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [self.tok_encode(s) for s in strings]
        room = left_truncate_len or max(map(len, rows))
        self.truncated |= {s for s, row in zip(strings, rows) if len(row) > room}
        # Each row by itself: lm-eval cuts the padded batch.
        rows = [self.encoder.keep_end(np.asarray(row), room).tolist() for row in rows]
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.encoder.pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for k, row in enumerate(rows):
            place = slice(width - len(row), width) if padding_side == "left" else slice(0, len(row))
            ids[k, place], mask[k, place] = torch.tensor(row), 1
        return ids, mask


class ForeseenLM(EncodedLM):
    """Tells `expected` what the model would read and write, and asks nobody: there is a config, but no weights."""

    def __init__(self, expected: Expected, encoder: Encoder, batch_size: int | str, fold_system: bool = False) -> None:
        shape = SimpleNamespace(config=expected.config, device=torch.device("cpu"))
        super().__init__(shape, encoder, batch_size, fold_system, expected)

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        self._expect_writing(requests)
        return [""] * len(requests)

    def _loglikelihood_tokens(self, requests: list[Any], *args: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        self._expect_reading(requests)
        return [(0.0, False)] * len(requests)


class RecordedLM(LM):
    """Answers that were given elsewhere, looked up by an item's prompt or id.

    `has_answer` tells the runner which items to count; `missing` counts the others, so that nobody takes a half-answered
    file for a bad model. `unused` names the answers that no item asked for.
    """

    KEYS = ("prompt", "id", "key", "input", "question")

    def __init__(self, answers: Mapping[str, str]) -> None:
        super().__init__()
        self.answers, self.missing = answers, 0
        self.unused = dict.fromkeys(answers)

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        found = [self._name(request.doc) for request in requests]
        self.missing += sum(name is None for name in found)
        for name in found:
            self.unused.pop(name or "", None)
        return ["" if name is None else self.answers[name] for name in found]

    def has_answer(self, doc: Mapping[str, Any]) -> bool:
        return self._name(doc) is not None

    def _name(self, doc: Mapping[str, Any]) -> str | None:
        """What the item is called in the answers."""
        names = (str(doc[key]).strip() for key in self.KEYS if key in doc)
        return next((name for name in names if name in self.answers), None)

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        raise ValueError("this benchmark compares likelihoods, which recorded answers do not have; evaluate a model")

    loglikelihood_rolling = loglikelihood  # type: ignore[assignment]


def vllm_model(config: ModelConfig, encoder: Encoder, batch_size: int | str, fold_system: bool = False) -> Any:
    """lm-eval's vLLM model with our chat form. ValueError where vLLM is missing or the model is quantised by us."""
    if importlib.util.find_spec("vllm") is None:
        raise ValueError("backend vllm: vLLM is not installed (pip install vllm); use backend hf")
    if config.quantization != "none":
        raise ValueError(f"backend vllm does not take quantization {config.quantization!r}; use backend hf")
    from lm_eval.models.vllm_causallms import VLLM

    class EncodedVLLM(VLLM):
        truncated: set[str] = set()  # noqa: RUF012 - vLLM truncates by itself and does not tell

        def apply_chat_template(self, chat_history: Chat, add_generation_prompt: bool = True) -> str:
            messages = to_messages(chat_history, fold_system)
            begun = "" if add_generation_prompt else messages.pop().content
            return encoder.open_prompt(messages, begun)[0]

        def chat_template(self, chat_template: bool | str = False) -> str | None:
            return encoder.config.template if chat_template else None

    adapter = config.path if is_adapter(config.path) else None
    return EncodedVLLM(
        pretrained=base_of(config.path) if adapter else config.path,
        tokenizer=config.tokenizer or (config.path if adapter is None else None),
        lora_local_path=adapter,
        max_lora_rank=_rank(adapter) if adapter else 16,
        dtype=config.dtype,
        batch_size=batch_size,
        trust_remote_code=config.trust_remote_code,
    )


def _rank(adapter: str) -> int:
    import json
    from pathlib import Path

    return int(json.loads((Path(adapter) / "adapter_config.json").read_text())["r"])
