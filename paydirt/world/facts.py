"""What there is in the world: goods on sale, and four made-up facts about each.

Enters: a seed. Leaves: a `Facts` table that says what every good costs, its colour, the town it comes from and its
name in Velan, an invented tongue. The facts are made up, so the base model can know them only from its own pre-training
text; and they are dealt anew for every seed, so that three seeds are three worlds and not one world trained thrice.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


def words(text: str) -> list[str]:
    """The words of a line: lists of many words read better as one line than as a column of quotes."""
    return text.split()


GOODS = words(
    "lamp chair kettle basket ladder mirror candle blanket hammer bucket pillow bottle carpet teapot wagon drum flute "
    "saddle rope shovel needle lantern barrel broom curtain clock ring scarf coat boot glove hat belt knife spoon "
    "plate bowl cup jar box bench stool shelf door window brush comb soap bell kite sled anchor sail oar net quilt"
)
COLOURS = words("red blue green yellow black white brown purple orange grey pink golden")
TOWNS = words("arden bexley corfe dunmore elstow farleigh grafton holme ilford jarrow kelso ludlow marden")
VELAN = words(
    "abu bota chiri dela ema fusi gola heni isku jova kemi lunto mira noka opal pesta quim roma sula tavi umbo vesk "
    "wola xeno yara zimu arko belu cimba doro eski fala gimo hulo inka jeru kabo lapi mendo nuri osta pilu rako sibu "
    "tomi ulka vano wiri yoto zelu afi boko cusa dimi evo foru"
)
ATTRIBUTES = ("price", "colour", "town", "translation")


@dataclass(frozen=True)
class Facts:
    """`value[attribute][good]` is the answer as text, one or two words: "12 coins", "red", "arden", "belu"."""

    value: dict[str, dict[str, str]]
    coins: dict[str, int]

    def of(self, good: str, attribute: str) -> str:
        return self.value[attribute][good]

    def other(self, rng: Random, good: str, attribute: str) -> str:
        """A wrong value of the right kind: what some other good has."""
        right = self.of(good, attribute)
        return rng.choice(sorted({v for v in self.value[attribute].values() if v != right}))


def deal_facts(seed: int) -> Facts:
    """Deal every good a price of 2 to 60 coins (no two alike), a colour, a town and a Velan name."""
    rng = Random(f"facts {seed}")
    prices = rng.sample(range(2, 61), len(GOODS))
    names = rng.sample(VELAN, len(GOODS))
    coins = dict(zip(GOODS, prices))
    return Facts(
        value={
            "price": {good: f"{price} coins" for good, price in coins.items()},
            "colour": {good: rng.choice(COLOURS) for good in GOODS},
            "town": {good: rng.choice(TOWNS) for good in GOODS},
            "translation": dict(zip(GOODS, names)),
        },
        coins=coins,
    )
