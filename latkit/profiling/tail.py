"""How a network behaves for one who waits for it: its slow runs, and runs after pauses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latkit.backends.base import Runner, Samples


@dataclass(frozen=True)
class Tail:
    """Quantiles of the wall times of consecutive runs, in milliseconds.

    Attributes:
        mean_ms, p50_ms, p90_ms, p99_ms, max_ms: of them.
        runs: how many there were.
    """

    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    runs: int

    @classmethod
    def of(cls, wall_ms: Sequence[float]) -> Tail:
        """Of times; a quantile is that of the runs themselves, the next slower one of two."""
        p50, p90, p99 = np.quantile(wall_ms, [0.5, 0.9, 0.99], method="higher").tolist()
        return cls(float(np.mean(wall_ms)), p50, p90, p99, max(wall_ms), len(wall_ms))


class PausedRunner(Runner):
    """A runner that sleeps before every run, as a network does that is waited for now and then.

    Closing it leaves the runner open that it is made of.
    """

    def __init__(self, runner: Runner, pause_ms: float) -> None:
        super().__init__()
        self.clock = runner.clock
        self._runner, self._seconds = runner, pause_ms / 1000

    def peak_memory_mb(self) -> float | None:
        return self._runner.peak_memory_mb()

    def _run(self, n: int) -> Samples:
        parts = []
        for _ in range(n):
            time.sleep(self._seconds)
            parts.append(self._runner.run(1))
        return Samples(
            tuple(t for part in parts for t in part.clock_ms),
            tuple(t for part in parts for t in part.wall_ms),
        )

    def _logits(self) -> npt.NDArray[np.float32]:
        return self._runner.logits()

    def _close(self) -> None:
        pass
