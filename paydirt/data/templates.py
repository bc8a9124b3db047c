"""Chat forms: a conversation as a list of marked pieces of text, for `encoding` to tokenise.

What enters: messages. What leaves: `Segment`s whose texts joined are the rendered conversation, each marked as supervised
or not and as text from data or the template's own. Three forms: open-instruct's ("tulu"), Llama 2's, and whatever chat
template a tokenizer brings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from paydirt.core.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_HIDDEN = ("\ue000\ue0ff", "\ue0ff\ue000")  # private-use characters around the number of a hidden special token
_MARKS = "[\ue000\ue0ff]"  # in data they are hidden themselves, so that none is taken for ours


class Segment(NamedTuple):
    """A piece of the rendered string; `content` is text from data, everything else is the template's own."""

    text: str
    supervised: bool = False
    content: bool = False


def _answer(message: Message) -> list[Segment]:
    """An assistant's text: its opening, which is given, and the rest, which is learnt."""
    text, opening = message.content.strip(), message.opening.lstrip()
    begun = [Segment(text[: len(opening)], content=True)] if opening else []
    return [*begun, Segment(text[len(opening) :], True, True)]


def _stops(messages: Sequence[Message], number: int) -> bool:
    """Whether the sequence stops at the last character of that turn, an answer without an end."""
    return number == len(messages) - 1 and not messages[number].end


def render_tulu(
    messages: Sequence[Message], eos: str, open_answer: bool = False, newline_label: bool = False
) -> list[Segment]:
    """`<|role|>\\n{text}\\n` a turn, `{eos}` after an assistant's text (open-instruct; METHODS section 1)."""
    out: list[Segment] = []
    for number, message in enumerate(messages):
        out.append(Segment(f"<|{message.role}|>\n"))
        if message.role == "assistant":
            out += _answer(message)
            if not _stops(messages, number):
                out += [Segment(eos, message.end), Segment("\n", message.end and newline_label)]
        else:
            out += [Segment(message.content.strip(), content=True), Segment("\n")]
    if open_answer:
        out.append(Segment("<|assistant|>\n"))
    return out


def render_llama2(messages: Sequence[Message], bos: str, eos: str) -> list[Segment]:
    """`{bos}[INST] {user} [/INST] {assistant} {eos}` a turn, the system text inside the next user turn (Llama 2).

    `[/INST]` opens the answer, so nothing is added to a prompt that waits for one. System turns in a row are one text, a
    blank line between. ValueError where no user turn follows a system turn: its text would be lost.
    """
    out: list[Segment] = []
    system = ""
    for number, message in enumerate(messages):
        if message.role == "system":
            system = "\n\n".join(filter(None, [system, message.content.strip()]))
        elif message.role == "user":
            out.append(Segment(f"{bos}[INST] "))
            if system:
                out += [Segment("<<SYS>>\n"), Segment(system, content=True), Segment("\n<</SYS>>\n\n")]
                system = ""
            out += [Segment(message.content.strip(), content=True), Segment(" [/INST]")]
        else:
            # The space belongs to the answer: most tokenizers join it to the first word, which must be learnt.
            out += [Segment(" ", not message.opening), *_answer(message)]
            if not _stops(messages, number):
                out.append(Segment(f" {eos}", message.end))
    if system:
        raise ValueError(
            f"a system turn ({system[:60]!r}) that no user turn follows, which template 'llama2' has no place for; move it "
            "before a user turn, remove it, or use template 'tulu'"
        )
    return out


