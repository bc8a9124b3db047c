"""Ray actors over a queue: each opens its work once, then does one item after another.

What is handed out again: the item of an actor that died (with its node, or alone), and, where asked for, one that is late
by several times the median, since Ray notices a frozen node only after a minute. A dead actor is dropped and another one
is asked for; Ray's own restarts (`max_restarts`) would feed the dead one. Exceptions of the work itself are not tried
again: they are raised here as they were raised there.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from paydirt.core.progress import console, report, say

DEATHS = 3  # workers that one item may cost before it is taken for the cause
LATE = 4.0  # times the median that an item may take before an idle worker gets it too
PATIENCE = 10.0  # seconds that it may take in any case
LOOK = 0.5  # seconds between two looks for late items
TELLING = 1.0  # seconds between two words of a worker on how far it is
WAITING = 30.0  # seconds without any worker after which that is said
CARRIED = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "TOKENIZERS_PARALLELISM", "PAYDIRT_CACHE", "PAYDIRT_VERIFY")


@dataclass(frozen=True)
class Share:
    """How many workers, and what each has: CPU cores, and a GPU or none."""

    workers: int
    cpus: int
    gpu: bool


class Board:
    """An actor's body: what part of its item each worker has done, for the driver to read."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}

    def write(self, who: str, part: float) -> None:
        self.parts[who] = part

    def total(self) -> float:
        return sum(self.parts.values())


class Hand:
    """An actor's body: a process somewhere in the cluster."""

    def open(
        self,
        threads: int,
        environment: Mapping[str, str],
        board: Any,
        counts: bool,
        begin: Callable[..., None],
        arguments: tuple[Any, ...],
    ) -> tuple[str, int]:
        """Begin the work; returns host and process, as claims name them."""
        self.board, self.counts, self.told = board, counts, 0.0
        os.environ.update(environment)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        torch.set_num_threads(threads)
        console.quiet = True
        begin(*arguments)
        return socket.gethostname(), os.getpid()

    def do(self, work: Callable[[Any], Any], item: Any) -> Any:
        with report(self.tell, counts=self.counts):
            return work(item)

    def tell(self, part: float) -> None:
        """Once a second at most, and at an item's end; whether anybody hears it does not matter."""
        now = time.monotonic()
        if not part or now - self.told > TELLING:
            self.told = now
            self.board.write.remote(f"{socket.gethostname()}-{os.getpid()}", part)


@dataclass
class _Worker:
    """An actor as the driver knows it."""

    actor: Any
    host: str = ""
    process: int = 0


