"""Messages to token ids and a loss mask: the one owner of chat form and supervision.

What enters: conversations. What leaves: `Encoded` ids [T] and a bool mask [T] of the supervised tokens. Scoring, training
and evaluation all go through `Encoder`, so a mask error cannot hide in one of them.

A conversation is rendered to one string with marked spans, tokenised once as a whole, and a token is supervised when it
*begins* inside an assistant span. A token that straddles the edge begins in the prompt, which is given at generation
time, so it is not supervised. Assistant spans hold the text and the end-of-sequence mark, as in open-instruct, but not
the newline after it: nothing is ever generated past the mark (`newline_label` makes it a label, as open-instruct and LESS
have it in pool examples). An assistant message's `opening` is given, not supervised, and without `end` its mark is no label
and left out where nothing follows: the form of LESS's references. Text from data that spells a special token stays text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from paydirt.core.artifacts import fingerprint
from paydirt.core.config import Config
from paydirt.core.progress import say
from paydirt.core.types import Example, Message, Target
from paydirt.data.templates import Segment, fold_system, render_llama2, render_tokenizer, render_tulu, shows_system

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TemplateName = Literal["tulu", "llama2", "tokenizer"]

VERSION = 3  # raise when the same text gives other tokens or another mask: stored tokens and scores are then stale


class EncodingConfig(Config):
    """How conversations become tokens."""

    template: TemplateName = Field("tulu", description="chat form: tulu, llama2, or the tokenizer's own template")
    max_length: int = Field(2048, ge=8, description="tokens kept of each example, from its beginning")
    newline_label: bool = Field(
        False, description="learn the newline after an answer's end mark too, as LESS's pool does"
    )

    @model_validator(mode="after")
    def _newline_exists(self) -> EncodingConfig:
        if self.newline_label and self.template == "llama2":
            raise ValueError(
                "newline_label: template llama2 has no newline after its end mark; use tulu or leave it out"
            )
        return self


@dataclass(frozen=True)
class Encoded:
    """Token ids int32 [T] and supervision mask bool [T] of one conversation; `lost` supervised tokens were cut off."""

    ids: np.ndarray
    supervised: np.ndarray
    truncated: bool = False
    lost: int = 0

    @property
    def n_supervised(self) -> int:
        # The first token has no prediction, so it never counts.
        return int(self.supervised[1:].sum())


class Encoder:
    """Encodes with one tokenizer, template and length; raises ValueError where the tokenizer lacks what they need."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: EncodingConfig | None = None) -> None:
        self.tokenizer = tokenizer
        self.config = config or EncodingConfig()
        if not tokenizer.is_fast:
            raise ValueError(
                f"{tokenizer.name_or_path}: only fast tokenizers give the character offsets that masks need"
            )
        if self.config.template == "tokenizer" and not tokenizer.chat_template:
            raise ValueError(
                f"{tokenizer.name_or_path}: the tokenizer has no chat template; use template tulu or llama2"
            )
        if tokenizer.eos_token is None:
            raise ValueError(f"{tokenizer.name_or_path}: the tokenizer has no end-of-sequence token; set eos_token")
        first = tokenizer("a").input_ids[:1]
        # Llama-like tokenizers open every sequence with bos; templates that spell it themselves must not double it.
        self._bos = first if self.config.template == "tulu" and first == [tokenizer.bos_token_id] else []
        # Not all special tokens have a role: Llama 3 names only two of its 256 in `all_special_tokens`.
        known = {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special} | {*tokenizer.all_special_tokens}
        longest_first = sorted(filter(None, known), key=lambda t: (-len(t), t))
        self._specials = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self.folds_system = self.config.template == "tokenizer" and not shows_system(tokenizer)

    @property
    def fingerprint(self) -> str:
        """Equal for encoders that give equal tokens."""
        tokenizer: Any = self.tokenizer
        parts = [
            VERSION,
            tokenizer.backend_tokenizer.to_str(),
            tokenizer.chat_template,
            tokenizer.eos_token,
            tokenizer.bos_token,
            self.config.to_dict(),
        ]
        return fingerprint(parts)

    @property
    def opens_with_bos(self) -> bool:
        """Whether every sequence begins with a beginning-of-sequence token that no template spells."""
        return bool(self._bos)

    @property
    def pad_id(self) -> int:
        """The padding id; padded positions are masked, so eos serves where a tokenizer has no pad token."""
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    def segments(self, messages: Sequence[Message], open_answer: bool = False) -> list[Segment]:
        if self.config.template == "tulu":
            return render_tulu(messages, str(self.tokenizer.eos_token), open_answer, self.config.newline_label)
        if self.config.template == "llama2":
            return render_llama2(messages, str(self.tokenizer.bos_token or ""), str(self.tokenizer.eos_token))
        if self.folds_system:
            messages = fold_system(messages)
        return render_tokenizer(messages, self.tokenizer, self._specials, open_answer, self.config.newline_label)

    def encode(self, messages: Sequence[Message]) -> Encoded:
        return self.encode_batch([messages])[0]

    def encode_batch(self, conversations: Sequence[Sequence[Message]]) -> list[Encoded]:
        """Encode many conversations with one tokenizer call."""
        return self._encode([self.segments(c) for c in conversations])

    def encode_examples(self, examples: Sequence[Example]) -> list[Encoded]:
        """`encode_batch` of whole examples; ValueError names the one that cannot be encoded."""
        rendered = []
        for example in examples:
            try:
                rendered.append(self.segments(example.messages))
            except ValueError as error:
                raise ValueError(f"example {example.id!r}: {error}") from None
        return self._encode(rendered)

    def encode_references(self, target: Target, answers: bool = True) -> list[Encoded]:
        """The references of a target [R]; says how many are cut, ValueError names one that has nothing to learn from.

        Without `answers` prompts alone will do.
        """
        encoded = self.encode_examples(target.references)
        for example, one in zip(target.references, encoded):
            if one.n_supervised == 0 and (answers or example.answered):
                raise ValueError(
                    f"reference {example.id!r} of target {target.name!r} has no supervised token after max_length "
                    f"{self.config.max_length}; raise max_length, or mend its assistant turn"
                )
        if (counts := truncation(encoded))["truncated"]:
            say(
                f"target {target.name}: {counts['truncated']} of {len(encoded)} references are longer than max_length "
                f"{self.config.max_length} and cut; {counts['answer_tokens_lost']} of "
                f"{counts['answer_tokens_lost'] + counts['answer_tokens']} answer tokens are lost (raise max_length)"
            )
        return encoded

    def encode_prompt(self, messages: Sequence[Message]) -> np.ndarray:
        """Ids [T] of a conversation opened for the assistant to continue; a final assistant turn is left out.

        Truncated from the left, so that the question stays (`keep_end`).
        """
        if messages and messages[-1].role == "assistant":
            messages = messages[:-1]
        return self.keep_end(self.open_prompt(messages)[1])

    def keep_end(self, ids: np.ndarray, limit: int | None = None) -> np.ndarray:
        """The last ids, at most `limit` (default max_length); a beginning-of-sequence token stays at their head."""
        limit = self.config.max_length if limit is None else limit
        if len(ids) <= limit:
            return ids
        head = ids[:1] if ids[0] == self.tokenizer.bos_token_id else ids[:0]
        return np.concatenate([head, ids[len(ids) - limit + len(head) :]])

    def open_prompt(self, messages: Sequence[Message], begun: str = "") -> tuple[str, np.ndarray]:
        """Text and ids [T] of a conversation opened for the assistant, whose answer has `begun` so; nothing truncated.

        Tokenised as a whole, so that a begun answer has the tokens it has in training. Evaluation harnesses, which
        truncate and count by themselves, prompt through this.
        """
        space = " " if begun and self.config.template == "llama2" else ""  # stands before every answer there
        opened = self.segments(messages, open_answer=True)
        segments = [*opened, *([Segment(space), Segment(begun, content=True)] if begun else [])]
        ids, _ = self._tokenize([segments])[0]
        return "".join(s.text for s in segments), np.asarray(ids, dtype=np.int32)

    def _encode(self, rendered: list[list[Segment]]) -> list[Encoded]:
        limit = self.config.max_length
        return [
            Encoded(ids[:limit], mask[:limit], truncated=len(ids) > limit, lost=int(mask[limit:].sum()))
            for ids, mask in self._tokenize(rendered)
        ]

    def _tokenize(self, rendered: list[list[Segment]]) -> list[tuple[np.ndarray, np.ndarray]]:
        plain = [not self._spells_special(segments) for segments in rendered]
        texts = ["".join(s.text for s in segments) for segments, ok in zip(rendered, plain) if ok]
        call: Any = self.tokenizer
        batch = call(texts, add_special_tokens=False, return_offsets_mapping=True) if texts else None
        out: list[tuple[np.ndarray, np.ndarray]] = []
        row = 0
        for segments, ok in zip(rendered, plain):
            if ok:
                assert batch is not None
                ids = np.asarray(self._bos + batch["input_ids"][row], dtype=np.int32)
                starts = np.asarray([-1] * len(self._bos) + [o[0] for o in batch["offset_mapping"][row]])
                out.append((ids, _begins_supervised(starts, segments)))
                row += 1
            else:
                out.append(self._tokenize_pieces(segments))
        return out

    def _spells_special(self, segments: list[Segment]) -> bool:
        return any(s.content and self._specials.search(s.text) for s in segments)

    def _tokenize_pieces(self, segments: list[Segment]) -> tuple[np.ndarray, np.ndarray]:
        """Piece by piece, so that a special token spelled in the data is split into ordinary tokens."""
        ids: list[int] = list(self._bos)
        mask: list[bool] = [False] * len(ids)
        call: Any = self.tokenizer
        for segment in segments:
            piece = call(segment.text, add_special_tokens=False, split_special_tokens=segment.content)["input_ids"]
            ids += piece
            mask += [segment.supervised] * len(piece)
        return np.asarray(ids, dtype=np.int32), np.asarray(mask, dtype=bool)


def truncation(encoded: Sequence[Encoded]) -> dict[str, int]:
    """How many sequences are cut, and how many supervised tokens that left and cost."""
    return {
        "truncated": sum(e.truncated for e in encoded),
        "answer_tokens": sum(e.n_supervised for e in encoded),
        "answer_tokens_lost": sum(e.lost for e in encoded),
    }


def _begins_supervised(starts: np.ndarray, segments: list[Segment]) -> np.ndarray:
    """Mask [T] of the tokens whose first character, at `starts` [T], lies in a supervised segment."""
    edges = np.cumsum([0] + [len(s.text) for s in segments])
    which = np.searchsorted(edges, starts, side="right") - 1
    flags = np.asarray([s.supervised for s in segments] + [False])
    mask = flags[np.clip(which, 0, len(segments))]
    mask[starts < 0] = False
    return mask
