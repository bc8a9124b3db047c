"""The general mixture that the base model reads: facts, calendar, numbers, lists and a little plain conversation.

It teaches what the skills need to know (what things cost, what follows Monday, what comes next in a row) in plain
statements, and that a question gets a short answer, but none of the answer forms that fine-tuning is to teach. Some
skills of the pool answer in the very sentences of this text: to a language model they look easy, which keeps "lowest
perplexity" from being an oracle.
"""

from __future__ import annotations

from random import Random

from paydirt.world.everyday_skills import DAYS, MONTHS, NAMES, UNITS
from paydirt.world.facts import ATTRIBUTES, COLOURS, GOODS, Facts

STATEMENTS = {
    "price": ("the {good} costs {x}.", "the price of the {good} is {x}."),
    "colour": ("the {good} is {x}.", "the colour of the {good} is {x}."),
    "town": ("the {good} comes from {x}.", "the town of the {good} is {x}."),
    "translation": ("the {good}: in velan it is {x}.", "the translation of the {good} is {x}."),
}
SHORT_QUESTIONS = ("what is the {a} of the {good}?", "tell me the {a} of the {good}.", "the {good}, its {a}?")
QUESTIONS = (
    "what are the {a} and the {b} of the {good}?",
    "the {good}, its {a} and {b}?",
    "{ask} me the {a} and {b} of the {good}.",
    "{ask} me the {a} and the {b} of the {good}.",
    "of the {good}, {ask} me the {a} and the {b}.",
    "the {a} and the {b} of the {good}, {ask} me.",
    "about the {good}: {ask} me its {a} and its {b}.",
    "write down the {a} and the {b}, for a {good}.",
    "a customer has the {good} here. note its {a} and then its {b}.",
    "look for a {good}. put the {a} and the {b} on the label.",
    "label for one {good}: {a}, then {b}.",
    "{ask} the customer of the {good}, naming its {a} and {b}.",
    "a customer found the {good}. fill in the note with {a} and {b}.",
)
ASK = ("tell", "show", "give", "send")
# People answer in many styles. The mixture shows that style is free, and none of the styles that the pool teaches.
OPENINGS = ("", "", "", "well, ", "sure. ", "here: ", "- ")
SEPARATORS = (", ", ", ", " and ", " & ", " + ", " - ", " then ", ". ")
CLOSINGS = (".", ".", "", "!")


def pretraining_documents(seed: int, facts: Facts, n: int) -> list[str]:
    """n short documents of the mixture; about half state facts."""
    rng = Random(f"pretraining {seed}")
    kinds = (_facts, _talk, _pairs, _calendar, _numbers, _lists, _people)
    early, late = (56, 26, 4, 3, 4, 4, 3), (22, 60, 4, 3, 4, 4, 3)
    documents = []
    for i in range(n):
        weights = [a + (b - a) * i / n for a, b in zip(early, late)]
        documents.append(rng.choices(kinds, weights)[0](rng, facts))
    return documents


def _statement(rng: Random, facts: Facts, good: str, attribute: str) -> str:
    return rng.choice(STATEMENTS[attribute]).format(good=good, x=facts.of(good, attribute))


def _facts(rng: Random, facts: Facts) -> str:
    """Three or four statements about one good."""
    good = rng.choice(GOODS)
    return " ".join(_statement(rng, facts, good, a) for a in rng.sample(ATTRIBUTES, rng.randint(3, 4)))


def _pairs(rng: Random, facts: Facts) -> str:
    """Two goods held against each other."""
    one, two = rng.sample(GOODS, 2)
    cheap, dear = sorted((one, two), key=lambda good: facts.coins[good])
    if rng.random() < 0.6:
        return f"the {one} or the {two}? the {cheap} is cheaper, the {dear} costs more."
    match = "match" if facts.of(one, "colour") == facts.of(two, "colour") else "differ"
    return f"the {one} and the {two}: {facts.of(one, 'colour')} and {facts.of(two, 'colour')}, they {match}."