class Crew:
    """The workers of one job. `begin(*arguments)` is called once in each, then `work(item)`."""

    def __init__(
        self,
        share: Share,
        begin: Callable[..., None],
        arguments: tuple[Any, ...],
        work: Callable[[Any], Any],
        again: Callable[[Any], bool] = lambda result: False,
        lost: Callable[[Any, str, int], None] | None = None,
        counts: bool = True,
    ) -> None:
        """`again(result)` says that an item is not done yet. With `lost`, which is told item, host and process of what
        is given up, items that are late are handed out twice: they must bear it. `counts`: an item is so many units,
        and `parts` are the units done of items under way; else it is one, and they are shares."""
        import ray

        self.share, self.work, self.again, self.lost = share, work, again, lost
        options = {"num_cpus": share.cpus, "num_gpus": int(share.gpu), "scheduling_strategy": "SPREAD"}
        self._make = ray.remote(Hand).options(**options, max_restarts=0, max_task_retries=0)
        carried = {name: os.environ[name] for name in CARRIED if name in os.environ}
        self._board = ray.remote(Board).options(num_cpus=0).remote()
        self._asked: Any = None
        self.parts = 0.0
        self._opening = (max(1, share.cpus), carried, self._board, counts, begin, arguments)
        self.coming: dict[Any, _Worker] = {}  # asked for
        self.idle: list[_Worker] = []
        self.busy: dict[Any, tuple[_Worker, int, float]] = {}  # its item and since when
        self.seconds: list[float] = []

    def run(self, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Number and result of every item, as they come. ValueError where workers die of an item or at the start."""
        import ray

        self.queue, self.left = deque(range(len(items))), set(range(len(items)))
        self.deaths: Counter[int] = Counter()
        self.twice: set[int] = set()
        stillborn, since, told = 0, time.monotonic(), False
        try:
            for _ in range(min(self.share.workers, len(items))):
                self._start()
            while self.left:
                self._hand_out(items)
                ready, _ = ray.wait([*self.busy, *self.coming], timeout=LOOK)
                self._listen()
                if self.busy or self.idle:
                    since = time.monotonic()
                elif not told and time.monotonic() - since > WAITING:
                    say(f"waiting for the cluster to have room for a worker of {_words(self.share)}")
                    told = True
                for ref in ready:
                    if ref in self.coming:
                        stillborn = 0 if self._came(ref) else stillborn + 1
                        if stillborn >= DEATHS:
                            raise ValueError(
                                f"{stillborn} Ray workers in a row died before they had begun ({self.reason}); see Ray's "
                                "logs on their nodes (/tmp/ray/session_latest/logs)"
                            )
                    elif (done := self._ended(ref, items)) is not None:
                        yield done
        finally:
            workers = [*self.coming.values(), *self.idle, *(worker for worker, _, _ in self.busy.values())]
            for worker in workers:
                self._drop(worker)
            with suppress(Exception):
                ray.kill(self._board)

    def _listen(self) -> None:
        """Read the board where its answer is there; a board that is gone leaves whole items to count."""
        import ray

        with suppress(Exception):
            if self._asked is not None and ray.wait([self._asked], timeout=0)[0]:
                self.parts, self._asked = ray.get(self._asked), None
            if self._asked is None:
                self._asked = self._board.total.remote()

    def _start(self) -> None:
        actor = self._make.remote()
        self.coming[actor.open.remote(*self._opening)] = _Worker(actor)

    def _drop(self, worker: _Worker) -> None:
        import ray

        with suppress(Exception):  # it may be gone, and its node and Ray's connection with it
            ray.kill(worker.actor)

    def _hand_out(self, items: Sequence[Any]) -> None:
        if self.idle and not self.queue and self.lost is not None:
            self._repeat_late(items)
        while self.idle and self.queue:
            number = self.queue.popleft()
            if number in self.left:
                worker = self.idle.pop()
                self.busy[worker.actor.do.remote(self.work, items[number])] = (worker, number, time.monotonic())

    def _repeat_late(self, items: Sequence[Any]) -> None:
        """Queue what takes several times the median once more, so that a frozen node holds nobody up."""
        assert self.lost is not None
        if not self.seconds:
            return
        median = statistics.median(self.seconds)
        for worker, number, began in list(self.busy.values()):
            takes = time.monotonic() - began
            if number not in self.twice and takes > max(PATIENCE, LATE * median):
                say(f"a unit on {worker.host} takes {takes:.0f} s, where the median is {median:.1f}: given out twice")
                self.twice.add(number)
                self.lost(items[number], worker.host, worker.process)
                self.queue.append(number)

    def _came(self, ref: Any) -> bool:
        """Whether the worker lives; else another one is asked for."""
        worker = self.coming.pop(ref)
        answer = self._answer(ref)
        if answer is None:
            self._drop(worker)
            self._start()
            return False
        worker.host, worker.process = answer[0]
        self.idle.append(worker)
        return True

    def _ended(self, ref: Any, items: Sequence[Any]) -> tuple[int, Any] | None:
        """The item's number and result, if this is its first."""
        worker, number, began = self.busy.pop(ref)
        answer = self._answer(ref)
        if answer is None:
            self._drop(worker)
            self._start()
            if number in self.left:
                self._given_up(worker, number, items)
            return None
        self.idle.append(worker)
        if number not in self.left:
            return None
        if self.again(answer[0]):
            self.queue.append(number)
            return None
        self.seconds.append(time.monotonic() - began)
        self.left.remove(number)
        return number, answer[0]

    def _given_up(self, worker: _Worker, number: int, items: Sequence[Any]) -> None:
        self.deaths[number] += 1
        if self.deaths[number] >= DEATHS:
            raise ValueError(
                f"{self.deaths[number]} Ray workers died over the same unit of work ({self.reason}), as by a lack of "
                "memory; what is finished is kept: run it again with fewer --workers, so that each has more"
            )
        say(f"a worker on {worker.host} died ({self.reason}); its unit goes to another")
        if self.lost is not None:
            self.lost(items[number], worker.host, worker.process)
        self.queue.appendleft(number)

    def _answer(self, ref: Any) -> tuple[Any] | None:
        """What a call returned; None where its worker died. Raises what the work raised."""
        import ray
        from ray import exceptions

        try:
            return (ray.get(ref),)
        except exceptions.RayTaskError as error:
            raise error.cause from None
        except (
            exceptions.RayActorError,  # ActorUnavailableError too
            exceptions.NodeDiedError,
            exceptions.ObjectLostError,
            exceptions.OutOfMemoryError,
            exceptions.WorkerCrashedError,
        ) as error:
            self.reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return None
        except exceptions.RayError as error:
            raise ValueError(f"Ray: {type(error).__name__}: {error}") from error


def _words(share: Share) -> str:
    return f"{share.cpus} CPU cores" + (" and a GPU" if share.gpu else "")
