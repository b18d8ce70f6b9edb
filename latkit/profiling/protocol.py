"""How one architecture is measured once.

A candidate is timed in alternation with an *anchor network* that stays loaded: warm-up, then
``Protocol.runs`` times (one candidate run, one anchor run). The estimate is the ratio of the two
means over their faster halves, so that slow drift of the machine and short bursts of other work
cancel. docs/measuring.md has the measurements behind each choice.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from latkit.core.errors import InputError
from latkit.dataset.flags import DISTURBED
from latkit.dataset.statistics import faster_half_mean, faster_half_spread

if TYPE_CHECKING:
    from latkit.backends.runner import Clock, Runner

# A single-threaded run whose wall time exceeds its CPU time by more than this was preempted.
PREEMPTED_WALL_OVER_CPU = 1.15
# An anchor this far from the session's shows a change of speed that pairing cannot cancel.
ANCHOR_JUMP = 0.2
# Times that count (the faster half) further apart than this were not taken on a quiet machine.
SPREAD = 0.15

# Every disturbed row has the flag ``DISTURBED`` and one or more of these reasons.
PREEMPTED, JUMPED, SPREAD_OUT = "preempted", "anchor-jump", "spread"


_KEYS = {"runs": "runs_per_visit", "replicate_every": "revisit_every"}


@dataclass(frozen=True)
class Protocol:
    """The measuring protocol; it is part of a dataset's identity.

    Attributes:
        runs: timed candidate runs in one measurement.
        warmup_runs: untimed candidate runs at its start.
        anchored: alternate with the anchor network and estimate by the ratio to it. Without,
            the latency is the plain mean of the candidate's runs (as the paper measures);
            nothing is flagged, and one anchor run a measurement records the machine's speed.
        clock: ``auto`` is the backend's own (see ``Runner.clock``).
        threads: CPU threads, those of the backend that measures.
        cores: the CPU cores the process is pinned to; empty for none.
        replicate_every: one measurement in so many is a replicate of an earlier architecture.
    """

    runs: int = 6
    warmup_runs: int = 1
    anchored: bool = True
    clock: Clock | Literal["auto"] = "auto"
    threads: int = 1
    cores: tuple[int, ...] = ()
    replicate_every: int = 20

    def __post_init__(self) -> None:
        for name, least in (
            ("runs", 2 if self.anchored else 1),
            ("warmup_runs", 0),
            ("threads", 1),
            ("replicate_every", 2),
        ):
            if getattr(self, name) < least:
                raise InputError(
                    f"{name}={getattr(self, name)} is too small", f"use at least {least}"
                )
        if self.cores and len(set(self.cores)) < self.threads:
            raise InputError(
                f"{self.threads} threads do not fit on {len(set(self.cores))} core",
                "name as many cores as threads, or fewer threads",
            )

    def to_dict(self) -> dict[str, Any]:
        """As a dataset's JSON has it, whose keys are older than the names here."""
        values = {_KEYS.get(name, name): value for name, value in vars(self).items()}
        return {**values, "cores": list(self.cores)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Protocol:
        """The protocol of a dataset; the default one of a dataset that has none (imported).

        Raises:
            InputError: it is of another version of latkit.
        """
        try:
            names = {key: name for name, key in _KEYS.items()}
            fields = {names.get(key, key): value for key, value in values.items()}
            return cls(**{**fields, "cores": tuple(values.get("cores", ()))})
        except TypeError:
            raise InputError(
                "the dataset's protocol is unknown to this version", "profile again with it"
            ) from None


PRESETS: dict[str, Protocol] = {
    "fast": Protocol(runs=3),
    "standard": Protocol(runs=6),
    "precise": Protocol(runs=12),
    # The mean of 20 runs by the wall clock (paper, section 3.3), after the usual 5 to warm up.
    "paper": Protocol(runs=20, warmup_runs=5, anchored=False, clock="wall"),
}


def choose_clock(wanted: Clock | Literal["auto"], clock: Clock) -> Clock:
    """The clock whose times are used.

    Args:
        wanted: by the protocol.
        clock: the runner's; it has the wall clock beside it.

    Raises:
        InputError: this runner has no such clock.
    """
    if wanted in ("auto", clock):
        return clock
    if wanted == "wall":
        return "wall"
    fix = f"use --clock {clock} or --clock wall"
    if wanted == "cpu" and clock == "wall":
        fix += ", or --threads 1: the CPU time of one thread is not that of several"
    raise InputError(f"this backend has no clock {wanted!r}", fix)


@dataclass(frozen=True)
class Measurement:
    """One architecture measured once.

    Attributes:
        clock: of the samples.
        samples_ms: times of the candidate's runs, in order.
        anchor_samples_ms: times of the anchor's runs.
        wall_samples_ms: wall times of the candidate's runs.
        anchored: whether estimates are ratios to the anchor (see :class:`Protocol`).
        flags: ``DISTURBED`` and its reasons, if it was.
        metrics: what was measured beside the time, e.g. ``peak_memory_mb``.
    """

    clock: Clock
    samples_ms: tuple[float, ...]
    anchor_samples_ms: tuple[float, ...]
    wall_samples_ms: tuple[float, ...]
    anchored: bool = True
    flags: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def ratio_to_anchor(self) -> float:
        """Candidate time over anchor time."""
        mean = faster_half_mean if self.anchored else statistics.fmean
        return mean(self.samples_ms) / mean(self.anchor_samples_ms)

    def latency_ms(self, anchor_ms: float) -> float:
        """The latency, as every dataset and report has it (``with_latency`` for whole tables).

        That is the ratio to the anchor times the anchor's usual time; of a measurement that is not
        anchored the plain mean of the candidate's runs, whatever its one anchor run took.

        Args:
            anchor_ms: the anchor's usual time.
        """
        return self.ratio_to_anchor * anchor_ms if self.anchored else self._mean_ms

    @property
    def estimate(self) -> float:
        """What replicates are compared by: the ratio to the anchor; not anchored, the latency."""
        return self.ratio_to_anchor if self.anchored else self._mean_ms

    def to_row(self) -> dict[str, Any]:
        """The columns of a dataset's row that follow from it alone."""
        return {
            # Provisional: the writer recomputes both from what was measured.
            "latency_ms": self.latency_ms(statistics.median(self.anchor_samples_ms)),
            "latency_std_ms": statistics.pstdev(self.samples_ms),
            "ratio_to_anchor": self.ratio_to_anchor,
            "samples_ms": list(self.samples_ms),
            "anchor_samples_ms": list(self.anchor_samples_ms),
            "clock": self.clock,
            "wall_ms": statistics.fmean(self.wall_samples_ms),
            # Microseconds since 1970, which both JSON and the Parquet column take.
            "measured_at": int(datetime.now(timezone.utc).timestamp() * 1e6),
            "flags": list(self.flags),
            **self.metrics,
        }

    @property
    def _mean_ms(self) -> float:
        return statistics.fmean(self.samples_ms)

    @property
    def disturbed(self) -> bool:
        return DISTURBED in self.flags


def measure_once(
    candidate: Runner, anchor: Runner, protocol: Protocol, anchor_level_ms: float | None
) -> Measurement:
    """Measure one candidate once.

    Args:
        candidate: the network to be measured.
        anchor: the reference network.
        protocol: how often each runs, and by which clock.
        anchor_level_ms: the anchor's usual time in this session, to notice a jump; None at the
            session's start.

    Raises:
        InputError: the runner does not have the protocol's clock.
        BackendError: a run failed.
    """
    clock = choose_clock(protocol.clock, candidate.clock)
    if protocol.warmup_runs:
        candidate.run(protocol.warmup_runs)
    metrics = {}
    peak_memory_mb = candidate.peak_memory_mb()
    if peak_memory_mb is not None:
        metrics["peak_memory_mb"] = peak_memory_mb
    rounds, block = protocol.runs, 1
    if not protocol.anchored:
        rounds, block = block, rounds
    # Of the candidate and of the anchor.
    clock_ms: tuple[list[float], list[float]] = ([], [])
    wall_ms: tuple[list[float], list[float]] = ([], [])
    collecting = gc.isenabled()
    # A collection in the middle of a run would be counted as the network's.
    gc.disable()
    try:
        for _ in range(rounds):
            for which, (runner, n) in enumerate(((candidate, block), (anchor, 1))):
                timed = runner.run(n)
                clock_ms[which].extend(timed.clock_ms)
                wall_ms[which].extend(timed.wall_ms)
    finally:
        if collecting:
            gc.enable()
    times = wall_ms if clock == "wall" else clock_ms
    flags: tuple[str, ...] = ()
    if protocol.anchored:
        cpu_ms = [*clock_ms[0], *clock_ms[1]] if candidate.clock == "cpu" else None
        walls = [*wall_ms[0], *wall_ms[1]]
        flags = disturbances(times[0], times[1], walls, cpu_ms, anchor_level_ms)
    return Measurement(
        clock,
        tuple(times[0]),
        tuple(times[1]),
        tuple(wall_ms[0]),
        protocol.anchored,
        flags,
        metrics,
    )


def disturbances(
    samples_ms: list[float],
    anchor_ms: list[float],
    wall_ms: list[float],
    cpu_ms: list[float] | None,
    anchor_level_ms: float | None,
) -> tuple[str, ...]:
    """The flags of an anchored measurement: how other work on the machine shows in it.

    Args:
        samples_ms: candidate times.
        anchor_ms: anchor times.
        wall_ms: wall times of all runs.
        cpu_ms: CPU times of the same runs, where one thread does all the work.
        anchor_level_ms: the session's usual ``faster_half_mean`` of the anchor, if known.
    """
    reasons = []
    if cpu_ms is not None and sum(wall_ms) > PREEMPTED_WALL_OVER_CPU * sum(cpu_ms):
        reasons.append(PREEMPTED)
    if anchor_level_ms is not None:
        jump = abs(faster_half_mean(anchor_ms) / anchor_level_ms - 1)
        if jump > ANCHOR_JUMP:
            reasons.append(JUMPED)
    if max(faster_half_spread(samples_ms), faster_half_spread(anchor_ms)) > SPREAD:
        reasons.append(SPREAD_OUT)
    return (DISTURBED, *reasons) if reasons else ()
