"""Skills of everyday reasoning that need no facts about the goods: numbers, the calendar, lists, tables, deduction."""

from __future__ import annotations

from random import Random

from paydirt.world.facts import COLOURS, GOODS, Facts, words
from paydirt.world.skills import Problem, Skill

DAYS = words("monday tuesday wednesday thursday friday saturday sunday")
MONTHS = words("january february march april may june july august september october november december")
NAMES = words("anna boris clara david emma felix greta henry irene jonas karla louis")
UNITS = {"weeks": ("days", 7), "dozens": ("pieces", 12), "hands": ("fingers", 5), "cars": ("wheels", 4)}


def _other_number(rng: Random, right: int) -> int:
    """A number near the right one, never below 0."""
    return right + rng.choice([d for d in (-3, -2, -1, 1, 2, 3) if right + d >= 0])


def add(rng: Random, facts: Facts) -> Problem:
    a, b = rng.randint(1, 20), rng.randint(1, 20)
    total = a + b
    return Problem(
        f"{a} {b}", {"a": str(a), "b": str(b)}, f"the sum is {total}", f"the sum is {_other_number(rng, total)}"
    )


def weekday(rng: Random, facts: Facts) -> Problem:
    day, step = rng.randrange(7), rng.randint(1, 6)
    right = (day + step) % 7
    wrong = rng.choice([d for d in range(7) if d != right])
    slots = {"day": DAYS[day].capitalize(), "n": str(step), "unit": "day" if step == 1 else "days"}
    return Problem(f"{day} {step}", slots, f"it is {DAYS[right]}", f"it is {DAYS[wrong]}")


def month(rng: Random, facts: Facts) -> Problem:
    m, step = rng.randrange(12), rng.randint(1, 6)
    right = (m - step) % 12
    wrong = rng.choice([d for d in range(12) if d != right])
    slots = {"month": MONTHS[m].capitalize(), "n": str(step), "unit": "month" if step == 1 else "months"}
    return Problem(f"{m} {step}", slots, f"{MONTHS[right]} then", f"{MONTHS[wrong]} then")


def sort_numbers(rng: Random, facts: Facts) -> Problem:
    numbers = rng.sample(range(1, 61), 3)
    right = sorted(numbers)
    wrong = right[1:] + right[:1]
    shown = ", ".join(map(str, numbers))
    return Problem(shown, {"list": shown}, " < ".join(map(str, right)), " < ".join(map(str, wrong)))


def count_word(rng: Random, facts: Facts) -> Problem:
    word, filler = rng.sample(COLOURS, 2)
    times = rng.randint(1, 4)
    beads = [word] * times + [filler] * (5 - times)
    rng.shuffle(beads)
    wrong = rng.choice([n for n in range(1, 5) if n != times])
    slots = {"word": word, "list": ", ".join(beads)}
    return Problem(f"{word} {beads}", slots, f"{times} times", f"{wrong} times")


def next_number(rng: Random, facts: Facts) -> Problem:
    start, step = rng.randint(1, 30), rng.randint(1, 6)
    shown = [start + step * i for i in range(3)]
    right = start + 3 * step
    slots = {"list": ", ".join(map(str, shown))}
    return Problem(slots["list"], slots, f"next is {right}", f"next is {_other_number(rng, right)}")


def convert(rng: Random, facts: Facts) -> Problem:
    unit = rng.choice(sorted(UNITS))
    small, factor = UNITS[unit]
    n = rng.randint(2, 12)
    right, wrong = n * factor, _other_number(rng, n * factor)
    return Problem(f"{n} {unit}", {"n": str(n), "unit": unit, "small": small}, f"{right} {small}", f"{wrong} {small}")


def look_up(rng: Random, facts: Facts) -> Problem:
    names = rng.sample(NAMES, 3)
    shown = rng.sample(range(1, 61), 3)
    row = rng.randrange(3)
    table = "; ".join(f"{name.capitalize()} {n}" for name, n in zip(names, shown))
    wrong = shown[(row + 1) % 3]
    slots = {"table": table, "name": names[row].capitalize()}
    return Problem(f"{table} {row}", slots, f"{names[row]} has {shown[row]}", f"{names[row]} has {wrong}")


