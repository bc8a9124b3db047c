"""How a budget was spent: the steps with their reasons, what was kept, and what other budgets would buy.

Enters: `spend.json` of a folder in which `paydirt spend` ran. Leaves: the section of the page, and the decision of its first
screen, which is what the budget was spent on and not what the table alone would say. Texts are escaped here.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from paydirt.report import page_numbers as show
from paydirt.report.figures import save
from paydirt.report.figures_law import flops_axis
from paydirt.report.marks import gid
from paydirt.report.page_decision import Decision, commands, tuned
from paydirt.report.page_figures import inline
from paydirt.report.page_study import Panel, StudyFiles
from paydirt.report.style import BLACK, RC, SOFT, Look, Styles
from paydirt.study.schema import ZERO_SHOT
from paydirt.study.spend import COURSE

Course = dict[str, Any]
NUMBERS, TEXTS = ("budget", "flops", "score", "p_good"), ("target", "kept", "paragraph")
STEP_NUMBERS, STEP_TEXTS = ("score", "flops", "left"), ("kind", "what", "reason")
OTHER_NUMBERS, OTHER_TEXTS = ("budget", "fraction", "expected", "low", "high"), ("method", "text")
KINDS = {"zero-shot": "measure", "pilot": "pilot", "final": "final run"}


def read_course(study: StudyFiles) -> Course | None:
    """The course of the budget; None where the folder is a study's; ValueError where it cannot be read."""
    path = study.root / COURSE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        whole = _whole(found, NUMBERS, TEXTS) and bool(found["what_if"])
        whole &= all(_whole(step, STEP_NUMBERS, STEP_TEXTS) for step in found["steps"])
        whole &= all(_whole(other, OTHER_NUMBERS, OTHER_TEXTS) for other in found["what_if"])
    except (ValueError, TypeError, KeyError, OSError):
        whole = False
    if not whole:
        raise ValueError(f"{path}: cannot be read as what paydirt spend writes; run paydirt spend again, or delete it")
    return dict(found)


def _whole(found: Any, numbers: Sequence[str], texts: Sequence[str]) -> bool:
    return all(isinstance(found[n], int | float) and math.isfinite(found[n]) for n in numbers) and all(
        isinstance(found[t], str) for t in texts
    )


def decide_spent(study: StudyFiles, panel: Panel, course: Course) -> Decision:
    """What the budget ended in, for the page's first screen."""
    digits = panel.digits
    run = course.get("kept_run")
    cell = panel.cells.get((run[0], run[1])) if run else None
    pilots = sum(s["kind"] == "pilot" for s in course["steps"])
    reasons = [
        f"A budget of {show.flops(course['budget'])} FLOPs was spent: {pilots} pilot{'' if pilots == 1 else 's'}, "
        f"{show.share(course['flops'] / course['budget'])} of it used.",
        f"Choices like this one lay within noise of the best that could be had at the end in {show.share(course['p_good'])} "
        "of cases on panels held out.",
    ]
    sure = "tested" if course.get("sure") else "few seeds"
    if cell is None:
        score = f"{course['score']:.{digits}f}"
        return Decision(
            "Keep the untuned model", score, f"{show.flops(course['flops'])} FLOPs", reasons, sure, None, []
        )
    return Decision(
        f"Keep the model of {course['kept']}",
        f"{course['score']:.{digits}f}",
        f"{show.flops(course['flops'])} FLOPs",
        reasons,
        sure,
        cell,
        commands(study, cell),
        tuned(study, cell),
    )


def section(course: Course, styles: Styles) -> Markup:
    """Steps, what was kept, what other budgets would buy."""
    rows = "".join(_row(n, s, course) for n, s in enumerate(course["steps"], 1))
    other = "".join(f"<li>{escape(w['text'])}</li>\n" for w in course["what_if"])
    return Markup(
        '<section id="budget">\n<h2>How the budget was spent</h2>\n'
        f"<p>{escape(course['paragraph'])}</p>\n{_bar(course)}"
        '<div class="scroll"><table><caption>Step by step</caption>\n<thead><tr><th scope="col">step</th>'
        '<th scope="col">what</th><th scope="col" class="n">score</th><th scope="col" class="n">FLOPs</th>'
        '<th scope="col" class="n">left</th><th scope="col">why</th></tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>\n"
        f'<figure class="plot">{_figure(course, styles)}<figcaption>{escape(_caption(course))}</figcaption></figure>\n'
        f'<details class="more"><summary>The same in words</summary><ul>\n{other}</ul></details>\n</section>\n'
        "<!-- end of budget -->\n"
    )


