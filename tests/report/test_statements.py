"""What the page may say: no ranking from one seed, none where ranges meet; mixes and overlaps by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paydirt.report import page_numbers as show
from paydirt.report.overlap import overlaps
from paydirt.report.page_decision import as_good, contestants, decide
from paydirt.report.page_masks import open_masks, selections_at
from paydirt.report.page_study import Cell, Panel, StudyFiles
from paydirt.report.page_verdict import below_zero_shot, purchases, tied_with_best, verdicts
from paydirt.selection.select import selected_ids


def row(method: str, fraction: float, seed: int, score: float, selecting: float = 0.0) -> dict[str, Any]:
    costs = {"selection_flops": selecting, "training_flops": 1e9 * fraction, "total_flops": selecting + 1e9 * fraction}
    return {"method": method, "fraction": fraction, "seed": seed, "score": score, "n_examples": 10, **costs}


def panel(
    scores: dict[str, dict[float, list[float]]], zero: float = 0.1, selecting: dict[str, float] | None = None
) -> Panel:
    cells = {
        (m, f): Cell(m, f, tuple(row(m, f, 3 * i, s, (selecting or {}).get(m, 0.0)) for i, s in enumerate(values)))
        for m, by_fraction in scores.items()
        for f, values in by_fraction.items()
    }
    fractions = tuple(sorted({f for _, f in cells}))
    return Panel(
        "task", "model", "accuracy", zero, tuple(scores), fractions, cells, frozenset({"oracle"} & set(scores))
    )


def test_a_clear_lead_is_called_best() -> None:
    said = verdicts(panel({"a": {0.05: [0.8, 0.84, 0.82]}, "b": {0.05: [0.5, 0.55, 0.51]}}))
    assert [v.kind for v in said] == ["clear"]
    assert "a is best, 0.820 (0.800–0.840 over 3 seeds)" in said[0].text
    assert "equal methods in at most 5% of cases" in said[0].text
    assert "Next: b, 0.520" in said[0].text


def test_what_the_seeds_do_not_tell_apart_is_not_ranked() -> None:
    """The second pair of ranges does not meet, and yet three seeds as wide as that say nothing."""
    for b in ([0.4, 0.6, 0.5], [0.45, 0.3, 0.1]):
        said = verdicts(panel({"a": {0.05: [0.5, 0.9, 0.6]}, "b": {0.05: b}, "c": {0.05: [0.01, 0.02, 0.015]}}))
        assert [v.kind for v in said] == ["tied"]
        assert "within what these seeds tell apart" in said[0].text


@pytest.mark.parametrize(("seeds", "words"), [(1, "one seed ranks nothing"), (2, "2 seeds rank nothing; 3 are needed")])
def test_few_seeds_rank_nothing(seeds: int, words: str) -> None:
    few = panel({"a": {0.05: [0.9, 0.91][:seeds]}, "b": {0.05: [0.1, 0.11][:seeds]}})
    assert [v.kind for v in verdicts(few)] == ["few-seeds"]
    assert words in verdicts(few)[0].text
    assert tied_with_best(few.contest(0.05)) == set()
    assert all("fewer than 3 seeds" in p.note for p in purchases(few))


def test_runs_of_unknown_seeds_rank_nothing() -> None:
    """Without seeds nothing can be paired."""
    cells = panel({"a": {0.05: [0.9, 0.91, 0.92]}, "b": {0.05: [0.1, 0.11, 0.12]}})
    for cell in cells.cells.values():
        for run in cell.rows:
            run["seed"] = None
    assert "no known seed ranks nothing" in verdicts(cells)[0].text


def test_bold_is_what_the_best_does_not_lead() -> None:
    cells = panel({"a": {0.05: [0.8, 0.84, 0.82]}, "b": {0.05: [0.5, 0.55, 0.51]}, "c": {0.05: [0.79, 0.85, 0.8]}})
    assert tied_with_best(cells.contest(0.05)) == {"a", "c"}


def test_the_ceiling_takes_no_part() -> None:
    said = verdicts(panel({"oracle": {0.05: [1.0] * 3}, "a": {0.05: [0.8, 0.84, 0.82]}, "b": {0.05: [0.5, 0.52, 0.5]}}))
    assert "a is best" in said[0].text


def test_equal_scores_have_no_best() -> None:
    said = verdicts(panel({"a": {0.05: [0.0, 0.0]}, "b": {0.05: [0.0, 0.0]}}, zero=0.0))
    assert "every method scores 0.000" in said[0].text


def test_budgets_count_selecting() -> None:
    scores = {"free": {0.05: [0.3, 0.33, 0.3], 0.1: [0.7, 0.74, 0.71]}, "dear": {0.05: [0.5, 0.52, 0.5]}}
    bought = purchases(panel(scores, selecting={"dear": 1e9}))
    assert [b.name.split()[0] for b in bought] == ["free", "free"], "the dear method costs more than a better free run"
    assert bought[1].note == "above every cheaper run"
    cheap = purchases(panel(scores, selecting={"dear": 1e6}))
    assert [b.name.split()[0] for b in cheap] == ["free", "dear", "free"]
    assert cheap[1].selecting == pytest.approx(1e6 / 5.1e7)


def test_means_below_zero_shot_are_counted() -> None:
    assert below_zero_shot(panel({"a": {0.05: [0.0, 0.05], 0.1: [0.3, 0.3]}})) == (1, 2)


def test_overlap_equals_sets_of_ids(study: Path) -> None:
    files = StudyFiles(study)
    masks = open_masks(files)
    assert masks is not None
    task = files.panels[0]
    tables = {t.fraction: t for t in overlaps(files, task, masks)}
    assert sorted(tables) == [0.05, 0.25], "at the whole pool all choose the same"
    chosen = selections_at(files, task, 0.25)
    assert {m: len(s) for m, s in chosen.items()} == {"random": 2, "length": 1, "bm25": 1}
    sets = {m: [set(selected_ids(s.path)) for s in found] for m, found in chosen.items()}
    table = tables[0.25]
    value = table.rows[table.methods.index("random")][table.methods.index("bm25")].value
    assert value == pytest.approx(np.mean([len(r & sets["bm25"][0]) / len(r) for r in sets["random"]]))
    own = table.rows[0][0].value
    assert own == pytest.approx(len(sets["random"][0] & sets["random"][1]) / len(sets["random"][0]))
    assert table.chance == pytest.approx(20 / 78)


@pytest.mark.parametrize(
    ("value", "text"), [(6.857e10, "6.9×10¹⁰"), (0.0, "0"), (None, "–"), (9.96e9, "1.0×10¹⁰"), (float("nan"), "–")]
)
def test_flops(value: float | None, text: str) -> None:
    assert show.flops(value) == text


def chosen(made: Panel) -> tuple[str, float] | None:
    said = decide(StudyFiles(Path("nowhere")), made)
    assert said is not None
    return None if said.cell is None else (said.cell.method, said.cell.fraction)


def test_the_cheapest_of_what_nothing_tells_from_the_best_is_to_be_done() -> None:
    same = {
        "a": {0.05: [0.78, 0.82, 0.8], 0.25: [0.8, 0.84, 0.82]},
        "random": {0.05: [0.1, 0.12, 0.11], 0.25: [0.5, 0.52, 0.51]},
    }
    assert chosen(panel(same)) == ("a", 0.05), "within the spread, for a fifth of the cost"
    far = {"a": {0.05: [0.6, 0.62, 0.61], 0.25: [0.8, 0.84, 0.82]}, "random": {0.25: [0.5, 0.52, 0.51]}}
    assert chosen(panel(far)) == ("a", 0.25)
    dear = {"a": {0.05: [0.79, 0.82, 0.8]}, "random": {0.25: [0.78, 0.83, 0.8]}}
    assert chosen(panel(dear, selecting={"a": 1e12})) == ("random", 0.25), "selecting is part of what it costs"


def test_a_paired_test_is_heard_where_ranges_meet() -> None:
    """Ranges overlap, but seed by seed the dearer one is ahead by the same: it is told apart, and so it is chosen."""
    made = panel({"a": {0.05: [0.5, 0.7, 0.6, 0.61]}, "b": {0.25: [0.6, 0.8, 0.7, 0.71]}})
    best = made.cells["b", 0.25]
    assert [c.method for c in as_good(best, contestants(made))] == ["b"]


def test_nothing_is_trained_where_nothing_helps_and_the_ceiling_is_no_choice() -> None:
    assert chosen(panel({"a": {0.05: [0.1, 0.12]}, "oracle": {0.05: [0.9, 0.9]}}, zero=0.2)) is None
    one = decide(StudyFiles(Path("nowhere")), panel({"a": {0.05: [0.5]}, "random": {0.05: [0.4]}}))
    assert one is not None
    assert one.sure == "few seeds"
    assert any("single seed: a suggestion" in reason for reason in one.reasons)
