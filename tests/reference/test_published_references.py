"""Reference: what the references of mmlu, bbh and tydiqa show a model and what of it is a label, as published.

Three items of each are written out by hand; all 285 + 81 + 9 are derived a second time, straight from the files by the
published definition: a query that ends in the answer's label and a completion, labels on all tokens beyond the query's.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.models import CHATML, EOS, byte_tokenizer

from paydirt.core.types import Target
from paydirt.data.encoding import Encoder, EncodingConfig
from paydirt.tasks import TargetConfig, load_target

Pair = tuple[str, str]
IM = ("<|im_start|>", "<|im_end|>")
ABOUT = "<|user|>\nThe following are multiple choice questions (with answers) about  "
OPENED = "\nAnswer:\n<|assistant|>\nThe answer is:"

# id: (how the query begins, how it ends, the completion); of MMLU the whole query
BY_HAND = {
    "mmlu/anatomy/0": (
        ABOUT + "anatomy.\n\nWhat is the embryological origin of the hyoid bone?\nA. The first pharyngeal arch\n"
        "B. The first and second pharyngeal arches\nC. The second pharyngeal arch\n"
        "D. The second and third pharyngeal arches" + OPENED,
        "",
        " D",
    ),
    "mmlu/human_sexuality/0": (
        ABOUT + "human sexuality.\n\nMorning sickness is typically a problem:\nA. during the first trimester\n"
        "B. during the second trimester\nC. during the third trimester\nD. all through the pregnancy" + OPENED,
        "",
        " A",
    ),
    "mmlu/virology/4": (
        ABOUT + "virology.\n\nThe median survival time to AIDS and death was established by following:\n"
        "A. Seroprevalent HIV-infected individuals\nB. Seronegatives\nC. Seroconverters\n"
        "D. High-risk seronegatives" + OPENED,
        "",
        " C",
    ),
    "bbh/boolean_expressions/0": (
        "<|user|>\nEvaluate the result of a random Boolean expression.\n\nQ: True and False and not True and True is\nA: ",
        "So the answer is True.\n\nQ: not ( ( not not True ) ) is\n<|assistant|>\nA:",
        " Let's think step by step.\nRemember that (i) expressions",
    ),
    "bbh/snarks/2": (
        "<|user|>\nDetermine which of two sentences is sarcastic.\n\nAccording to Cambridge University Dictionary, sarcasm",
        "punishments? What do you think this is supposed to be, moral?\n<|assistant|>\nA:",
        " Let's think step by step.\nIf we look at (A), it likens the consistency",
    ),
    "bbh/word_sorting/1": (
        "<|user|>\nSort a list of words.\n\nQ: Sort the following words alphabetically: List: oven costume counterpart\n",
        "seismography.\n\nQ: Sort the following words alphabetically: List: hypochlorite ponderosa phone credulity"
        "\n<|assistant|>\nA:",
        ' Let\'s think step by step.\nThe first letter: "hypochlorite": "h" (8).',
    ),
    "tydiqa/english/0": (
        "<|user|>\nAnswer the following question based on the information in the given passage.Passage: Home Box Office",
        "documentaries and occasional comedy and concert specials.\nQuestion: Who owns HBO?\n<|assistant|>\nAnswer:",
        " Home Box Office",
    ),
    "tydiqa/finnish/0": (
        "<|user|>\nVastaa seuraavaan kysymykseen annetun kappaleen tiedon perusteella.Kappale:  Vuodesta 2006 alkaen",
        "oman hallintoalueensa.[2]\nKysymys: Mikä on Ruandan pääkaupunki?\n<|assistant|>\nVastaus:",
        " Kigali",
    ),
    "tydiqa/korean/0": (
        "<|user|>\n주어진 문단의 정보에 기반하여 다음 질문에 답하십시오.문단: 일본령 조선()은",
        "박탈된 시기였다.\n질문: 일제 강점기는 언제 끝나나요?\n<|assistant|>\n답변:",
        " 1945년 8월 15일",
    ),
}


def published_mmlu(root: Path) -> Iterator[Pair]:
    for file in sorted((root / "eval/mmlu/test").glob("*_test.csv")):
        subject = file.name[: -len("_test.csv")]
        with open(root / f"eval/mmlu/dev/{subject}_dev.csv", newline="", encoding="utf-8") as handle:
            for row in list(csv.reader(handle))[:5]:
                query = (
                    f"<|user|>\nThe following are multiple choice questions (with answers) about {'_' + subject}.\n\n"
                )
                query = query.replace("_", " ") + row[0]
                for letter, option in zip("ABCD", row[1:5]):
                    query += f"\n{letter}. {option}"
                yield query + OPENED, " " + row[5]


def published_bbh(root: Path) -> Iterator[Pair]:
    for text in json.loads((root / "eval/bbh/bbh-three-shot.json").read_text("utf-8")).values():
        *head, one, two, three = text.split("\n\n")
        for others, (question, answer) in (
            (two + "\n\n" + three, one.split("\nA:")),
            (one + "\n\n" + three, two.split("\nA:")),
            (one + "\n\n" + two, three.split("\nA:")),
        ):
            yield "<|user|>\n" + "\n\n".join([*head, others, question]) + "\n<|assistant|>\nA:", answer


def published_tydiqa(root: Path) -> Iterator[Pair]:
    """Instruction, labels and the answer's label by language, as open-instruct publishes them."""
    labels = {
        "finnish": ("Kappale:", "Kysymys:", "Vastaus:"),
        "telugu": ("పేరా:", "ప్రశ్న:", "సమాధానం:"),
        "russian": ("Отрывок:", "Вопрос:", "Ответ:"),
        "arabic": ("المقطع:", "السؤال:", "الإجابة:"),
        "indonesian": ("Bagian:", "Pertanyaan:", "Jawaban:"),
        "english": ("Passage:", "Question:", "Answer:"),
        "swahili": ("Kifungu:", "Swali:", "Jibu:"),
        "korean": ("문단:", "질문:", "답변:"),
        "bengali": ("অধ্যায়:", "প্রশ্ন:", "উত্তর:"),
    }
    instructions = {
        "finnish": "Vastaa seuraavaan kysymykseen annetun kappaleen tiedon perusteella.",
        "telugu": "ఇచ్చిన పేరాలోని సమాచారం ఆధారంగా కింది ప్రశ్నకు సమాధానం ఇవ్వండి.",
        "russian": "Ответьте на следующий вопрос на основе информации в данном отрывке.",
        "arabic": "أجب على السؤال التالي بناءً على المعلومات في المقطع المعطى.",
        "indonesian": "Jawab pertanyaan berikut berdasarkan informasi di bagian yang diberikan.",
        "english": "Answer the following question based on the information in the given passage.",
        "swahili": "Jibu swali lifuatalo kulingana na habari kwenye kifungu kilichotolewa.",
        "korean": "주어진 문단의 정보에 기반하여 다음 질문에 답하십시오.",
        "bengali": "প্রদত্ত অধ্যায়ের তথ্যের উপর ভিত্তি করে নিম্নলিখিত প্রশ্নের উত্তর দিন।",
    }
    for language, items in json.loads((root / "eval/tydiqa/tydiqa-one-shot.json").read_text("utf-8")).items():
        (passage, question, answer), item = labels[language], items[0]
        query = f"<|user|>\n{instructions[language]}{passage} {item['context']}\n{question} {item['question']}\n"
        yield query + "<|assistant|>\n" + answer, " " + item["answers"][0]["text"]


