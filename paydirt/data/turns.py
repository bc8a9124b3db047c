"""One turn of a conversation as public data sets write it, to a role of ours and a text.

Content is a text, or a list of parts of which the texts are kept, a line each. Calls of tools become
`<tool_call>` lines of JSON in the assistant's text (as Hermes and Qwen write them). Whatever has no text (images) is
counted in `Conversation.lost`, whatever is kept in another shape in `Conversation.changed`.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import Any

from paydirt.core.types import ROLES
from paydirt.data.lines import BadRecord

Turn = tuple[str, str]
TOOL_ROLES = ("tool", "function", "ipython", "observation", "function_response", "tool_response")
CALL_ROLES = ("function_call", "tool_call")
ROLES_OF = {role: role for role in ROLES} | {"developer": "system", "model": "assistant"}
ROLES_OF |= dict.fromkeys(TOOL_ROLES, "user") | dict.fromkeys(CALL_ROLES, "assistant")
SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant"}
SPEAKERS |= {"bard": "assistant", "assistant": "assistant", "system": "system"} | ROLES_OF
TEXT_PARTS = ("text", "input_text", "output_text")
MEDIA = "images, audio or video"


@dataclass
class Conversation:
    """What a record becomes. `used` are the fields that were looked at, `lost` and `changed` count what was met."""

    record: dict[str, Any]
    turns: list[Turn] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    lost: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)

    def peek(self, key: str) -> Any:
        """A field, or None; remembered as read."""
        self.used.add(key)
        return self.record.get(key)

    def lose(self, what: str) -> None:
        """Count something that turns cannot hold."""
        self.lost[what] = self.lost.get(what, 0) + 1

    def change(self, what: str, count: int = 1) -> None:
        """Count something that is kept in another shape."""
        self.changed[what] = self.changed.get(what, 0) + count


def turn_of(turn: Any, number: int, roles: dict[str, str], found: Conversation) -> Turn:
    """Role and text of turn `number`; BadRecord naming what is missing or unknown."""
    if not isinstance(turn, dict):
        raise BadRecord("turn is not an object", f"turn {number} is {type(turn).__name__}, expected role and content")
    role = turn.get("role") if turn.get("role") is not None else turn.get("from")
    content = turn["content"] if "content" in turn else turn.get("value")
    if role is None:
        have = ", ".join(sorted(map(str, turn)))[:300]
        raise BadRecord("missing role", f"turn {number} has no role (it has: {have or 'nothing'}); add one")
    if not isinstance(role, str) or role not in roles:
        known = ", ".join(roles)
        raise BadRecord("unknown role", f"turn {number} has the unknown role {repr(role)[:80]}; known: {known}")
    calls = _calls(turn, number)
    if content is None and not calls:
        has = "null content" if "content" in turn or "value" in turn else "no content"
        raise BadRecord("null content", f"turn {number} ({role}) has {has}; give a text or remove the record")
    text = "" if content is None else text_of(content, f"turn {number} ({role}) has content", found)
    if calls:
        found.change("tool calls written as text", len(calls))
        text = "\n".join([text, *calls] if text else calls)
    if role in TOOL_ROLES:
        found.change("tool turns read as user turns")
    if turn.get("weight") in (0, "0") or turn.get("train") is False:
        found.lose("marks of turns not to train on")
    return roles[role], text


def text_of(content: Any, what: str, found: Conversation) -> str:
    """A text, or the texts among a list of parts, a line each; BadRecord for anything else."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict | str) for part in content):
        raise BadRecord("content is not text", f"{what} of type {type(content).__name__}, expected text")
    texts = [text for part in content if (text := _part(part, found)) is not None]
    return "\n".join(texts)


def _part(part: dict[str, Any] | str, found: Conversation) -> str | None:
    """The text of one part of a content list; None for what has none, counted."""
    if isinstance(part, str):
        return part
    kind, text = part.get("type"), part.get("text")
    if isinstance(text, str) and (kind is None or kind in TEXT_PARTS):
        return text
    if kind == "tool_use":
        found.change("tool calls written as text")
        return _call(part.get("name"), part.get("input"))
    if kind == "tool_result" and isinstance(part.get("content"), str | list):
        found.change("tool turns read as user turns")
        return text_of(part["content"], "a tool result has content", found)
    media = str(kind).startswith(("image", "input_image", "audio", "input_audio", "video"))
    found.lose(MEDIA if media else "parts of content without text")
    return None


def _calls(turn: dict[str, Any], number: int) -> list[str]:
    """OpenAI's `tool_calls` and older `function_call` as text."""
    listed, single = turn.get("tool_calls"), turn.get("function_call")
    calls = listed if isinstance(listed, list) else [listed] if listed else []
    calls = calls + ([single] if single else [])
    out = []
    for call in calls:
        inner = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise BadRecord("tool call without a name", f"turn {number} holds a tool call that names no function")
        out.append(_call(inner["name"], inner.get("arguments")))
    return out


def _call(name: Any, arguments: Any) -> str:
    if isinstance(arguments, str):  # OpenAI writes them as JSON text
        with contextlib.suppress(ValueError, RecursionError):
            arguments = json.loads(arguments)
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False, default=str)
    return f"<tool_call>\n{call}\n</tool_call>"
