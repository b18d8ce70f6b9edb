"""The profile loop: sample architectures, measure each, fill a dataset."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from latkit.backends.base import Backend, Runner
from latkit.dataset import Manifest, Target
from latkit.dataset_writer import DatasetWriter
from latkit.device import fingerprint
from latkit.errors import InputError
from latkit.networks.cost import network_cost
from latkit.networks.setting import Setting
from latkit.networks.zoo import get_genotype
from latkit.profiling.protocol import Protocol, Visit, measure_visit, schedule
from latkit.spaces import get_space
from latkit.spaces.genotype import Genotype

ANCHOR = "darts_v2"
ANCHOR_WARMUP_RUNS = 5


@dataclass(frozen=True)
class Progress:
    """What the loop tells after each visit."""

    done: int
    total: int
    resumed: int
    latency_ms: float
    flagged: int


@dataclass(frozen=True)
class Measurement:
    """One network measured several times in one session.

    Attributes:
        ratio_to_anchor: mean over the undisturbed visits (over all, if all were disturbed).
        ratio_std: standard deviation of the visits' ratios.
        anchor_median_ms: median anchor time of the session.
        visits: the raw visits.
    """

    ratio_to_anchor: float
    ratio_std: float
    anchor_median_ms: float
    visits: tuple[Visit, ...]

    @property
    def latency_ms(self) -> float:
        """Latency at the machine's speed in this session."""
        return self.ratio_to_anchor * self.anchor_median_ms


class Session:
    """An open backend with its anchor network loaded."""

    def __init__(self, backend: Backend, setting: Setting, protocol: Protocol) -> None:
        self.backend = backend
        self.setting = setting
        self.protocol = protocol
        self._anchor: Runner = backend.compile(get_genotype(ANCHOR), setting)
        self._anchor_ms: list[float] = []
        self._anchor.run(ANCHOR_WARMUP_RUNS)

    @property
    def anchor_median_ms(self) -> float | None:
        """Median anchor time so far; None before the first visits."""
        return statistics.median(self._anchor_ms) if len(self._anchor_ms) >= 8 else None

    def visit(self, genotype: Genotype) -> Visit:
        """Build, measure and release one network."""
        with self.backend.compile(genotype, self.setting) as candidate:
            visit = measure_visit(candidate, self._anchor, self.protocol, self.anchor_median_ms)
        # The last few hundred are enough for a median and keep a long run's memory flat.
        self._anchor_ms = [*self._anchor_ms[-511:], *visit.anchor_samples_ms]
        return visit

    def close(self) -> None:
        """Release the anchor network."""
        self._anchor.close()


def profile(
    backend: Backend,
    target: Target,
    protocol: Protocol,
    n: int,
    seed: int,
    out: Path,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Measure the first ``n`` architectures of the list that ``seed`` names.

    Rows that ``out`` already holds are not measured again. ``backend`` must be open.

    Raises:
        InputError: ``n`` does not fit the space.
        BackendError: a network failed to run.
        DatasetError: ``out`` holds something else, or a file in it is corrupt.
        LatkitError: ``out`` cannot be written.
    """
    space = get_space(target.space)
    if not 1 <= n <= space.size:
        raise InputError(f"cannot measure {n} architectures", f"use --n from 1 to {space.size}")
    reduction = get_genotype(target.setting.reduction)
    arch_ids = space.sample(n, seed)
    manifest = Manifest(
        target, dict(fingerprint(backend)), protocol.to_dict(), seed, ANCHOR, requested=n
    )
    plan = list(schedule(n, seed, protocol.revisit_every))
    with DatasetWriter(out, manifest) as writer:
        todo = [(i, v) for i, v in plan if (int(arch_ids[i]), v) not in writer.done]
        resumed = len(plan) - len(todo)
        if not todo:
            return
        session = Session(backend, target.setting, protocol)
        flagged = 0
        try:
            for position, (index, visit_number) in enumerate(todo, start=1):
                arch_id = int(arch_ids[index])
                architecture = space.unrank(arch_id)[0]
                genotype = space.genotype(architecture, reduction)
                visit = session.visit(genotype)
                cost = network_cost(genotype, target.setting)
                row = _row(visit, visit_number)
                row |= {"arch_id": arch_id, "arch": space.format(architecture)}
                row |= {"macs": cost.macs, "params": cost.params}
                writer.append(row)
                flagged += bool(visit.flags)
                on_progress(
                    Progress(resumed + position, len(plan), resumed, row["latency_ms"], flagged)
                )
        finally:
            session.close()


def measure(
    backend: Backend,
    genotypes: Sequence[Genotype],
    setting: Setting,
    protocol: Protocol,
    visits: int = 5,
) -> list[Measurement]:
    """Measure networks in turn, ``visits`` times each, as :func:`profile` measures architectures.

    ``backend`` must be open. The anchor's median is this session's own.

    Raises:
        BackendError: a network failed to run.
    """
    session = Session(backend, setting, protocol)
    done: list[list[Visit]] = [[] for _ in genotypes]
    try:
        for _ in range(visits):
            for genotype, its_visits in zip(genotypes, done, strict=True):
                its_visits.append(session.visit(genotype))
    finally:
        session.close()
    anchor_ms = statistics.median(
        t for its_visits in done for visit in its_visits for t in visit.anchor_samples_ms
    )
    measurements = []
    for its_visits in done:
        quiet = [visit for visit in its_visits if not visit.flags] or its_visits
        ratios = [visit.ratio_to_anchor for visit in quiet]
        spread = statistics.stdev(ratios) if len(ratios) > 1 else 0.0
        measurements.append(
            Measurement(statistics.fmean(ratios), spread, anchor_ms, tuple(its_visits))
        )
    return measurements


def _row(visit: Visit, number: int) -> dict[str, Any]:
    mean_ms = statistics.fmean(visit.samples_ms)
    return {
        # Provisional: the writer recomputes both from the ratio and the dataset's anchor time.
        "latency_ms": mean_ms,
        "latency_std_ms": statistics.pstdev(visit.samples_ms),
        "ratio_to_anchor": visit.ratio_to_anchor,
        "samples_ms": list(visit.samples_ms),
        "anchor_samples_ms": list(visit.anchor_samples_ms),
        "clock": visit.clock,
        "wall_ms": statistics.fmean(visit.wall_samples_ms),
        "visit": number,
        # Microseconds since 1970, which both JSON and the Parquet column take.
        "measured_at": int(datetime.now(timezone.utc).timestamp() * 1e6),
        "flags": list(visit.flags),
    }
