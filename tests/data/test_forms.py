"""Each form gives the turns written by hand here; each fault has its reason and says what to do."""

import json
from typing import Any

import pytest

from paydirt.data.forms import detect, turns_of
from paydirt.data.readers import BadRecord

U, A, S = "user", "assistant", "system"
GOOD = [
    (
        "messages",
        {"messages": [{"role": S, "content": "s"}, {"role": U, "content": " q "}, {"role": A, "content": "a\n"}]},
        [(S, "s"), (U, " q "), (A, "a\n")],
    ),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "system", "value": "s"},
                {"from": "human", "value": "q"},
                {"from": "gpt", "value": "a"},
            ]
        },
        [(S, "s"), (U, "q"), (A, "a")],
    ),
    (
        "sharegpt",
        {"system": "be kind", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        [(S, "be kind"), (U, "q"), (A, "a")],
    ),
    ("sharegpt", {"conversation": [{"role": U, "content": "q"}, {"role": A, "content": "a"}]}, [(U, "q"), (A, "a")]),
    ("alpaca", {"instruction": "i", "input": "x", "output": "o"}, [(U, "i\n\nx"), (A, "o")]),
    ("alpaca", {"instruction": "i", "input": " ", "output": "o"}, [(U, "i"), (A, "o")]),
    ("alpaca", {"instruction": "i", "output": "o"}, [(U, "i"), (A, "o")]),
    ("alpaca", {"instruction": "i", "input": None, "output": "o"}, [(U, "i"), (A, "o")]),
    ("alpaca", {"instruction": "i", "context": "c", "response": "o"}, [(U, "i\n\nc"), (A, "o")]),
    ("prompt_completion", {"prompt": "p", "completion": " c"}, [(U, "p"), (A, " c")]),
    ("prompt_completion", {"prompt": "p", "response": "r"}, [(U, "p"), (A, "r")]),
    (
        "prompt_completion",
        {
            "prompt": [{"role": S, "content": "s"}, {"role": U, "content": "q"}],
            "completion": [{"role": A, "content": "a"}],
        },
        [(S, "s"), (U, "q"), (A, "a")],
    ),
]


@pytest.mark.parametrize(("form", "record", "turns"), GOOD)
def test_forms_are_detected_and_read(form: str, record: dict[str, Any], turns: list[tuple[str, str]]) -> None:
    assert detect(record) == form
    assert turns_of(record, form) == turns


def test_messages_win_over_a_prompt_beside_them() -> None:
    assert detect(["prompt", "completion", "messages"]) == "messages"


def test_a_conversation_may_be_json_text_as_in_csv() -> None:
    text = json.dumps([{"role": U, "content": "q"}, {"role": A, "content": "a"}])
    assert turns_of({"messages": text}, "messages") == [(U, "q"), (A, "a")]


def test_an_unknown_form_names_its_keys_and_the_known_forms() -> None:
    with pytest.raises(BadRecord, match=r"the record has the keys chosen, prompt, rejected; known forms: messages"):
        detect({"prompt": "p", "chosen": "c", "rejected": "r"})


ASK = {"role": U, "content": "q"}
BAD = [
    ("messages", {"messages": [ASK, {"content": "a"}]}, "missing role", r"turn 2 has no role \(it has: content\)"),
    (
        "messages",
        {"messages": [ASK, {"role": "robot", "content": "a"}]},
        "unknown role",
        r"'robot'; known: system, user, a",
    ),
    ("messages", {"messages": [ASK, {"role": 3, "content": "a"}]}, "unknown role", r"turn 2 has the unknown role 3"),
    (
        "messages",
        {"messages": [ASK, {"role": A, "content": " \n"}]},
        "empty assistant turn",
        r"turn 2 \(assistant\) is em",
    ),
    ("messages", {"messages": [ASK]}, "no assistant turn", r"no assistant turn"),
    ("messages", {"messages": []}, "no assistant turn", r"'messages' is an empty list"),
    ("messages", {"messages": [ASK, {"role": A, "content": None}]}, "null content", r"turn 2 \(assistant\) has null"),
    ("messages", {"messages": [ASK, {"role": A}]}, "null content", r"turn 2 \(assistant\) has no content"),
    ("messages", {"messages": [ASK, {"role": A, "content": [1]}]}, "content is not text", r"content of type list"),
    ("messages", {"messages": [ASK, "a"]}, "turn is not an object", r"turn 2 is str"),
    ("messages", {"messages": "hello"}, "content is not a list", r"text that is not a JSON list"),
    ("messages", {"messages": {"a": 1}}, "content is not a list", r"'messages' is dict"),
    ("messages", {"messages": None}, "null content", r"'messages' is null"),
    ("messages", {"text": "x"}, "missing field", r"missing field 'messages'; the record has: text"),
    ("sharegpt", {"conversations": [{"from": "dog", "value": "w"}]}, "unknown role", r"'dog'; known: human, user, gpt"),
    ("alpaca", {"instruction": "i", "output": ""}, "empty assistant turn", r"turn 2"),
    ("alpaca", {"instruction": None, "output": "o"}, "null content", r"'instruction' is null"),
    ("alpaca", {"instruction": "i", "input": 3, "output": "o"}, "content is not text", r"'input' is int"),
    ("prompt_completion", {"prompt": "p", "completion": None}, "null content", r"'completion' is null"),
    ("prompt_completion", {"prompt": "p"}, "missing field", r"missing field 'completion' or 'response'"),
    ("prompt_completion", {"prompt": 3, "completion": "c"}, "content is not text", r"'prompt' is int"),
]


@pytest.mark.parametrize(("form", "record", "reason", "message"), BAD)
def test_faults_have_a_reason_and_say_where(form: str, record: dict[str, Any], reason: str, message: str) -> None:
    with pytest.raises(BadRecord, match=message) as caught:
        turns_of(record, form)
    assert caught.value.reason == reason
