"""One network after another, each timed in alternation with an anchor that stays loaded."""

from __future__ import annotations

import statistics
from collections import deque
from typing import TYPE_CHECKING

from latkit.dataset.statistics import faster_half_mean
from latkit.profiling.protocol import Measurement, Protocol, measure_once

if TYPE_CHECKING:
    from latkit.backends.runner import Runner

ANCHOR_WARMUP_RUNS = 5
# The anchor's usual time is the median over the last so many measurements: enough to be steady, few
# enough to follow a machine that becomes slower for good.
LEVEL_MEASUREMENTS = 200
# With fewer measurements there is no usual time yet.
LEVEL_LEAST = 8


class PairedTiming:
    """An anchor, warmed up, and its usual time.

    Args:
        anchor: the reference network, ready to run; it is not closed here.
        protocol: of every measurement.

    Raises:
        BackendError: the anchor cannot be run.
    """

    def __init__(self, anchor: Runner, protocol: Protocol) -> None:
        self.protocol = protocol
        self._anchor = anchor
        self._levels: deque[float] = deque(maxlen=LEVEL_MEASUREMENTS)
        anchor.run(ANCHOR_WARMUP_RUNS)

    @property
    def anchor_level_ms(self) -> float | None:
        """The anchor's usual time; None before the first measurements."""
        if len(self._levels) < LEVEL_LEAST:
            return None
        return statistics.median(self._levels)

    def measure(self, candidate: Runner) -> Measurement:
        """Measure what is ready to run, whatever it is, and leave it so.

        Raises:
            BackendError: it cannot be run.
            InputError: the runner lacks the protocol's clock.
        """
        done = measure_once(candidate, self._anchor, self.protocol, self.anchor_level_ms)
        self._levels.append(faster_half_mean(done.anchor_samples_ms))
        return done
