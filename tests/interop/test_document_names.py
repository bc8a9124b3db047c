"""Every name of documents 000 and 001 for a method, policy, task, file or run: what it is here, read and written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.data import pool_records, write_jsonl

from paydirt.analysis.names import method_name as table_name
from paydirt.core.artifacts import Artifact
from paydirt.interop.export import name_of
from paydirt.interop.naming import data_name, method_name, model_name
from paydirt.scorers.gradient import Gradient
from paydirt.scorers.learned import Learned
from paydirt.scoring.base import SCORERS, default_policy, make_scorer
from paydirt.selection.policies.base import POLICIES
from paydirt.selection.scores import Reduction
from paydirt.tasks import TARGETS
from paydirt.tasks.benchmark import BENCHMARKS

# Scripts `select_data_<name>.sh`, `matching_<name>.sh`, `calculate_<name>_score.sh`, `launch-<name>-data`: method, policy,
# and what their data sets are called. Their `ppl_top` takes the lowest perplexities, their text the highest.
SCRIPTS = {
    "bm25": ("bm25", "top", "bm25"),
    "embed": ("embed", "top", "embedding"),
    "ppl": ("ppl", "low", "ppl-top-lowest"),
    "ppl_top": ("ppl", "low", "ppl-top-lowest"),
    "ppl_mid": ("ppl", "mid", "ppl-mid"),
    "less": ("gradient", "top", "less"),
    "random": ("random", "top", "random"),
}
# What texts, tables and plots call them: representation and rule as tables of results are compared by.
TABLES = {
    "BM25": ("bm25", ""),
    "Lexicon": ("bm25", ""),
    "Embed": ("embed", ""),
    "embedding": ("embed", ""),
    "PPL": ("ppl", ""),
    "Perplexity": ("ppl", ""),
    "Top-PPL": ("ppl", "top"),
    "Mid-PPL": ("ppl", "mid"),
    "ppl-top": ("ppl", "top"),
    "ppl_mid": ("ppl", "mid"),
    "LESS": ("less", ""),
    "Gradient": ("less", ""),
    "Random": ("random", ""),
}
TASKS = ("mmlu", "bbh", "ifeval", "tydiqa")
FILES = {  # score files: the method of ours whose scores they are
    "mmlu_bm25_score_100.pt": "bm25",
    "mmlu_embedding_scores.pt": "embed",
    "mmlu_ppl_score_epoch25.pt": "ppl",
    "{source}_influence_score.pt": "gradient",
}
# Document 001's words for aggregation, prediction and gradients.
AGGREGATIONS = {"Avg": "mean", "Max": "max", "Min": "min"}
PREDICTORS = {"classification": "classify", "regression": "regress"}
GRADIENT_TYPES = {"adam": "adam_published", "sgd": "sgd", "sign": "sign"}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(name: str) -> None:
    scorer, policy, called = SCRIPTS[name]
    assert scorer in SCORERS.names()
    assert policy in POLICIES.names()
    assert method_name(scorer, policy) == called
    assert data_name("mmlu", 1.0, called) == f"mmlu-train-p1.0-{called}"
    if name not in SCORERS.names():
        with pytest.raises(ValueError, match=f"here it is {scorer}"):
            SCORERS.get(name)
    if name.startswith("ppl_"):  # asked for as a policy
        with pytest.raises(ValueError, match=f"here it is .*{policy}"):
            POLICIES.get(name)


def test_what_a_text_calls_a_method_leads_to_ours() -> None:
    """Asked for under another name, the method or policy is named; nothing of another name is a dead end."""
    for name in TABLES:
        if name.lower() not in SCORERS.names():
            with pytest.raises(ValueError, match="here it is"):
                SCORERS.get(name)


@pytest.mark.parametrize("name", TABLES)
def test_tables(name: str) -> None:
    assert table_name(name) == TABLES[name]


def test_tasks_are_targets_and_benchmarks() -> None:
    assert set(TASKS) <= set(TARGETS.names())
    assert set(TASKS) <= set(BENCHMARKS.names())


def test_data_sets_and_models_are_called_as_on_the_hub() -> None:
    """The names that document 000 spells out."""
    assert data_name("ifeval", 1.0, method_name("embed")) == "ifeval-train-p1.0-embedding"
    assert data_name("ifeval", 1.0, method_name("gradient"), 3) == "ifeval-train-p1.0-less-seed3"
    spelt = "llama2-7b-ifeval-less-p0.10-lora-seed2-linear-1epoch"
    assert model_name("llama2", "7b", "ifeval", "less", 0.1, 2) == spelt


def test_words_of_the_learned_pipeline() -> None:
    for ours in AGGREGATIONS.values():
        assert Reduction(within=ours).within == ours  # type: ignore[arg-type]
        truth = {"name": "gradient"}
        assert make_scorer({"name": "learned", "truth": truth, "aggregation": ours}).aggregation == ours
    for theirs, ours in PREDICTORS.items():
        assert Learned(mode=ours).mode == ours  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"here it is learned with mode {ours}"):
            SCORERS.get(theirs)
    for ours in GRADIENT_TYPES.values():
        assert Gradient(direction=ours, k=4096).direction == ours  # type: ignore[arg-type]


@pytest.mark.parametrize("file", FILES)
def test_score_files_are_read_selected_by_and_exported_under_their_names(
    file: str, paydirt: Callable[..., Any], tmp_path: Path
) -> None:
    """In the documents' own file names, sources and order: a selection by the policy that the method has here."""
    sources, method = ("flan_v2", "cot", "dolly", "oasst1"), FILES[file]
    pools: list[Any] = []
    values = np.random.default_rng(0).permutation(40).astype(np.float32)
    (tmp_path / "published").mkdir()
    for number, source in enumerate(sources):
        rows = [{**r, "source": source} for r in pool_records()[number * 10 : number * 10 + 10]]
        pools += ["--pool", f"{source}={write_jsonl(tmp_path / f'{source}.jsonl', rows)}"]
        if "{source}" in file:
            part = torch.from_numpy(values[number * 10 : number * 10 + 10])
            torch.save(part, tmp_path / "published" / file.format(source=source))
    if "{source}" not in file:
        torch.save(values, tmp_path / "published" / file)
    scores, chosen = tmp_path / "scores", tmp_path / "chosen"
    code, _, said = paydirt("import-scores", tmp_path / "published", *pools, "--task", "mmlu", "--out", scores)
    assert code == 0, said
    code, _, said = paydirt("select", scores, "--fraction", 0.1, "--out", chosen)
    assert code == 0, said
    policy = Artifact(chosen).config["selection"]["policy"]["name"]
    assert policy == default_policy(method)
    called = method_name(method, policy)
    assert name_of(Artifact(chosen)) == f"mmlu-train-p0.10-{called}"
    code, _, said = paydirt("export", chosen, "--out", tmp_path / "export")
    assert code == 0, said
    assert (tmp_path / "export" / f"mmlu-train-p0.10-{called}.jsonl").is_file()


def test_the_lists_here_are_those_of_the_documents(shared: Path) -> None:
    """No script, task or aggregation that they name is missing above."""
    seeds = sorted((shared.parent / "seeds").glob("00[01]_*.txt"))
    if len(seeds) < 2:
        pytest.skip("the documents are not beside the repository")
    text = "\n".join(path.read_text(encoding="utf-8") for path in seeds)
    scripts = re.findall(r"(?:select_data|matching)_(\w+)\.sh|calculate_(\w+)_score\.sh|launch-(\w+)-data", text)
    assert {name for found in scripts for name in found if name} == {*SCRIPTS} - {"ppl_"}
    named = re.findall(r'(?:target_task_names|TARGET_TASK_NAMES|TASK)="?(\w+)|# (mmlu), (bbh), (ifeval)', text)
    assert {task.lower() for found in named for task in found if task} - {"target"} <= {*TASKS}
    assert set(re.findall(r"Top-PPL|Mid-PPL|LESS|BM25|Embed\b|Random|PPL\b", text)) <= {*TABLES}
    assert re.search(r"\| Metrics\| Avg \| Max \| Min \|", text)
    assert set(re.findall(r'GRADIENT_TYPE="(\w+)"', text)) <= {*GRADIENT_TYPES}
