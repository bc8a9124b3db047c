"""Turns in the order that trainers take: a system text first if there is one, then user and assistant in turns.

What enters: the messages of a conversation. What leaves: the same texts in that order, and what was done to them in words.
Many chat templates refuse any other order, and LLaMA-Factory leaves such conversations out without an error. Texts are
joined by a blank line and never altered; only turns that nothing can be learnt from are left out, each counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from paydirt.core.types import Message

Turns = Literal["repair", "refuse"]
Pair = tuple[str, str]

SYSTEM = "late system text moved into the user turn beside it"
JOINED = "neighbouring turns of one role joined"
OPENING = "assistant turn before any question left out"
CLOSING = "user turn after the last answer left out"
NOTHING = "no answer follows a question"


class Ordered(NamedTuple):
    """Turns as (role, text), empty where nothing is left to learn; and what was changed."""

    turns: list[Pair]
    changes: list[str]


def in_order(messages: Sequence[Message]) -> Ordered:
    """System (at most one), user, assistant, user, assistant, ..."""
    turns = [(message.role, message.content) for message in messages]
    head = next((n for n, (role, _) in enumerate(turns) if role != "system"), len(turns))
    changes: list[str] = []
    if any(role == "system" for role, _ in turns[head:]):
        changes.append(SYSTEM)
    body = [("user" if role == "system" else role, text) for role, text in turns[head:]]
    system, joined = _joined(turns[:head]), _joined(body)
    if len(system) + len(joined) < len(turns):
        changes.append(JOINED)
    if joined and joined[0][0] == "assistant":
        joined, changes = joined[1:], [*changes, OPENING]
    if joined and joined[-1][0] == "user":
        joined, changes = joined[:-1], [*changes, CLOSING]
    if not joined:
        return Ordered([], [NOTHING])
    return Ordered([*system, *joined], changes)


def _joined(turns: Sequence[Pair]) -> list[Pair]:
    out: list[Pair] = []
    for role, text in turns:
        if out and out[-1][0] == role:
            out[-1] = (role, "\n\n".join(filter(None, [out[-1][1], text])))
        else:
            out.append((role, text))
    return out
