"""The world's base model: a small Llama, pre-trained on the spot on the general mixture.

Enters: documents and a tokenizer. Leaves: a `LlamaForCausalLM` of about 0.9M parameters. Everything is counted in
steps, never in seconds, and runs in one thread, so that the same seed gives the same model however many cores there
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


@dataclass(frozen=True)
class PretrainConfig:
    """Size and schedule. 800 steps of 8 x 64 tokens take about 45 s on one core; larger batches did worse."""

    hidden: int = 128
    layers: int = 2
    heads: int = 4
    intermediate: int = 344
    steps: int = 1700
    batch: int = 8
    length: int = 48
    learning_rate: float = 2e-3
    warmup: int = 40
    init: float = 0.1
    beta2: float = 0.98

    @property
    def tokens(self) -> int:
        """Tokens read in all."""
        return self.steps * self.batch * self.length


def pretrain_base_model(
    documents: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    config: PretrainConfig | None = None,
    progress: bool = True,
) -> LlamaForCausalLM:
    """Pre-train from scratch on `documents`, packed end to end; AdamW, linear decay after a short warm-up.

    The documents are read in order and again from the front when they run out.
    """
    config = config or PretrainConfig()
    rows = _pack(documents, tokenizer, config)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one fixed order: the same model on 1 core and on 64
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(_llama_config(tokenizer, config))
            _train(model, rows, config, progress)
    finally:
        torch.set_num_threads(threads)
    return model.eval()


def _llama_config(tokenizer: PreTrainedTokenizerFast, config: PretrainConfig) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden,
        intermediate_size=config.intermediate,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=512,
        initializer_range=config.init,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _pack(documents: Sequence[str], tokenizer: PreTrainedTokenizerFast, config: PretrainConfig) -> torch.Tensor:
    """Documents as `<s> text </s>` one after another, cut into rows: int64 [steps * batch, length]."""
    stream: list[int] = []
    encoded = tokenizer(list(documents), add_special_tokens=False)["input_ids"]
    while len(stream) < config.tokens:
        for ids in encoded:
            stream += [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    return torch.tensor(stream[: config.tokens]).view(config.steps * config.batch, config.length)


def _train(model: LlamaForCausalLM, rows: torch.Tensor, config: PretrainConfig, progress: bool) -> None:
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, config.beta2), weight_decay=0.01, foreach=True
    )

    def rate(step: int) -> float:
        if step < config.warmup:
            return (step + 1) / config.warmup
        return max(0.02, (config.steps - step) / max(1, config.steps - config.warmup))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.2f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("pre-training the base model", total=config.steps, loss=float("nan"))
        for batch in rows.split(config.batch):
            loss = model(input_ids=batch, labels=batch, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            bar.update(task, advance=1, loss=float(loss.detach()))
