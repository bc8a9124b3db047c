"""What became of every record of the pool, as one table: read = kept + skipped + left out, and all that is not as it was.

The rows are those that every verb shows of a pool (`data.tally`), with the first place of each, and what encoding met.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from markupsafe import Markup, escape

from paydirt.data.tally import rows_of
from paydirt.report import page_numbers as show
from paydirt.report.page_study import StudyFiles

HEADS = (
    '<th scope="col">what</th><th scope="col" class="n">records</th>'
    '<th scope="col">why</th><th scope="col">first place</th>'
)


class Account(NamedTuple):
    """Totals in words, and rows (kind, count, what, first place)."""

    head: str
    rows: list[tuple[str, int, str, str]]


def account(study: StudyFiles) -> Account | None:
    """Of the study's pool, from the pool itself, else from what an artifact noted of it; None where neither is left."""
    notes = _encoding(study)
    told: dict[str, Any] = dict(study.pool.account()) if study.pool is not None else _noted(study)
    if not told:
        return None
    told |= {key.replace("_", " "): notes[key] for key in ("truncated", "without_supervised_tokens") if notes.get(key)}
    head = f"{show.count(told.get('read', told['kept']))} records read, {show.count(told['kept'])} kept"
    return Account(head, list(rows_of(told)))


def section(study: StudyFiles) -> Markup:
    """The whole section, escaped; empty where nothing is known."""
    found = account(study)
    if found is None:
        return Markup("")
    if not found.rows:
        rows = (
            '<tr><td colspan="4">Every record is as it was read: nothing was skipped, renamed, cut or lost.</td></tr>'
        )
    else:
        rows = "".join(
            f'<tr><th scope="row">{escape(kind)}</th><td class="n">{show.count(count)}</td><td>{escape(what)}</td>'
            f"<td>{escape(first)}</td></tr>\n"
            for kind, count, what, first in found.rows
        )
    return Markup(
        f'<section id="account">\n<h2>What became of the pool</h2>\n<p class="note">{escape(found.head)}.</p>\n'
        '<div class="scroll"><table><caption>Every record that is not as it was</caption>\n'
        f"<thead><tr>{HEADS}</tr></thead>\n<tbody>{rows}</tbody></table></div>\n</section>\n"
    )


def _encoding(study: StudyFiles) -> dict[str, Any]:
    for row in study.rows:
        if (scores := study.scores(row)) and (notes := scores.notes.get("encoding")):
            return dict(notes)
    return {}


def _noted(study: StudyFiles) -> dict[str, Any]:
    for row in study.rows:
        for artifact in (study.scores(row), study.selection(row)):
            if artifact is not None and isinstance(artifact.notes.get("pool"), dict):
                return dict(artifact.notes["pool"])
    return {}
