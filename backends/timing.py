"""The timing loops: by the host's clocks, and by events of a device.

A runtime's runner gives what one run is (:meth:`CpuRunner._bind`, :meth:`EventRunner._bind`); what
is called between two readings of a clock is bound before the loop begins.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from latkit.backends.runner import Clock, Runner, Samples


def cpu_clock(threads: int) -> Clock:
    """The clock of runs on the CPU: with one thread, the calling thread does all the work."""
    return "cpu" if threads == 1 else "wall"


class CpuRunner(Runner):
    """A network timed by the host's clocks, whose run is over when the call returns.

    Args:
        clock: ``cpu`` or ``wall``, the backend's.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    @abstractmethod
    def _bind(self) -> Callable[[], object]:
        """The function that runs the network once; called before each series of runs."""

    def _run(self, n: int) -> Samples:
        run, now_ns, cpu_now_ns = self._bind(), time.perf_counter_ns, time.thread_time_ns
        cpu_ms, wall_ms = [], []
        for _ in range(n):
            wall, cpu = now_ns(), cpu_now_ns()
            run()
            cpu_ms.append((cpu_now_ns() - cpu) / 1e6)
            wall_ms.append((now_ns() - wall) / 1e6)
        return Samples(tuple(cpu_ms if self.clock == "cpu" else wall_ms), tuple(wall_ms))


class EventRunner(Runner):
    """A network timed by events that its device records on a stream.

    Args:
        stream: the device's queue that runs are started on.
    """

    clock: Clock = "event"

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream

    @abstractmethod
    def _bind(self) -> Callable[[], object]:
        """The function that starts one run on the stream; called before each series of runs."""

    @abstractmethod
    def _make_event(self) -> Any:
        """An event of the device with ``record(stream)`` and ``synchronize()``."""

    @abstractmethod
    def _elapsed_ms(self, start: Any, end: Any) -> float:
        """Time between two recorded events in milliseconds."""

    def _run(self, n: int) -> Samples:
        launch, stream, now_ns = self._bind(), self._stream, time.perf_counter_ns
        event_ms, wall_ms = [], []
        for _ in range(n):
            start, end = self._make_event(), self._make_event()
            wall = now_ns()
            start.record(stream)
            launch()
            end.record(stream)
            end.synchronize()
            wall_ms.append((now_ns() - wall) / 1e6)
            event_ms.append(self._elapsed_ms(start, end))
        return Samples(tuple(event_ms), tuple(wall_ms))
