"""What a skill is.

A skill draws a problem (what is asked, the right answer, a wrong one of the same form) and words it in one of its
wordings. Which skill made an example is the truth that scorers must find and never see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from paydirt.world.facts import Facts


@dataclass(frozen=True)
class Problem:
    """One drawn problem. `slots` fill a wording; `key` names the problem whatever its wording, for disjoint splits."""

    key: str
    slots: dict[str, str]
    answer: str
    wrong: str
    subtask: str = "all"


Draw = Callable[[Random, Facts], Problem]


@dataclass(frozen=True)
class Skill:
    """A way of asking and of answering. `wordings` are format strings over the slots of a problem."""

    name: str
    wordings: tuple[str, ...]
    draw: Draw

    def word(self, rng: Random, problem: Problem) -> str:
        """The problem as a user would ask it."""
        text = rng.choice(self.wordings).format(**problem.slots)
        return text[0].upper() + text[1:]
