"""An open backend with its anchor network: what measures one network after another."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from typing_extensions import Self

from latkit.backends.base import Backend, Runner
from latkit.dataset.statistics import faster_half_mean
from latkit.meters.energy import EnergyMeter, energy_per_run_mj
from latkit.profiling.protocol import (
    Protocol,
    Visit,
    anchor_architecture,
    anchor_setting,
    measure_visit,
)
from latkit.spaces import Architecture, Setting

ANCHOR_WARMUP_RUNS = 5
# The anchor's usual time is the median over the last so many visits: enough to be steady, few
# enough to follow a machine that becomes slower for good.
LEVEL_VISITS = 200
# With fewer visits there is no usual time yet.
LEVEL_LEAST_VISITS = 8


@dataclass(frozen=True)
class Measurement:
    """One network measured several times in one session.

    Estimates are means over the undisturbed visits (over all, if all were disturbed).

    Attributes:
        anchor_median_ms: median anchor time of the session's undisturbed visits.
        visits: the raw visits.
    """

    anchor_median_ms: float
    visits: tuple[Visit, ...]

    @property
    def latency_ms(self) -> float:
        """Latency at the machine's speed in this session."""
        return self.latency_at_ms(self.anchor_median_ms)

    def latency_at_ms(self, anchor_ms: float) -> float:
        """Latency where the anchor takes ``anchor_ms`` (see :meth:`Visit.latency_ms`)."""
        return statistics.fmean(visit.latency_ms(anchor_ms) for visit in _quiet(self.visits))

    @property
    def relative_std(self) -> float:
        """Standard deviation of the visits' latencies over their mean."""
        estimates = [visit.estimate for visit in _quiet(self.visits)]
        spread = statistics.stdev(estimates) if len(estimates) > 1 else 0.0
        return spread / statistics.fmean(estimates)

    @property
    def ratio_to_anchor(self) -> float:
        """Mean of the visits' ratios."""
        return statistics.fmean(visit.ratio_to_anchor for visit in _quiet(self.visits))


class Session:
    """An open backend with its anchor network loaded; a context manager.

    Args:
        backend: open.
        setting: of every candidate.
        protocol: of every visit.
        meter: measures the energy of every candidate, if given.
    """

    def __init__(
        self,
        backend: Backend,
        setting: Setting,
        protocol: Protocol,
        meter: EnergyMeter | None = None,
    ) -> None:
        self.backend = backend
        self.setting = setting
        self.protocol = protocol
        self._meter = meter
        self._levels: deque[float] = deque(maxlen=LEVEL_VISITS)

    def __enter__(self) -> Self:
        anchor = anchor_architecture(self.setting)
        self._anchor: Runner = self.backend.compile(anchor, anchor_setting(self.setting))
        try:
            self._anchor.run(ANCHOR_WARMUP_RUNS)
        except BaseException:
            self._anchor.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._anchor.close()

    @property
    def anchor_level_ms(self) -> float | None:
        """The anchor's usual time; None before the first visits."""
        if len(self._levels) < LEVEL_LEAST_VISITS:
            return None
        return statistics.median(self._levels)

    def visit(self, architecture: Architecture) -> Visit:
        """Build, measure and release one network.

        Raises:
            BackendError: it cannot be built or run, or the energy meter does not answer.
            InputError: the backend lacks the protocol's clock, or the setting is for others.
        """
        with self.backend.compile(architecture, self.setting) as candidate:
            visit = measure_visit(candidate, self._anchor, self.protocol, self.anchor_level_ms)
            if self._meter is not None:
                wall_ms = statistics.fmean(visit.wall_samples_ms)
                visit.metrics["energy_mj"] = energy_per_run_mj(self._meter, candidate.run, wall_ms)
        self._levels.append(faster_half_mean(visit.anchor_samples_ms))
        return visit


def measure(
    backend: Backend,
    architectures: Sequence[Architecture],
    setting: Setting,
    protocol: Protocol,
    visits: int = 5,
) -> list[Measurement]:
    """Measure networks in turn, ``visits`` times each, as ``profile`` measures architectures.

    ``backend`` must be open. The anchor's median is this session's own.

    Raises:
        BackendError: a network failed to run.
    """
    done: list[list[Visit]] = [[] for _ in architectures]
    with Session(backend, setting, protocol) as session:
        for _ in range(visits):
            for architecture, its_visits in zip(architectures, done, strict=True):
                its_visits.append(session.visit(architecture))
    quiet = _quiet([visit for its_visits in done for visit in its_visits])
    anchor_ms = statistics.median(t for visit in quiet for t in visit.anchor_samples_ms)
    return [Measurement(anchor_ms, tuple(its_visits)) for its_visits in done]


def _quiet(visits: Sequence[Visit]) -> Sequence[Visit]:
    """The undisturbed visits; all, if all were disturbed."""
    return [visit for visit in visits if not visit.disturbed] or visits
