"""Reference: chat forms and loss masks, token by token against expectations written by hand.

In the expectations a leading `*` marks a supervised token.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.models import BOS, CHATML, EOS, byte_tokenizer, metaspace_tokenizer, word_tokenizer

from paydirt.core.types import Message
from paydirt.data.encoding import Encoded, Encoder, EncodingConfig

IM = ("<|im_start|>", "<|im_end|>")


def chat(*turns: str) -> list[Message]:
    """`("user: hi", "assistant: hello")` as messages."""
    return [Message(*t.split(": ", 1)) for t in turns]


def encoder(tokenizer, template: str = "tulu", max_length: int = 64) -> Encoder:
    return Encoder(tokenizer, EncodingConfig(template=template, max_length=max_length))


def marked(enc: Encoder, encoded: Encoded) -> list[str]:
    tokens = enc.tokenizer.convert_ids_to_tokens(encoded.ids.tolist())
    return [("*" if s else "") + t for t, s in zip(tokens, encoded.supervised)]


def supervised_text(enc: Encoder, encoded: Encoded) -> str:
    return enc.tokenizer.decode(encoded.ids[encoded.supervised].tolist())


def whole_text(enc: Encoder, encoded: Encoded) -> str:
    return enc.tokenizer.decode(encoded.ids.tolist())


ONE = chat("user: hi there", "assistant: hello friend")
MULTI = chat("system: be kind", "user: hi", "assistant: hello", "user: more", "assistant: sure thing")
WORDS = (
    "<|user|> <|assistant|> <|system|> \n hi there hello friend be kind more sure thing [INST] [/INST] <<SYS>> <</SYS>>"
)


class TestTulu:
    """`<|role|>\\n{text}\\n`, eos after an assistant's text; text and eos supervised, the newline after it not."""

    def test_one_turn(self) -> None:
        enc = encoder(word_tokenizer(WORDS))
        expected = ["<|user|>", "\n", "hi", "there", "\n", "<|assistant|>", "\n", "*hello", "*friend", "*</s>", "\n"]
        assert marked(enc, enc.encode(ONE)) == expected

    def test_every_assistant_turn_is_supervised_and_no_other(self) -> None:
        enc = encoder(word_tokenizer(WORDS))
        assert marked(enc, enc.encode(MULTI)) == [
            *("<|system|>", "\n", "be", "kind", "\n"),
            *("<|user|>", "\n", "hi", "\n", "<|assistant|>", "\n", "*hello", "*</s>", "\n"),
            *("<|user|>", "\n", "more", "\n", "<|assistant|>", "\n", "*sure", "*thing", "*</s>", "\n"),
        ]

    def test_truncation_keeps_the_beginning_and_is_told(self) -> None:
        enc = encoder(word_tokenizer(WORDS), max_length=8)
        encoded = enc.encode(ONE)
        assert marked(enc, encoded) == ["<|user|>", "\n", "hi", "there", "\n", "<|assistant|>", "\n", "*hello"]
        assert encoded.truncated
        assert not encoder(word_tokenizer(WORDS), max_length=11).encode(ONE).truncated

    def test_truncation_can_leave_nothing_to_learn(self) -> None:
        encoded = encoder(word_tokenizer(WORDS), max_length=8).encode(
            chat("user: hi there hi there", "assistant: hello")
        )
        assert encoded.n_supervised == 0
        assert encoded.truncated

    def test_bos_is_added_once_where_the_tokenizer_adds_it(self) -> None:
        without, with_bos = encoder(byte_tokenizer()), encoder(byte_tokenizer(prepend_bos=True))
        plain, opened = without.encode(ONE), with_bos.encode(ONE)
        bos = with_bos.tokenizer.bos_token_id
        assert opened.ids.tolist() == [bos, *plain.ids.tolist()]
        assert opened.supervised.tolist() == [False, *plain.supervised.tolist()]
        assert with_bos.encode_prompt(ONE)[0] == bos

    def test_bytes_outside_the_alphabet_keep_the_mask_in_place(self) -> None:
        """Characters of several bytes: offsets count characters, tokens count bytes."""
        enc = encoder(byte_tokenizer())
        encoded = enc.encode(chat("user: Grüße, 你好 🙂?", "assistant: Ünï 🙂 你"))
        assert supervised_text(enc, encoded) == "Ünï 🙂 你" + EOS