PUBLISHED: dict[str, tuple[int, Callable[[Path], Iterator[Pair]]]] = {
    "mmlu": (285, published_mmlu),
    "bbh": (81, published_bbh),
    "tydiqa": (9, published_tydiqa),
}


def load(name: str, data: Path, **options: str) -> Target:
    return load_target(TargetConfig(name=name, data=str(data), **options))


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("name", list(PUBLISHED))
def test_ids_and_labels_of_all_references(shared: Path, name: str, bos: bool) -> None:
    count, derive = PUBLISHED[name]
    tokenizer = byte_tokenizer(prepend_bos=bos)
    encoded = Encoder(tokenizer, EncodingConfig(max_length=8192)).encode_references(load(name, shared))
    pairs = list(derive(shared))
    assert len(encoded) == len(pairs) == count
    for (query, completion), one in zip(pairs, encoded):
        given, whole = tokenizer(query)["input_ids"], tokenizer(query + completion)["input_ids"]
        assert one.ids.tolist() == whole
        assert one.supervised.tolist() == [False] * len(given) + [True] * (len(whole) - len(given))
        assert not one.truncated


@pytest.mark.parametrize("id", list(BY_HAND))
def test_items_written_out_by_hand(shared: Path, id: str) -> None:
    begins, ends, completion = BY_HAND[id]
    target = load(id.split("/")[0], shared)
    number = [example.id for example in target.references].index(id)
    encoder = Encoder(byte_tokenizer(), EncodingConfig(max_length=8192))
    one = encoder.encode_references(target)[number]
    query = encoder.tokenizer.decode(one.ids[~one.supervised].tolist())
    label = encoder.tokenizer.decode(one.ids[one.supervised].tolist())
    if ends:
        assert query.startswith(begins)
        assert query.endswith(ends)
    else:
        assert query == begins
    assert label == completion if id.startswith(("mmlu", "tydiqa")) else label.startswith(completion)
    assert label == target.references[number].completion
    assert EOS not in label