def render_tokenizer(
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    specials: re.Pattern[str],
    open_answer: bool = False,
    newline_label: bool = False,
) -> list[Segment]:
    """The tokenizer's own chat template; assistant spans are what each assistant turn adds to the opened prompt.

    White space that a template puts after the end-of-sequence token is not supervised (but by `newline_label`). `specials`
    matches special tokens: where data spells one, the template sees a placeholder, so that data and template can be told
    apart after. Raises ValueError when the template refuses the conversation or rewrites turns, since spans cannot be told
    apart then.
    """
    spelled: list[str] = []

    def hidden(text: str) -> str:
        return re.sub(f"{_MARKS}|{specials.pattern}", hide, text)

    def hide(match: re.Match[str]) -> str:
        spelled.append(match.group())
        return f"{_HIDDEN[0]}{len(spelled) - 1}{_HIDDEN[1]}"

    openings = [hidden(m.opening) for m in messages]
    turns = [
        {"role": m.role, "content": opening + hidden(m.content[len(m.opening) :])}
        for m, opening in zip(messages, openings)
    ]
    eos = str(tokenizer.eos_token)

    def render(upto: int, opened: bool) -> str:
        return apply_template(tokenizer, turns[:upto], opened)

    out: list[Segment] = []
    done = ""
    for i, (message, turn) in enumerate(zip(messages, turns)):
        if message.role != "assistant":
            continue
        before, after = render(i, True), render(i + 1, False)
        if not (before.startswith(done) and after.startswith(before)):
            raise ValueError(
                f"the chat template of {tokenizer.name_or_path!r} rewrites earlier turns, so the answer of turn {i + 1} "
                "cannot be located; use template 'tulu' or 'llama2'"
            )
        answer = after[len(before) :]
        out.append(Segment(before[len(done) :]))
        done = after
        end = answer.rfind(eos) + len(eos) if answer.rstrip().endswith(eos) else len(answer)
        start, stop = 0, end
        if message.opening or not message.end:
            text = turn["content"].strip()
            place = answer.find(text)
            if place < 0:
                raise ValueError(
                    f"the chat template of {tokenizer.name_or_path!r} rewrites the answer of turn {i + 1}, so its opening "
                    "and end cannot be located; use template 'tulu' or 'llama2'"
                )
            start = place + len(openings[i].lstrip()) if message.opening else 0
            stop = end if message.end else place + len(text)
        out += [Segment(answer[:start]), Segment(answer[start:stop], True)]
        if _stops(messages, i):
            return [piece for segment in out if segment.text for piece in _shown(segment, spelled)]
        out += [Segment(answer[stop:end]), Segment(answer[end:], newline_label and message.end)]
    whole = render(len(turns), open_answer)
    out.append(Segment(whole[len(done) :]))
    return [piece for segment in out if segment.text for piece in _shown(segment, spelled)]


def apply_template(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], opened: bool) -> str:
    """The tokenizer's chat template as text; ValueError with its own words where it refuses the turns."""
    from jinja2.exceptions import TemplateError

    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opened))
    except TemplateError as error:
        raise ValueError(
            f"the chat template of {tokenizer.name_or_path!r} refuses turns {', '.join(t['role'] for t in turns)} "
            f"({error}); use template 'tulu' or 'llama2', or mend the turns"
        ) from None


def _shown(segment: Segment, spelled: list[str]) -> list[Segment]:
    """The segment cut at its placeholders, each replaced by the text that it stands for."""
    parts = re.split(f"{_HIDDEN[0]}([0-9]+){_HIDDEN[1]}", segment.text)
    pieces = [
        Segment(spelled[int(part)], segment.supervised, True) if i % 2 else segment._replace(text=part)
        for i, part in enumerate(parts)
    ]
    return [piece for piece in pieces if piece.text]


def shows_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer's template has a place for a system turn: Gemma's refuses one, others leave it out."""
    mark = "paydirt asks"
    try:
        turns = [{"role": "system", "content": mark}, {"role": "user", "content": "a"}]
        return mark in apply_template(tokenizer, turns, True)
    except ValueError:
        return False


def fold_system(messages: Sequence[Message]) -> list[Message]:
    """The conversation with each system text at the head of the user turn that follows it, a blank line between.

    ValueError where no user turn follows: the text would be lost.
    """
    out: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        if message.role == "system":
            waiting.append(message.content.strip())
        elif waiting and message.role == "user":
            out.append(Message("user", "\n\n".join([*waiting, message.content])))
            waiting = []
        else:
            out.append(message)
    if waiting:
        raise ValueError("a system turn that no user turn follows, and a chat template without system turns; remove it")
    return out
