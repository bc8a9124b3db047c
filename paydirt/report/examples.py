"""The examples a method wants most and least, with the reference or subtask that each resembles most.

Only the examples shown are read from the pool. What is wanted least is what was chosen last where the whole pool was
ranked; else what scores farthest from the chosen, for no stage keeps the order of what it did not choose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paydirt.core.artifacts import Artifact
from paydirt.core.types import Example, Target
from paydirt.report.page_masks import Masks
from paydirt.report.page_study import Panel, StudyFiles
from paydirt.selection.scores import Scores

SHOWN = 3
OPENING = 220  # characters before "more"
TEXT_ALLOWANCE = 700_000  # characters of text on the whole page, whatever the number of methods
LONGEST, SHORTEST = 3000, 500


@dataclass(frozen=True)
class Text:
    """A turn: its role, its opening, the rest behind "more", and how many characters are on no page."""

    role: str
    opening: str
    rest: str
    hidden: int


@dataclass(frozen=True)
class Match:
    """The column a row is most similar to; `flat` where all columns are alike, so that none is.

    `texts` show the reference, or one reference of the subtask where the method compares with subtasks.
    """

    subtask: str
    reference: str | None
    similarity: float
    average: float
    texts: list[Text]
    flat: bool


@dataclass(frozen=True)
class Shown:
    """One example as the page shows it."""

    id: str
    source: str
    score: float
    place: str
    texts: list[Text]
    match: Match | None


@dataclass(frozen=True)
class MethodExamples:
    """Both ends of a method's ranking; `worst_are` says what the second list holds."""

    method: str
    best: list[Shown]
    worst: list[Shown]
    worst_are: str
    note: str


def examples(study: StudyFiles, panel: Panel, masks: Masks, panels: int) -> list[MethodExamples]:
    """Best and worst examples of every method of the panel; of methods whose selection is gone, nothing."""
    texts = max(1, panels * len(panel.methods) * 2 * SHOWN * 2)
    limit = min(LONGEST, max(SHORTEST, TEXT_ALLOWANCE // texts))
    found = []
    for method in panel.methods:
        for cell in reversed(panel.of(method)):
            if selection := study.selection(cell.rows[0]):
                scores = study.scores(cell.rows[0])
                target = study.target(panel.task)
                found.append(_method(study, method, selection, scores, target, masks, limit))
                break
    return found


def _method(
    study: StudyFiles,
    method: str,
    selection: Artifact,
    scored: Artifact | None,
    target: Target | None,
    masks: Masks,
    limit: int,
) -> MethodExamples:
    rank, score = masks.values(selection, "rank"), masks.values(selection, "score")
    first = np.argsort(np.where(np.isnan(rank), np.inf, rank), kind="stable")[:SHOWN]
    worst, worst_are = _worst(rank, score, first)
    scores = Scores(scored.path) if scored else None
    shown = [_shown(study, masks, scores, target, row, rank, score, limit) for row in (*first, *worst)]
    note = ""
    if scores is not None and not scores.pairwise:
        note = "This method gives one score to an example and compares it with no reference."
    elif scores is None:
        note = "Its scores have been deleted, so the matching references are not known."
    return MethodExamples(method, shown[: len(first)], shown[len(first) :], worst_are, note)


def _worst(rank: np.ndarray, score: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, str]:
    """Rows [<= SHOWN] of the least wanted, worst first, none of them among `first`; and what they are.

    The distance from the interval of the chosen scores serves every policy: it is greatest for low scores under `top`, for
    high scores under `low`, for both ends under `mid`.
    """
    left = np.setdiff1d(np.arange(len(rank)), first)
    chosen = ~np.isnan(rank)
    if chosen.all():
        return left[np.argsort(-rank[left], kind="stable")[:SHOWN]], "chosen last"
    unchosen = left[~chosen[left]]
    low, high = score[chosen].min(), score[chosen].max()
    distance = np.maximum(low - score[unchosen], score[unchosen] - high)
    return unchosen[np.argsort(-distance, kind="stable")[:SHOWN]], "not chosen, score farthest from the chosen"


def _shown(
    study: StudyFiles,
    masks: Masks,
    scores: Scores | None,
    target: Target | None,
    row: int,
    rank: np.ndarray,
    score: np.ndarray,
    limit: int,
) -> Shown:
    id = masks.ids[int(row)].as_py()
    source = masks.source_names[masks.source_codes[row]]
    place = f"rank {int(rank[row])}" if np.isfinite(rank[row]) else "not chosen"
    ties = int(np.count_nonzero(score == score[row])) - 1
    if ties:
        place += f", tied with {ties} other{'s' if ties > 1 else ''}"
    texts = [] if study.pool is None else _texts(study.pool.take(study.pool.rows_of([id]))[0], limit)
    match = None
    if scores is not None and scores.pairwise:
        match = _match(scores, _score_row(scores, id, int(row)), target, limit)
    return Shown(id, source, float(score[row]), place, texts, match)


def _score_row(scores: Scores, id: str, guess: int) -> int:
    """Row of an id in the scores: nearly always the common row."""
    ids = scores.rows["id"]
    if guess < len(ids) and ids[guess].as_py() == id:
        return guess
    return int(np.flatnonzero(scores.ids == id)[0])


def _match(scores: Scores, row: int, target: Target | None, limit: int) -> Match:
    similar = scores.row(row)
    top = int(np.argmax(similar))
    column = scores.columns[top]
    by_id = {e.id: e for e in target.references} if target else {}
    is_reference = column.id in by_id
    example = by_id.get(column.id)
    if example is None and target is not None:
        example = next((e for e, s in zip(target.references, target.subtask_of) if s == column.subtask), None)
    texts = _texts(example, min(limit, LONGEST // 2)) if example else []
    reference = column.id if is_reference or not target else None
    return Match(
        column.subtask, reference, float(similar[top]), float(similar.mean()), texts, bool(np.ptp(similar) == 0)
    )


def _texts(example: Example, limit: int) -> list[Text]:
    """The turns of an example within `limit` characters in all; what is left out is counted."""
    out: list[Text] = []
    left = limit
    for number, message in enumerate(example.messages):
        kept = message.content[:left]
        left -= len(kept)
        cut, hidden = _cut(kept), len(message.content) - len(kept)
        if left <= 0:  # of the turns that follow nothing is shown, only how long they are
            hidden += sum(len(m.content) for m in example.messages[number + 1 :])
        out.append(Text(message.role, kept[:cut], kept[cut:], hidden))
        if left <= 0:
            break
    return out


def _cut(text: str) -> int:
    """Where the opening of a text ends: at a space near `OPENING`, or the end if little would be left."""
    if len(text) <= OPENING + 60:
        return len(text)
    space = text.rfind(" ", OPENING - 60, OPENING)
    return space + 1 if space > 0 else OPENING
