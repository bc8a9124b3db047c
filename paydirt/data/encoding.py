"""Messages to token ids and a loss mask: the one owner of chat form and supervision.

What enters: conversations. What leaves: `Encoded` ids [T] and a bool mask [T] of the supervised tokens. Scoring, training
and evaluation all go through `Encoder`, so a mask error cannot hide in one of them.

A conversation is rendered to one string with marked spans, tokenised once as a whole, and a token is supervised when it
*begins* inside an assistant span. A token that straddles the edge begins in the prompt, which is given at generation
time, so it is not supervised. Assistant spans hold the text and the end-of-sequence mark, as in open-instruct, but not
the newline after it: nothing is ever generated past the mark. Text from data that spells a special token stays text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from paydirt.artifacts import fingerprint
from paydirt.config import Config
from paydirt.types import Message, Target

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TemplateName = Literal["tulu", "llama2", "tokenizer"]
_HIDDEN = ("\ue000\ue0ff", "\ue0ff\ue000")  # private-use characters around the number of a hidden special token


VERSION = 1  # raise when the same text gives other tokens or another mask: stored tokens and scores are then stale


class EncodingConfig(Config):
    """How conversations become tokens."""

    template: TemplateName = Field("tulu", description="chat form: tulu, llama2, or the tokenizer's own template")
    max_length: int = Field(2048, ge=8, description="tokens kept of each example, from its beginning")


class Segment(NamedTuple):
    """A piece of the rendered string; `content` is text from data, everything else is the template's own."""

    text: str
    supervised: bool = False
    content: bool = False


@dataclass(frozen=True)
class Encoded:
    """Token ids int32 [T] and supervision mask bool [T] of one conversation."""

    ids: np.ndarray
    supervised: np.ndarray
    truncated: bool = False

    @property
    def n_supervised(self) -> int:
        # The first token has no prediction, so it never counts.
        return int(self.supervised[1:].sum())


def render_tulu(messages: Sequence[Message], eos: str, open_answer: bool = False) -> list[Segment]:
    """`<|role|>\\n{text}\\n` a turn, `{eos}` after an assistant's text (open-instruct; METHODS section 1)."""
    out: list[Segment] = []
    for message in messages:
        out.append(Segment(f"<|{message.role}|>\n"))
        if message.role == "assistant":
            out += [Segment(message.content.strip(), True, True), Segment(eos, True), Segment("\n")]
        else:
            out += [Segment(message.content.strip(), content=True), Segment("\n")]
    if open_answer:
        out.append(Segment("<|assistant|>\n"))
    return out


def render_llama2(messages: Sequence[Message], bos: str, eos: str) -> list[Segment]:
    """`{bos}[INST] {user} [/INST] {assistant} {eos}` a turn, the system text inside the next user turn (Llama 2).

    `[/INST]` opens the answer, so nothing is added to a prompt that waits for one.
    """
    out: list[Segment] = []
    system = ""
    for message in messages:
        if message.role == "system":
            system = message.content.strip()
        elif message.role == "user":
            out.append(Segment(f"{bos}[INST] "))
            if system:
                out += [Segment("<<SYS>>\n"), Segment(system, content=True), Segment("\n<</SYS>>\n\n")]
                system = ""
            out += [Segment(message.content.strip(), content=True), Segment(" [/INST]")]
        else:
            # The space belongs to the answer: most tokenizers join it to the first word, which must be learnt.
            out += [Segment(" ", True), Segment(message.content.strip(), True, True), Segment(f" {eos}", True)]
    return out


