"""The base of the standard benchmarks: local files in the LESS layout, lm-eval's tasks and graders, one result.

A benchmark says which of lm-eval's tasks it is, with what rows, in which prompt form; the rest is here. Beside the result
it leaves `items.jsonl` (every item with answer and verdict), `subtasks.json` (every metric with its standard error) and
`prompts.json` (the first prompt of each task, as the model saw it).

Prompt form `references` is that of the target's references, hence of scoring and training, in the encoder's chat form;
`lm_eval` is lm-eval's own wording. Without a chat template it is always lm-eval's. The difference is named in `settings`.
"""

from __future__ import annotations

import importlib.metadata
import json
import time
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from paydirt.core.artifacts import file_digest, fingerprint, write_atomic
from paydirt.core.config import PathText
from paydirt.core.progress import say
from paydirt.core.types import EvalResult, Target
from paydirt.data.encoding import Encoder
from paydirt.models.load import ModelConfig
from paydirt.tasks.benchmark import Benchmark
from paydirt.tasks.harness.offline import require_lm_eval
from paydirt.tasks.harness.runner import (
    TaskScore,
    build_tasks,
    cap_generation,
    foresee,
    macro,
    micro,
    named,
    run_tasks,
)
from paydirt.tasks.references import PUBLISHED, TargetConfig, layout_path
from paydirt.tasks.spending import Expected

# Where a model goes on after its answer with a turn of its own making, the answer has ended.
NEXT_TURN = {"tulu": ["<|user|>"], "llama2": ["[INST]"], "tokenizer": []}


