"""The built-in benchmark: greedy answers compared with the right ones, and the loss on held-out references.

Every test example's last assistant turn is the right answer; white space at the ends does not count. Where the turn has an
opening, the model is given it and asked for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from paydirt.core.progress import say, showing
from paydirt.core.types import EvalResult, Example, Target
from paydirt.data.batches import length_bucketed
from paydirt.data.encoding import Encoded, Encoder, truncation
from paydirt.tasks.benchmark import Benchmark
from paydirt.tasks.loss import mean_losses, token_losses
from paydirt.tasks.spending import Expected, Spending, read_and_written

if TYPE_CHECKING:
    import torch


class ExactMatch(Benchmark):
    """Exact match of greedy generation on the target's test split; loss on it and on the references."""

    name: ClassVar[str] = "exact_match"
    limit: int | None = Field(None, ge=1, description="test examples to use, from the first")
    token_budget: int = Field(8192, ge=1, description="padded tokens in a batch")
    extra_tokens: int = Field(4, ge=0, description="tokens a wrong answer may run past the longest right one")

    def evaluate(self, model: Any, encoder: Encoder, target: Target) -> EvalResult:
        if not target.test:
            raise ValueError(
                f"target {target.name!r} has no test examples; give a test file, or another benchmark than exact_match"
            )
        test = target.test[: self.limit]
        spending = Spending(model)
        tested, references = self._read(encoder, target)
        self._expect(spending, encoder, test, tested, references)
        answers = self.generate(model, encoder, test, spending)
        hits = np.asarray([given.strip() == example.completion.strip() for given, example in zip(answers, test)])
        subtasks = np.asarray([e.subset or "all" for e in test])
        metrics = {"exact_match": float(hits.mean())}
        for name, encoded in (("test_loss", tested), ("reference_loss", references)):
            if encoded:
                spending.tokens += sum(len(e.ids) for e in encoded)
                losses = token_losses(model, encoded, encoder.pad_id, self.token_budget, spending.reading)
                metrics[name] = float(mean_losses(losses).mean())
        by_subtask = {str(s): float(hits[subtasks == s].mean()) for s in np.unique(subtasks)}
        settings: dict[str, object] = {
            "generation": "greedy",
            "template": encoder.config.template,
            "limit": self.limit,
            "without_supervised_tokens": len(test) - len(tested),  # too long a prompt: answered, but without a loss
            "prompts_truncated": spending.prompts_cut,
            "test_examples_truncated": truncation(tested)["truncated"],
            "references_truncated": truncation(references)["truncated"],
        }
        return spending.on(EvalResult(target.name, "exact_match", metrics, len(test), by_subtask, settings))

    def expect(self, expected: Expected, encoder: Encoder, target: Target | None) -> bool:
        if target is None or not target.test:
            return False
        self._expect(expected, encoder, target.test[: self.limit], *self._read(encoder, target))
        return True

    def _expect(self, expected: Expected, encoder: Encoder, test: tuple[Example, ...], *texts: list[Encoded]) -> None:
        prompts, longest = self._asked(encoder, test)
        expected.token_budget = self.token_budget
        expected.expect_writing([len(encoder.keep_end(ids)) for ids in prompts], longest)
        for encoded in filter(None, texts):
            expected.expect_reading([len(e.ids) for e in encoded])

    def _asked(self, encoder: Encoder, test: tuple[Example, ...]) -> tuple[list[np.ndarray], int]:
        """Ids of each prompt, not yet cut, and the tokens that an answer may have."""
        call: Any = encoder.tokenizer
        longest = max(len(call(e.completion, add_special_tokens=False)["input_ids"]) for e in test)
        whole = [encoder.open_prompt(e.messages[: e.answer_index], e.opening)[1] for e in test]
        return whole, longest + 1 + self.extra_tokens

    def _read(self, encoder: Encoder, target: Target) -> tuple[list[Encoded], list[Encoded]]:
        """Test examples and references whose loss is measured."""
        test = target.test[: self.limit]
        references = [] if target.unanswered else encoder.encode_references(target)  # prompts alone have no loss
        return [e for e in encoder.encode_examples(test) if e.n_supervised], references

    def generate(
        self, model: Any, encoder: Encoder, test: tuple[Example, ...], spending: Spending | None = None
    ) -> list[str]:
        """Greedy continuation of each prompt, as text; prompts beyond max_length are cut from the left, and it is said."""
        import torch

        tokenizer, spending = encoder.tokenizer, spending or Spending(model)
        whole, longest = self._asked(encoder, test)
        prompts = [encoder.keep_end(ids) for ids in whole]
        spending.prompts_cut = sum(len(ids) > len(kept) for ids, kept in zip(whole, prompts))
        if spending.prompts_cut:
            say(
                f"exact_match: {spending.prompts_cut} of {len(test)} prompts are cut from the left to max_length "
                f"{encoder.config.max_length}"
            )
        device = next(model.parameters()).device
        out = [""] * len(test)
        with showing("answers", len(prompts)) as bar:
            for rows in length_bucketed([len(p) for p in prompts], self.token_budget):
                width = max(len(prompts[i]) for i in rows)
                ids = torch.full((len(rows), width), encoder.pad_id, dtype=torch.long)
                mask = torch.zeros_like(ids)
                for k, i in enumerate(rows):  # left padding, so that every row ends where its answer begins
                    ids[k, width - len(prompts[i]) :] = torch.from_numpy(prompts[i].astype(np.int64))
                    mask[k, width - len(prompts[i]) :] = 1

                def answer(ids: torch.Tensor = ids, mask: torch.Tensor = mask) -> torch.Tensor:
                    made: torch.Tensor = model.generate(  # which keeps no gradients
                        input_ids=ids.to(device),
                        attention_mask=mask.to(device),
                        max_new_tokens=longest,
                        do_sample=False,
                        pad_token_id=encoder.pad_id,
                        eos_token_id=tokenizer.eos_token_id,
                    )
                    return made

                made = spending.writing.run(answer, read_and_written)
                spending.tokens += int(mask.sum()) + made[:, width:].numel()
                bar.finish(len(rows))
                for i, text in zip(rows, tokenizer.batch_decode(made[:, width:], skip_special_tokens=True)):
                    out[i] = text
        return out
