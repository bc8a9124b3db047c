"""A Ray cluster: connecting to one, what its nodes have, and whether each sees the storage and runs the same code.

Storage is tested both ways before any work: the driver leaves a token that every node must read, and every node an answer
that the driver must see. Ray sends nothing anywhere (usage statistics off) and no dashboard is started.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from paydirt.core.files import fingerprint
from paydirt.core.libraries import versions

ANSWERING = 10.0  # seconds that the head may take to be reached
ANSWER = 120.0  # seconds that a node has for its answer, the start of a process included
SETTLE = 5.0  # seconds that a shared file system may take to show a new file


class Node(NamedTuple):
    """A living node: id, how errors call it, cores and GPUs that Ray may use."""

    id: str
    name: str
    cpus: int
    gpus: int


def connect(address: str | None) -> None:
    """Join the cluster at `address`; without one, that of RAY_ADDRESS or of this machine, or start one here.

    Raises ValueError where nothing answers there, or this process is in another cluster already.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ValueError("execution on Ray needs the extra `ray`: pip install 'paydirt-llm[ray]'") from None
    if address is not None and address.startswith("ray://"):
        raise ValueError(
            f"--address {address}: Ray's client cannot carry this; run on a node, and give it as host:6379"
        )
    if ray.is_initialized():
        joined = ray.get_runtime_context().gcs_address
        if address not in (None, "auto", "local", joined):
            raise ValueError(f"--address {address}: this process has joined the cluster at {joined} already")
        return
    try:
        if address and ":" in address:  # Ray itself would try for more than a minute
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=ANSWERING).close()
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level="error")
    except (OSError, RuntimeError, ValueError) as error:  # a ConnectionError is an OSError
        raise ValueError(
            f"--address {address or 'auto'}: no Ray cluster answers there ({_line(error)}); start one by "
            "`ray start --head`, or leave the address out for one of this machine"
        ) from None


def nodes() -> list[Node]:
    """The living nodes that may be given work."""
    import ray

    found = []
    for node in ray.nodes():
        cpus, gpus = (int(node["Resources"].get(kind, 0)) for kind in ("CPU", "GPU"))
        if node["Alive"] and (cpus or gpus):
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"
            found.append(Node(node["NodeID"], name, cpus, gpus))
    return found


_checked: set[tuple[str, str]] = set()  # what is known of which node


def check(places: Sequence[Path], inputs: Sequence[str]) -> None:
    """ValueError naming a node that does not share a folder of `places`, lacks one of `inputs` or has other versions.

    What a node is found to have is not asked again.
    """
    for place in places:
        _check(place, [path for path in inputs if os.path.exists(path)])


def _check(place: Path, inputs: list[str]) -> None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    what = fingerprint([ray.get_runtime_context().gcs_address, str(place), *inputs])
    asked = [node for node in nodes() if (what, node.id) not in _checked]
    if not asked:
        return
    with _folder(place) as folder:
        token = uuid.uuid4().hex
        (folder / "token").write_text(token)
        answers = {}
        for node in asked:
            strategy = NodeAffinitySchedulingStrategy(node.id, soft=False)
            task = ray.remote(_look).options(num_cpus=0, max_retries=0, scheduling_strategy=strategy)
            answers[node] = task.remote(str(folder), token, node.id, inputs, versions())
        deadline = time.monotonic() + ANSWER
        for node, answer in answers.items():
            fault = _fault(answer, deadline, folder / node.id)
            if fault and node.id in {there.id for there in nodes()}:  # a node that has left meanwhile gets no work
                raise ValueError(f"node {node.name} {fault}".replace("PLACE", str(place)))
            if not fault:
                _checked.add((what, node.id))


@contextmanager
def _folder(place: Path) -> Any:
    folder = place / f".seen-{uuid.uuid4().hex[:12]}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"{place}: cannot write there ({error.strerror}); choose another place") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fault(answer: Any, deadline: float, left: Path) -> str:
    """What is wrong with a node, "" where nothing is."""
    import ray
    from ray import exceptions

    try:
        fault = ray.get(answer, timeout=max(1.0, deadline - time.monotonic()))
    except exceptions.GetTimeoutError:
        return f"did not answer within {ANSWER:.0f} s; is it frozen, or out of memory?"
    except exceptions.RayError as error:
        return f"cannot run paydirt ({_line(error)}); install the same there, under the same Python"
    if not fault and not _appears(left):
        return "wrote to PLACE, and it is not to be seen here: the folder must be on storage that all nodes share"
    return str(fault)


def _look(folder: str, token: str, answer: str, inputs: Sequence[str], expected: Mapping[str, str]) -> str:
    """On a node: what it lacks, "" for nothing; leaves a file called `answer` beside the token."""
    place = Path(folder)
    if not _appears(place / "token") or (place / "token").read_text() != token:
        return "does not see what is written to PLACE: the folder must be on storage that all nodes share"
    try:
        (place / answer).write_text("seen")
    except OSError as error:
        return f"cannot write to PLACE ({error.strerror})"
    for path in inputs:
        if not os.path.exists(path):
            return f"has no {path}: put it at the same path on every node, or on shared storage"
    here = versions()
    for name in sorted({*here, *expected} - {"python"}):  # Ray itself asks for the same Python
        if here.get(name) != expected.get(name):
            there = f"{name} {here.get(name)}, this one {expected.get(name)}"
            return f"has {there}: install the same, since numbers depend on it"
    return ""


def _appears(path: Path) -> bool:
    end = time.monotonic() + SETTLE
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _line(error: BaseException) -> str:
    """The last line of an error's text, where Ray puts the cause."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:300]
