"""TyDiQA references: one gold-passage question for each of 9 languages, the language as subtask.

Source: Clark et al., arXiv 2003.05002, as `tydiqa-one-shot.json` of LESS: an instruction in the passage's language, the
passage, the question; the answer is the first gold span. The instructions below are our own wording, not the ones of
open-instruct that LESS uses, and the answer's label ("Answer:") stays out of the assistant turn, since our encoder
supervises all of it. A language not listed is asked in English.
"""

from __future__ import annotations

from typing import Any

from paydirt.targets.base import Reference, TargetConfig, TargetLoader, layout_path, read_object, reference

LAYOUT = "eval/tydiqa/tydiqa-one-shot.json: language -> [{context, question, answers: [{text}]}]"
ENGLISH = ("Read the passage and answer the question.", "Passage", "Question")
WORDING = {  # instruction, passage, question
    "arabic": ("اقرأ النص ثم أجب عن السؤال.", "النص", "السؤال"),
    "bengali": ("অনুচ্ছেদটি পড়ে প্রশ্নের উত্তর দিন।", "অনুচ্ছেদ", "প্রশ্ন"),
    "english": ENGLISH,
    "finnish": ("Lue teksti ja vastaa kysymykseen.", "Teksti", "Kysymys"),
    "indonesian": ("Baca teks lalu jawab pertanyaannya.", "Teks", "Pertanyaan"),
    "korean": ("지문을 읽고 질문에 답하세요.", "지문", "질문"),
    "russian": ("Прочитайте текст и ответьте на вопрос.", "Текст", "Вопрос"),
    "swahili": ("Soma kifungu kisha ujibu swali.", "Kifungu", "Swali"),
    "telugu": ("పేరాను చదివి ప్రశ్నకు సమాధానం ఇవ్వండి.", "పేరా", "ప్రశ్న"),
}


class TyDiQATarget(TargetLoader):
    """All questions of all languages of the file, in its order."""

    name = "tydiqa"

    def references(self, config: TargetConfig) -> list[Reference]:
        path = layout_path(config, "tydiqa/tydiqa-one-shot.json", LAYOUT)
        pairs = []
        for language, questions in read_object(path).items():
            if not isinstance(questions, list):
                raise ValueError(f"{path}: {language}: expected a list of questions; the layout is {LAYOUT}")
            for number, item in enumerate(questions):
                pairs.append(_question(f"{path}: {language}[{number}]", language, number, item))
        return pairs


def _question(place: str, language: str, number: int, item: Any) -> Reference:
    try:
        context, question, answer = item["context"], item["question"], item["answers"][0]["text"]
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"{place}: expected context, question and answers[0].text; the layout is {LAYOUT}") from None
    instruction, passage_word, question_word = WORDING.get(language, ENGLISH)
    prompt = f"{instruction}\n\n{passage_word}: {context.strip()}\n{question_word}: {question.strip()}"
    return reference("tydiqa", language, number, prompt, answer.strip())
