"""BBH references: the 3 chain-of-thought shots of each of the 27 tasks (81), the task as subtask.

Source: Suzgun et al., arXiv 2210.09261, as `bbh-three-shot.json` of LESS. Definition in METHODS section 1: a task's
text splits on blank lines, the last three blocks are the shots, what precedes them is the task prompt (it may hold blank
lines itself, as in snarks). Each shot in turn becomes a reference: the prompt is the task prompt, the other two shots
and its question; the answer is what follows "A:" in it. LESS puts "A:" at the head of the assistant turn and masks it;
we leave it out of the turn, since our encoder supervises all of it.
"""

from __future__ import annotations

from paydirt.targets.base import Reference, TargetConfig, TargetLoader, layout_path, read_object, reference

LAYOUT = "eval/bbh/bbh-three-shot.json: task -> prompt and three shots, split by blank lines"
SHOTS = 3
ANSWER = "\nA:"


class BBHTarget(TargetLoader):
    """All tasks of the file, in its order."""

    name = "bbh"

    def references(self, config: TargetConfig) -> list[Reference]:
        path = layout_path(config, "bbh/bbh-three-shot.json", LAYOUT)
        return [pair for task, text in read_object(path).items() for pair in _task(f"{path}: {task}", task, text)]


def _task(place: str, task: str, text: object) -> list[Reference]:
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
        pairs.append(reference("bbh", task, number, prompt, answer.strip()))
    return pairs
