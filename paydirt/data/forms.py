"""Pool forms: how a record spells a conversation, and its way to one list of turns.

What enters: a record (a dict as read). What leaves: a `Conversation`: turns with roles of `types.ROLES`, what the form
held that turns cannot (images, tool definitions), and the fields that were read. A form is detected from a record's keys
and then holds for its whole file.

- messages            {"messages": [{"role", "content"}]}                        open-instruct, OpenAI
- sharegpt            {"conversations": [{"from", "value"}]}                     human/gpt/system; "role"/"content" too
- prompt_completion   {"prompt", "completion" or "response"}                     texts, or TRL's lists of messages
- alpaca              {"instruction", "input"?, "output", "system"?, "history"?} and Dolly's "context", "response"
- question_answer     {"question", "answer"}, query/response, input/output, ...  any two of QUESTION_KEYS and REPLY_KEYS

Texts are never altered. Alpaca's prompt is the instruction, then, when the input is not blank, a blank line and the
input (as in data/SOURCES.md). A `system` text beside the conversation becomes its first turn; a developer's turn is a
system turn, a tool's a user turn; calls of tools are written into the assistant's turn as `turns` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from paydirt.data.lines import META, BadRecord, LeftOut, parse_json
from paydirt.data.turns import ROLES_OF, SPEAKERS, Conversation, Turn, text_of, turn_of

FormName = Literal["auto", "messages", "alpaca", "sharegpt", "prompt_completion", "question_answer"]
CONVERSATION_KEYS = ("conversations", "conversation")
ANSWER_KEYS = ("completion", "response")
OUTPUT_KEYS = ("output", "response")
INPUT_KEYS = ("input", "context")
SYSTEM_KEYS = ("system", "system_prompt")
QUESTION_KEYS = ("prompt", "question", "query", "problem", "instruction", "inputs", "input")
REPLY_KEYS = ("completion", "response", "answer", "output", "solution", "targets", "target")
# What stands beside a conversation and has no turn of its own.
ASIDE = {"tools": "tool definitions", "functions": "tool definitions"} | dict.fromkeys(
    ("images", "image", "videos", "video", "audios", "audio"), "images, audio or video"
)
NOTHING: tuple[Any, ...] = (None, "", [], {}, "[]", "{}")


def detect(keys: Iterable[str], answers: bool = True) -> str:
    """The form of a record with these keys; BadRecord naming the keys, the known forms and the way out.

    Without `answers` a prompt alone is a form too.
    """
    named = list(keys)
    found = set(named)
    if "messages" in found:
        return "messages"
    if found & set(CONVERSATION_KEYS):
        return "sharegpt"
    if "prompt" in found and found & set(ANSWER_KEYS):
        return "prompt_completion"
    if "instruction" in found and found & {*OUTPUT_KEYS, "instances"}:
        return "alpaca"
    if any(question != reply for question in found & set(QUESTION_KEYS) for reply in found & set(REPLY_KEYS)):
        return "question_answer"
    if not answers and found & set(QUESTION_KEYS):
        return "prompt"
    shown = ", ".join(sorted(map(str, found))) or "none"
    raise BadRecord(
        "unknown form",
        f"unknown form: the record has the keys {shown[:300]}; known forms: messages (messages), sharegpt (conversations), "
        "prompt_completion (prompt + completion or response), alpaca (instruction + output), question_answer (question + "
        f"answer, query + response, ...); {_way_out(named)}",
    )


def _way_out(keys: list[str]) -> str:
    """Columns to name, in the record's own words where it has a handful."""
    if {"chosen", "rejected"} <= set(keys):
        return "preference pairs hold a bad answer too: name the good one with --columns prompt=prompt,answer=chosen"
    texts = [str(key) for key in keys if key not in META and "," not in str(key)]
    example = f"prompt={texts[0]},answer={texts[1]}" if 2 <= len(texts) <= 4 else "prompt=NAME,answer=NAME"
    return f"or name the columns, such as --columns {example} (messages=NAME for lists of turns; `columns` in a recipe)"


def read(record: dict[str, Any], form: str, answers: bool = True) -> Conversation:
    """The conversation of a record in `form`; BadRecord if it has no trainable answer or a faulty turn.

    Without `answers` it may have none, if it asks something.
    """
    found = Conversation(record)
    _SPELLINGS[form](found)
    _system(found)
    for key, what in ASIDE.items():
        if key in record and found.peek(key) not in NOTHING:
            found.lose(what)
    if not any(role == "assistant" for role, _ in found.turns):
        if not answers and any(role == "user" and content.strip() for role, content in found.turns):
            return found
        raise BadRecord("no assistant turn", "the conversation has no assistant turn, so there is nothing to learn")
    for number, (role, content) in enumerate(found.turns, 1):
        if role == "assistant" and not content.strip():
            raise BadRecord("empty assistant turn", f"turn {number} (assistant) is empty")
    return found


def turns_of(record: dict[str, Any], form: str) -> list[Turn]:
    """The turns of `read` alone."""
    return read(record, form).turns


def instances(record: dict[str, Any]) -> list[dict[str, Any]]:
    """A record for each of an instruction's nested `instances`; any other record as it is."""
    nested = record.get("instances")
    if "instruction" not in record or not isinstance(nested, list) or len(nested) < 2:
        return [record]
    own = {} if record.get("id") in NOTHING else {"id": record["id"]}
    return [
        {**record, "instances": [one], **{key: f"{value}-{number}" for key, value in own.items()}}
        for number, one in enumerate(nested, 1)
    ]


def _messages(found: Conversation) -> None:
    found.turns = _conversation(_value(found, ("messages",)), "messages", ROLES_OF, found)


