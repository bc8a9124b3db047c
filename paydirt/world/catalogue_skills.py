"""Skills about the goods: what the base model knows as facts, asked for and written down in many ways.

`invoice` is the home of the *worded* target: no other skill uses its words. `notation_*` are five skills that share
every word of the question, ask for the same two facts and differ in how the answer is written; which notation is
wanted shows in the *order* of the words alone (where "please" stands, which phrase comes first). One of them is the
*paraphrased* target, the other four are its decoys: a bag of words cannot tell them apart, a model can.
"""

from __future__ import annotations

from random import Random

from paydirt.world.facts import ATTRIBUTES, GOODS, Facts
from paydirt.world.skills import Draw, Problem, Skill


def two_facts(form: str) -> Draw:
    """Two facts of one good, written as `form` says ({good}, {a}, {b} for attributes, {x}, {y} for their values)."""

    def draw(rng: Random, facts: Facts) -> Problem:
        good = rng.choice(GOODS)
        a, b = rng.sample(ATTRIBUTES, 2)
        right = {"x": facts.of(good, a), "y": facts.of(good, b)}
        wrong = {"x": facts.other(rng, good, a), "y": facts.other(rng, good, b)}
        names = {"good": good, "a": a, "b": b}
        return Problem(
            key=f"{good} {a} {b}",
            slots=names,
            answer=form.format(**names, **right),
            wrong=form.format(**names, **wrong),
            subtask=f"{a} first",
        )

    return draw


def one_fact(attribute: str, form: str) -> Draw:
    """One fact of one good."""

    def draw(rng: Random, facts: Facts) -> Problem:
        good = rng.choice(GOODS)
        return Problem(
            key=f"{good} {attribute}",
            slots={"good": good},
            answer=form.format(good=good, x=facts.of(good, attribute)),
            wrong=form.format(good=good, x=facts.other(rng, good, attribute)),
        )

    return draw


def compare(rng: Random, facts: Facts) -> Problem:
    """Which of two goods costs less."""
    one, two = rng.sample(GOODS, 2)
    cheap, dear = sorted((one, two), key=lambda good: facts.coins[good])
    return Problem(f"{one} {two}", {"one": one, "two": two}, f"buy the {cheap}", f"buy the {dear}")


def same_colour(rng: Random, facts: Facts) -> Problem:
    """Whether two goods have one colour; half of the problems are drawn so that they do, where there is such a pair."""
    one = rng.choice(GOODS)
    alike = [g for g in GOODS if g != one and facts.of(g, "colour") == facts.of(one, "colour")]
    rest = [g for g in GOODS if g != one and g not in alike]
    same = bool(alike) and rng.random() < 0.5
    two = rng.choice(alike if same else rest)
    yes, no = "yes, they match", "no, they differ"
    return Problem(f"{one} {two}", {"one": one, "two": two}, yes if same else no, no if same else yes)


def each(verbs: str, *forms: str) -> tuple[str, ...]:
    """Every form with every verb."""
    return tuple(form.replace("VERB", verb) for form in forms for verb in verbs.split())


ASK = "tell show give send"
INVOICE = (
    "Write an invoice line for the {good} with its {a} and {b}.",
    "Draft the invoice entry for one {good}: {a}, then {b}.",
    "A customer bought the {good}. Make out the invoice with {a} and {b}.",
    "Please bill the customer for the {good}, listing {a} and {b}.",
    "Invoice needed: {good}, {a} and {b}.",
    "Prepare the bill for a {good}. Include the {a} and the {b} on the invoice.",
)

SKILLS = (
    Skill("invoice", INVOICE, two_facts("invoice: {x} | {y}")),
    Skill(
        "notation_slash",
        each(ASK, "please VERB me the {a} and the {b} of the {good}."),
        two_facts("{x} / {y}"),
    ),
    Skill(
        "notation_numbered",
        each(ASK, "VERB me the {a} and the {b} of the {good}, please."),
        two_facts("first {x}, second {y}"),
    ),
    Skill(
        "notation_brackets",
        each(ASK, "of the {good}, please VERB me the {a} and the {b}."),
        two_facts("({x}) ({y})"),
    ),
    Skill(
        "notation_plain",
        each(ASK, "the {a} and the {b} of the {good}, please VERB me."),
        two_facts("{x}, {y}."),
    ),
    Skill(
        "notation_reversed",
        each(ASK, "VERB me, please, the {a} and the {b} of the {good}."),
        two_facts("{y} before {x}"),
    ),
    Skill(
        "colour",
        (
            "What colour is the {good}?",
            "Which colour does the {good} have?",
            "Describe the colour of the {good}.",
            "I forgot what colour the {good} is. Can you help?",
            "In what colour is the {good} painted?",
        ),
        one_fact("colour", "the {good} is {x}."),
    ),
    Skill(
        "origin",
        (
            "Where does the {good} come from?",
            "Which town makes the {good}?",
            "From what town do we get the {good}?",
            "Where was the {good} made?",
            "Name the home town of the {good}.",
        ),
        one_fact("town", "the {good} comes from {x}."),
    ),
    Skill(
        "translate",
        (
            "How do you say {good} in Velan?",
            "Translate {good} into Velan.",
            "What is the Velan word for {good}?",
            "What do people who speak Velan call a {good}?",
            "Say {good} the Velan way.",
        ),
        one_fact("translation", "in velan it is {x}."),
    ),
    Skill(
        "cheaper",
        (
            "Which is cheaper, the {one} or the {two}?",
            "I can buy the {one} or the {two}. Which costs less?",
            "Between the {one} and the {two}, which one saves money?",
            "The {one} or the {two}: which has the lower price?",
            "Should I take the {one} or the {two} if I have few coins?",
        ),
        compare,
    ),
    Skill(
        "same_colour",
        (
            "Do the {one} and the {two} have the same colour?",
            "Is the {one} the colour of the {two}?",
            "Would the {one} match the {two} in colour?",
            "Are the {one} and the {two} of one colour?",
            "Check whether the {one} and the {two} match.",
        ),
        same_colour,
    ),
)
