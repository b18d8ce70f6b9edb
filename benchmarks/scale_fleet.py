"""A simulated fleet for ``scale.py``: what happens when, without a device.

:class:`SimulatedPool` is a pool as :mod:`latkit.profiling.fleet.driver` takes it, on a clock of its
own: workers start, measure for as long as measurements were measured to take, are lost and come
back. latkit's driver itself runs on it (``scale_costs.py`` measures what that takes), and so does
:func:`simulate`, which keeps to the driver's order and writes no rows, for lists that are long.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from latkit.dataset.flags import DISTURBED
from latkit.profiling.fleet.dispatch import FINISHED_FOR_ONE, MOST_LOST
from latkit.profiling.fleet.pool import Finished, Hired, Lost
from latkit.profiling.plan import Work, panel_size
from latkit.profiling.protocol import Measurement

ANCHOR_MS = 4.0
_BLOCK = 4096


@dataclass(frozen=True)
class SimulatedKind:
    """A kind of device of a simulated fleet.

    Attributes:
        workers: of the kind.
        seconds: that measurements took; each simulated one takes one of these, drawn at random.
        start_seconds: from hiring a worker to its first measurement.
        disturbed: the share of measurements that other work disturbs.
        lost_per_hour: how often a worker is lost, in an hour of its measuring.
        back_seconds: from the loss of a worker until the one in its place begins to start.
        driver_seconds: that the driver takes for an event; it handles one at a time.
        retest_sd: relative standard deviation of a measurement.
        runs: of the protocol.
    """

    workers: int
    seconds: tuple[float, ...]
    start_seconds: float
    disturbed: float
    lost_per_hour: float = 0.0
    back_seconds: float = 60.0
    driver_seconds: float = 0.0
    retest_sd: float = 0.02
    runs: int = 3


class _Event(NamedTuple):
    """What happens to a worker: it is ready, or its measurement ends, or it is lost.

    ``number`` keeps the order of what happens at the same time.
    """

    at: float
    number: int
    worker: str
    arch_id: int | None = None
    lost: bool = False
    seconds: float = 0.0


class SimulatedPool:
    """Workers that are events on a simulated clock.

    Args:
        kind: of all of them.
        seed: of all that is random.
        latency_ms: of an architecture by its identifier.

    Attributes:
        now: simulated seconds since the beginning.
        measured: measurements that were finished.
        busy_seconds: what these took their workers.
        lost: workers that were lost, with what they were measuring.
    """

    def __init__(
        self, kind: SimulatedKind, seed: int, latency_ms: Callable[[int], float] = lambda _: 10.0
    ) -> None:
        self._kind, self._latency_ms = kind, latency_ms
        self.now = self.busy_seconds = 0.0
        self.measured = self.lost = 0
        self._events: list[_Event] = []
        self._order, self._names = itertools.count(), itertools.count()
        # Whoever is hired in place of a lost worker is that device again, some time later.
        self._gone: deque[tuple[str, float]] = deque()
        self._draws = self._random(seed)

    def hire(self) -> None:
        new = f"worker{next(self._names):04d}", self.now
        name, begin = self._gone.popleft() if self._gone else new
        at = max(begin, self.now) + self._kind.start_seconds
        self._add(_Event(at, next(self._order), name))

    def give(self, worker: str, arch_id: int) -> None:
        seconds, lost_after, _, _ = next(self._draws)
        spent = min(seconds, lost_after)
        at = self.now + spent
        self._add(_Event(at, next(self._order), worker, arch_id, lost_after < seconds, spent))

    def dismiss(self, worker: str) -> None:
        """Nothing is left to be stopped."""

    def next(self) -> Hired | Finished | Lost:
        event = heapq.heappop(self._events)
        self.now = max(self.now, event.at) + self._kind.driver_seconds
        if event.arch_id is None:
            return Hired(event.worker, "simulated", {"cpu": "none: simulated"}, ())
        if event.lost:
            self.lost += 1
            self._gone.append((event.worker, self.now + self._kind.back_seconds))
            return Lost(event.worker, "simulated")
        self.measured += 1
        self.busy_seconds += event.seconds
        return Finished(event.worker, self._measurement(event.arch_id))

    def _measurement(self, arch_id: int) -> Measurement:
        _, _, chance, noise = next(self._draws)
        runs = self._kind.runs
        # Each run differs a little, so that rows take the space that measured ones take.
        ms = self._latency_ms(arch_id) * math.exp(self._kind.retest_sd * noise)
        times = tuple(round(ms * (1 + 1e-3 * i * (1 + chance)), 6) for i in range(runs))
        anchor = tuple(round(ANCHOR_MS * (1 + 1e-3 * i * chance), 6) for i in range(runs))
        flags = (DISTURBED, "spread") if chance < self._kind.disturbed else ()
        return Measurement("cpu", times, anchor, times, flags=flags)

    def _add(self, event: _Event) -> None:
        heapq.heappush(self._events, event)

    def _random(self, seed: int) -> Iterator[tuple[float, float, float, float]]:
        """Seconds of a measurement, seconds until a loss, a share, and a standard normal."""
        rng = np.random.default_rng(seed)
        per_second = self._kind.lost_per_hour / 3600
        while True:
            lost_after = np.full(_BLOCK, np.inf)
            if per_second:
                lost_after = rng.exponential(1 / per_second, _BLOCK)
            drawn = (
                rng.choice(self._kind.seconds, _BLOCK), lost_after, rng.random(_BLOCK),
                rng.standard_normal(_BLOCK),
            )  # fmt: skip
            yield from zip(*(values.tolist() for values in drawn), strict=True)


@dataclass(frozen=True)
class SimulatedRun:
    """How a simulated run went.

    Attributes:
        seconds: from the first hiring to the last measurement.
        measurements: that were finished, panels and disturbed ones among them.
        busy_share: of the workers' time that was spent on these.
        disturbed: measurements that were disturbed.
        architectures_unusable: with disturbed measurements alone.
        lost: workers, each with the measurement that it was making.
        runs: how often the command was given: once, and after each time that no worker was left.
    """

    seconds: float
    measurements: int
    busy_share: float
    disturbed: int
    architectures_unusable: int
    lost: int
    runs: int


def simulate(kind: SimulatedKind, n: int, seed: int, replicate_every: int = 20) -> SimulatedRun:
    """A run of a list, in the order of :class:`latkit.profiling.fleet.driver.Fleet`.

    Args:
        kind: the fleet.
        n: architectures.
        seed: of all that is random.
        replicate_every: of the protocol.
    """
    pool = SimulatedPool(kind, seed)
    made: list[tuple[int, float, bool]] = []
    runs = 0
    while True:
        runs += 1
        if _run(pool, kind, Work(n, seed, replicate_every, made=made), made):
            break
    good = {index for index, _, disturbed in made if not disturbed}
    return SimulatedRun(
        seconds=pool.now,
        measurements=pool.measured,
        busy_share=pool.busy_seconds / (pool.now * kind.workers),
        disturbed=sum(disturbed for *_, disturbed in made),
        architectures_unusable=n - len(good),
        lost=pool.lost,
        runs=runs,
    )


def _run(
    pool: SimulatedPool, kind: SimulatedKind, work: Work, made: list[tuple[int, float, bool]]
) -> bool:
    """One command; whether it ended with everything measured."""
    todo: Iterator[int] = iter(work)
    again: deque[int] = deque()
    size = panel_size(math.ceil((work.total - work.done) / kind.workers))
    # Of each worker, panels that are still to be measured, and what it measures (-1: a panel).
    begin: dict[str, int] = {}
    end: dict[str, int] = {}
    tasks: dict[str, int | None] = {}
    hiring, lost, measured, nothing_now = kind.workers, 0, 0, False
    for _ in range(kind.workers):
        pool.hire()

    def next_index() -> int | None:
        nonlocal todo, nothing_now
        if nothing_now:
            return None
        if again:
            return again.popleft()
        busy = set(tasks.values()) - {None, -1}
        index = next((i for i in todo if i not in busy), None)
        if index is None and not busy:
            todo = iter(work)
            index = next(todo, None)
        nothing_now = index is None
        return index

    while any(task is not None for task in tasks.values()) or (hiring and not tasks):
        event = pool.next()
        worker = event.worker
        if isinstance(event, Hired):
            hiring -= 1
            begin[worker], end[worker], tasks[worker] = size, size, None
        elif isinstance(event, Lost):
            lost += 1
            task = tasks.pop(worker)
            if task is not None and task >= 0:
                again.append(task)
            if lost <= MOST_LOST + measured // FINISHED_FOR_ONE:
                hiring += 1
                pool.hire()
        else:
            task, tasks[worker] = tasks[worker], None
            measured += 1
            if task is not None and task >= 0:
                done = event.result
                made.append((task, done.estimate, done.disturbed))
                work.record(*made[-1])
        nothing_now = False
        for name in [name for name, task in tasks.items() if task is None]:
            if begin[name]:
                begin[name] -= 1
                tasks[name] = -1
            elif (index := next_index()) is not None:
                tasks[name] = index
            elif end[name] and all(task in (None, -1) for task in tasks.values()):
                end[name] -= 1
                tasks[name] = -1
            if tasks[name] is not None:
                pool.give(name, 0)
        if not tasks and not hiring:
            return False
    return True
