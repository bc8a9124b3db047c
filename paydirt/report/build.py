"""The report of a study: one HTML file that needs no network and no other file.

What enters: a study directory (`paydirt.study.run`). What leaves: `report.html` in it. Data is read through tables and
manifests; of the pool only the examples shown are read, so the page of a large pool is as quick and as small. The
template escapes every text, drawings escape their own (`marks`, `mix`), and the page's one script, named by its digest in
the page's policy so that no other runs, writes the embedded examples as text (`page_browse`).
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from paydirt.core.artifacts import write_atomic
from paydirt.report import page_account, page_spend
from paydirt.report import page_numbers as show
from paydirt.report.mix import Mix, mix
from paydirt.report.overlap import Overlap, overlaps
from paydirt.report.page_browse import browse
from paydirt.report.page_decision import Decision, decide
from paydirt.report.page_facts import facts, summary
from paydirt.report.page_figures import law_figures, panel_figure
from paydirt.report.page_masks import Masks, open_masks
from paydirt.report.page_study import Panel, StudyFiles
from paydirt.report.page_verdict import Purchase, Verdict, below_zero_shot, purchases, verdicts
from paydirt.report.style import Styles, variables
from paydirt.report.tables import (
    ScoreTable,
    TrainingCost,
    column_table,
    score_table,
    selection_costs,
    shared_costs,
    training_costs,
)
from paydirt.study.table import coverage

REPORT = "report.html"


@dataclass(frozen=True)
class PanelPage:
    """All that the page shows of one task and model."""

    panel: Panel
    anchor: str
    decision: Decision | None
    wide: Markup | None
    narrow: Markup | None
    verdicts: list[Verdict]
    purchases: list[Purchase]
    below: tuple[int, int]
    seeds: int
    scores: ScoreTable
    precision: ScoreTable | None
    loss: ScoreTable | None
    training: list[TrainingCost]
    mix: Mix | None
    overlaps: list[Overlap]

    @property
    def title(self) -> str:
        return self.panel.title or self.panel.task


def write_report(study_dir: Path) -> Path:
    """Write `report.html` in the study directory and return its path; ValueError where no study has run."""
    study = StudyFiles(Path(study_dir))
    if not study.rows:
        raise ValueError(f"{study.root}: the results table is empty; run the study first")
    styles, script, masks = Styles(study.methods), _asset("page.js"), open_masks(study)
    spent = page_spend.read_course(study)
    html = _template().render(
        name=str(study.config.get("name") or study.root.name),
        facts=facts(study),
        account=page_account.section(study),
        coverage=coverage(study.rows),
        summary=summary(study),
        panels=_panels(study, styles, masks, spent),
        spending=page_spend.section(spent, styles) if spent else Markup(""),
        browse=browse(study, masks, styles) if masks else None,
        methods=study.methods,
        selection_costs=selection_costs(study),
        shared_costs=shared_costs(study),
        figures=law_figures(study, styles),
        convention=str(study.config.get("convention") or "as in the results table"),
        texts_missing=study.pool is None,
        styles=styles,
        show=show,
        css=Markup(_asset("style.css")),  # our own files
        script=Markup(script),
        script_hash=f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
        light=variables(),
        dark=variables(dark=True),
    )
    path = study.root / REPORT
    try:
        write_atomic(path, html.lstrip())
    except OSError as error:
        raise ValueError(f"{path}: cannot write there ({error.strerror}); make the study directory writable") from None
    return path


def _panels(study: StudyFiles, styles: Styles, masks: Masks | None, spent: page_spend.Course | None) -> list[PanelPage]:
    pages = []
    for number, panel in enumerate(study.panels, 1):
        bought = spent is not None and spent["target"] == panel.task
        decision = page_spend.decide_spent(study, panel, spent) if spent and bought else decide(study, panel)
        chosen = decision.cell if decision else None
        pages.append(
            PanelPage(
                panel,
                f"task-{number}",
                decision,
                panel_figure(panel, styles, chosen, f"panel{number}", (9.6, 4.7)),
                panel_figure(panel, styles, chosen, f"panel{number}n", (4.4, 4.1)),
                verdicts(panel),
                purchases(panel),
                below_zero_shot(panel),
                max((len(c.rows) for c in panel.cells.values()), default=0),
                score_table(panel),
                column_table(
                    panel, "precision", "Precision: share of the chosen examples that the true labels want", 2
                ),
                column_table(panel, "reference_loss", "Loss on the references, in nats (lower is better)", 3),
                training_costs(study, panel),
                mix(study, panel, masks) if masks else None,
                overlaps(study, panel, masks) if masks else [],
            )
        )
    return pages


def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("template.html"))


def _asset(name: str) -> str:
    return (files("paydirt.report") / name).read_text(encoding="utf-8")
