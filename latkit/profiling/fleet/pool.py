"""What a fleet's driver needs of its workers, wherever they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from latkit.core.device import Facts
from latkit.core.errors import LatkitError

# What a worker is given, and what it makes of it.
Item = TypeVar("Item")
Result = TypeVar("Result")
_GivenItem = TypeVar("_GivenItem", contravariant=True)
_GivenResult = TypeVar("_GivenResult", covariant=True)


@dataclass(frozen=True)
class Ready(Generic[Item, Result]):
    """What a job has opened where its worker runs.

    Attributes:
        do: makes a result of an item; raises a LatkitError where no other worker could either.
        device: identity of the device that is the worker's own; None where only cores are.
        hardware: the marketing name of what it measures.
        fingerprint: of its machine and backend.
        metrics: what it measures beside times.
    """

    do: Callable[[Item], Result]
    device: str | None = None
    hardware: str = ""
    fingerprint: Facts = field(default_factory=dict)
    metrics: tuple[str, ...] = ()


class Job(Protocol[Item, Result]):
    """What every worker of a fleet does; it can be pickled."""

    @property
    def cores(self) -> int:
        """How many CPU cores a worker takes for itself; 0: it is not kept to any."""

    def start(self) -> Ready[Item, Result]:
        """Begin, where the worker runs; what is opened stays open until its process ends.

        Raises:
            LatkitError: it cannot begin there, nor elsewhere.
        """


@dataclass(frozen=True)
class Hired:
    """A worker is ready.

    Attributes:
        worker: its name: the host, and the cores or the GPU that are its own.
        hardware, fingerprint, metrics: see :class:`Ready`.
    """

    worker: str
    hardware: str
    fingerprint: Facts
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Finished(Generic[_GivenResult]):
    """A worker has made a result of its item."""

    worker: str
    result: _GivenResult


@dataclass(frozen=True)
class Lost:
    """A worker, or one that was to be hired, is no more."""

    worker: str | None
    reason: str


@dataclass(frozen=True)
class Failed:
    """A worker cannot go on, and others could not either."""

    worker: str | None
    error: LatkitError


class Pool(Protocol[_GivenItem, _GivenResult]):
    """Workers; all that happens to them is told by :meth:`next`."""

    def hire(self) -> None:
        """Begin to start one more worker."""

    def give(self, worker: str, item: _GivenItem, /) -> None:
        """Give a worker that is idle an item to do."""

    def dismiss(self, worker: str) -> None:
        """Stop a worker that is idle."""

    def next(self) -> Hired | Finished[_GivenResult] | Lost | Failed | None:
        """What happens next; None: nothing as yet, for some seconds."""