def _caption(course: Course) -> str:
    return (
        "What other budgets would buy by what is known now: the option of the highest expected score, with "
        f"{course.get('level', 0.8):.0%} intervals. The ring is the score that was kept."
    )


def _row(number: int, step: dict[str, Any], course: Course) -> Markup:
    kept = " <b>(kept)</b>" if step["what"] == course["kept"] else ""
    return Markup(
        f'<tr><th scope="row">{number}. {escape(KINDS.get(step["kind"], step["kind"]))}</th>'
        f"<td>{escape(step['what'])}{kept}</td>"
        f'<td class="n">{step["score"]:.4g}</td><td class="n">{show.flops(step["flops"])}</td>'
        f'<td class="n">{show.flops(step["left"])}</td><td>{escape(step["reason"])}</td></tr>\n'
    )


def _bar(course: Course) -> Markup:
    """The budget as one bar: pilots, the final run, what is left."""
    shares = {kind: sum(s["flops"] for s in course["steps"] if s["kind"] == kind) for kind in ("pilot", "final")}
    parts = [("pilots", "s1", shares["pilot"]), ("the final run", "s0", shares["final"])]
    parts.append(("left", "s7", course["budget"] - course["flops"]))
    boxes, at = "", 0.0
    for _, colour, flops in parts:
        wide = 100 * flops / course["budget"]
        boxes += f'<rect class="{colour}" x="{at:.3f}" y="0" width="{max(wide, 0):.3f}" height="6"/>'
        at += wide
    legend = "".join(
        f'<span><i class="{colour}"></i>{name} <small>{show.share(flops / course["budget"])}</small></span>'
        for name, colour, flops in parts
    )
    return Markup(
        '<svg class="budget" viewBox="0 0 100 6" preserveAspectRatio="none" role="img" aria-label="shares of the budget">'
        f'{boxes}</svg>\n<p class="legend">{legend}</p>\n'
    )


def _figure(course: Course, styles: Styles) -> Markup:
    """Best option against budget, wide and narrow."""
    with mpl.rc_context(RC), tempfile.TemporaryDirectory() as folder:
        drawn = []
        for name, size in (("wide", (9.6, 3.6)), ("narrow", (4.4, 3.6))):
            path = save(what_if_figure(course, styles, size), Path(folder) / f"budget-{name}", ("svg",))["svg"]
            about = "best strategy against budget"
            drawn.append(f'<div class="{name}">{inline(path, f"budget-{name}", about)}</div>')
    return Markup("".join(drawn))


def what_if_figure(course: Course, styles: Styles, size: tuple[float, float]) -> Figure:
    """Expected score and interval of the best option at each budget; its name where it changes."""
    rows = course["what_if"]
    look = Look(styles.of).of([m for m in dict.fromkeys(w["method"] for w in rows) if m != ZERO_SHOT])
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    budgets = [w["budget"] for w in rows]
    flops_axis(axes, min(budgets), max(budgets))
    axes.axvline(course["budget"], color=SOFT, linewidth=0.9, linestyle=":", zorder=0)
    axes.plot(budgets, [w["expected"] for w in rows], color=SOFT, linewidth=1, zorder=1)
    before = ""
    for w in rows:
        style = look.get(w["method"])
        colour, marker = (style.colour, style.marker) if style else (BLACK, "X")
        axes.plot([w["budget"]] * 2, [w["low"], w["high"]], color=colour, linewidth=2.2, alpha=0.35, zorder=2,
                  solid_capstyle="round")  # fmt: skip
        axes.plot(w["budget"], w["expected"], marker=marker, color=colour, markersize=7, markeredgecolor="white",
                  linestyle="none", zorder=3, gid=gid(w["method"], w["text"]))  # fmt: skip
        if (name := _short(w)) != before:
            axes.annotate(name, (w["budget"], w["high"]), xytext=(0, 3), textcoords="offset points", ha="center",
                          va="bottom", fontsize=7.5, color=BLACK)  # fmt: skip
        before = name
    axes.plot(course["flops"] or course["budget"], course["score"], marker="o", markersize=13, markerfacecolor="none",
              markeredgecolor=BLACK, markeredgewidth=1.6, linestyle="none", zorder=4)  # fmt: skip
    axes.margins(y=0.16)
    axes.set_ylabel(str(course.get("metric") or "score"))
    axes.set_xlabel("budget, FLOPs for selecting and training")
    return figure


def _short(w: dict[str, Any]) -> str:
    if w["method"] == ZERO_SHOT:
        return "untuned"
    if w["fraction"] >= 0.999:
        return "everything"
    return f"{w['method']}\n{100 * w['fraction']:.3g} %"
