"""A Ray cluster of two nodes of one core each on this machine, whose workers find the tests' own modules."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.command import ROOT

SMALL = {"num_cpus": 1, "object_store_memory": 80_000_000}


@contextmanager
def two_small_nodes() -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
        made = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
        made.add_node(**SMALL)
        yield made
        ray.shutdown()
        made.shutdown()
