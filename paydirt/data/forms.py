"""Pool forms: how a record spells a conversation, and its way to one list of turns.

What enters: a record (a dict as read). What leaves: `[(role, content), ...]` with roles of `types.ROLES`. A form is
detected from a record's keys and then holds for its whole file.

- messages            {"messages": [{"role", "content"}]}                        open-instruct, OpenAI
- sharegpt            {"conversations": [{"from", "value"}]}                     human/gpt/system; "role"/"content" too
- prompt_completion   {"prompt", "completion" or "response"}                     texts, or TRL's lists of messages
- alpaca              {"instruction", "input"?, "output"}                        and Dolly's "context", "response"

Texts are never altered. Alpaca's prompt is the instruction, then, when the input is not blank, a blank line and the
input (as in data/SOURCES.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Literal

from paydirt.data.readers import BadRecord
from paydirt.types import ROLES

FormName = Literal["auto", "messages", "alpaca", "sharegpt", "prompt_completion"]
Turn = tuple[str, str]
SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
CONVERSATION_KEYS = ("conversations", "conversation")
ANSWER_KEYS = ("completion", "response")
OUTPUT_KEYS = ("output", "response")
INPUT_KEYS = ("input", "context")


def detect(keys: Iterable[str]) -> str:
    """The form of a record with these keys; BadRecord naming the keys and the known forms."""
    found = set(keys)
    if "messages" in found:
        return "messages"
    if found & set(CONVERSATION_KEYS):
        return "sharegpt"
    if "prompt" in found and found & set(ANSWER_KEYS):
        return "prompt_completion"
    if "instruction" in found and found & set(OUTPUT_KEYS):
        return "alpaca"
    shown = ", ".join(sorted(map(str, found))) or "none"
    raise BadRecord(
        "unknown form",
        f"unknown form: the record has the keys {shown}; known forms: messages (messages), sharegpt (conversations), "
        "prompt_completion (prompt + completion or response), alpaca (instruction + output)",
    )


def turns_of(record: dict[str, Any], form: str) -> list[Turn]:
    """The conversation of a record in `form`; BadRecord if it has no trainable answer or a faulty turn."""
    turns = _SPELLINGS[form](record)
    answers = [content for role, content in turns if role == "assistant"]
    if not answers:
        raise BadRecord("no assistant turn", "the conversation has no assistant turn, so there is nothing to learn")
    for number, (role, content) in enumerate(turns, 1):
        if role == "assistant" and not content.strip():
            raise BadRecord("empty assistant turn", f"turn {number} (assistant) is empty")
    return turns


def _messages(record: dict[str, Any]) -> list[Turn]:
    return _conversation(_value(record, ("messages",)), "messages", {role: role for role in ROLES})


def _sharegpt(record: dict[str, Any]) -> list[Turn]:
    turns = _conversation(_value(record, CONVERSATION_KEYS), "conversations", SPEAKERS)
    system = record.get("system")
    if isinstance(system, str) and system.strip() and turns[0][0] != "system":
        turns.insert(0, ("system", system))
    return turns


def _alpaca(record: dict[str, Any]) -> list[Turn]:
    instruction, output = _text(record, ("instruction",)), _text(record, OUTPUT_KEYS)
    extra = next((record[key] for key in INPUT_KEYS if record.get(key) is not None), "")
    if not isinstance(extra, str):
        raise BadRecord("content is not text", f"'input' is {type(extra).__name__}, expected text")
    prompt = f"{instruction}\n\n{extra}" if extra.strip() else instruction
    return [("user", prompt), ("assistant", output)]


def _prompt_completion(record: dict[str, Any]) -> list[Turn]:
    """TRL's standard (two texts) and conversational (two lists of messages) spellings, also mixed."""
    turns: list[Turn] = []
    for keys, role in ((("prompt",), "user"), (ANSWER_KEYS, "assistant")):
        value = _value(record, keys)
        if isinstance(value, list):
            turns += _conversation(value, keys[0], {name: name for name in ROLES})
        else:
            turns.append((role, _text(record, keys)))
    return turns


_SPELLINGS: dict[str, Callable[[dict[str, Any]], list[Turn]]] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
}


def _value(record: dict[str, Any], keys: tuple[str, ...]) -> Any:
    """The first of `keys` that the record has; null counts as there, so that it is named as null."""
    for key in keys:
        if record.get(key) is not None:
            return record[key]
    if any(key in record for key in keys):
        raise BadRecord("null content", f"{keys[0]!r} is null; give a text or remove the record")
    have = ", ".join(sorted(map(str, record)))
    raise BadRecord("missing field", f"missing field {' or '.join(map(repr, keys))}; the record has: {have or 'none'}")


def _text(record: dict[str, Any], keys: tuple[str, ...]) -> str:
    value = _value(record, keys)
    if not isinstance(value, str):
        raise BadRecord("content is not text", f"{keys[0]!r} is {type(value).__name__}, expected text")
    return value


def _conversation(value: Any, field: str, roles: dict[str, str]) -> list[Turn]:
    """A list of turns; CSV cells hold it as JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise BadRecord("content is not a list", f"{field!r} is text that is not a JSON list of turns") from None
    if not isinstance(value, list):
        raise BadRecord("content is not a list", f"{field!r} is {type(value).__name__}, expected a list of turns")
    if not value:
        raise BadRecord("no assistant turn", f"{field!r} is an empty list")
    return [_turn(turn, number, roles) for number, turn in enumerate(value, 1)]


def _turn(turn: Any, number: int, roles: dict[str, str]) -> Turn:
    if not isinstance(turn, dict):
        raise BadRecord("turn is not an object", f"turn {number} is {type(turn).__name__}, expected role and content")
    role = turn.get("role") if turn.get("role") is not None else turn.get("from")
    content = turn["content"] if "content" in turn else turn.get("value")
    if role is None:
        have = ", ".join(sorted(map(str, turn)))
        raise BadRecord("missing role", f"turn {number} has no role (it has: {have or 'nothing'}); add one")
    if not isinstance(role, str) or role not in roles:
        raise BadRecord("unknown role", f"turn {number} has the unknown role {role!r}; known: {', '.join(roles)}")
    if content is None:
        has = "null content" if "content" in turn or "value" in turn else "no content"
        raise BadRecord("null content", f"turn {number} ({role}) has {has}; give a text or remove the record")
    if not isinstance(content, str):
        raise BadRecord(
            "content is not text", f"turn {number} ({role}) has content of type {type(content).__name__}, expected text"
        )
    return roles[role], content