class StandardBenchmark(Benchmark):
    """Base of benchmarks that lm-eval grades."""

    standard: ClassVar[bool] = True
    folder: ClassVar[str | None] = None
    """Folder of lm-eval's tasks that holds this benchmark's; None indexes them all."""
    shots: ClassVar[int] = 0
    multiturn: ClassVar[bool] = False
    """Whether a shot is a pair of turns, in the prompt form of the references; else all is one user turn."""
    metrics: ClassVar[tuple[str, ...]] = ()
    main: ClassVar[str] = ""

    data: PathText | None = Field(None, description="folder in the LESS layout; null: the target's")
    limit: int | None = Field(None, ge=1, description="items of each subtask to use, from the first")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        8, description="sequences a pass; auto finds the largest that fits"
    )
    chat_template: bool = Field(True, description="prompt in the encoder's chat form; else plain text")
    prompts: Literal["references", "lm_eval"] = Field("references", description="wording of prompts in the chat form")
    max_gen_tokens: int | None = Field(None, ge=1, description="tokens to generate at most; null: the task's own")
    backend: Literal["hf", "vllm"] = Field("hf", description="what runs the model; vllm where it is installed")

    # ---- what a benchmark says ---------------------------------------------------------------------------------
    @abstractmethod
    def specs(self, target: Target | None) -> list[dict[str, Any]]:
        """Task specs for lm-eval: `task` (its name) and what replaces entries of its YAML, rows included."""

    @abstractmethod
    def files(self) -> list[Path]:
        """The data files that the result depends on."""

    def subtask(self, task: str) -> str:
        """What we call one of lm-eval's tasks."""
        return task

    def prepare(self) -> list[str]:
        """Whatever must be in place before lm-eval's tasks load; returns what is degraded, in words."""
        return []

    def remarks(self, target: Target | None) -> dict[str, object]:
        """Further settings worth stating."""
        return {}

    # ---- what they share ---------------------------------------------------------------------------------------
    @property
    def as_references(self) -> bool:
        return self.chat_template and self.prompts == "references"

    def place(self, inside: str, layout: str) -> Path:
        """`inside` in the LESS layout; ValueError naming both."""
        if self.data is None:
            raise ValueError(f"benchmark {self.name!r}: give `data` (--data), a folder in the LESS layout ({layout})")
        return layout_path(TargetConfig(name=self.name, data=self.data), inside, layout)

    def identity(self) -> dict[str, Any]:
        return {k: v for k, v in self.to_dict().items() if k != "data"}

    def resolved(self, target: TargetConfig | None) -> Benchmark:
        if self.data is None and target is not None and target.data is not None:
            return self.model_copy(update={"data": target.data})
        return self

    def inputs(self) -> dict[str, str]:
        require_lm_eval()
        digests = [[path.name, file_digest(path)] for path in self.files()]
        return {"items": fingerprint(digests), "lm_eval": importlib.metadata.version("lm_eval")}

    def load(self, model: ModelConfig) -> Any:
        """The model itself, or its config where vLLM will load it."""
        return model if self.backend == "vllm" else super().load(model)

    def run(self, model: Any, encoder: Encoder, target: Target | None, out: Path) -> EvalResult:
        require_lm_eval()
        degraded = self.prepare()
        from paydirt.tasks.harness.model import EncodedLM, vllm_model

        if self.backend == "vllm":
            lm = vllm_model(model, encoder, self.batch_size, self.as_references)
        else:
            lm = EncodedLM(model, encoder, self.batch_size, self.as_references)
        result = self.ask(lm, encoder.config.template, target, out, degraded)
        if self.backend == "vllm":
            say(f"{self.name}: vLLM's FLOPs cannot be counted here; the ledger has none of this evaluation")
            return result
        return lm.spending.on(result)

    def expect(self, expected: Expected, encoder: Encoder, target: Target | None) -> bool:
        """By making every prompt, as the run will; answers are counted at their greatest length. Not for vLLM."""
        if self.backend == "vllm" or expected.config is None:
            return False
        began = time.perf_counter()
        require_lm_eval()
        self.prepare()
        from paydirt.tasks.harness.model import ForeseenLM

        lm = ForeseenLM(expected, encoder, self.batch_size, self.as_references)
        foresee(lm, self._tasks(lm, encoder.config.template, target)[0], **self._asked)
        expected.rows = 8 if self.batch_size == "auto" else self.batch_size
        expected.seconds = time.perf_counter() - began
        return True

    @property
    def _asked(self) -> dict[str, Any]:
        multiturn = self.multiturn and self.as_references
        return {"chat": self.chat_template, "multiturn": multiturn, "limit": self.limit}

    def _tasks(self, lm: Any, template: str, target: Target | None) -> tuple[list[Any], list[str]]:
        """lm-eval's tasks as they will be asked, and where answers are shorter than it would have them, in words."""
        tasks = build_tasks(self.folder, self.specs(target))
        if self.chat_template:
            _stop_at_next_turn(tasks, NEXT_TURN.get(template, []))
        return tasks, cap_generation(tasks, self.max_gen_tokens, getattr(lm, "max_length", None))

    def ask(self, lm: Any, template: str, target: Target | None, out: Path, degraded: Sequence[str] = ()) -> EvalResult:
        """Run the tasks on any lm-eval model; ValueError where the data does not fit."""
        for text in degraded:
            say(f"degraded: {text}")
        tasks, lowered = self._tasks(lm, template, target)
        if lowered:
            say(f"{self.name}: the model is short, so fewer tokens are generated ({lowered[0]}, {len(lowered)} tasks)")
        scores = run_tasks(lm, tasks, **self._asked)
        truncated = len(getattr(lm, "truncated", ()))
        if truncated:
            say(f"{self.name}: {truncated} prompts were cut from the left to fit the model's {lm.max_length} tokens")
        settings: dict[str, object] = {
            "benchmark": self.name,
            "graded_by": f"lm-eval {importlib.metadata.version('lm_eval')}",
            "task_versions": sorted({score.version for score in scores}),
            "shots": self.shots,
            "limit": self.limit,
            "chat_template": template if self.chat_template else None,
            "prompts": self.prompt_form(template),
            "backend": self.backend,
            "prompts_truncated": truncated,
            "generation_lowered": len(lowered),
            "degraded": list(degraded),
            **self.remarks(target),
        }
        _write_details(out, self, scores)
        return self.result(target.name if target else self.name, scores, settings)

    def prompt_form(self, template: str) -> str:
        """How the prompts relate to those of references and training, in words."""
        if self.as_references:
            return f"as references{self._form()} and training ({template})"
        if self.chat_template:
            return f"lm-eval's wording in the chat form {template}; references and training use the target's wording"
        return f"lm-eval's plain text; references and training use the chat form {template}"

    def _form(self) -> str:
        return ""

    def result(self, name: str, scores: Sequence[TaskScore], settings: dict[str, object]) -> EvalResult:
        """Micro and macro averages with standard errors; by subtask the metric that `main` averages."""
        metrics: dict[str, float] = {}
        for metric in self.metrics:
            for kind, average in (("micro", micro), ("macro", macro)):
                metrics |= named(f"{metric}_{kind}", average(scores, metric))
        shown = self.main.rsplit("_", 1)[0]
        by_subtask = {self.subtask(score.name): score.metrics[shown] for score in scores}
        return EvalResult(name, self.main, metrics, sum(score.n for score in scores), by_subtask, settings)


