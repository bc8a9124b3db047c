"""What a budget's course is told in: steps, one plain paragraph, needs beside FLOPs, and the whole of it as Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from paydirt.analysis.advisor import WIDE_AND_SURE
from paydirt.analysis.needs import processor_hours, processor_time, training_need
from paydirt.analysis.spending import LEVEL, Spent, Step, WhatIf
from paydirt.cost.hardware import hours, money
from paydirt.study.spend_world import WHOLE, StudyWorld


@dataclass(frozen=True)
class Machine:
    """What FLOPs are told in, beside FLOPs: a device by name, how many, share of its peak, US dollars an hour each."""

    name: str | None = None
    devices: int = 1
    utilisation: float | None = None
    price: float | None = None

    def told(self, flops: float) -> str:
        """`, 0.02 hours on 1 x h100, about 0.05 dollars`; empty where no device is named."""
        if self.name is None:
            return ""
        long = hours(flops, self.name, count=self.devices, mfu=self.utilisation)
        paid = money(flops, self.name, count=self.devices, mfu=self.utilisation, usd_per_hour=self.price)
        rent = "" if paid is None else f", about {paid:,.2f} dollars"
        return f", {long:.3g} hours on {self.devices} x {self.name}{rent}"


NOWHERE = Machine()


def line(world: StudyWorld, step: Step) -> str:
    """One step: what, its score, its cost, and why."""
    score = world.unit.back(step.score)
    return (
        f"{step.kind}: {world.describe(step.row)} scored {score:.4g} for {step.flops:.3g} FLOPs, {step.left:.3g} left "
        f"({step.reason})"
    )


def needs(world: StudyWorld, machine: Machine) -> list[str]:
    """Memory, and processor hours of what costs no FLOPs, as sentences."""
    config = world.study.training
    tokens = (config.micro_batch_size or config.batch_size) * world.total / world.count
    rank = config.lora.r if config.method == "lora" else None
    size = 4 if config.precision == "fp32" else 2
    need = training_need(world.architecture, tokens, rank, config.lora.targets, size)
    lines = [need.text(machine.name, machine.devices)]
    if any(e.scorer.name == "bm25" for e in world.study.methods):
        subtasks = len(world.workspace.target(world.target).subtasks)
        lines.append(processor_time("BM25", processor_hours("bm25", world.total, world.count, subtasks) or 0.0))
    return lines


def paragraph(world: StudyWorld, done: Spent, machine: Machine = NOWHERE) -> str:
    """What happened, in plain words."""
    if done.kept < 0:
        return f"Of {done.budget:.3g} FLOPs nothing could be bought."
    score = f"it scores {world.unit.back(done.score):.4g} ({world.metric})"
    parts = [
        f"With {done.budget:.3g} FLOPs for {world.target.name} the untuned model was measured, then {_pilots(done)}.",
        f"{_kept(world, done)}; {score}. Spent were {done.flops:.4g} FLOPs{machine.told(done.flops)}.",
        f"Choices like this one lay within noise of the best that could be had at the end in {done.p_good:.0%} of cases on "
        f"panels held out: {'sure enough to act on' if done.sure else 'not sure'}. {WIDE_AND_SURE}",
    ]
    return " ".join([*parts, *_left_over(world, done), *needs(world, machine)])


def _pilots(done: Spent) -> str:
    pilots = [s for s in done.steps if s.kind == "pilot"]
    if not pilots:
        return "no pilot, since none was worth its cost"
    many = "1 pilot" if len(pilots) == 1 else f"{len(pilots)} pilots"
    return f"{many} run for {sum(s.flops for s in pilots):.3g} FLOPs"


def _kept(world: StudyWorld, done: Spent) -> str:
    entry, fraction, _ = world.options[done.kept]
    if entry is None:
        return "It is kept as it is: of nothing that could be bought a better score is expected"
    if fraction >= WHOLE:
        return f"Kept is the model trained on {world.describe(done.kept)}"
    run = world.runs[done.kept]
    return f"Kept is the model trained on what {entry.label} selects, {100 * run.fraction:.3g}% of the pool"


def _left_over(world: StudyWorld, done: Spent) -> list[str]:
    times = done.budget / world.training_flops(world.total, world.count)
    if times <= 1:
        return []
    return [
        f"The budget pays {times:.2g} trainings on everything: what one leaves over buys more epochs, which were among the "
        f"choices, or a model of about {world.architecture.parameters * times:.2g} parameters, which neither published "
        "study compares."
    ]


def instead(world: StudyWorld, w: WhatIf) -> str:
    """What another budget would buy."""
    low, high = sorted((world.unit.back(w.low), world.unit.back(w.high)))
    expected = world.unit.back(w.expected)
    return (
        f"With {w.budget:.3g} FLOPs and what is known now: {world.describe(w.row)}, expected {expected:.4g} "
        f"({low:.4g} to {high:.4g} at {LEVEL:.0%})."
    )


def report_text(world: StudyWorld, done: Spent, machine: Machine = NOWHERE) -> str:
    """What was done and why, what was spent, and what other budgets would buy, as Markdown."""
    lines = [f"# {done.budget:.3g} FLOPs on {world.target.name}", "", paragraph(world, done, machine), ""]
    lines += [f"1. {line(world, s)}" for s in done.steps]
    lines += ["", f"Kept: {world.describe(done.kept)}. Spent {done.flops:.4g} of {done.budget:.4g} FLOPs.", ""]
    return "\n".join([*lines, *(f"- {instead(world, w)}" for w in done.elsewhere), ""])