def _sharegpt(found: Conversation) -> None:
    found.turns = _conversation(_value(found, CONVERSATION_KEYS), "conversations", SPEAKERS, found)


def _alpaca(found: Conversation) -> None:
    if isinstance(nested := found.peek("instances"), list):
        if len(nested) != 1 or not isinstance(nested[0], dict):
            raise BadRecord("instances are not objects", "'instances' must be a list of objects with input and output")
        found.record = {**found.record, **nested[0]}
    found.turns = _history(found)
    instruction, output = _text(found, ("instruction",)), _text(found, OUTPUT_KEYS)
    found.turns += [("user", _with_input(found, instruction, INPUT_KEYS)), ("assistant", output)]


def _prompt_completion(found: Conversation) -> None:
    """TRL's standard (two texts) and conversational (two lists of messages) spellings, also mixed; KTO with its label."""
    label = found.peek("label")
    if label is False or (isinstance(label, str) and label.strip().lower() == "false"):
        raise LeftOut("label false", "label is false: an answer not to learn from (KTO)")
    _pair(found, ())


def _named(found: Conversation) -> None:
    """A record under the names of `columns.FIELDS`: what the user said is the prompt, its input and the answer."""
    found.turns = _history(found)
    _pair(found, ("input",))


def _pair(found: Conversation, extra: tuple[str, ...]) -> None:
    for keys, role in ((("prompt",), "user"), (ANSWER_KEYS, "assistant")):
        value = _value(found, keys)
        if isinstance(value, list):
            found.turns += _conversation(value, keys[0], ROLES_OF, found)
        else:
            text = _text(found, keys)
            found.turns.append((role, _with_input(found, text, extra) if role == "user" else text))


def _question_answer(found: Conversation) -> None:
    """The first key of each kind that the record has; a text beside the question follows it as alpaca's input does."""
    question = next((key for key in QUESTION_KEYS if key in found.record), "question")
    replies = tuple(key for key in REPLY_KEYS if key in found.record) or ("answer",)
    extra = tuple(key for key in INPUT_KEYS if key != question)
    found.turns = _history(found)
    found.turns.append(("user", _with_input(found, _text(found, (question,)), extra)))
    found.turns.append(("assistant", _text(found, replies)))


def _prompt(found: Conversation) -> None:
    """A question alone: text, or a list of messages."""
    key = next((key for key in QUESTION_KEYS if key in found.record), "prompt")
    value = _value(found, (key,))
    found.turns = _history(found)
    if isinstance(value, list):
        found.turns += _conversation(value, key, ROLES_OF, found)
    else:
        extra = tuple(name for name in INPUT_KEYS if name != key)
        found.turns.append(("user", _with_input(found, _text(found, (key,)), extra)))


_SPELLINGS: dict[str, Callable[[Conversation], None]] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
    "question_answer": _question_answer,
    "columns": _named,
    "prompt": _prompt,
}


def _system(found: Conversation) -> None:
    """Put a system text that stands beside the conversation before its turns."""
    for key in SYSTEM_KEYS:
        value = found.peek(key)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        text = text_of(value, f"{key!r}", found)
        if found.turns and found.turns[0][0] == "system":
            if found.turns[0][1] != text:
                found.lose("system text beside a system turn")
        else:
            found.turns.insert(0, ("system", text))


def _history(found: Conversation) -> list[Turn]:
    """Alpaca's `history`: [[question, answer], ...] before the instruction."""
    value = found.peek("history")
    if value in NOTHING:
        return []
    pairs = parse_json(value) if isinstance(value, str) else value
    if not isinstance(pairs, list):
        raise BadRecord(
            "history is not pairs", f"'history' is {type(pairs).__name__}, expected [[question, answer], ...]"
        )
    turns: list[Turn] = []
    for number, pair in enumerate(pairs, 1):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise BadRecord("history is not pairs", f"'history' entry {number} is not a pair of two texts")
        turns += [("user", pair[0]), ("assistant", pair[1])]
    return turns


def _with_input(found: Conversation, prompt: str, keys: tuple[str, ...]) -> str:
    extra = next((value for key in keys if (value := found.peek(key)) is not None), "")
    if not isinstance(extra, str):
        raise BadRecord("content is not text", f"'input' is {type(extra).__name__}, expected text")
    return f"{prompt}\n\n{extra}" if extra.strip() else prompt


def _value(found: Conversation, keys: tuple[str, ...]) -> Any:
    """The first of `keys` that the record has; null counts as there, so that it is named as null."""
    for key in keys:
        if (value := found.peek(key)) is not None:
            return value
    if any(key in found.record for key in keys):
        raise BadRecord("null content", f"{keys[0]!r} is null; give a text or remove the record")
    have = ", ".join(sorted(map(str, found.record)))[:300]
    raise BadRecord("missing field", f"missing field {' or '.join(map(repr, keys))}; the record has: {have or 'none'}")


def _text(found: Conversation, keys: tuple[str, ...]) -> str:
    value = _value(found, keys)
    if not isinstance(value, str):
        name = next(key for key in keys if found.record.get(key) is not None)
        raise BadRecord("content is not text", f"{name!r} is {type(value).__name__}, expected text")
    return value


def _conversation(value: Any, field: str, roles: dict[str, str], found: Conversation) -> list[Turn]:
    """A list of turns; CSV cells hold it as JSON text."""
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except BadRecord:
            raise BadRecord("content is not a list", f"{field!r} is text that is not a JSON list of turns") from None
    if not isinstance(value, list):
        raise BadRecord("content is not a list", f"{field!r} is {type(value).__name__}, expected a list of turns")
    if not value:
        raise BadRecord("no assistant turn", f"{field!r} is an empty list")
    return [turn_of(turn, number, roles, found) for number, turn in enumerate(value, 1)]
