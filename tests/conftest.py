"""What every test gets: no network, one thread, a cache of its own; and the tiny model, pool and target as files."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
# No test may read or leave anything in the person's own cache.
os.environ["PAYDIRT_CACHE"] = tempfile.mkdtemp(prefix="paydirt-test-cache-")

import pytest
from support import data, models
from support.stages import Tiny


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny Llama with its byte-level tokenizer."""
    return models.save_tiny_llama(tmp_path_factory.mktemp("model") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Tiny:
    """A pool of 60 examples in 3 sources, a target of 2 subtasks, labels and a model, all on disk."""
    return Tiny(data.write_all(tmp_path_factory.mktemp("data")), tiny_model)


@pytest.fixture
def paydirt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call the command line in this process: `paydirt("select", ...)` gives (exit code, stdout, stderr)."""
    from support.command import call

    return lambda *arguments: call(monkeypatch, capsys, [str(a) for a in arguments])


@pytest.fixture
def shared() -> Path:
    """The real data beside the repository; the test is skipped where there is none."""
    return data.shared_data()


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., str]:
    """Write records (dicts, or lines of text as they are) to `name`; returns the path."""

    def write(name: str, *records: dict[str, Any] | str) -> str:
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(tmp_path / name)

    return write


# More cases of what other tests show, by how their names begin: `make test-slow` runs them, and `make test` stays short.
SLOW = (
    "laws/test_ray.py::test_a_killed_driver_is_continued",
    "laws/test_ray.py::test_a_node_that_dies_costs_seconds_and_no_byte",
    "laws/test_ray_training.py::test_ray_train_trains_the_model_of_torchrun",
    "laws/test_progress.py::test_a_pipe_gets_lines_that_move_inside_shards",
    "laws/test_processes.py::test_two_processes_train_the_model_of_one[32-full",
    "laws/test_offline.py::test_a_model_that_was_fetched_needs_no_hub[train]",
    "scorers/test_drop.py::TestCalibration::test_a_killed_calibration_continues_to_the_same_choice",
    "laws/test_ray.py::test_workers_say_how_far_they_are",
    "laws/test_ray.py::test_what_the_work_refuses_is_not_tried_again",
    "laws/test_ray.py::test_what_a_frozen_worker_holds_is_given_out_twice",
    "laws/test_ray.py::test_work_that_kills_its_workers_is_given_up",
    "laws/test_ray.py::test_a_study_that_loses_a_node_ends_with_the_same_rows",
    "laws/test_ray_training.py::test_what_the_training_refuses_is_said_as_on_one_machine",
    "laws/test_ray_training.py::test_a_lost_node_costs_seconds_and_no_weight",
    "laws/test_processes.py::test_two_processes_train_the_model_of_one[29-full-more3]",
    "laws/test_processes.py::test_a_sharded_training_leaves_a_model_that_loads[full-FULL",
    "laws/test_processes.py::test_a_sharded_training_leaves_a_model_that_loads[lora-FULL",
    "laws/test_processes.py::test_a_sharded_training_leaves_a_model_that_loads[lora-SHARDED",
    "laws/test_processes.py::test_two_processes_train_the_model_of_one[33-lora",
    "laws/test_ray.py::test_a_score_by_the_command_is_that_of_one_process",
    "api/test_notebooks.py::test_a_scorer_typed_into_a_notebook_in_a_study_of_two_processes",
    "laws/test_study.py::test_worker_processes_change_no_selection_and_no_row",
    "fuzz/test_commands.py::test_what_is_fuzzed_is_good_before",
    "laws/test_columns.py::test_three_processes_fill_a_column_as_one_would[embeddings]",
    "laws/test_columns.py::test_three_processes_fill_a_column_as_one_would[hidden]",
    "laws/test_columns.py::test_three_processes_fill_a_column_as_one_would[losses]",
    "laws/test_columns.py::test_three_processes_fill_a_column_as_one_would[similarities]",
    "laws/test_columns.py::test_three_processes_fill_a_column_as_one_would[tangents]",
    "laws/test_columns.py::test_three_processes_fill_a_column_as_one_would[words]",
    "scorers/test_learned.py::test_the_seeds_encoder_learns_from_texts",
    "analysis/test_prior.py::test_the_levels_that_ship_are_those_of_the_fit",
    "analysis/test_prior.py::test_all_that_ships_is_fitted_again",
    "laws/test_columns.py::test_three_processes_fill_a_column_as_one_would[gradients]",
    "laws/test_columns.py::test_three_processes_fill_a_column_as_one_would[tokens]",
    "laws/test_columns.py::test_a_killed_column_ends_with_the_same_bytes_and_cost[embeddings]",
    "laws/test_columns.py::test_a_killed_column_ends_with_the_same_bytes_and_cost[hidden]",
    "laws/test_columns.py::test_a_killed_column_ends_with_the_same_bytes_and_cost[similarities]",
    "laws/test_columns.py::test_a_killed_column_ends_with_the_same_bytes_and_cost[tangents]",
    "laws/test_columns.py::test_a_killed_column_ends_with_the_same_bytes_and_cost[tokens]",
    "laws/test_columns.py::test_a_killed_column_ends_with_the_same_bytes_and_cost[words]",
    "laws/test_executors.py::test_a_score_does_not_depend_on_the_workers",
    "laws/test_host_steps.py::test_duplicates_are_those_of_one_pass[config1]",
    "contract/test_scorers.py::test_a_killed_run_continues_to_the_same_bytes[consensus]",
    "contract/test_scorers.py::test_a_killed_run_continues_to_the_same_bytes[embed]",
    "contract/test_scorers.py::test_a_killed_run_continues_to_the_same_bytes[learned]",
    "contract/test_scorers.py::test_a_killed_run_continues_to_the_same_bytes[novelty]",
    "contract/test_scorers.py::test_shard_size_changes_no_score[consensus]",
    "contract/test_scorers.py::test_shard_size_changes_no_score[cascade]",
    "contract/test_scorers.py::test_shard_size_changes_no_score[embed]",
    "contract/test_scorers.py::test_shard_size_changes_no_score[learned]",
    "contract/test_scorers.py::test_shard_size_changes_no_score[novelty]",
    "laws/test_spend_kills.py::test_killed_anywhere_it_ends_the_same_and_never_over_budget",
    "data/test_planted.py::test_real_questions_are_found_and_the_real_pool_is_left_alone",
    "laws/test_columns.py::test_an_interrupted_score_reports_the_whole_cost[method0]",
    "gradients/test_card.py::test_nothing_meets_another_device_or_waits_for_it[not refuses",
    "laws/test_kills.py::test_killed_anywhere_and_run_again_it_leaves_the_same_bytes[study]",
    "laws/test_kills.py::test_killed_anywhere_and_run_again_it_leaves_the_same_bytes[decontaminate]",
    "laws/test_kills.py::test_killed_anywhere_and_run_again_it_leaves_the_same_bytes[gradient-without-store]",
    "laws/test_kills.py::test_killed_anywhere_and_run_again_it_leaves_the_same_bytes[split]",
    "laws/test_kills.py::test_killed_anywhere_and_run_again_it_leaves_the_same_bytes[train-full]",
    "laws/test_offline.py::test_a_model_that_was_fetched_needs_no_hub[plan]",
    "laws/test_progress.py::test_a_short_run_says_nothing_of_it",
    "laws/test_ray.py::test_a_node_that_does_not_see_the_storage_is_named",
    "report/test_page.py::test_a_table_without_a_column_makes_a_page[n_items]",
    "report/test_page.py::test_a_table_without_a_column_makes_a_page[selection_seed]",
    "report/test_page.py::test_a_table_without_a_column_makes_a_page[train_params]",
    "end_to_end/test_site.py::test_the_example_goes_from_alpaca_and_a_table_to_an_adapter_and_a_receipt[alpaca_to_adapter.sh]",
    "data/test_decontaminate.py::test_the_real_references_are_found",
    "planning/test_plan.py::test_a_probe_is_remembered",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.removeprefix("tests/").startswith(SLOW):
            item.add_marker("slow")