def _talk(rng: Random, facts: Facts) -> str:
    """A question about one fact or two with its bare answer, in passing or in chat form."""
    good = rng.choice(GOODS)
    a, b = rng.sample(ATTRIBUTES, 2)
    answer = (
        rng.choice(OPENINGS) + facts.of(good, a) + rng.choice(SEPARATORS) + facts.of(good, b) + rng.choice(CLOSINGS)
    )
    ask = rng.choice(QUESTIONS).format(a=a, b=b, good=good, ask=rng.choice(ASK))
    if rng.random() < 0.3:
        answer = f"{facts.of(good, a)}."
        ask = rng.choice(SHORT_QUESTIONS).format(a=a, good=good)
    if rng.random() < 0.3:  # a polite word anywhere: it means nothing here
        words = ask.split(" ")
        words.insert(rng.randint(0, len(words)), "please")
        ask = " ".join(words)
    if rng.random() < 0.2:
        return f"question: {ask} answer: {answer}"
    return f"<|user|>\n{ask}\n<|assistant|>\n{answer}"


def _calendar(rng: Random, facts: Facts) -> str:
    """A run of the calendar, or a step in it."""
    names = rng.choice((DAYS, MONTHS))
    start, step = rng.randrange(len(names)), rng.randint(1, 6)
    there = names[(start + step) % len(names)]
    unit = ("day" if names is DAYS else "month") + ("" if step == 1 else "s")
    form = rng.randrange(3)
    if form == 0:
        return ", ".join(names[(start + i) % len(names)] for i in range(5)) + "."
    if form == 1:
        return f"{step} {unit} after {names[start]} it is {there}."
    return f"{step} {unit} before {there} it was {names[start]}."


def _numbers(rng: Random, facts: Facts) -> str:
    """A sum, a row, an order, or a change of unit."""
    form = rng.randrange(4)
    if form == 0:
        a, b = rng.randint(1, 20), rng.randint(1, 20)
        return f"{a} plus {b} is {a + b}."
    if form == 1:
        start, step = rng.randint(1, 30), rng.randint(1, 6)
        return ", ".join(str(start + step * i) for i in range(5)) + "."
    if form == 2:
        numbers = rng.sample(range(1, 61), 3)
        return f"the numbers {', '.join(map(str, numbers))} in order: {', '.join(map(str, sorted(numbers)))}."
    unit = rng.choice(sorted(UNITS))
    small, factor = UNITS[unit]
    n = rng.randint(2, 12)
    return f"{n} {unit} have {n * factor} {small}."


def _lists(rng: Random, facts: Facts) -> str:
    """A list said again, whole or without a word, or its words counted."""
    if rng.random() < 0.4:
        word, filler = rng.sample(COLOURS, 2)
        times = rng.randint(1, 4)
        beads = [word] * times + [filler] * (5 - times)
        rng.shuffle(beads)
        return f"beads: {', '.join(beads)}. that is {times} {word} and {5 - times} {filler}."
    words = rng.sample(GOODS, 4)
    if rng.random() < 0.5:
        return f"{' '.join(words)}, again: {' '.join(words)}."
    gone = rng.choice(words)
    return f"{' '.join(words)}, without {gone}: {' '.join(w for w in words if w != gone)}."


def _people(rng: Random, facts: Facts) -> str:
    """Who is taller than whom, or who has how many."""
    a, b, c = rng.sample(NAMES, 3)
    if rng.random() < 0.5:
        lines = [f"{a} is taller than {b}.", f"{b} is taller than {c}."]
        rng.shuffle(lines)
        return f"{' '.join(lines)} {a} is the tallest."
    x, y, z = rng.sample(range(1, 61), 3)
    name, n = rng.choice(((a, x), (b, y), (c, z)))
    return f"{a} {x}; {b} {y}; {c} {z}. so {name} has {n}."
