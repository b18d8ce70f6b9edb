"""``latkit train-lpm --fleet``: LPMs trained by several workers, and published by their driver."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from latkit.core.errors import LatkitError, LPMError
from latkit.core.events import Listener
from latkit.profiling.fleet.dispatch import Dispatcher, Worker
from latkit.profiling.fleet.pool import Hired, Pool, Ready
from latkit.profiling.fleet.ray_pool import RayPool
from latkit.registry.training import LPMTraining, TrainResult
from latkit.tasks.trainings import Trainings

# Whoever trains on a dataset is lost so often, and then it is given up: it may be what kills them.
MOST_TRIES = 2


@dataclass(frozen=True)
class NotTrained:
    """Why a dataset has no LPM: others have one."""

    error: LatkitError


Answer = TrainResult | NotTrained


@dataclass(frozen=True)
class TrainingJob:
    """Trains LPMs.

    Attributes:
        cores: how many a worker takes for itself.
    """

    cores: int = 1

    def start(self) -> Ready[LPMTraining, Answer]:
        """Nothing is opened: each dataset comes with all that it needs."""
        torch.set_num_threads(self.cores)
        return Ready(_train)


def _train(training: LPMTraining) -> Answer:
    try:
        return training.run()
    except LatkitError as error:
        return NotTrained(error)


@dataclass
class _Task:
    """A dataset that is to be trained on.

    Attributes:
        index: its number.
        training: what a worker is given.
        tries: how many workers were lost that had it.
    """

    index: int
    training: LPMTraining
    tries: int = 0


class TrainingDispatcher(Dispatcher[Worker[_Task], _Task, LPMTraining, Answer]):
    """Lets workers train LPMs.

    Args:
        trainings: what is to be trained; receives the LPMs.
        pool: the workers.
        listener: receives who was lost.
    """

    error_class = LPMError
    others_do = "others train what it had to"
    kept = "every LPM that was published is kept"

    def __init__(
        self, trainings: Trainings, pool: Pool[LPMTraining, Answer], listener: Listener
    ) -> None:
        super().__init__(pool, listener)
        self._trainings = trainings
        self._again: deque[_Task] = deque()

    def run(self, tasks: Iterator[_Task], size: int) -> None:
        """Train and publish all.

        Args:
            tasks: the datasets.
            size: how many workers are hired.

        Raises:
            LPMError: no worker is left.
            LatkitError: the registry cannot be read or written.
        """
        self._tasks = tasks
        for _ in range(size):
            self._hire()
        for _ in self._dispatch():
            pass

    def _has_work(self) -> bool:
        return not self._trainings.are_settled

    def _welcome(self, hired: Hired) -> None:
        self._workers[hired.worker] = Worker(hired.worker)

    def _next_task(self, worker: Worker[_Task]) -> tuple[_Task, LPMTraining] | None:
        task = next(self._tasks, None)
        if task is None and self._again:  # last: what kills its workers keeps no other one waiting
            task = self._again.popleft()
        return None if task is None else (task, task.training)

    def _record(self, worker: Worker[_Task], task: _Task, result: Answer) -> None:
        if isinstance(result, NotTrained):
            self._trainings.fail(task.index, result.error)
        else:
            self._trainings.finish(task.index, result)

    def _take_back(self, task: _Task) -> None:
        task.tries += 1
        if task.tries < MOST_TRIES:
            self._again.append(task)
            return
        lost = LPMError(
            f"{task.tries} workers were lost that trained on it",
            "train on it alone, without --fleet, and see what happens",
        )
        self._trainings.fail(task.index, lost)


def train_by_fleet(address: str, trainings: Trainings, listener: Listener) -> None:
    """Train by workers on Ray, a core each; nobody is hired where all is published already.

    Args:
        address: of Ray's cluster; ``auto``: the cores of this machine.
        trainings: what is to be trained; receives the LPMs.
        listener: receives how many workers there are, and who was lost.

    Raises:
        InputError: Ray is not installed, or the cluster has no room for a worker.
        BackendError: there is no cluster.
        LPMError: no worker is left.
        LatkitError: the registry cannot be read or written.
    """
    tasks = (_Task(index, training) for index, training in trainings.begin())
    first = next(tasks, None)
    if first is None:
        return
    with RayPool(address, TrainingJob(), "CPU") as pool:
        size = min(pool.size, len(trainings) - first.index)
        listener.note(f"a fleet of at most {size} workers trains")
        TrainingDispatcher(trainings, pool, listener).run(itertools.chain([first], tasks), size)