@pytest.mark.parametrize("template", ["tulu", "llama2", "tokenizer"])
@pytest.mark.parametrize("name", list(PUBLISHED))
def test_in_every_chat_form_the_answer_alone_is_supervised(shared: Path, name: str, template: str) -> None:
    """The given part is the very prompt that evaluation opens; nothing follows the answer."""
    tokenizer = byte_tokenizer(extra=IM, chat_template=CHATML.replace("<|im_end|>", EOS))
    encoder = Encoder(tokenizer, EncodingConfig(template=template, max_length=8192))
    target = load_target(TargetConfig(name=name, data=str(shared), limit_per_subtask=1))
    for example, one in zip(target.references, encoder.encode_references(target)):
        given = encoder.open_prompt(example.messages[:-1], example.opening)[1]
        assert one.ids[: len(given)].tolist() == given.tolist()
        assert one.supervised.tolist() == [False] * len(given) + [True] * (len(one.ids) - len(given))
        assert tokenizer.decode(one.ids[one.supervised].tolist()) == example.completion


def test_the_form_turn_is_todays_own(shared: Path) -> None:
    """The whole assistant turn and its end are labels; MMLU's opening is learnt, the others have no label."""
    encoder = Encoder(byte_tokenizer(), EncodingConfig(max_length=8192))
    for name in PUBLISHED:
        target = load(name, shared, form="turn")
        one = encoder.encode_references(target)[0]
        whole = target.references[0].answer
        assert encoder.tokenizer.decode(one.ids[one.supervised].tolist()) == whole + EOS
        assert whole.startswith("The answer is: ") == (name == "mmlu")
    assert "about anatomy." in next(e for e in load("mmlu", shared, form="turn").references if "anatomy" in e.id).prompt


def test_forms_enter_the_key_and_unknown_ones_are_refused(shared: Path) -> None:
    from paydirt.scoring.inputs import target_fingerprint

    for name in PUBLISHED:
        forms = [load(name, shared, **form) for form in ({}, {"form": "published"}, {"form": "turn"})]
        keys = [target_fingerprint(target) for target in forms]
        assert keys[0] == keys[1] != keys[2]
    with pytest.raises(ValueError, match="no form 'both'; it has published and turn"):
        load("mmlu", shared, form="both")
    with pytest.raises(ValueError, match="no form 'turn'; it has only one; leave `form` out"):
        load("ifeval", shared, form="turn")


def test_targets_of_whole_turns_keep_their_keys(jsonl: Callable[..., str]) -> None:
    """A file without openings, such as the built-in world's, has the identity that it had before there were any."""
    from paydirt.core.artifacts import fingerprint
    from paydirt.scoring.inputs import target_fingerprint

    path = jsonl("r.jsonl", {"id": "a", "prompt": "p", "completion": "c"})
    target = load_target(TargetConfig(name="mine", references=path))
    assert target_fingerprint(target) == fingerprint([["a", "mine", [["user", "p"], ["assistant", "c"]]]])
    opened = jsonl("o.jsonl", {"id": "a", "prompt": "p", "completion": "c", "end": False})
    assert target_fingerprint(load_target(TargetConfig(name="mine", references=opened))) != target_fingerprint(target)


def test_the_newline_label_of_the_pool(shared: Path) -> None:
    """As open-instruct labels pool examples: the answer, its end and the newline after it; references have neither."""
    from paydirt.core.types import Message

    tokenizer = byte_tokenizer()
    plain, faithful = (Encoder(tokenizer, EncodingConfig(max_length=8192, newline_label=on)) for on in (False, True))
    turns = [Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d")]
    one, other = plain.encode(turns), faithful.encode(turns)
    assert one.ids.tolist() == other.ids.tolist()
    assert tokenizer.decode(one.ids[one.supervised].tolist()) == f"b{EOS}d{EOS}"
    assert tokenizer.decode(other.ids[other.supervised].tolist()) == f"b{EOS}\nd{EOS}\n"
    assert plain.fingerprint != faithful.fingerprint
    target = load("mmlu", shared)
    for a, b in zip(plain.encode_references(target), faithful.encode_references(target)):
        np.testing.assert_array_equal(a.supervised, b.supervised)
    with pytest.raises(ValueError, match="llama2 has no newline"):
        EncodingConfig(template="llama2", newline_label=True)
