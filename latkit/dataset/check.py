"""Whether a dataset can be trusted: what it holds, how it repeats, what disturbed it."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from latkit.core.environment import set_variables
from latkit.dataset.flags import (
    DISTURBED,
    OTHER_PROCESSES,
    PANEL_END,
    PANEL_START,
    THROTTLED,
    is_gpu_flag,
)
from latkit.dataset.format import Target
from latkit.dataset.latency import LatencyDataset
from latkit.dataset.plausibility import doubts
from latkit.dataset.statistics import median_absolute_deviation

# Above these a dataset is not fit for training.
MAX_ERROR = 0.05
MAX_UNUSABLE_SHARE = 0.1
# Above these a note is made.
NOTABLE_DISTURBED_SHARE = 0.2
NOTABLE_PANEL_SHIFT = 0.02
NOTABLE_GPU_SHARE = 0.05
# So many standard errors of a panel's median are within what chance does; small panels have more.
PANEL_SHIFT_ERRORS = 3.0
FEW_REPEATS = 10

HISTORY_BINS = 60

Verdict = Literal["good", "usable", "unfit"]


@dataclass(frozen=True)
class Finding:
    """Something to know about a dataset; ``unfit`` where it must not be used as it is."""

    level: Literal["note", "unfit"]
    text: str


@dataclass(frozen=True)
class LatencySpread:
    """The usable latencies of a dataset, in ms."""

    min: float
    mean: float
    max: float


@dataclass(frozen=True)
class DatasetSummary:
    """What a dataset holds, in numbers.

    Attributes:
        target: what it is about.
        rows: all of them; ``rows_panel``: those of the panel; ``rows_disturbed``: those of the list
            that were disturbed.
        architectures: of the list; ``architectures_unusable``: those with disturbed rows alone.
        latency_ms: of the usable architectures; None: there are none.
        retest_sd_percent: of one measurement; None: too few repeats.
        repeats: what that is known from.
        error_percent: of the mean over as many replicates as an architecture typically has.
        anchor_median_ms: the anchor network's time; None: imported.
        clock: what the times were taken with; None: imported.
        metrics: quantities beside the latency.
    """

    target: Target
    rows: int
    rows_panel: int
    rows_disturbed: int
    architectures: int
    architectures_unusable: int
    latency_ms: LatencySpread | None
    retest_sd_percent: float | None
    repeats: int
    error_percent: float | None
    anchor_median_ms: float | None
    clock: str | None
    metrics: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        content = dataclasses.asdict(self)
        return {**content, "target": self.target.to_dict(), "metrics": list(self.metrics)}


@dataclass(frozen=True)
class AnchorStretch:
    """The anchor's median time over one of the stretches of the measurements.

    Attributes:
        start, end: moments of the first and last measurement, ISO 8601.
        anchor_median_ms: over all runs of the anchor.
        rows: measurements.
    """

    start: str
    end: str
    anchor_median_ms: float
    rows: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "from": self.start,
            "to": self.end,
            "anchor_median_ms": self.anchor_median_ms,
            "rows": self.rows,
        }


@dataclass(frozen=True)
class PanelRun:
    """How the panel's latencies at the end of a run differ from those at its start.

    Attributes:
        started, ended: moments, ISO 8601.
        architectures: of the panel, with undisturbed measurements at both ends.
        shift_percent: the median of end over start, less one.
        deviation_percent: the median absolute deviation of these ratios.
    """

    started: str
    ended: str
    architectures: int
    shift_percent: float
    deviation_percent: float


@dataclass(frozen=True)
class DatasetCheck:
    """Whether a dataset can be trusted.

    Attributes:
        summary: what it holds.
        requested: architectures that were to be measured.
        environment: variables that were set and change kernels, with their values.
        disturbed_share: of the list's measurements.
        rows_by_reason: how many were disturbed by what.
        rows_by_gpu_state: how many were made while the GPU was slowed (``throttled: REASON``), or
            while others were on it (``other-processes``).
        duplicate_rows: rows that are copies of others.
        anchor_history: the machine's speed over time, in up to ``HISTORY_BINS`` stretches.
        panel_runs: for each run, its drift against the anchor.
        max_error_percent: the relative error above which the dataset is unfit.
        findings: what to know.
        verdict: ``good``, ``usable`` (with findings to read) or ``unfit``.
    """

    summary: DatasetSummary
    requested: int
    environment: dict[str, object]
    disturbed_share: float
    rows_by_reason: dict[str, int]
    rows_by_gpu_state: dict[str, int]
    duplicate_rows: int
    anchor_history: tuple[AnchorStretch, ...]
    panel_runs: tuple[PanelRun, ...]
    max_error_percent: float
    findings: tuple[Finding, ...] = ()
    verdict: Verdict = "good"

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.summary.to_dict(),
            "requested": self.requested,
            "environment": self.environment,
            "disturbed": {"share": self.disturbed_share, "rows_by_reason": self.rows_by_reason},
            "rows_by_gpu_state": self.rows_by_gpu_state,
            "duplicate_rows": self.duplicate_rows,
            "anchor_history": [stretch.to_dict() for stretch in self.anchor_history],
            "panel_runs": [dataclasses.asdict(run) for run in self.panel_runs],
            "max_error_percent": self.max_error_percent,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "verdict": self.verdict,
        }


def summarize(dataset: LatencyDataset) -> DatasetSummary:
    """What a dataset holds, in numbers."""
    usable = dataset.usable()
    latency = usable["latency_ms"].to_numpy()
    replicates = float(np.median(usable["visits"].to_numpy())) if len(latency) else 1.0
    retest = dataset.retest()
    sd_percent = None if retest.sd is None else 100 * retest.sd
    spread = None
    if len(latency):
        spread = LatencySpread(float(latency.min()), float(latency.mean()), float(latency.max()))
    clock = dataset.table["clock"][0].as_py() if "clock" in dataset.table.column_names else None
    return DatasetSummary(
        target=dataset.manifest.target,
        rows=dataset.table.num_rows,
        rows_panel=int(dataset.in_panel.sum()),
        rows_disturbed=dataset.disturbed,
        architectures=dataset.architectures,
        architectures_unusable=dataset.architectures - len(latency),
        latency_ms=spread,
        retest_sd_percent=sd_percent,
        repeats=retest.repeats,
        error_percent=None if sd_percent is None else sd_percent / replicates**0.5,
        anchor_median_ms=dataset.anchor_median_ms,
        clock=clock,
        metrics=tuple(dataset.manifest.metrics),
    )


def check_dataset(dataset: LatencyDataset, max_error: float = MAX_ERROR) -> DatasetCheck:
    """A dataset's quality.

    Args:
        dataset: what is judged.
        max_error: above this relative error of an architecture's mean latency it is unfit.
    """
    listed = dataset.table.filter(pa.array(~dataset.in_panel))
    flags = listed["flags"].to_pylist()
    disturbed = sum(DISTURBED in f for f in flags)
    report = DatasetCheck(
        summary=summarize(dataset),
        requested=dataset.manifest.requested,
        environment=set_variables(dataset.manifest.fingerprint),
        disturbed_share=disturbed / max(1, len(flags)),
        rows_by_reason=dict(
            Counter(x for f in flags for x in f if x != DISTURBED and not is_gpu_flag(x))
        ),
        rows_by_gpu_state=dict(Counter(_gpu_state(x) for f in flags for x in f if is_gpu_flag(x))),
        duplicate_rows=_duplicate_rows(dataset.table),
        anchor_history=tuple(_anchor_history(dataset.table)),
        panel_runs=tuple(_panel_runs(dataset)),
        max_error_percent=100 * max_error,
    )
    findings = list(_findings(report, dataset.manifest.anchor is None))
    findings += [Finding("note", text) for text in doubts(dataset)]
    verdict: Verdict = "good"
    if findings:
        verdict = "unfit" if any(f.level == "unfit" for f in findings) else "usable"
    return dataclasses.replace(report, findings=tuple(findings), verdict=verdict)


def _findings(report: DatasetCheck, imported: bool) -> Iterator[Finding]:
    summary, limit_percent = report.summary, report.max_error_percent
    measured, unusable = summary.architectures, summary.architectures_unusable
    error = summary.error_percent
    if not measured:
        yield Finding(
            "unfit", "nothing of the list is measured yet: repeat the latkit profile command"
        )
        return
    if unusable == measured:
        yield Finding(
            "unfit", "no architecture has an undisturbed measurement: measure on a quiet machine"
        )
    elif unusable > MAX_UNUSABLE_SHARE * measured:
        yield Finding(
            "unfit",
            f"{unusable} of {measured} architectures have only disturbed measurements: repeat the "
            "latkit profile command on a quiet machine, which re-measures them",
        )
    if report.duplicate_rows:
        yield Finding(
            "unfit",
            f"{report.duplicate_rows} rows have the moment and raw times of another row, which no "
            "two measurements share: rows were copied",
        )
    if error is None:
        yield Finding("note", "too few replicates to know how well a measurement repeats")
    elif error > limit_percent:
        fix = (
            "repeat the latkit profile command with --target-error, or measure on a quieter machine"
        )
        if imported:
            fix = "import a table with more repeated measurements, or of a quieter machine"
        yield Finding(
            "unfit",
            f"a latency is known only to {error:.1f} % (limit {limit_percent:.1f} %): {fix}",
        )
    elif summary.repeats < FEW_REPEATS:
        yield Finding("note", f"the retest error is known from {summary.repeats} repeats only")
    share = report.disturbed_share
    if share > NOTABLE_DISTURBED_SHARE and unusable < measured:
        yield Finding(
            "note", f"{100 * share:.0f} % of the measurements were disturbed and are not used"
        )
    listed = summary.rows - summary.rows_panel
    for state, count in report.rows_by_gpu_state.items():
        if count > NOTABLE_GPU_SHARE * listed:
            part = f"{100 * count / listed:.0f} %"
            yield Finding("note", f"in {part} of the measurements {_why(state)}")
    if measured < report.requested:
        yield Finding(
            "note",
            f"{measured} of {report.requested} architectures are measured: repeat the latkit "
            "profile command to go on",
        )
    if report.environment:
        settings = ", ".join(f"{name}={value}" for name, value in report.environment.items())
        yield Finding(
            "note",
            f"measured with {settings} in the environment, which can change the latencies: they "
            "are those of runs with the same",
        )
    for run in report.panel_runs:
        # Each of the panel's architectures is measured twice, once at either end.
        error = (summary.retest_sd_percent or 0.0) * math.sqrt(2 / run.architectures)
        if abs(run.shift_percent) > max(100 * NOTABLE_PANEL_SHIFT, PANEL_SHIFT_ERRORS * error):
            yield Finding(
                "note",
                f"in the run that began at {run.started} the panel's latencies moved by "
                f"{run.shift_percent:+.1f} % against the anchor",
            )


def _gpu_state(flag: str) -> str:
    """A flag of a GPU's state without the number of processes, which differs from row to row."""
    return OTHER_PROCESSES if flag.startswith(OTHER_PROCESSES) else flag


