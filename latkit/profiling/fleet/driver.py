"""Who of a fleet measures what, and whom to trust.

Every worker has its own anchor and panel, and a dataset of its own below ``OUT.fleet``, written by
the driver alone: a worker may die at any moment, and so may the driver. In the end the datasets of
the workers that agree are merged into OUT.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from latkit.core.device import Facts, contradictions
from latkit.core.errors import from_os_error
from latkit.core.events import Listener
from latkit.core.files import write_json_atomically
from latkit.core.locks import sole_writer
from latkit.dataset import Manifest, Target
from latkit.dataset.flags import PANEL_END, PANEL_START
from latkit.dataset.format import MANIFEST, read_manifest
from latkit.dataset.statistics import faster_half_mean
from latkit.dataset.writer import DatasetWriter
from latkit.profiling.anchor import anchor_name
from latkit.profiling.fleet.dispatch import Dispatcher, Worker
from latkit.profiling.fleet.merging import QUARANTINE, check_replaceable, merge_workers
from latkit.profiling.fleet.pool import Hired, Pool
from latkit.profiling.loop import architecture_columns
from latkit.profiling.plan import Work, panel
from latkit.profiling.protocol import Measurement, Protocol
from latkit.profiling.rows import ProfileProgress, Recorder, made_before, progress_detail
from latkit.spaces import get_space

# How far, in the median over the panel, the ratios to the anchor of a worker may be from those of
# the fastest, beyond three times what the error of a measurement explains.
PANEL_TOLERANCE = 0.03
MEASURING_ERROR = 0.02
# How much slower a worker's anchor may be than the fastest's before the person is told. Ratios are
# not touched by it.
LEVEL_TOLERANCE = 0.05
LEVEL_LEAST = 8


@dataclass(frozen=True)
class FleetPlan:
    """What a fleet measures.

    Attributes:
        target: of all workers' datasets.
        protocol: of every measurement.
        n: number of architectures.
        seed: names the list.
        out: the dataset in the end; the workers' are in ``OUT.fleet``.
        replicates, target_error: see :class:`latkit.profiling.plan.Work`.
    """

    target: Target
    protocol: Protocol
    n: int
    seed: int
    out: Path
    replicates: int = 1
    target_error: float | None = None

    @property
    def folder(self) -> Path:
        """Of the workers' datasets."""
        return self.out.with_name(f"{self.out.name}.fleet")


@dataclass
class _Task:
    """A measurement: of the list if it has an index."""

    arch_id: int
    index: int | None = None
    flags: tuple[str, ...] = ()


class _Dataset:
    """What a worker has measured, in this run and before.

    Args:
        writer: open.
        file_ids: of the list.
    """

    def __init__(self, writer: DatasetWriter, file_ids: Sequence[int]) -> None:
        self.writer, self.recorder = writer, Recorder(writer)
        # Of the list: as :class:`Work` takes them.
        self.made = list(made_before(writer, file_ids))


@dataclass
class _Worker(Worker[_Task]):
    """A worker that is there.

    Attributes:
        begin, end: panels that it still has to measure.
        levels_ms: its anchor's times, also from before it was lost.
        panel: of the panel's architectures the ratios to the anchor that it measured.
    """

    begin: deque[int] = field(default_factory=deque)
    end: deque[int] = field(default_factory=deque)
    levels_ms: list[float] = field(default_factory=list)
    panel: dict[int, list[float]] = field(default_factory=dict)

    @property
    def index(self) -> int | None:
        """What of the list it is measuring."""
        return None if self.task is None else self.task.index

    def add(self, task: _Task, done: Measurement) -> None:
        if done.anchor_samples_ms:
            self.levels_ms.append(faster_half_mean(done.anchor_samples_ms))
        if task.index is None and not done.disturbed:
            self.panel.setdefault(task.arch_id, []).append(done.estimate)