class TestLlama2:
    """`{bos}[INST] {user} [/INST] {assistant} {eos}`; the system text inside the first user turn."""

    def test_one_turn(self) -> None:
        enc = encoder(word_tokenizer(WORDS), "llama2")
        assert marked(enc, enc.encode(ONE)) == [
            *("<s>", "[INST]", "hi", "there", "[/INST]", "*hello", "*friend", "*</s>"),
        ]

    def test_system_and_several_turns(self) -> None:
        enc = encoder(byte_tokenizer(), "llama2", 200)
        encoded = enc.encode(MULTI)
        assert whole_text(enc, encoded) == (
            f"{BOS}[INST] <<SYS>>\nbe kind\n<</SYS>>\n\nhi [/INST] hello {EOS}{BOS}[INST] more [/INST] sure thing {EOS}"
        )
        assert supervised_text(enc, encoded) == f" hello {EOS} sure thing {EOS}"

    def test_no_system_text_is_lost(self) -> None:
        """Several in a row are one; one that no user turn follows has no place."""
        enc = encoder(byte_tokenizer(), "llama2", 200)
        two = enc.encode(chat("system: be kind", "system: be short", "user: hi", "assistant: hello"))
        assert "<<SYS>>\nbe kind\n\nbe short\n<</SYS>>" in whole_text(enc, two)
        with pytest.raises(
            ValueError, match=r"a system turn \('be kind'\) that no user turn follows.*use template 'tulu'"
        ):
            enc.encode(chat("user: hi", "assistant: hello", "system: be kind", "assistant: yes"))

    def test_the_first_word_is_learnt_although_its_token_begins_with_the_space(self) -> None:
        """Sentence-piece joins " hello" to one token, which begins before the text of the answer does."""
        enc = encoder(metaspace_tokenizer("[INST] hi there [/INST] hello friend"), "llama2")
        tokens = marked(enc, enc.encode(ONE))
        assert "*▁hello" in tokens
        assert [t for t in tokens if t.startswith("*")] == ["*▁hello", "*▁friend", "*▁", "*</s>"]
        assert not any(t.startswith("*") for t in tokens[: tokens.index("*▁hello")])


class TestTokenizersOwn:
    """The tokenizer's chat template; ChatML here, as Qwen and many others."""

    def chatml(self, **options) -> Encoder:
        tokenizer = byte_tokenizer(extra=IM, chat_template=CHATML)
        tokenizer.eos_token = "<|im_end|>"
        return encoder(tokenizer, "tokenizer", 400)

    def test_assistant_text_and_end_mark_are_supervised_not_the_newline(self) -> None:
        enc = self.chatml()
        encoded = enc.encode(MULTI)
        assert whole_text(enc, encoded) == (
            "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
            "hello<|im_end|>\n<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\nsure thing<|im_end|>\n"
        )
        assert supervised_text(enc, encoded) == "hello<|im_end|>sure thing<|im_end|>"

    def test_an_end_mark_that_is_not_eos_is_supervised_all_the_same(self) -> None:
        enc = encoder(byte_tokenizer(extra=IM, chat_template=CHATML), "tokenizer", 400)  # eos is </s>
        assert supervised_text(enc, enc.encode(ONE)) == "hello friend<|im_end|>\n"

    def test_without_a_template_the_error_names_the_remedy(self) -> None:
        with pytest.raises(ValueError, match="no chat template; use template tulu or llama2"):
            encoder(byte_tokenizer(), "tokenizer")

    def test_a_template_that_rewrites_earlier_turns_is_refused(self) -> None:
        """Some drop what an assistant thought in earlier turns: spans found in the whole text would be wrong."""
        forgetful = (
            "{% for m in messages %}{% if m['role'] == 'user' or loop.last %}{{ m['role'] }}: {{ m['content'] }}\n"
            "{% endif %}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
        )
        enc = encoder(byte_tokenizer(chat_template=forgetful), "tokenizer", 400)
        with pytest.raises(ValueError, match="rewrites earlier turns"):
            enc.encode(MULTI)


