"""What a fleet's driver needs of its workers, wherever they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from latkit.backends.base import Backend
from latkit.core.device import Facts
from latkit.core.errors import LatkitError
from latkit.profiling.protocol import Measurement
from latkit.profiling.protocol import Protocol as MeasuringProtocol
from latkit.spaces import Setting


@dataclass(frozen=True)
class Job:
    """What every worker of a fleet does.

    Attributes:
        open: makes the backend where the worker runs; it can be pickled.
        setting: of all architectures; its text, of which each worker makes its own.
        protocol: of every measurement.
        energy: whether that of a run is measured too.
        cores: how many CPU cores a worker takes for itself; 0: it is not kept to any.
    """

    open: Callable[[], Backend]
    setting: Setting
    protocol: MeasuringProtocol
    energy: bool
    cores: int


@dataclass(frozen=True)
class Hired:
    """A worker is ready.

    Attributes:
        worker: its name: the host, and the cores or the GPU that are its own.
        hardware: the marketing name of what it measures.
        fingerprint: of its machine and backend.
        metrics: what it measures beside times.
    """

    worker: str
    hardware: str
    fingerprint: Facts
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """A worker has measured an architecture."""

    worker: str
    measurement: Measurement


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


class Pool(Protocol):
    """Workers; all that happens to them is told by :meth:`next`."""

    def hire(self) -> None:
        """Begin to start one more worker."""

    def measure(self, worker: str, arch_id: int) -> None:
        """Let a worker that is idle measure an architecture."""

    def dismiss(self, worker: str) -> None:
        """Stop a worker that is idle."""

    def next(self) -> Hired | Measured | Lost | Failed:
        """What happens next."""