def _why(state: str) -> str:
    if state == OTHER_PROCESSES:
        return "other processes were on the GPU: stop them, and profile again"
    reason = state.removeprefix(f"{THROTTLED}: ")
    return (
        f"the GPU was slowed ({reason}), and the anchor beside it: latencies are those of a GPU in "
        "that state; see nvidia-smi -q -d PERFORMANCE"
    )


def _duplicate_rows(table: pa.Table) -> int:
    """Rows with the moment and the raw times of an earlier row."""
    if "samples_ms" not in table.column_names:
        return 0
    times, samples = table["measured_at"].to_pylist(), table["samples_ms"].to_pylist()
    counts = Counter((at, tuple(raw)) for at, raw in zip(times, samples, strict=True))
    return sum(count - 1 for count in counts.values())


def _anchor_history(table: pa.Table) -> list[AnchorStretch]:
    """The machine's speed over time: stretches of equally many rows."""
    if "anchor_samples_ms" not in table.column_names:
        return []
    order = np.argsort(table["measured_at"].to_numpy(), kind="stable")
    samples = table["anchor_samples_ms"].to_pylist()
    times = table["measured_at"].to_pylist()
    return [
        AnchorStretch(
            start=times[stretch[0]].isoformat(timespec="seconds"),
            end=times[stretch[-1]].isoformat(timespec="seconds"),
            anchor_median_ms=float(np.median([t for row in stretch for t in samples[row]])),
            rows=len(stretch),
        )
        for stretch in np.array_split(order, min(HISTORY_BINS, len(order)))
    ]


