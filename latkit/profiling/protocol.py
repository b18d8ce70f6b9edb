"""How one architecture is measured once: a *visit*.

A candidate is timed in alternation with an *anchor network* that stays loaded: warm-up, then
``runs_per_visit`` times (one candidate run, one anchor run). The estimate is the ratio of the two
means over their faster halves, so that slow drift of the machine and short bursts of other work
cancel. docs/measuring.md has the measurements behind each choice.
"""

from __future__ import annotations

import dataclasses
import gc
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from latkit.backends.base import Clock, Runner
from latkit.core.errors import InputError
from latkit.dataset.format import DISTURBED
from latkit.dataset.statistics import faster_half_mean, faster_half_spread
from latkit.spaces import Architecture, Setting, get_space
from latkit.spaces.architecture import get_architecture

# A single-threaded run whose wall time exceeds its CPU time by more than this was preempted.
PREEMPTED_WALL_OVER_CPU = 1.15
# An anchor this far from the session's tells of a change of speed that pairing cannot cancel.
ANCHOR_JUMP = 0.2
# Times that count (the faster half) further apart than this were not taken on a quiet machine.
SPREAD = 0.15

# Every disturbed row has the flag ``DISTURBED`` and one or more of these reasons.
PREEMPTED, JUMPED, SPREAD_OUT = "preempted", "anchor-jump", "spread"


@dataclass(frozen=True)
class Protocol:
    """The measuring protocol; it is part of a dataset's identity.

    Attributes:
        runs_per_visit: timed candidate runs in one visit.
        warmup_runs: untimed candidate runs at the start of a visit.
        anchored: alternate with the anchor network and estimate by the ratio to it. Without,
            the latency is the plain mean of the candidate's runs (as the paper measures);
            nothing is flagged, and one anchor run a visit records the machine's speed.
        clock: ``auto`` is the backend's own (see ``Runner.clock``).
        threads: CPU threads, those of the backend that measures.
        cores: the CPU cores the process is pinned to; empty for none.
        revisit_every: one visit in so many measures an earlier architecture again.
    """

    runs_per_visit: int = 6
    warmup_runs: int = 1
    anchored: bool = True
    clock: Clock | Literal["auto"] = "auto"
    threads: int = 1
    cores: tuple[int, ...] = ()
    revisit_every: int = 20

    def __post_init__(self) -> None:
        for name, least in (
            ("runs_per_visit", 2 if self.anchored else 1),
            ("warmup_runs", 0),
            ("threads", 1),
            ("revisit_every", 2),
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
        return {**dataclasses.asdict(self), "cores": list(self.cores)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Protocol:
        """The protocol of a dataset; the default one of a dataset that has none (imported).

        Raises:
            InputError: it is of another version of latkit.
        """
        try:
            return cls(**{**values, "cores": tuple(values.get("cores", ()))})
        except TypeError:
            raise InputError(
                "the dataset's protocol is unknown to this version", "profile again with it"
            ) from None


PRESETS: dict[str, Protocol] = {
    "fast": Protocol(runs_per_visit=3),
    "standard": Protocol(runs_per_visit=6),
    "precise": Protocol(runs_per_visit=12),
    # The mean of 20 runs by the wall clock (paper, section 3.3), after the usual 5 to warm up.
    "paper": Protocol(runs_per_visit=20, warmup_runs=5, anchored=False, clock="wall"),
}


def anchor_setting(setting: Setting) -> Setting:
    """The setting of the anchor network, which costs about a third of its candidates."""
    network, _ = get_space(setting.space).anchor(setting.network)
    return Setting(network, setting.run)


def anchor_architecture(setting: Setting) -> Architecture:
    """What the anchor network of a setting is made of, in :func:`anchor_setting`."""
    return get_architecture(get_space(setting.space).reference, setting)


def anchor_name(setting: Setting) -> str:
    """The anchor network as datasets name it, e.g. ``darts_v2,cells=4``."""
    space = get_space(setting.space)
    _, changes = space.anchor(setting.network)
    return f"{space.reference},{changes}" if changes else space.reference


def choose_clock(asked: Clock | Literal["auto"], own: Clock) -> Clock:
    """The clock whose times are used.

    Args:
        asked: by the protocol.
        own: the runner's; the wall clock is there beside it.

    Raises:
        InputError: this runner has no such clock.
    """
    if asked in ("auto", own):
        return own
    if asked == "wall":
        return "wall"
    fix = f"use --clock {own} or --clock wall"
    if asked == "cpu" and own == "wall":
        fix += ", or --threads 1: the CPU time of one thread says nothing of several"
    raise InputError(f"this backend has no clock {asked!r}", fix)


@dataclass(frozen=True)
class Visit:
    """The raw times of one visit, in milliseconds, and what follows from them."""

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

    @property
    def _mean_ms(self) -> float:
        return statistics.fmean(self.samples_ms)

    @property
    def disturbed(self) -> bool:
        return DISTURBED in self.flags


def measure_visit(
    candidate: Runner, anchor: Runner, protocol: Protocol, anchor_level_ms: float | None
) -> Visit:
    """Measure one candidate once.

    Args:
        candidate: the network to be measured.
        anchor: the reference network.
        protocol: how often each runs, and by which clock.
        anchor_level_ms: the anchor's usual time in this session, to notice a jump; None at the
            session's start.

    Raises:
        InputError: the runner does not have the clock that the protocol asks for.
        BackendError: a run failed.
    """
    clock = choose_clock(protocol.clock, candidate.clock)
    if protocol.warmup_runs:
        candidate.run(protocol.warmup_runs)
    metrics = {}
    peak_memory_mb = candidate.peak_memory_mb()
    if peak_memory_mb is not None:
        metrics["peak_memory_mb"] = peak_memory_mb
    rounds, block = protocol.runs_per_visit, 1
    if not protocol.anchored:
        rounds, block = block, rounds
    own: tuple[list[float], list[float]] = ([], [])
    walls: tuple[list[float], list[float]] = ([], [])
    collecting = gc.isenabled()
    # A collection in the middle of a run would be counted as the network's.
    gc.disable()
    try:
        for _ in range(rounds):
            for which, (runner, n) in enumerate(((candidate, block), (anchor, 1))):
                timed = runner.run(n)
                own[which].extend(timed.clock_ms)
                walls[which].extend(timed.wall_ms)
    finally:
        if collecting:
            gc.enable()
    times = walls if clock == "wall" else own
    flags: tuple[str, ...] = ()
    if protocol.anchored:
        cpu_ms = [*own[0], *own[1]] if candidate.clock == "cpu" else None
        flags = disturbances(times[0], times[1], [*walls[0], *walls[1]], cpu_ms, anchor_level_ms)
    return Visit(
        clock,
        tuple(times[0]),
        tuple(times[1]),
        tuple(walls[0]),
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
    """How something else that used the machine shows in an anchored visit: its flags.

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
