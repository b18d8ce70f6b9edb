"""Who of a fleet does what: work for whoever is idle, and again for what lost workers had."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from latkit.core.errors import BackendError, LatkitError
from latkit.core.events import Listener
from latkit.profiling.fleet.pool import Finished, Hired, Item, Lost, Pool, Result

Task = TypeVar("Task")

# Workers that are hired again in place of lost ones: so many, and one more for so many results of
# a run. A long run on many devices loses some; one whose workers die at once ends.
MOST_LOST = 3
FINISHED_FOR_ONE = 500


@dataclass
class Worker(Generic[Task]):
    """A worker that is there.

    Attributes:
        name: of it.
        task: what it does now; None: it is idle.
    """

    name: str
    task: Task | None = None


WorkerT = TypeVar("WorkerT", bound=Worker)  # type: ignore[type-arg]  # of whatever task


class Dispatcher(ABC, Generic[WorkerT, Task, Item, Result]):
    """Gives tasks to workers until there are none left; a subclass knows which.

    Args:
        pool: the workers.
        listener: receives who was lost.
    """

    # Of what ends it.
    error_class: ClassVar[type[LatkitError]] = BackendError
    # What becomes of a lost worker's task, and what is kept when nobody is left.
    others_do: ClassVar[str]
    kept: ClassVar[str]

    def __init__(self, pool: Pool[Item, Result], listener: Listener) -> None:
        self._pool, self._listener = pool, listener
        self._workers: dict[str, WorkerT] = {}
        self._hiring = self._lost = self._finished = 0

    @abstractmethod
    def _welcome(self, hired: Hired) -> None:
        """Put a worker into ``_workers``, or dismiss it."""

    @abstractmethod
    def _next_task(self, worker: WorkerT) -> tuple[Task, Item] | None:
        """What an idle worker does next, and what it is given for that; None: nothing as yet."""

    @abstractmethod
    def _record(self, worker: WorkerT, task: Task, result: Result) -> None:
        """Keep what a worker, which is idle again, has done."""

    @abstractmethod
    def _take_back(self, task: Task) -> None:
        """Let others do what a lost worker had to."""

    def _has_work(self) -> bool:
        """Whether anything is left to be done; where that is not known before, there is."""
        return True

    def _hire(self) -> None:
        self._hiring += 1
        self._pool.hire()

    def _dispatch(self) -> Iterator[None]:
        """Run until no worker has a task, or could have one. Yields every few seconds.

        Raises:
            LatkitError: of ``error_class``: a task failed, or no worker is left.
        """
        self._assign()
        # Who is hired while all others are idle has nothing to do, and may never come: of a host
        # that is gone nothing is heard.
        while self._has_work() and (
            any(worker.task is not None for worker in self._workers.values())
            or (self._hiring and not self._workers)
        ):
            event = self._pool.next()
            if event is None:
                yield
                continue
            if isinstance(event, Hired):
                self._hiring -= 1
                self._welcome(event)
            elif isinstance(event, Finished):
                if event.worker in self._workers:
                    self._take(self._workers[event.worker], event.result)
                else:
                    self._pool.dismiss(event.worker)
            elif isinstance(event, Lost):
                self._lose(event)
            else:
                where = "" if event.worker is None else f"worker {event.worker}: "
                raise self.error_class(f"{where}{event.error.cause}", event.error.fix)
            self._assign()
            if self._has_work() and not self._workers and not self._hiring:
                raise self.error_class(
                    "no worker of the fleet is left",
                    f"{self.kept}: mend the workers, and run the same command again",
                )
            yield

    def _assign(self) -> None:
        for worker in self._workers.values():
            if worker.task is None and (chosen := self._next_task(worker)) is not None:
                worker.task, item = chosen
                self._pool.give(worker.name, item)

    def _take(self, worker: WorkerT, result: Result) -> None:
        task, worker.task = worker.task, None
        assert task is not None
        self._finished += 1
        self._record(worker, task, result)

    def _lose(self, lost: Lost) -> None:
        """Hand a worker's task to others, and hire another one."""
        self._lost += 1
        if lost.worker is None:
            self._hiring -= 1
        elif lost.worker not in self._workers:
            return
        else:
            task = self._workers.pop(lost.worker).task
            if task is not None:
                self._take_back(task)
        self._listener.warn(
            f"worker {lost.worker or 'that was to start'} is lost ({lost.reason}); {self.others_do}"
        )
        if self._has_work() and self._lost <= MOST_LOST + self._finished // FINISHED_FOR_ONE:
            self._hire()