def _panel_runs(dataset: LatencyDataset) -> Iterator[PanelRun]:
    """Start against end of the panel, for each run that has both.

    Not of a merged dataset: its runs may have gone on at the same time. An imported one has none.
    """
    if dataset.manifest.origin or dataset.manifest.anchor is None:
        return
    runs: list[dict[str, dict[int, dict[str, Any]]]] = []
    panel = dataset.table.filter(pa.array(dataset.in_panel)).sort_by("measured_at")
    for row in panel.to_pylist():
        flag = PANEL_START if PANEL_START in row["flags"] else PANEL_END
        # A run that was killed has no end, so a start that comes again begins another one too.
        if not runs or (
            flag == PANEL_START and (runs[-1][PANEL_END] or row["arch_id"] in runs[-1][PANEL_START])
        ):
            runs.append({PANEL_START: {}, PANEL_END: {}})
        runs[-1][flag][row["arch_id"]] = row
    for run in runs:
        start, end = run[PANEL_START], run[PANEL_END]
        logs = [
            math.log(end[arch_id]["latency_ms"] / start[arch_id]["latency_ms"])
            for arch_id in start.keys() & end.keys()
            if DISTURBED not in (*start[arch_id]["flags"], *end[arch_id]["flags"])
        ]
        if logs:
            times = [row["measured_at"] for row in (*start.values(), *end.values())]
            yield PanelRun(
                started=min(times).isoformat(timespec="seconds"),
                ended=max(times).isoformat(timespec="seconds"),
                architectures=len(logs),
                shift_percent=100 * float(np.expm1(np.median(logs))),
                deviation_percent=100 * median_absolute_deviation(logs),
            )