TOKENIZERS = {
    "bytes": lambda: byte_tokenizer(extra=IM, chat_template=CHATML),
    "bytes with bos": lambda: byte_tokenizer(prepend_bos=True, extra=IM, chat_template=CHATML),
    "words": lambda: word_tokenizer(WORDS),
    "pieces": lambda: metaspace_tokenizer(WORDS),
}
TEMPLATES = ["tulu", "llama2", "tokenizer"]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("messages", [ONE, MULTI], ids=["one", "multi"])
def test_generation_starts_where_supervision_starts(kind: str, template: str, messages: list[Message]) -> None:
    """The prompt that evaluation opens is, token by token, what precedes the last answer in training."""
    tokenizer = TOKENIZERS[kind]()
    if template == "tokenizer" and not tokenizer.chat_template:
        pytest.skip("no chat template")
    enc = encoder(tokenizer, template, 400)
    encoded, prompt = enc.encode(messages), enc.encode_prompt(messages)
    assert encoded.ids[: len(prompt)].tolist() == prompt.tolist()
    assert encoded.supervised[len(prompt)]
    assert not encoded.supervised[len(prompt) - 1]


def test_a_prompt_is_cut_from_the_left_so_that_the_question_stays() -> None:
    enc = encoder(word_tokenizer(WORDS), max_length=8)
    long = chat("user: hi there hi there more", "assistant: hello")
    tokens = enc.tokenizer.convert_ids_to_tokens(enc.encode_prompt(long).tolist())
    assert tokens == ["hi", "there", "hi", "there", "more", "\n", "<|assistant|>", "\n"]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("place", ["user", "assistant"])
def test_special_tokens_spelled_in_data_stay_text(template: str, place: str) -> None:
    """A record cannot end its own turn or open another: the special ids in it are the template's alone."""
    spelled = f"say {EOS} and <|im_end|>\n<|im_start|>assistant and <|secret|>"
    turns = {"user": "hi", "assistant": "hello"}
    # One that the tokenizer knows as special but gives no role, as Llama 3 has many.
    tokenizer = byte_tokenizer(extra=IM, chat_template=CHATML)
    tokenizer.backend_tokenizer.add_special_tokens(["<|secret|>"])
    assert "<|secret|>" not in tokenizer.all_special_tokens
    enc = encoder(tokenizer, template, 400)

    def specials(turns: dict[str, str]) -> list[int]:
        encoded = enc.encode([Message(role, text) for role, text in turns.items()])
        known = set(tokenizer.all_special_ids) | {tokenizer.convert_tokens_to_ids("<|secret|>")}
        return [i for i in encoded.ids.tolist() if i in known]

    assert specials(turns | {place: spelled}) == specials(turns)
    encoded = enc.encode([Message(role, text) for role, text in (turns | {place: spelled}).items()])
    assert spelled in whole_text(enc, encoded), "the text itself is kept"
    assert (spelled in supervised_text(enc, encoded)) == (place == "assistant")


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_batch_encodes_as_one_by_one(template: str) -> None:
    enc = encoder(byte_tokenizer(extra=IM, chat_template=CHATML), template, 60)
    conversations = [ONE, MULTI, chat(f"user: {EOS} hi", "assistant: ok"), chat("user: ", "assistant: x")]
    for one, messages in zip(enc.encode_batch(conversations), conversations):
        alone = enc.encode(messages)
        np.testing.assert_array_equal(one.ids, alone.ids)
        np.testing.assert_array_equal(one.supervised, alone.supervised)
        assert one.truncated == alone.truncated


def test_a_tokenizer_without_eos_is_refused() -> None:
    with pytest.raises(ValueError, match="no end-of-sequence token"):
        encoder(byte_tokenizer(eos=False))


def test_a_tokenizer_without_pad_pads_with_eos() -> None:
    tokenizer = byte_tokenizer(pad=False)
    assert encoder(tokenizer).pad_id == tokenizer.eos_token_id


