"""Planted leaks and planted repeats: real test questions as models are asked them, edited texts, Chinese and Thai."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from support.data import write_jsonl

pytest.importorskip("datasketch", reason="near-duplicates need the extra `dedup`")

from paydirt.core.types import Item
from paydirt.data.curate.decontaminate import DecontaminationConfig, decontaminate, find_matches
from paydirt.data.curate.dedup import DedupConfig, find_duplicates
from paydirt.data.curate.minhash import MISS, banding, miss
from paydirt.data.curate.shingles import all_ngrams, jaccard, ngrams, shingles, unlabelled, word_hashes, words
from paydirt.data.pool import Pool, PoolConfig, open_pool

FORMS = ("lines", "parentheses", "sentence")


def pool_of(tmp_path: Path, prompts: list[str], answers: list[str] | None = None) -> tuple[Pool, PoolConfig]:
    pairs = zip(prompts, answers or ["B"] * len(prompts))
    records = [{"id": f"r{n}", "prompt": prompt, "completion": answer} for n, (prompt, answer) in enumerate(pairs)]
    config = PoolConfig(files=str(write_jsonl(tmp_path / "pool.jsonl", records)))
    return open_pool(config, tmp_path / "cache"), config


def kept(tmp_path: Path, prompts: list[str], items: list[Item]) -> int:
    matches, _ = find_matches(pool_of(tmp_path, prompts)[0], items, DecontaminationConfig())
    return len(prompts) - len({m.id for m in matches if m.kind != "boilerplate"})


def lettered(question: str, choices: list[str], form: str) -> str:
    if form == "lines":
        return question + "".join(f"\n{x}. {c}" for x, c in zip("ABCD", choices)) + "\nAnswer:"
    if form == "parentheses":
        return f"Q: {question}\nOptions:" + "".join(f"\n({x}) {c}" for x, c in zip("ABCD", choices))
    return f"Please choose. {question}" + "".join(f" {x}) {c}" for x, c in zip("ABCD", choices)) + " One letter only."


def test_real_questions_are_found_and_the_real_pool_is_left_alone(shared: Path, tmp_path: Path) -> None:
    """MMLU as it is asked, in three spellings and without options, planted among examples that nobody planted."""
    import gzip
    import json

    from paydirt.tasks.contamination import items_against
    from paydirt.tasks.mmlu import read_questions

    files = sorted((shared / "eval" / "mmlu" / "test").glob("*.csv"))
    questions = [row for file in files for row in read_questions(file)][::20]
    planted = {f: [lettered(row["question"], row["choices"], f) for row in questions] for f in FORMS}
    planted["bare"] = [row["question"] for row in questions]
    real = []
    for name in ("dolly", "oasst1"):
        with gzip.open(shared / "train" / f"{name}.jsonl.gz") as handle:
            real += [json.loads(line)["messages"] for number, line in enumerate(handle) if number % 20 == 0]
    records = [
        {"id": f"{form}-{n}", "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "B"}]}
        for form, texts in planted.items()
        for n, text in enumerate(texts)
    ] + [{"id": f"real-{n}", "messages": messages} for n, messages in enumerate(real)]
    pool = open_pool(PoolConfig(files=str(write_jsonl(tmp_path / "pool.jsonl", records))), tmp_path / "cache")
    matches, _ = find_matches(pool, items_against(["mmlu"], str(shared)), DecontaminationConfig())
    found = {m.id for m in matches if m.kind != "boilerplate"}
    missed = {form: [n for n in range(len(questions)) if f"{form}-{n}" not in found] for form in planted}
    assert {form: missed[form] for form in FORMS} == {form: [] for form in FORMS}
    assert len(missed["bare"]) <= 0.01 * len(questions)  # two words, or a stem that many questions share
    assert sum(id.startswith("real-") for id in found) <= 0.005 * len(real)


def test_a_short_question_counts_with_its_options_or_as_the_whole_prompt(tmp_path: Path) -> None:
    item = Item("quiz/1", "Which is red?\nGrass\nSky\nBlood\nSnow", "Which is red?")
    asked = lettered("Which is red?", ["Grass", "Sky", "Blood", "Snow"], "sentence")
    prompts = [asked, "Question: which is red?", "Tell me: which is red, a rose or a lily?", "Which is blue?"]
    matches, counts = find_matches(pool_of(tmp_path, prompts)[0], [item], DecontaminationConfig())
    assert [(m.id, m.shared) for m in matches] == [
        ("r0", "which is red grass sky blood snow"),
        ("r1", "which is red"),
    ]
    assert counts["items_too_short"] == 0


def test_labels_of_options_are_taken_off_and_nothing_else() -> None:
    assert " ".join(words(unlabelled("Question: Is f(a) > 2?\nA. one\n(b) two\nC) 3. x\nAnswer:"))) == (
        "is f a 2 one two x"
    )
    assert " ".join(words(unlabelled("B vitamins, 2) of a list\n2) next"))) == "b vitamins 2 of a list next"


@pytest.mark.parametrize("n", [1, 3, 7])
def test_runs_grow_from_shorter_runs(n: int) -> None:
    hashes = word_hashes(words("one two three four five six seven eight"))
    assert dict(all_ngrams(hashes, 7))[n].tolist() == ngrams(hashes, n).tolist()
    assert list(all_ngrams(hashes[:2], 7))[-1][0] == 2


def planted_pairs(count: int, threshold: float) -> list[tuple[str, str]]:
    """Pairs of texts of made-up words whose 5-grams are at least `threshold` alike, most of them barely."""
    draw = random.Random(0)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        first = [f"w{draw.randrange(10**6)}" for _ in range(draw.randint(40, 200))]
        second = list(first)
        for _ in range(draw.randint(1, 5)):
            second[draw.randrange(len(second))] = f"w{draw.randrange(10**6)}"
        pair = " ".join(first), " ".join(second)
        if threshold <= jaccard(*(shingles(text, 5) for text in pair)) < threshold + 0.08:
            pairs.append(pair)
    return pairs


def test_all_planted_pairs_at_the_threshold_are_found(tmp_path: Path) -> None:
    pairs = planted_pairs(300, 0.8)
    texts = [text for pair in pairs for text in pair]
    pool, _ = pool_of(tmp_path, texts, texts[::-1])
    found = find_duplicates(pool, DedupConfig(part="prompt"))
    assert [(row, other) for row, other, _ in found] == [(2 * n + 1, 2 * n) for n in range(len(pairs))]


def test_the_probability_of_a_miss_is_kept_for_every_threshold() -> None:
    for threshold in (0.06, 0.1, 0.3, 0.5, 0.8, 0.9, 0.99, 1.0):
        bands, rows = banding(threshold)
        assert bands * rows <= 128
        assert miss(threshold, bands, rows) <= MISS
    with pytest.raises(ValueError, match=r"similarity 4.94066e-324: near-duplicates are looked for from 0.06 to 1"):
        banding(5e-324)


CHARACTERS = {
    "chinese": "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下",
    "thai": "กขคงจฉชซญดตถทธนบปผฝพฟภมยรลวศสหอฮ",
}


@pytest.mark.parametrize("script", sorted(CHARACTERS))
def test_one_character_edits_are_found_where_no_spaces_stand(tmp_path: Path, script: str) -> None:
    draw = random.Random(1)
    texts = []
    for _ in range(100):
        text = draw.choices(CHARACTERS[script], k=draw.randint(60, 150))
        edited = list(text)
        edited[draw.randrange(len(edited))] = "x"
        texts += ["".join(text), "".join(edited)]
    pool, _ = pool_of(tmp_path, texts)
    found = find_duplicates(pool, DedupConfig(part="prompt"))
    assert [(row, other) for row, other, _ in found] == [(2 * n + 1, 2 * n) for n in range(100)]


def test_a_leak_in_chinese_is_found_inside_other_text(tmp_path: Path) -> None:
    question = "下列哪一种气体在地球大气中所占的体积比例最高而且不参与燃烧"
    prompts = [f"请回答下面的问题:{question}?谢谢你的帮助", "地球大气中有哪些气体?", "氮气"]
    assert kept(tmp_path, prompts, [Item("zh/1", question + "?")]) == 2


def test_the_report_states_the_chance_of_a_miss(tmp_path: Path) -> None:
    pool, config = pool_of(tmp_path, ["What is a fox?", "What is a hen?"])
    made: Any = decontaminate(
        pool, config, [Item("x/1", "nothing of the kind")], DecontaminationConfig(), tmp_path / "o"
    )
    assert 0 < made.notes["near_missed"] <= MISS
