"""The profile loop: sample architectures, measure each, fill a dataset."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path

from latkit.backends.base import Backend, fingerprint
from latkit.core.device import pinned_to
from latkit.core.errors import BackendError, InputError
from latkit.dataset import Manifest, Target
from latkit.dataset.format import DISTURBED, PANEL_END, PANEL_START, is_panel
from latkit.dataset.writer import DatasetWriter
from latkit.profiling.plan import Work, panel
from latkit.profiling.protocol import Protocol, Visit, anchor_name, choose_clock
from latkit.profiling.session import Session
from latkit.spaces import get_space
from latkit.spaces.architecture import architecture_costs


@dataclass(frozen=True)
class Progress:
    """What the loop tells after each visit.

    Attributes:
        done: visits made, those of earlier runs among them.
        total: visits planned so far; disturbed ones and a target error add to it.
        resumed: visits of earlier runs.
        latency_ms: of the last visit, at the machine's present speed.
        disturbed: visits of this run that were disturbed.
        retest_sd: relative standard deviation of one visit so far.
        error: relative error of an architecture's mean latency so far.
    """

    done: int
    total: int
    resumed: int
    latency_ms: float
    disturbed: int
    retest_sd: float | None
    error: float | None


def profile(
    backend: Backend,
    target: Target,
    protocol: Protocol,
    n: int,
    seed: int,
    out: Path,
    visits: int = 1,
    target_error: float | None = None,
    energy: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    chosen: Sequence[int] | None = None,
) -> None:
    """Measure the first ``n`` architectures of the list that ``seed`` names, or chosen ones.

    Rows that ``out`` already holds are not measured again. ``backend`` must be open. A run that
    measures anything begins and ends with the fixed panel.

    What the dataset records of how it was measured is what measured it: the number of threads is
    the backend's, whatever the protocol says.

    Args:
        backend: what measures.
        target: what the dataset is about; its backend is the one that measures.
        protocol: how one visit goes.
        n: number of architectures.
        seed: names the list.
        out: the dataset's folder, new or with an earlier run's rows.
        visits: undisturbed visits wanted of each architecture.
        target_error: more visits are planned until an architecture's mean latency has this
            relative error (see ``Work``).
        energy: measure the energy of a run as well.
        on_progress: called after each visit of the list.
        chosen: ``n`` identifiers to measure instead.

    Raises:
        InputError: latkit builds no networks of the space, ``n`` does not fit it, the target names
            another backend, or the machine cannot do what ``protocol`` asks.
        BackendError: the backend cannot run the setting, a network failed to run, or there is no
            energy meter.
        DatasetError: ``out`` holds something else, or a file in it is corrupt.
        LatkitError: ``out`` cannot be written.
    """
    space = get_space(target.space)
    space.architecture(space.unrank(0)[0], target.setting.network)  # refuses one without networks
    if not 1 <= n <= space.size:
        raise InputError(f"cannot measure {n} architectures", f"use --n from 1 to {space.size}")
    if target.backend != backend.name:
        raise InputError(
            f"the target names the backend {target.backend}, but {backend.name} is to measure it",
            f"use a target with the backend {backend.name}, or open {target.backend}",
        )
    protocol = dataclasses.replace(protocol, threads=backend.threads)
    backend.check_setting(target.setting)
    choose_clock(protocol.clock, backend.clock)
    meter = backend.open_meter() if energy else None
    metrics = ("energy_mj", *backend.metrics) if energy else backend.metrics
    with pinned_to(protocol.cores):
        manifest = Manifest(
            target,
            dict(fingerprint(backend)) | ({"energy_meter": meter.name} if meter else {}),
            protocol.to_dict(),
            seed,
            anchor_name(target.setting),
            requested=n,
            metrics=metrics,
        )
        with DatasetWriter(out, manifest) as writer:
            ids = [int(i) for i in (space.sample(n, seed) if chosen is None else chosen)]
            work = Work(n, seed, protocol.revisit_every, visits, target_error, _made(writer, ids))
            todo = iter(work)
            first = next(todo, None)
            if first is None:
                return
            resumed = work.done
            with Session(backend, target.setting, protocol, meter) as session:
                measurer = _Measurer(session, writer, target)
                ends = panel(space, work.total - work.done).tolist()
                measurer.measure_panel(ends, PANEL_START)
                disturbed = 0
                for index in chain([first], todo):
                    visit, latency_ms = measurer.measure(ids[index])
                    work.record(index, visit.estimate, visit.disturbed)
                    disturbed += visit.disturbed
                    on_progress(
                        Progress(
                            work.done,
                            work.total,
                            resumed,
                            latency_ms,
                            disturbed,
                            work.retest.sd,
                            work.error,
                        )
                    )
                measurer.measure_panel(ends, PANEL_END)


def _made(writer: DatasetWriter, ids: list[int]) -> Iterator[tuple[int, float, bool]]:
    """The rows of the list that a dataset holds, as :class:`Work` takes them."""
    index = {arch_id: i for i, arch_id in enumerate(ids)}
    for (arch_id, _), done in writer.done.items():
        if arch_id in index and not is_panel(done.flags):
            yield index[arch_id], done.value, DISTURBED in done.flags


class _Measurer:
    """Measures architectures by their identifiers and writes the rows."""

    def __init__(self, session: Session, writer: DatasetWriter, target: Target) -> None:
        self._session = session
        self._writer = writer
        self._setting = target.setting
        self._space = get_space(target.space)
        # Of each architecture, the number that its next visit gets.
        self._visits = Counter[int]()
        for arch_id, visit in writer.done:
            self._visits[arch_id] = max(self._visits[arch_id], visit + 1)

    def measure_panel(self, ids: Iterable[int], flag: str) -> None:
        """Measure the fixed panel and mark its rows."""
        for arch_id in ids:
            self.measure(arch_id, (flag,))

    def measure(self, arch_id: int, flags: Iterable[str] = ()) -> tuple[Visit, float]:
        """Measure an architecture once more; the visit, and its latency at the present speed."""
        row = self._space.unrank(arch_id)[0]
        visit = self._session.visit(self._space.architecture(row, self._setting.network))
        wanted = self._writer.manifest.metrics
        if set(visit.metrics) != set(wanted):
            raise BackendError(
                f"{self._session.backend.name} measured {sorted(visit.metrics)}, and not "
                f"{sorted(wanted)} as it said",
                "report this defect of the backend",
            )
        latency_ms = visit.latency_ms(statistics.median(visit.anchor_samples_ms))
        (cost,) = architecture_costs(self._space, row, self._setting)
        self._writer.append(
            {
                "arch_id": arch_id,
                "arch": self._space.format(row),
                # Provisional: the writer recomputes both from what was measured.
                "latency_ms": latency_ms,
                "latency_std_ms": statistics.pstdev(visit.samples_ms),
                "ratio_to_anchor": visit.ratio_to_anchor,
                "samples_ms": list(visit.samples_ms),
                "anchor_samples_ms": list(visit.anchor_samples_ms),
                "clock": visit.clock,
                "wall_ms": statistics.fmean(visit.wall_samples_ms),
                "visit": self._visits[arch_id],
                # Microseconds since 1970, which both JSON and the Parquet column take.
                "measured_at": int(datetime.now(timezone.utc).timestamp() * 1e6),
                "flags": [*flags, *visit.flags],
                "macs": cost.macs,
                "params": cost.params,
                **visit.metrics,
            }
        )
        self._visits[arch_id] += 1
        return visit, latency_ms