def test_the_fingerprint_changes_with_whatever_changes_tokens() -> None:
    base = encoder(byte_tokenizer()).fingerprint
    assert encoder(byte_tokenizer()).fingerprint == base
    others = [
        encoder(byte_tokenizer(), max_length=65),
        encoder(byte_tokenizer(), "llama2"),
        encoder(byte_tokenizer(prepend_bos=True)),
        encoder(byte_tokenizer(extra=IM)),
        encoder(byte_tokenizer(chat_template=CHATML)),
    ]
    assert len({base, *(e.fingerprint for e in others)}) == 6


GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "<|im_start|>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
SILENT = "{% for m in messages if m['role'] != 'system' %}" + CHATML.removeprefix("{% for m in messages %}")


@pytest.mark.parametrize("chat_template", [GEMMA, SILENT])
def test_a_template_without_system_turns_gets_their_text_in_the_user_turn(chat_template: str) -> None:
    enc = encoder(byte_tokenizer(extra=IM, chat_template=chat_template), "tokenizer", 400)
    assert enc.folds_system
    encoded = enc.encode(MULTI)
    assert "user\nbe kind\n\nhi<|im_end|>" in whole_text(enc, encoded)
    assert supervised_text(enc, encoded).split() == ["hello<|im_end|>", "sure", "thing<|im_end|>"]
    assert "be kind\n\nhi" in enc.open_prompt(MULTI[:2])[0]
    assert not encoder(byte_tokenizer(extra=IM, chat_template=CHATML), "tokenizer").folds_system
    with pytest.raises(ValueError, match="a system turn that no user turn follows"):
        enc.encode(chat("user: hi", "assistant: hello", "system: bye"))


def test_a_refusing_template_is_an_error_that_names_example_and_remedy() -> None:
    from paydirt.core.types import Example

    enc = encoder(byte_tokenizer(extra=IM, chat_template=GEMMA), "tokenizer", 400)
    twice = Example("e-7", tuple(chat("user: hi", "user: again", "assistant: hello")))
    with pytest.raises(
        ValueError, match=r"example 'e-7': .* refuses turns user, user.*must alternate.*use template 'tulu'"
    ):
        enc.encode_examples([twice])


def test_private_characters_of_the_data_stay_text() -> None:
    """They look like our placeholder for a special token, numbers and all."""
    enc = encoder(byte_tokenizer(extra=IM, chat_template=CHATML), "tokenizer", 400)
    for odd in ("\ue000\ue0ff7\ue0ff\ue000", "\ue000\ue0ff0\ue0ff\ue000", f"\ue000{EOS}\ue0ff", "\ue0ff\ue000"):
        encoded = enc.encode(chat(f"user: say {odd}", f"assistant: {odd} {EOS}"))
        assert f"say {odd}<" in whole_text(enc, encoded)
        assert supervised_text(enc, encoded).strip() == f"{odd} {EOS}<|im_end|>"


def test_a_cut_prompt_keeps_its_beginning_of_sequence() -> None:
    for template in ("tulu", "llama2"):
        enc = encoder(byte_tokenizer(prepend_bos=True), template, 12)
        prompt = enc.encode_prompt(chat("user: hi there hi there more"))
        whole = enc.open_prompt(chat("user: hi there hi there more"))[1]
        assert len(prompt) == 12 < len(whole)
        assert prompt.tolist() == [enc.tokenizer.bos_token_id, *whole[-11:].tolist()]


def test_what_truncation_costs_references_is_counted_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    from paydirt.core.types import Example, Target
    from paydirt.data.encoding import truncation

    enc = encoder(word_tokenizer(WORDS), max_length=9)
    long, short = chat("user: hi", "assistant: hello friend sure thing"), chat("user: hi", "assistant: hello")
    target = Target("t", (Example("a", tuple(long)), Example("b", tuple(short))), ("s", "s"))
    encoded = enc.encode_references(target)
    assert marked(enc, encoded[0])[6:] == ["*hello", "*friend", "*sure"]
    assert truncation(encoded) == {"truncated": 1, "answer_tokens": 5, "answer_tokens_lost": 2}
    said = " ".join(capsys.readouterr().err.split())
    assert "target t: 1 of 2 references are longer than max_length 9 and cut; 2 of 7 answer tokens are lost" in said
