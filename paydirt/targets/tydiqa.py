"""TyDiQA references: one gold-passage question for each of 9 languages, the language as subtask.

Source: Clark et al., arXiv 2003.05002, as `tydiqa-one-shot.json` of LESS: an instruction in the passage's language, the
passage, the question; the answer is the first gold span. Form `published` has open-instruct's wording as LESS joins it
(nothing stands between instruction and passage label), texts as they are; the answer's label opens the assistant turn
unsupervised, and no end mark follows. Form `turn` has our own wording and no label, texts without white space at their
ends, and supervises the turn with its end. A language not listed is asked in English.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from paydirt.targets.base import FORMS, Reference, TargetConfig, TargetLoader, layout_path, read_object, reference

LAYOUT = "eval/tydiqa/tydiqa-one-shot.json: language -> [{context, question, answers: [{text}]}]"


class Wording(NamedTuple):
    """Instruction (with what stands after it) and labels, each with its colon; an empty `answer` opens nothing."""

    instruction: str
    passage: str
    question: str
    answer: str = ""

    def prompt(self, context: str, question: str) -> str:
        return f"{self.instruction}{self.passage} {context}\n{self.question} {question}"


PUBLISHED = {
    "english": Wording(
        "Answer the following question based on the information in the given passage.",
        "Passage:",
        "Question:",
        "Answer:",
    ),
    "arabic": Wording("أجب على السؤال التالي بناءً على المعلومات في المقطع المعطى.", "المقطع:", "السؤال:", "الإجابة:"),
    "bengali": Wording("প্রদত্ত অধ্যায়ের তথ্যের উপর ভিত্তি করে নিম্নলিখিত প্রশ্নের উত্তর দিন।", "অধ্যায়:", "প্রশ্ন:", "উত্তর:"),
    "finnish": Wording(
        "Vastaa seuraavaan kysymykseen annetun kappaleen tiedon perusteella.", "Kappale:", "Kysymys:", "Vastaus:"
    ),
    "indonesian": Wording(
        "Jawab pertanyaan berikut berdasarkan informasi di bagian yang diberikan.",
        "Bagian:",
        "Pertanyaan:",
        "Jawaban:",
    ),
    "korean": Wording("주어진 문단의 정보에 기반하여 다음 질문에 답하십시오.", "문단:", "질문:", "답변:"),
    "russian": Wording(
        "Ответьте на следующий вопрос на основе информации в данном отрывке.", "Отрывок:", "Вопрос:", "Ответ:"
    ),
    "swahili": Wording(
        "Jibu swali lifuatalo kulingana na habari kwenye kifungu kilichotolewa.", "Kifungu:", "Swali:", "Jibu:"
    ),
    "telugu": Wording("ఇచ్చిన పేరాలోని సమాచారం ఆధారంగా కింది ప్రశ్నకు సమాధానం ఇవ్వండి.", "పేరా:", "ప్రశ్న:", "సమాధానం:"),
}
TURN = {
    "arabic": Wording("اقرأ النص ثم أجب عن السؤال.\n\n", "النص:", "السؤال:"),
    "bengali": Wording("অনুচ্ছেদটি পড়ে প্রশ্নের উত্তর দিন।\n\n", "অনুচ্ছেদ:", "প্রশ্ন:"),
    "english": Wording("Read the passage and answer the question.\n\n", "Passage:", "Question:"),
    "finnish": Wording("Lue teksti ja vastaa kysymykseen.\n\n", "Teksti:", "Kysymys:"),
    "indonesian": Wording("Baca teks lalu jawab pertanyaannya.\n\n", "Teks:", "Pertanyaan:"),
    "korean": Wording("지문을 읽고 질문에 답하세요.\n\n", "지문:", "질문:"),
    "russian": Wording("Прочитайте текст и ответьте на вопрос.\n\n", "Текст:", "Вопрос:"),
    "swahili": Wording("Soma kifungu kisha ujibu swali.\n\n", "Kifungu:", "Swali:"),
    "telugu": Wording("పేరాను చదివి ప్రశ్నకు సమాధానం ఇవ్వండి.\n\n", "పేరా:", "ప్రశ్న:"),
}


def wording(language: str, published: bool) -> Wording:
    """How a question in `language` is put."""
    known = PUBLISHED if published else TURN
    return known.get(language, known["english"])


class TyDiQATarget(TargetLoader):
    """All questions of all languages of the file, in its order."""

    name = "tydiqa"
    forms: ClassVar[tuple[str, ...]] = FORMS

    def references(self, config: TargetConfig) -> list[Reference]:
        path = layout_path(config, "tydiqa/tydiqa-one-shot.json", LAYOUT)
        published = self.published(config)
        pairs = []
        for language, questions in read_object(path).items():
            if not isinstance(questions, list):
                raise ValueError(f"{path}: {language}: expected a list of questions; the layout is {LAYOUT}")
            for number, item in enumerate(questions):
                pairs.append(_question(f"{path}: {language}[{number}]", language, number, item, published))
        return pairs


def _question(place: str, language: str, number: int, item: Any, published: bool) -> Reference:
    try:
        texts = [item["context"], item["question"], item["answers"][0]["text"]]
    except (KeyError, IndexError, TypeError):
        texts = []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{place}: expected context, question and answers[0].text; the layout is {LAYOUT}") from None
    context, question, answer = texts if published else [text.strip() for text in texts]
    words = wording(language, published)
    prompt = words.prompt(context, question)
    return reference("tydiqa", language, number, prompt, answer.strip(), words.answer, end=not published)
