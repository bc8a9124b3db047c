"""The built-in world: a pool, two targets, the truth about them, and a base model, made on the spot from a seed."""

from paydirt.world.build import relevant_ids, true_scores, world_dir, write_text, write_world
from paydirt.world.generate import TARGETS, Item, Label, World, WorldTarget, generate_world

__all__ = [
    "TARGETS",
    "Item",
    "Label",
    "World",
    "WorldTarget",
    "generate_world",
    "relevant_ids",
    "true_scores",
    "world_dir",
    "write_text",
    "write_world",
]
