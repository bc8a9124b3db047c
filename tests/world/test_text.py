"""The world's text: the same for a seed everywhere, disjoint where it must be, silent about the truth."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from paydirt.world import TARGETS, World, generate_world, relevant_ids, true_scores, write_text
from paydirt.world.pretraining import pretraining_documents


@pytest.fixture(scope="module")
def world() -> World:
    return generate_world(3)


def test_a_seed_makes_one_world(world: World) -> None:
    assert generate_world(3) == world
    assert generate_world(4).pool != world.pool
    assert pretraining_documents(3, world.facts, 50) == pretraining_documents(3, world.facts, 50)


@pytest.mark.parametrize("seed", [0, 3])
def test_counts(seed: int) -> None:
    world = generate_world(seed)
    assert len(world.pool) >= 6000
    assert len({label.skill for label in world.labels.values()}) >= 12
    assert len({item.id for item in world.pool}) == len(world.pool) == len(world.labels)
    assert len({item.prompt for item in world.pool}) == len(world.pool)
    for target in world.targets.values():
        assert len(target.references) == 32
        assert len(target.test) == 200
        assert set(Counter(item.subtask for item in target.references).values()) == {8}
        clean = sum(label.clean and label.skill == target.skill for label in world.labels.values())
        assert clean >= 0.045 * len(world.pool)  # an oracle can fill 5 % with little that is wrong


def test_sources_differ_in_quality_alone(world: World) -> None:
    right = Counter(item.source for item in world.pool if world.labels[item.id].clean)
    total = Counter(item.source for item in world.pool)
    assert right["handbook"] == total["handbook"]
    assert right["scrape"] == 0
    assert 0.6 < right["forum"] / total["forum"] < 0.7
    for skill in {label.skill for label in world.labels.values()}:
        of_skill = [item.source for item in world.pool if world.labels[item.id].skill == skill]
        assert 0.45 < of_skill.count("handbook") / len(of_skill) < 0.75


def test_references_test_and_pool_are_disjoint(world: World) -> None:
    prompts = {item.prompt for item in world.pool}
    for target in world.targets.values():
        references, test = ({i.prompt for i in part} for part in (target.references, target.test))
        assert not references & test
        assert not (references | test) & prompts


def test_words_do_not_give_the_paraphrased_skill_away(world: World) -> None:
    """Target and decoys are asked in the same bags of words; only their order differs."""

    def bags(skill: str) -> set[tuple[str, ...]]:
        prompts = [i.prompt for i in world.pool if world.labels[i.id].skill == skill]
        masked = [p.lower().replace(",", "").replace(".", "").split() for p in prompts]
        goods = world.facts.coins
        return {tuple(sorted(w for w in p if w not in goods)) for p in masked}

    decoys = {label.skill for label in world.labels.values() if label.skill.startswith("notation")}
    assert len(decoys) == 5
    assert len({frozenset(bags(skill)) for skill in decoys}) == 1


def test_rows_on_disk_hide_the_truth(world: World, tmp_path: Path) -> None:
    write_text(tmp_path, world)
    rows = [json.loads(line) for path in (tmp_path / "pool").iterdir() for line in path.open(encoding="utf-8")]
    assert len(rows) == len(world.pool)
    for row in rows:
        assert set(row) == {"id", "source", "messages"}
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert re.fullmatch("[0-9a-f]{12}", row["id"])  # a digest of the content, not a name
    for name in TARGETS:
        scores = true_scores(tmp_path, name)
        right = relevant_ids(tmp_path, name)
        assert set(scores) == {row["id"] for row in rows}
        assert {i for i, score in scores.items() if score == 1.0} == relevant_ids(tmp_path, name, clean_only=True)
        worst = {i for i, score in scores.items() if score == 0}  # the target's skill, answered wrongly
        assert worst == right - relevant_ids(tmp_path, name, clean_only=True)
    with pytest.raises(ValueError, match="no target 'wordy'"):
        true_scores(tmp_path, "wordy")
