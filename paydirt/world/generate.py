"""The world's text: a pool of three sources, two targets with disjoint tests, and the truth about every example.

Enters: a seed. Leaves: a `World`, the same on every machine, for it is drawn by `random.Random` alone. What scorers see
(`Item.row`) and what is true (`Label`) are kept in different records and later in different files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from random import Random

from paydirt.world import catalogue_skills, everyday_skills
from paydirt.world.facts import Facts, deal_facts
from paydirt.world.skills import Problem, Skill

TARGETS = {"worded": "invoice", "paraphrased": "notation_numbered"}
# How often each source answers wrongly, and its share of every skill: quality differs by source, skills do not, so a
# source's name tells nothing about the skill.
WRONG = {"handbook": 0.0, "forum": 0.35, "scrape": 1.0}
SHARE = {"handbook": 0.6, "forum": 0.25, "scrape": 0.15}
TARGET_EXAMPLES = 440  # about 7 % of the pool; the clean ones alone make 5 %
DECOY_EXAMPLES = 400  # so that of five notations alike in words one in five is the right one
OTHER_EXAMPLES = 270
REFERENCES = 32
TESTS = 200


@dataclass(frozen=True)
class Item:
    """One conversation of a single question and answer."""

    source: str
    prompt: str
    answer: str
    subtask: str = "all"

    @property
    def id(self) -> str:
        """A hash of the content: stable, and silent about skill and truth."""
        return hashlib.sha256(f"{self.source}\n{self.prompt}\n{self.answer}".encode()).hexdigest()[:12]

    @property
    def messages(self) -> list[dict[str, str]]:
        return [{"role": "user", "content": self.prompt}, {"role": "assistant", "content": self.answer}]


@dataclass(frozen=True)
class Label:
    """The truth about a pool example: which skill made it and whether its answer is right."""

    skill: str
    clean: bool


@dataclass(frozen=True)
class WorldTarget:
    """A target: what is shown of it, and what it is tested on."""

    name: str
    skill: str
    references: tuple[Item, ...]
    test: tuple[Item, ...]


@dataclass(frozen=True)
class World:
    """`pool` and `labels` are keyed alike: `labels[item.id]` is the truth about `item`."""

    seed: int
    facts: Facts
    pool: tuple[Item, ...]
    labels: dict[str, Label] = field(repr=False)
    targets: dict[str, WorldTarget] = field(repr=False)


def generate_world(seed: int) -> World:
    """Draw the whole world of a seed."""
    facts = deal_facts(seed)
    skills = {skill.name: skill for skill in (*catalogue_skills.SKILLS, *everyday_skills.SKILLS)}
    held_out: set[tuple[str, str]] = set()
    targets = {}
    for name, skill_name in TARGETS.items():
        targets[name] = _draw_target(Random(f"target {name} {seed}"), facts, name, skills[skill_name])
        held_out |= {(skill_name, key) for key in targets[name][1]}
    pool, labels = _draw_pool(Random(f"pool {seed}"), facts, tuple(skills.values()), held_out)
    return World(seed, facts, pool, labels, {name: target for name, (target, _) in targets.items()})


def _draw_target(rng: Random, facts: Facts, name: str, skill: Skill) -> tuple[WorldTarget, set[str]]:
    """References and test items, no problem twice, subtasks in equal number; and the keys of their problems.

    A problem is held out whole, in every wording: the pool holds none of them, so a test asks for what was not shown.
    """
    problems: dict[str, Problem] = {}
    while len(problems) < REFERENCES + TESTS:
        problem = skill.draw(rng, facts)
        problems.setdefault(problem.key, problem)
    by_subtask: dict[str, list[Problem]] = {}
    for problem in problems.values():
        by_subtask.setdefault(problem.subtask, []).append(problem)
    share = REFERENCES // len(by_subtask)
    references = [p for group in sorted(by_subtask) for p in by_subtask[group][:share]]
    test = [p for group in sorted(by_subtask) for p in by_subtask[group][share:]]

    def item(problem: Problem) -> Item:
        return Item("target", skill.word(rng, problem), problem.answer, problem.subtask)

    return WorldTarget(name, skill.name, tuple(map(item, references)), tuple(map(item, test))), set(problems)


def _draw_pool(
    rng: Random, facts: Facts, skills: tuple[Skill, ...], held_out: set[tuple[str, str]]
) -> tuple[tuple[Item, ...], dict[str, Label]]:
    """Every skill in its number, every prompt once, each source with its share of wrong answers; shuffled."""
    pool: list[Item] = []
    labels: dict[str, Label] = {}
    prompts: set[str] = set()
    for skill in skills:
        wanted = _wanted(skill)
        made = tries = 0
        while made < wanted and tries < 50 * wanted:  # a skill of few problems runs dry instead of looping for ever
            tries += 1
            problem = skill.draw(rng, facts)
            prompt = skill.word(rng, problem)
            if prompt in prompts or (skill.name, problem.key) in held_out:
                continue
            prompts.add(prompt)
            made += 1
            source = rng.choices(tuple(SHARE), tuple(SHARE.values()))[0]
            clean = rng.random() >= WRONG[source]
            item = Item(source, prompt, problem.answer if clean else problem.wrong)
            labels[item.id] = Label(skill.name, clean)
            pool.append(item)
    rng.shuffle(pool)
    return tuple(pool), labels


def _wanted(skill: Skill) -> int:
    """How many examples of a skill the pool asks for."""
    if skill.name in TARGETS.values():
        return TARGET_EXAMPLES
    return DECOY_EXAMPLES if skill.name.startswith("notation") else OTHER_EXAMPLES
