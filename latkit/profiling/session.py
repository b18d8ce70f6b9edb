"""An open backend with its anchor network: what measures one network after another."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from types import TracebackType

from typing_extensions import Self

from latkit.backends.base import Backend, Runner
from latkit.dataset.flags import gpu_flags
from latkit.meters.energy import EnergyMeter, energy_per_run_mj
from latkit.meters.nvml import GpuWatch, watch_gpu
from latkit.profiling.anchor import anchor_architecture, anchor_setting
from latkit.profiling.paired import PairedTiming
from latkit.profiling.protocol import Measurement, Protocol
from latkit.spaces import Architecture, Setting


@dataclass(frozen=True)
class Replicates:
    """One network measured several times in one session.

    Estimates are means over the undisturbed measurements (over all, if all were disturbed).

    Attributes:
        anchor_median_ms: median anchor time of the session's undisturbed measurements.
        measurements: of the network, in order.
    """

    anchor_median_ms: float
    measurements: tuple[Measurement, ...]

    @property
    def latency_ms(self) -> float:
        """Latency at the machine's speed in this session."""
        return self.latency_at_ms(self.anchor_median_ms)

    def latency_at_ms(self, anchor_ms: float) -> float:
        """Latency where the anchor takes ``anchor_ms`` (see :meth:`Measurement.latency_ms`)."""
        return statistics.fmean(m.latency_ms(anchor_ms) for m in _quiet(self.measurements))

    @property
    def relative_std(self) -> float:
        """Standard deviation of the measured latencies over their mean."""
        estimates = [measurement.estimate for measurement in _quiet(self.measurements)]
        spread = statistics.stdev(estimates) if len(estimates) > 1 else 0.0
        return spread / statistics.fmean(estimates)

    @property
    def ratio_to_anchor(self) -> float:
        """Mean of the measured ratios."""
        return statistics.fmean(m.ratio_to_anchor for m in _quiet(self.measurements))


class Session:
    """An open backend with its anchor network loaded; a context manager.

    Args:
        backend: open.
        setting: of every candidate.
        protocol: of every measurement.
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
        self._watch: GpuWatch | None = None

    def __enter__(self) -> Self:
        anchor = anchor_architecture(self.setting)
        self._anchor: Runner = self.backend.compile(anchor, anchor_setting(self.setting))
        try:
            self._timing = PairedTiming(self._anchor, self.protocol)
        except BaseException:
            self._anchor.close()
            raise
        self._watch = watch_gpu(self.backend.gpu_identity())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._anchor.close()

    def measure(self, architecture: Architecture) -> Measurement:
        """Build, measure and release one network.

        Raises:
            BackendError: it cannot be built or run, or the energy meter does not answer.
            InputError: the backend lacks the protocol's clock, or the setting is for others.
        """
        with self.backend.compile(architecture, self.setting) as candidate:
            return self.measure_runner(candidate)

    def measure_runner(self, candidate: Runner) -> Measurement:
        """Measure what is ready to run, whatever it is, and leave it so.

        Raises:
            BackendError: it cannot be run, or the energy meter does not answer.
            InputError: the backend lacks the protocol's clock.
        """
        done = self._timing.measure(candidate)
        done = dataclasses.replace(done, flags=(*done.flags, *self.gpu_flags()))
        if self._meter is not None:
            wall_ms = statistics.fmean(done.wall_samples_ms)
            done.metrics["energy_mj"] = energy_per_run_mj(self._meter, candidate.run, wall_ms)
        return done

    def gpu_flags(self) -> tuple[str, ...]:
        """What slows the GPU at this moment, and who else is on it, as flags of a row."""
        return () if self._watch is None else gpu_flags(*self._watch.look())


def measure(
    backend: Backend,
    architectures: Sequence[Architecture],
    setting: Setting,
    protocol: Protocol,
    replicates: int = 5,
) -> list[Replicates]:
    """Measure networks in turn, ``replicates`` times each, as ``profile`` measures architectures.

    ``backend`` must be open. The anchor's median is this session's own.

    Raises:
        BackendError: a network failed to run.
    """
    with Session(backend, setting, protocol) as session:
        rounds = [
            [session.measure(architecture) for architecture in architectures]
            for _ in range(replicates)
        ]
    quiet = _quiet(list(chain.from_iterable(rounds)))
    anchor_ms = statistics.median(t for m in quiet for t in m.anchor_samples_ms)
    return [Replicates(anchor_ms, measurements) for measurements in zip(*rounds, strict=True)]


def _quiet(measurements: Sequence[Measurement]) -> Sequence[Measurement]:
    """The undisturbed measurements; all, if all were disturbed."""
    return [m for m in measurements if not m.disturbed] or measurements
