"""Options that several verbs share, each defined once; and what they become: a workspace, plain values of a config.

An option of one verb alone stands in that verb's signature; options of methods come from their configs (`options`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paydirt.core.artifacts import cache_root

if TYPE_CHECKING:
    from paydirt.stages import Workspace

TargetName = Annotated[
    str | None,
    typer.Option("--target", help="mmlu, bbh, tydiqa, ifeval, or any name with --references; random, length need none"),
]
Data = Annotated[str | None, typer.Option(help="folder in the LESS layout that holds the target's files")]
References = Annotated[str | None, typer.Option(help="file of reference examples")]
ReferencesSplit = Annotated[str, typer.Option(help="split of a datasets directory of references; all: every one")]
ReferencesColumns = Annotated[
    list[str] | None,
    typer.Option(help="columns of references by name, as --columns of a pool: prompt=question,answer=reply"),
]
TargetForm = Annotated[str | None, typer.Option(help="references of mmlu, bbh, tydiqa: published (default), turn")]
Test = Annotated[str | None, typer.Option(help="file of test examples")]
Model = Annotated[str | None, typer.Option(help="model or adapter directory, or hub id")]
Template = Annotated[str, typer.Option(help="chat form: tulu, llama2, tokenizer")]
MaxLength = Annotated[int, typer.Option(help="tokens kept of each example")]
NewlineLabel = Annotated[bool, typer.Option("--newline-label", help="learn the newline after an answer's end, as LESS")]
Out = Annotated[Path, typer.Option(help="directory to write")]
Seed = Annotated[int, typer.Option(help="random seed", min=0, max=(1 << 32) - 1)]
Cache = Annotated[Path | None, typer.Option(help="where imported pools and tokens live; default $PAYDIRT_CACHE")]
Precision = Annotated[
    str, typer.Option(help="dtype of the weights: auto (bfloat16 on CUDA, else float32), float32, bfloat16, float16")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")]
Workers = Annotated[int | None, typer.Option(help="processes on the CPU that share the work; no result depends on it")]
Gpus = Annotated[str | None, typer.Option(help="one process for each of these GPUs, as 0,2; default all")]
Execution = Annotated[str | None, typer.Option(help="where the work is done: local (default), or ray, a cluster")]
Address = Annotated[
    str | None, typer.Option(help="of the Ray cluster, as host:6379; default: this machine's, or a new one")
]
Force = Annotated[bool, typer.Option("--force", help="replace what another stage or config left in --out")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="any option by its YAML key, such as lora.r=16 or gradient.k=4096; repeat"),
]


def workspace(
    cache: Path | None,
    force: bool = False,
    workers: int | None = None,
    gpus: str | None = None,
    execution: str | None = None,
    address: str | None = None,
) -> Workspace:
    """Where shared artifacts live, whether what another config left may be replaced, and who shares the work."""
    from paydirt.execution import executor
    from paydirt.stages import Workspace

    who = executor(execution or "local", address, workers, gpus)
    return Workspace(cache or cache_root(), replace="anything" if force else "nothing", executor=who)


def target_values(
    name: str,
    data: str | None,
    references: str | None,
    test: str | None,
    form: str | None = None,
    split: str = "train",
    columns: list[str] | None = None,
) -> dict[str, Any]:
    values = {"name": name, "data": data, "references": references, "test": test, "form": form, "split": split}
    return {**values, "columns": references_columns(columns)}


def references_columns(texts: list[str] | None) -> dict[str, str]:
    """What `--references-columns` says."""
    from paydirt.data.columns import parse_columns

    return parse_columns(texts or [], "--references-columns")


def model_values(path: str | None, dtype: str = "auto", device: str = "auto") -> dict[str, Any] | None:
    return {"path": path, "dtype": dtype, "device": device} if path else None