class Fleet(Dispatcher[_Worker, _Task, int, Measurement]):
    """Runs a plan to its end.

    Args:
        plan: what is measured.
        pool: the workers.
        size: how many are hired.
        listener: receives :class:`ProfileProgress`, and who was lost or is not trusted.
    """

    others_do = "others measure what it had to"
    kept = "every finished row is kept"

    def __init__(
        self, plan: FleetPlan, pool: Pool[int, Measurement], size: int, listener: Listener
    ) -> None:
        super().__init__(pool, listener)
        self._plan, self._size = plan, size
        self._space = get_space(plan.target.space)
        self._ids = [int(i) for i in self._space.sample(plan.n, plan.seed)]
        self._file_ids = self._space.file_ids(self._space.unrank(self._ids)).tolist()
        self._datasets: dict[str, _Dataset] = {}
        # Some of them are still measuring something.
        self._quarantined: set[str] = set()
        # Why, of those and of others.
        self._left_out: dict[str, str] = {}
        # Whether it is known since the last event that the list has nothing for an idle worker.
        self._nothing_now = False
        # Times of each worker's anchor, also of those that are lost.
        self._levels_ms: dict[str, list[float]] = {}
        self._disturbed = 0
        self._facts: Hired | None = None

    def run(self) -> tuple[str, ...]:
        """Measure what is still to be measured, and merge.

        Returns:
            What limits the dataset's use.

        Raises:
            BackendError: a network failed to run, or no worker is left.
            DatasetError: the folders hold something else.
            InputError: another process measures into them.
            LatkitError: they cannot be written.
        """
        out = self._plan.out
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise from_os_error(error, f"write {out}", "nothing was measured") from None
        with sole_writer(out):
            return self._run()

    def _run(self) -> tuple[str, ...]:
        """See :meth:`run`; the folders are this process's own."""
        check_replaceable(self._plan.out)
        with ExitStack() as stack:
            self._stack = stack
            self._open_earlier()
            self._plan_work()
            self._done_before = self._work.done
            if self._work.total > self._done_before:
                self._announce()
                for _ in range(self._size):
                    self._hire()
                try:
                    for _ in self._dispatch():
                        pass
                finally:
                    self._listener.end_progress()
        merge_workers(self._plan.folder, self._plan.out)
        left_out = (f"worker {name} is left out: {why}" for name, why in self._left_out.items())
        return (*left_out, *self._slow())

    def _announce(self) -> None:
        plan = self._plan
        self._listener.note(
            f"measuring {plan.n} architectures of {plan.target.space} in "
            f"{plan.target.setting.slug} by {self._size} workers into {plan.folder}"
        )
        if self._done_before:
            self._listener.note(
                f"going on: {self._done_before} of {self._work.total} measurements are there"
            )

    # --- the work ----------------------------------------------------------------------------

    def _open_earlier(self) -> None:
        """Open the datasets of workers of earlier runs."""
        plan = self._plan
        for folder in sorted(plan.folder.glob("*")):
            if (folder / MANIFEST).exists():
                earlier = read_manifest(folder)
                self._open(folder.name, dict(earlier.fingerprint), earlier.metrics)
                if (folder / QUARANTINE).exists():
                    self._quarantined.add(folder.name)
                    self._left_out[folder.name] = f"see {folder / QUARANTINE}"

    def _open(self, name: str, facts: Facts, metrics: tuple[str, ...]) -> None:
        """Open a worker's dataset, a new one or an earlier one of the same plan."""
        plan = self._plan
        manifest = Manifest(
            plan.target, facts, plan.protocol.to_dict(), plan.seed,
            anchor_name(plan.target.setting), requested=plan.n, metrics=metrics,
        )  # fmt: skip
        writer = self._stack.enter_context(DatasetWriter(plan.folder / name, manifest))
        self._datasets[name] = _Dataset(writer, self._file_ids)

    def _plan_work(self) -> None:
        """Begin the plan anew, with what trusted workers have measured."""
        plan = self._plan
        made = [
            measurement
            for name, dataset in self._datasets.items()
            if name not in self._quarantined
            for measurement in dataset.made
        ]
        self._work = Work(
            plan.n, plan.seed, plan.protocol.replicate_every, plan.replicates, plan.target_error,
            made,
        )  # fmt: skip
        self._todo: Iterator[int] = iter(self._work)
        self._again: deque[int] = deque()

    def _next_index(self) -> int | None:
        """What is to be measured next of the list; None: nothing is, as far as is known now."""
        if self._nothing_now:  # not looked for again for each of hundreds of idle workers
            return None
        if self._again:
            return self._again.popleft()
        busy = {worker.index for worker in self._workers.values()}
        # A replicate of what is being measured comes later.
        index = next((i for i in self._todo if i not in busy), None)
        if index is None and busy <= {None}:
            # What was measured meanwhile may have to be measured again.
            self._todo = iter(self._work)
            index = next(self._todo, None)
        self._nothing_now = index is None
        return index

    # --- workers -----------------------------------------------------------------------------

    def _assign(self) -> None:
        self._nothing_now = False
        super()._assign()

    def _welcome(self, hired: Hired) -> None:
        """Take a worker in, unless it is not of the kind of the others, or not trusted."""
        name, plan = hired.worker, self._plan
        changed = [] if self._facts is None else contradictions(_kind(self._facts), _kind(hired))
        if name in self._datasets:
            earlier = self._datasets[name].writer.manifest.fingerprint
            changed += contradictions(earlier, hired.fingerprint)
        if name in self._quarantined:
            changed = [f"it is in quarantine; remove {plan.folder / name} to have it again"]
        if changed:
            self._left_out.setdefault(name, "; ".join(changed))
            self._listener.warn(f"worker {name} is left out: {'; '.join(changed)}")
            self._pool.dismiss(name)
            return
        self._facts = self._facts or hired
        if name not in self._datasets:
            self._open(name, dict(hired.fingerprint), hired.metrics)
        share = math.ceil((self._work.total - self._done_before) / self._size)
        ids = panel(self._space, share).tolist()
        levels_ms = self._levels_ms.setdefault(name, [])
        self._workers[name] = _Worker(name, None, deque(ids), deque(ids), levels_ms)

    def _next_task(self, worker: _Worker) -> tuple[_Task, int] | None:
        if worker.begin:
            task = _Task(worker.begin.popleft(), flags=(PANEL_START,))
        elif (index := self._next_index()) is not None:
            task = _Task(self._ids[index], index)
        elif worker.end and all(other.index is None for other in self._workers.values()):
            task = _Task(worker.end.popleft(), flags=(PANEL_END,))
        else:
            return None
        return task, task.arch_id

    def _record(self, worker: _Worker, task: _Task, done: Measurement) -> None:
        dataset = self._datasets[worker.name]
        row = self._space.unrank(task.arch_id)[0]
        columns = architecture_columns(self._space, row, self._plan.target.setting)
        latency_ms = dataset.recorder.append(columns, done, task.flags)
        worker.add(task, done)
        if task.index is None:
            if not worker.begin:
                self._judge()
            return
        made = task.index, done.estimate, done.disturbed
        dataset.made.append(made)
        self._work.record(*made)
        self._disturbed += done.disturbed
        error = self._work.error if self._plan.target_error is not None else None
        detail = progress_detail(latency_ms, self._work.retest.sd, error, self._disturbed)
        self._listener.progress(
            ProfileProgress(
                "measurements", self._work.done, self._work.total, self._done_before,
                f"{len(self._workers)} workers, {detail}", latency_ms=latency_ms,
                disturbed=self._disturbed, retest_sd=self._work.retest.sd, error=self._work.error,
            )
        )  # fmt: skip

    def _take_back(self, task: _Task) -> None:
        if task.index is not None:
            self._again.append(task.index)

    # --- trust -------------------------------------------------------------------------------

    def _judge(self) -> None:
        """Put workers into quarantine whose panel is not that of the fastest worker."""
        through = [worker for worker in self._workers.values() if not worker.begin]
        levels_ms = [_level_ms(worker.levels_ms) for worker in through]
        known = [(ms, worker) for ms, worker in zip(levels_ms, through, strict=True) if ms]
        _, fastest = min(known, key=lambda of: of[0], default=(None, None))
        for _, worker in known:
            assert fastest is not None
            away, tolerance = _distance(worker.panel, fastest.panel)
            if abs(away) > tolerance:
                self._quarantine(
                    worker,
                    f"its panel's ratios to the anchor are {100 * math.expm1(away):+.1f} % from "
                    f"those of {fastest.name}",
                )

    def _quarantine(self, worker: _Worker, reason: str) -> None:
        self._quarantined.add(worker.name)
        self._left_out[worker.name] = reason
        del self._workers[worker.name]
        write_json_atomically(self._plan.folder / worker.name / QUARANTINE, {"reason": reason})
        self._listener.warn(
            f"worker {worker.name} is in quarantine: {reason}; its rows are not used, others "
            "measure its architectures"
        )
        if worker.task is None:
            self._pool.dismiss(worker.name)
        self._plan_work()

    def _slow(self) -> list[str]:
        """Of workers whose anchor takes longer than the fastest's."""
        levels_ms = {name: _level_ms(times) for name, times in self._levels_ms.items()}
        fastest = min(filter(None, levels_ms.values()), default=0.0)
        return [
            f"worker {name} was {100 * (level / fastest - 1):.0f} % slower than the fastest (so "
            "was its anchor: ratios hold)"
            for name, level in levels_ms.items()
            if level is not None
            and level > (1 + LEVEL_TOLERANCE) * fastest
            and name not in self._left_out
        ]


def _level_ms(times: Sequence[float]) -> float | None:
    """An anchor's usual time; None before there are enough measurements."""
    return statistics.median(times) if len(times) >= LEVEL_LEAST else None


def _kind(hired: Hired) -> dict[str, object]:
    """Facts that all workers of a kind share."""
    return {name: value for name, value in hired.fingerprint.items() if name != "affinity"}


def _distance(
    one: Mapping[int, Sequence[float]], other: Mapping[int, Sequence[float]]
) -> tuple[float, float]:
    """The median logarithm of how far two panels are apart, and what it may be."""
    logs = [
        math.log(statistics.fmean(values) / statistics.fmean(other[arch_id]))
        for arch_id, values in one.items()
        if arch_id in other
    ]
    if not logs:
        return 0.0, PANEL_TOLERANCE
    return statistics.median(logs), PANEL_TOLERANCE + 3 * MEASURING_ERROR * math.sqrt(2 / len(logs))