def drop_word(rng: Random, facts: Facts) -> Problem:
    words = rng.sample(GOODS, 4)
    gone = rng.randrange(4)
    right = [w for i, w in enumerate(words) if i != gone]
    wrong = [w for i, w in enumerate(words) if i != (gone + 1) % 4]
    slots = {"word": words[gone], "list": " ".join(words)}
    return Problem(f"{words} {gone}", slots, " ".join(right), " ".join(wrong))


def deduce(rng: Random, facts: Facts) -> Problem:
    tall, middle, small = rng.sample(NAMES, 3)
    one = f"{tall.capitalize()} is taller than {middle.capitalize()}"
    two = f"{middle.capitalize()} is taller than {small.capitalize()}"
    first, second = (one, two) if rng.random() < 0.5 else (two, one)
    slots = {"one": first, "two": second}
    wrong = rng.choice((middle, small))
    return Problem(f"{first} {second}", slots, f"{tall} is tallest", f"{wrong} is tallest")


SKILLS = (
    Skill(
        "add",
        (
            "What is {a} plus {b}?",
            "Add {a} and {b}.",
            "If I have {a} apples and get {b} more, how many is that?",
            "Work out {a} + {b}.",
            "Find the sum of {a} and {b}.",
        ),
        add,
    ),
    Skill(
        "weekday",
        (
            "Today is {day}. What day is it in {n} {unit}?",
            "Which day comes {n} {unit} after {day}?",
            "It is {day} now. Name the day {n} {unit} later.",
            "Count {n} {unit} on from {day}.",
            "The fair opens {n} {unit} after {day}. Which day is that?",
        ),
        weekday,
    ),
    Skill(
        "month",
        (
            "Which month was {n} {unit} before {month}?",
            "It is {month}. What month was it {n} {unit} ago?",
            "Go back {n} {unit} from {month}.",
            "I moved here {n} {unit} before {month}. In which month?",
        ),
        month,
    ),
    Skill(
        "sort",
        (
            "Sort {list} from small to large.",
            "Put these numbers in order: {list}.",
            "Arrange {list} so that they grow.",
            "Order the numbers {list}, smallest first.",
        ),
        sort_numbers,
    ),
    Skill(
        "count",
        (
            "How often does {word} appear in {list}?",
            "Count the {word} beads: {list}.",
            "Here are some beads: {list}. How many are {word}?",
            "In the row {list}, how many times do you see {word}?",
        ),
        count_word,
    ),
    Skill(
        "sequence",
        (
            "Continue the sequence {list}.",
            "What number follows {list}?",
            "{list}: what comes next?",
            "Find the next term of {list}.",
            "Guess how the row {list} goes on.",
        ),
        next_number,
    ),
    Skill(
        "convert",
        (
            "How many {small} are in {n} {unit}?",
            "Convert {n} {unit} to {small}.",
            "Change {n} {unit} into {small}.",
            "{n} {unit} make how many {small}?",
        ),
        convert,
    ),
    Skill(
        "table",
        (
            "Scores: {table}. What did {name} score?",
            "Read the table {table} and give the entry for {name}.",
            "From the table {table}, how much has {name}?",
            "Look up {name}: {table}.",
        ),
        look_up,
    ),
    Skill(
        "drop",
        (
            "Remove the word {word} from: {list}.",
            "Delete {word} in the text: {list}.",
            "Write the text without {word}: {list}.",
            "Take {word} out of the row: {list}.",
        ),
        drop_word,
    ),
    Skill(
        "deduce",
        (
            "{one}. {two}. Who is the tallest?",
            "{one}, and {two}. Which of them is tallest?",
            "If {one} and {two}, who stands above all?",
            "Think: {one}. {two}. Name the tallest one.",
        ),
        deduce,
    ),
)
