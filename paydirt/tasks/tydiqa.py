"""TyDiQA: 1-shot gold-passage F1 and exact match by language, macro (every language counts the same) and micro average.

Clark et al., arXiv 2003.05002, graded by lm-eval's `tydiqa_goldp_<language>`: SQuAD's F1 and exact match with
punctuation of all scripts removed. Questions come from `tydiqa/tydiqa-goldp-v1.1-dev.json`, the shot of each language
from `tydiqa/tydiqa-one-shot.json`. In the prompt form of the references the shot is a turn of its own, worded like the
target's in the passage's language; both answers open with its label (form `turn`: with nothing).

TyDiQA references: one gold-passage question for each of 9 languages, the language as subtask.

Source: Clark et al., arXiv 2003.05002, as `tydiqa-one-shot.json` of LESS: an instruction in the passage's language, the
passage, the question; the answer is the first gold span. Form `published` has open-instruct's wording as LESS joins it
(nothing stands between instruction and passage label), texts as they are; the answer's label opens the assistant turn
unsupervised, and no end mark follows. Form `turn` has our own wording and no label, texts without white space at their
ends, and supervises the turn with its end. A language not listed is asked in English.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from paydirt.core.types import Item, Target
from paydirt.tasks.harness.benchmark import FormedBenchmark, to_dataset
from paydirt.tasks.references import FORMS, Reference, TargetConfig, TargetLoader, layout_path, read_object, reference

REFERENCES = "eval/tydiqa/tydiqa-one-shot.json: language -> [{context, question, answers: [{text}]}]"


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
        path = layout_path(config, "tydiqa/tydiqa-one-shot.json", REFERENCES)
        published = self.published(config)
        pairs = []
        for language, questions in read_object(path).items():
            if not isinstance(questions, list):
                raise ValueError(f"{path}: {language}: expected a list of questions; the layout is {REFERENCES}")
            for number, item in enumerate(questions):
                pairs.append(_question(f"{path}: {language}[{number}]", language, number, item, published))
        return pairs


def _question(place: str, language: str, number: int, item: Any, published: bool) -> Reference:
    try:
        texts = [item["context"], item["question"], item["answers"][0]["text"]]
    except (KeyError, IndexError, TypeError):
        texts = []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"{place}: expected context, question and answers[0].text; the layout is {REFERENCES}"
        ) from None
    context, question, answer = texts if published else [text.strip() for text in texts]
    words = wording(language, published)
    prompt = words.prompt(context, question)
    return reference("tydiqa", language, number, prompt, answer.strip(), words.answer, end=not published)


LAYOUT = "eval/tydiqa/tydiqa-goldp-v1.1-dev.json in SQuAD's form, and eval/tydiqa/tydiqa-one-shot.json"
CODES = {
    "arabic": "ar",
    "bengali": "bn",
    "english": "en",
    "finnish": "fi",
    "indonesian": "id",
    "korean": "ko",
    "russian": "ru",
    "swahili": "sw",
    "telugu": "te",
}
LANGUAGES = {code: language for language, code in CODES.items()}


class TyDiQA(FormedBenchmark):
    """Questions about a given passage in 9 languages."""

    name: ClassVar[str] = "tydiqa"
    folder: ClassVar[str | None] = "tydiqa"
    shots: ClassVar[int] = 1
    multiturn: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("f1", "exact_match")
    main: ClassVar[str] = "f1_macro"

    def subtask(self, task: str) -> str:
        return LANGUAGES[task.removeprefix("tydiqa_goldp_")]

    def files(self) -> list[Path]:
        return [
            self.place("tydiqa/tydiqa-goldp-v1.1-dev.json", LAYOUT),
            self.place("tydiqa/tydiqa-one-shot.json", LAYOUT),
        ]

    def specs(self, target: Target | None) -> list[dict[str, Any]]:
        dev, one_shot = self.files()
        questions, shots = read_questions(dev), read_shots(one_shot)
        unknown = sorted(set(questions) - set(CODES))
        if unknown:
            raise ValueError(f"{dev}: lm-eval grades {', '.join(CODES)}; found questions in {', '.join(unknown)}")
        lacking = sorted(set(questions) - set(shots))
        if lacking:
            raise ValueError(f"{one_shot}: no shot in {', '.join(lacking)}")
        specs = []
        for language in sorted(questions):
            splits = {"train": shots[language][: self.shots], "validation": questions[language][: self.limit]}
            spec: dict[str, Any] = {
                "task": f"tydiqa_goldp_{CODES[language]}",
                "custom_dataset": lambda splits=splits, **_: {
                    name: to_dataset(rows, dev) for name, rows in splits.items()
                },
                "fewshot_config": {"sampler": "first_n"},
                "num_fewshot": self.shots,
            }
            if self.as_references:
                words = wording(language, self.published)
                ends = "" if self.published else ".strip()"
                spec["doc_to_text"] = words.prompt(f"{{{{context{ends}}}}}", f"{{{{question{ends}}}}}")
                if words.answer:
                    spec["gen_prefix"] = words.answer
                    spec["fewshot_config"] = {"sampler": "first_n", "gen_prefix": words.answer}
            specs.append(spec)
        return specs

    def items(self) -> list[Item]:
        found = read_questions(self.files()[0])
        return [
            Item(f"tydiqa/dev/{row['id']}", f"{row['context']}\n{row['question']}", row["question"])
            for language in sorted(found)
            for row in found[language]
        ]


def read_questions(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows by language, as the hub's secondary task has them; an id opens with its language."""
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        for article in read_object(path)["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    row = _row(question, paragraph["context"], article.get("title", ""))
                    found.setdefault(row["id"].split("-")[0], []).append(row)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not in SQuAD's form ({error}); the layout is {LAYOUT}") from None
    return found


def read_shots(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The shots of each language; ValueError names the file."""
    try:
        return {
            language: [_row(item | {"id": f"{language}-{n}"}, item["context"], "") for n, item in enumerate(items)]
            for language, items in read_object(path).items()
        }
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected questions with context and answers ({error}); {LAYOUT}") from None


def _row(question: dict[str, Any], context: str, title: str) -> dict[str, Any]:
    answers = {"text": [str(answer["text"]) for answer in question["answers"]]}
    texts = {"title": title, "context": context, "question": str(question["question"])}
    return {"id": str(question["id"]), **texts, "answers": answers}
