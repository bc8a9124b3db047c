"""BBH: 3-shot chain-of-thought exact match by task, macro (every task counts the same) and micro average.

Suzgun et al., arXiv 2210.09261, graded by lm-eval's `bbh_cot_fewshot_<task>`: what follows "the answer is" must be the
target. Items come from `bbh/test/<task>.json`, task prompt and shots from `bbh/bbh-three-shot.json`, the file that the
references come from, else from `bbh/cot-prompts/<task>.txt`. In the prompt form of the references the question ends the
user turn, the assistant's opens with "A:" (form `turn`: with nothing) and goes on with the reasoning, which may hold blank
lines; lm-eval's own form stops at them, and at every capital Q.

BBH references: the 3 chain-of-thought shots of each of the 27 tasks (81), the task as subtask.

Source: Suzgun et al., arXiv 2210.09261, as `bbh-three-shot.json` of LESS. Definition in METHODS section 1: a task's
text splits on blank lines, the last three blocks are the shots, what precedes them is the task prompt (it may hold blank
lines itself, as in snarks). Each shot in turn becomes a reference: the prompt is the task prompt, the other two shots
and its question; the answer is what follows "A:" in it. As published, "A:" opens the assistant turn unsupervised and no
end mark follows the answer; form `turn` has neither label nor opening and supervises the turn with its end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from paydirt.core.types import Item, Target
from paydirt.tasks.harness.benchmark import FormedBenchmark, to_dataset
from paydirt.tasks.references import FORMS, Reference, TargetConfig, TargetLoader, layout_path, read_object, reference

REFERENCES = "eval/bbh/bbh-three-shot.json: task -> prompt and three shots, split by blank lines"
SHOTS = 3
LABEL = "A:"
ANSWER = f"\n{LABEL}"


class BBHTarget(TargetLoader):
    """All tasks of the file, in its order."""

    name = "bbh"
    forms: ClassVar[tuple[str, ...]] = FORMS

    def references(self, config: TargetConfig) -> list[Reference]:
        path = layout_path(config, "bbh/bbh-three-shot.json", REFERENCES)
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


LAYOUT = "eval/bbh/test/<task>.json: {examples: [{input, target}]}, and eval/bbh/bbh-three-shot.json or cot-prompts/"
LINE = "-----\n"


class Prompt(NamedTuple):
    """A task's instruction and its shots as lm-eval wants them."""

    head: str
    shots: list[dict[str, str]]


class BBH(FormedBenchmark):
    """23 or 27 tasks that take several steps."""

    name: ClassVar[str] = "bbh"
    folder: ClassVar[str | None] = "bbh/cot_fewshot"
    shots: ClassVar[int] = SHOTS
    metrics: ClassVar[tuple[str, ...]] = ("exact_match",)
    main: ClassVar[str] = "exact_match_macro"

    def subtask(self, task: str) -> str:
        return task.removeprefix("bbh_cot_fewshot_")

    def tests(self) -> list[Path]:
        folder = self.place("bbh/test", LAYOUT)
        found = sorted(folder.glob("*.json"))
        if not found:
            raise ValueError(f"benchmark 'bbh': no *.json in {folder} ({LAYOUT})")
        return found

    def files(self) -> list[Path]:
        return [*self.tests(), *self._prompt_files()]

    def _prompt_files(self) -> list[Path]:
        folder = self.place("bbh", LAYOUT)
        whole = folder / "bbh-three-shot.json"
        return [whole] if whole.is_file() else sorted((folder / "cot-prompts").glob("*.txt"))

    def _prompts(self) -> dict[str, Prompt]:
        files = self._prompt_files()
        if len(files) == 1 and files[0].suffix == ".json":
            texts = {task: str(text) for task, text in read_object(files[0]).items()}
        else:  # the original files open with a canary above a line
            texts = {f.stem: f.read_text(encoding="utf-8").split(LINE)[-1] for f in files}
        return {task: read_prompt(task, text) for task, text in texts.items()}

    def specs(self, target: Target | None) -> list[dict[str, Any]]:
        prompts = self._prompts()
        missing = [test.stem for test in self.tests() if test.stem not in prompts]
        if missing:
            raise ValueError(f"benchmark 'bbh': no shots for {', '.join(missing)} in {self._prompt_files()[0].parent}")
        return [self._spec(test, prompts[test.stem]) for test in self.tests()]

    def _spec(self, test: Path, prompt: Prompt) -> dict[str, Any]:
        spec: dict[str, Any] = {
            "task": f"bbh_cot_fewshot_{test.stem}",
            "custom_dataset": lambda **_: {"test": to_dataset(read_examples(test), test)},
        }
        if not self.as_references:
            return spec  # lm-eval's YAML brings the same shots, each after its own "Let's think step by step."
        opening = {"gen_prefix": LABEL} if self.published else {}
        return (
            spec
            | opening
            | {
                "description": prompt.head + "\n\n",
                "num_fewshot": len(prompt.shots),
                "fewshot_config": {
                    "sampler": "first_n",
                    "samples": prompt.shots,
                    "doc_to_text": "Q: {{input}}" + ANSWER,
                    "gen_prefix": None,
                },
                "doc_to_text": "Q: {{input}}",
                "generation_kwargs": {
                    "until": ["\n\nQ:"],
                    "do_sample": False,
                    "temperature": 0.0,
                    "max_gen_toks": 1024,
                },
            }
        )

    def items(self) -> list[Item]:
        return [
            Item(f"bbh/test/{test.stem}/{number}", row["input"])
            for test in self.tests()
            for number, row in enumerate(read_examples(test))
        ]


def read_prompt(task: str, text: str) -> Prompt:
    """Instruction and shots of a task's text: the last three blocks are the shots; ValueError where they are not."""
    blocks = text.strip().split("\n\n")
    head, shots = "\n\n".join(blocks[:-SHOTS]).strip(), blocks[-SHOTS:]
    if not head or any(not s.startswith("Q: ") or s.count(ANSWER) != 1 for s in shots):
        raise ValueError(
            f"bbh {task}: expected an instruction and {SHOTS} shots 'Q: ...{ANSWER} ...' split by blank lines"
        )
    pairs = [shot.removeprefix("Q: ").split(ANSWER) for shot in shots]
    return Prompt(head, [{"input": question, "target": answer} for question, answer in pairs])


def read_examples(path: Path) -> list[dict[str, str]]:
    """Items of a task; ValueError names the file."""
    examples = read_object(path).get("examples")
    if not isinstance(examples, list) or not examples:
        raise ValueError(f"{path}: no `examples`; expected {LAYOUT}")
    for n, row in enumerate(examples):
        if not isinstance(row, dict) or not {"input", "target"} <= set(row):
            raise ValueError(f"{path}: examples[{n}] has no `input` and `target`; expected {LAYOUT}")
    return [
        {"id": f"{path.stem}/{n}", "input": str(row["input"]), "target": str(row["target"])}
        for n, row in enumerate(examples)
    ]