def render_tokenizer(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    specials: re.Pattern[str],
    open_answer: bool = False,
) -> list[Segment]:
    """The tokenizer's own chat template; assistant spans are what each assistant turn adds to the opened prompt.

    White space that a template puts after the end-of-sequence token is not supervised. `specials` matches special
    tokens: where data spells one, the template sees a placeholder, so that data and template can be told apart after.
    Raises ValueError when the template rewrites earlier turns, since spans cannot be told apart then.
    """
    spelled: list[str] = []

    def hide(match: re.Match[str]) -> str:
        spelled.append(match.group())
        return f"{_HIDDEN[0]}{len(spelled) - 1}{_HIDDEN[1]}"

    turns = [{"role": m.role, "content": specials.sub(hide, m.content)} for m in messages]
    eos = str(tokenizer.eos_token)

    def render(upto: int, opened: bool) -> str:
        return str(tokenizer.apply_chat_template(turns[:upto], tokenize=False, add_generation_prompt=opened))

    out: list[Segment] = []
    done = ""
    for i, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        before, after = render(i, True), render(i + 1, False)
        if not (before.startswith(done) and after.startswith(before)):
            raise ValueError(
                f"the chat template of {tokenizer.name_or_path!r} rewrites earlier turns, so the answer of turn {i + 1} "
                "cannot be located; use template 'tulu' or 'llama2'"
            )
        answer = after[len(before) :]
        end = answer.rfind(eos) + len(eos) if answer.rstrip().endswith(eos) else len(answer)
        out += [Segment(before[len(done) :]), Segment(answer[:end], True), Segment(answer[end:])]
        done = after
    whole = render(len(turns), open_answer)
    out.append(Segment(whole[len(done) :]))
    return [piece for segment in out if segment.text for piece in _shown(segment, spelled)]


def _shown(segment: Segment, spelled: list[str]) -> list[Segment]:
    """The segment cut at its placeholders, each replaced by the text that it stands for."""
    parts = re.split(f"{_HIDDEN[0]}([0-9]+){_HIDDEN[1]}", segment.text)
    pieces = [
        Segment(spelled[int(part)], segment.supervised, True) if i % 2 else segment._replace(text=part)
        for i, part in enumerate(parts)
    ]
    return [piece for piece in pieces if piece.text]


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
    def pad_id(self) -> int:
        """The padding id; padded positions are masked, so eos serves where a tokenizer has no pad token."""
        pad = self.tokenizer.pad_token_id
        return int(self.tokenizer.eos_token_id if pad is None else pad)

    def segments(self, messages: Sequence[Message], open_answer: bool = False) -> list[Segment]:
        if self.config.template == "tulu":
            return render_tulu(messages, str(self.tokenizer.eos_token), open_answer)
        if self.config.template == "llama2":
            return render_llama2(messages, str(self.tokenizer.bos_token or ""), str(self.tokenizer.eos_token))
        return render_tokenizer(messages, self.tokenizer, self._specials, open_answer)

    def encode(self, messages: Sequence[Message]) -> Encoded:
        return self.encode_batch([messages])[0]

    def encode_batch(self, conversations: Sequence[Sequence[Message]]) -> list[Encoded]:
        """Encode many conversations with one tokenizer call."""
        return self._encode([self.segments(c) for c in conversations])

    def encode_references(self, target: Target) -> list[Encoded]:
        """The references of a target [R]; ValueError names one that has nothing to learn from."""
        encoded = self.encode_batch([e.messages for e in target.references])
        for example, one in zip(target.references, encoded):
            if one.n_supervised == 0:
                raise ValueError(
                    f"reference {example.id!r} of target {target.name!r} has no supervised token after max_length "
                    f"{self.config.max_length}; raise max_length, or mend its assistant turn"
                )
        return encoded

    def encode_prompt(self, messages: Sequence[Message]) -> np.ndarray:
        """Ids [T] of a conversation opened for the assistant to continue; a final assistant turn is left out.

        Truncated from the left, so that the question stays.
        """
        if messages and messages[-1].role == "assistant":
            messages = messages[:-1]
        ids, _ = self._tokenize([self.segments(messages, open_answer=True)])[0]
        return np.asarray(ids[-self.config.max_length :], dtype=np.int32)

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
            Encoded(ids[:limit], mask[:limit], truncated=len(ids) > limit) for ids, mask in self._tokenize(rendered)
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


def _begins_supervised(starts: np.ndarray, segments: list[Segment]) -> np.ndarray:
    """Mask [T] of the tokens whose first character, at `starts` [T], lies in a supervised segment."""
    edges = np.cumsum([0] + [len(s.text) for s in segments])
    which = np.searchsorted(edges, starts, side="right") - 1
    flags = np.asarray([s.supervised for s in segments] + [False])
    mask = flags[np.clip(which, 0, len(segments))]
    mask[starts < 0] = False
    return mask