class FormedBenchmark(StandardBenchmark):
    """Base of benchmarks whose targets have several forms; prompts are worded, and answers begun, as in the target's."""

    form: Literal["published", "turn"] | None = Field(
        None,
        description="form of the references that prompts follow: published, turn; null: the target's, else published",
    )

    @property
    def published(self) -> bool:
        return self.form in (None, PUBLISHED)

    def resolved(self, target: TargetConfig | None) -> Benchmark:
        if self.form is None and target is not None and target.name == self.name and target.form is not None:
            return self.model_copy(update={"form": target.form}).resolved(target)
        return super().resolved(target)

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "form": PUBLISHED if self.published else self.form}

    def _form(self) -> str:
        return f" (form {PUBLISHED if self.published else self.form})"


def to_dataset(rows: Sequence[dict[str, Any]], path: Path) -> Any:
    """Rows as lm-eval wants them; ValueError names the file whose values no table can hold."""
    import datasets
    import pyarrow as pa

    try:
        return datasets.Dataset.from_list(list(rows))
    except (OverflowError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(
            f"{path}: its values fit no table ({str(error).splitlines()[0][:120]}); whole numbers have 64 bits at most, and "
            "a field has one type in all rows"
        ) from None


def _stop_at_next_turn(tasks: Sequence[Any], marks: list[str]) -> None:
    for task in tasks:
        if task.get_config("output_type") == "generate_until":
            kwargs = dict(task.get_config("generation_kwargs") or {})
            until = kwargs.get("until") or []
            stops = [until] if isinstance(until, str) else list(until)
            task.set_config(key="generation_kwargs", value={**kwargs, "until": [*stops, *marks]})


def _write_details(out: Path, benchmark: StandardBenchmark, scores: Sequence[TaskScore]) -> None:
    lines = [
        json.dumps({"subtask": benchmark.subtask(s.name), **item}, ensure_ascii=False)
        for s in scores
        for item in s.items
    ]
    table: dict[str, dict[str, float]] = {}
    for s in scores:
        row = table[benchmark.subtask(s.name)] = {"n": s.n}
        for metric, value in s.metrics.items():
            row |= named(metric, (value, s.stderr[metric]))
    prompts = {benchmark.subtask(s.name): {"prompt": s.first_prompt, "generation": s.generation} for s in scores}
    write_atomic(out / "items.jsonl", "".join(line + "\n" for line in lines))
    write_atomic(out / "subtasks.json", json.dumps(table, indent=1, ensure_ascii=False))
    write_atomic(out / "prompts.json", json.dumps(prompts, indent=1, ensure_ascii=False))
