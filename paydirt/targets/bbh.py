"""BBH references: the 3 chain-of-thought shots of each of the 27 tasks (81), the task as subtask.

Source: Suzgun et al., arXiv 2210.09261, as `bbh-three-shot.json` of LESS. Definition in METHODS section 1: a task's
text splits on blank lines, the last three blocks are the shots, what precedes them is the task prompt (it may hold blank
lines itself, as in snarks). Each shot in turn becomes a reference: the prompt is the task prompt, the other two shots
and its question; the answer is what follows "A:" in it. As published, "A:" opens the assistant turn unsupervised and no
end mark follows the answer; form `turn` has neither label nor opening and supervises the turn with its end.
"""

from __future__ import annotations

from typing import ClassVar

from paydirt.targets.base import FORMS, Reference, TargetConfig, TargetLoader, layout_path, read_object, reference

LAYOUT = "eval/bbh/bbh-three-shot.json: task -> prompt and three shots, split by blank lines"
SHOTS = 3
LABEL = "A:"
ANSWER = f"\n{LABEL}"


class BBHTarget(TargetLoader):
    """All tasks of the file, in its order."""

    name = "bbh"
    forms: ClassVar[tuple[str, ...]] = FORMS

    def references(self, config: TargetConfig) -> list[Reference]:
        path = layout_path(config, "bbh/bbh-three-shot.json", LAYOUT)
        opening = LABEL if self.published(config) else ""
        tasks = read_object(path).items()
        return [pair for task, text in tasks for pair in _task(f"{path}: {task}", task, text, opening)]


def _task(place: str, task: str, text: object, opening: str) -> list[Reference]:
    blocks = text.strip().split("\n\n") if isinstance(text, str) else []
    head, shots = "\n\n".join(blocks[:-SHOTS]).strip(), blocks[-SHOTS:]
    if not head or any(shot.count(ANSWER) != 1 for shot in shots):
        raise ValueError(
            f"{place}: expected a task prompt and {SHOTS} shots 'Q: ...\\nA: ...', all split by blank lines; "
            f"found {len(blocks)} blocks"
        )
    pairs = []
    for number, shot in enumerate(shots):
        question, answer = shot.split(ANSWER)
        others = [other for other in range(SHOTS) if other != number]
        prompt = "\n\n".join([head, *(shots[other] for other in others), question])
        pairs.append(reference("bbh", task, number, prompt, answer.strip(), opening, end=not opening))
    return pairs
