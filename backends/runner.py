"""One network that is ready to run: what every runtime gives, here and on a board.

This module is part of every bundle: it needs nothing but NumPy, and Python 3.8.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from latkit.backends.failures import runtime_errors
from latkit.core.errors import BackendError

if TYPE_CHECKING:
    from typing_extensions import Self

    from latkit.backends.layers import LayerTimes

Clock = Literal["event", "cpu", "wall"]


@dataclass(frozen=True)
class Samples:
    """Times of consecutive runs of one network, in order, in milliseconds.

    Attributes:
        clock_ms: by the runner's own clock (see :attr:`Runner.clock`).
        wall_ms: by the wall clock, always present.
    """

    clock_ms: tuple[float, ...]
    wall_ms: tuple[float, ...]


class Runner(ABC):
    """One network, compiled and ready to run on its device with its input in place.

    Attributes:
        clock: what ``clock_ms`` is: device ``event`` s, ``cpu`` time of the calling thread (only
            meaningful for single-threaded runs), or ``wall``.
    """

    clock: Clock

    def __init__(self) -> None:
        self._open = True

    def run(self, n: int) -> Samples:
        """Run the network ``n`` times, one after the other, and time each run.

        Raises:
            BackendError: the runner is closed, the runtime failed, or a time is not a positive
                finite number.
        """
        self._check_open()
        with runtime_errors("a network failed to run"), self._modes():
            samples = self._run(n)
        if len(samples.clock_ms) != n or len(samples.wall_ms) != n:
            raise BackendError(
                f"{type(self).__name__} returned {len(samples.clock_ms)} samples for {n} runs",
                "report this defect of the backend",
            )
        if not all(math.isfinite(t) and t > 0 for t in (*samples.clock_ms, *samples.wall_ms)):
            raise BackendError(
                f"a run's {self.clock} time is not a positive number: {samples.clock_ms}",
                "the clock is too coarse for this network; use a larger setting, "
                "e.g. --setting tiny,batch=8",
            )
        return samples

    def logits(self) -> npt.NDArray[np.float32]:
        """What the network computes from its own input: ``batch x classes``.

        Weights and input follow from (architecture, setting, seed) alone, so every backend must
        compute the same as :func:`latkit.spaces.build.random_network` does in PyTorch.

        Raises:
            BackendError: the runner is closed, or the runtime failed.
        """
        self._check_open()
        with runtime_errors("a network failed to run"), self._modes():
            return self._logits()

    def peak_memory_mb(self) -> float | None:
        """Device memory that building and running this network took at most, in MiB.

        It is read after a run and before another network runs. None where the runtime does not
        count it.
        """
        return None

    def layer_times(self, runs: int) -> LayerTimes | None:
        """What each operator takes, by the runtime's own profiler; None where it has none.

        Args:
            runs: of the network, after one that does not count.

        Raises:
            BackendError: the runner is closed, or the runtime failed.
        """
        self._check_open()
        with runtime_errors("a network failed to run"), self._modes():
            return self._layer_times(runs)

    def close(self) -> None:
        """Free the network and its buffers; a second call does nothing."""
        if self._open:
            self._open = False
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if not self._open:
            raise BackendError("the runner is closed", "compile the network again")

    def _modes(self) -> AbstractContextManager[object]:
        """What :meth:`_run` and :meth:`_logits` are called in; nothing by default."""
        return contextlib.nullcontext()

    @abstractmethod
    def _logits(self) -> npt.NDArray[np.float32]:
        """Called by :meth:`logits` while the runner is open."""

    @abstractmethod
    def _run(self, n: int) -> Samples:
        """Called by :meth:`run` with ``n >= 1`` while the runner is open.

        ``latkit.backends.CpuRunner`` and ``EventRunner`` have it.
        """

    def _layer_times(self, runs: int) -> LayerTimes | None:
        """Called by :meth:`layer_times` while the runner is open."""
        return None

    @abstractmethod
    def _close(self) -> None:
        """Called once by :meth:`close`."""
