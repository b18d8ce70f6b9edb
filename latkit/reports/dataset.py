"""What datasets hold, how good they are, and how they agree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latkit.core.environment import is_variable
from latkit.dataset.check import DatasetCheck, DatasetSummary
from latkit.dataset.compare import DatasetComparison
from latkit.dataset.format import Manifest
from latkit.reports.parts import Caution, Line, Note, Part, Table, number

BARS = "▁▂▃▄▅▆▇█"


def summary_parts(summary: DatasetSummary) -> Iterator[Part]:
    """What a dataset holds, as a table."""
    target, latency = summary.target, summary.latency_ms
    spread = "–"
    if latency is not None:
        spread = f"{latency.min:.2f} / {latency.mean:.2f} / {latency.max:.2f}"
    yield Table(
        f"{target.space} on {target.device} with {target.backend}",
        ["architectures", "rows", "disturbed", "latency min/mean/max ms", "retest sd", "clock"],
        [
            [
                str(summary.architectures),
                f"{summary.rows} ({summary.rows_panel} panel)",
                str(summary.rows_disturbed),
                spread,
                f"{number(summary.retest_sd_percent, 2)} %",
                summary.clock or "–",
            ]
        ],
    )


def facts_parts(summary: DatasetSummary, manifest: Manifest) -> Iterator[Part]:
    """The machine and the protocol that a dataset was measured with."""
    facts: dict[str, Any] = {
        "setting": summary.target.setting.slug,
        "anchor": manifest.anchor,
        "anchor median ms": number(summary.anchor_median_ms),
        "seed": manifest.seed,
        "metrics": ", ".join(manifest.metrics) or "latency only",
        **{f"protocol {name}": value for name, value in manifest.protocol.items()},
        **{f"origin {name}": value for name, value in manifest.origin.items()},
        # Variables of the environment only where they were set: most never are.
        **{k: v for k, v in manifest.fingerprint.items() if v is not None or not is_variable(k)},
    }
    rows = [[name, "–" if value is None else str(value)] for name, value in facts.items()]
    yield Table("made of", ["fact", "value"], rows)


def check_parts(report: DatasetCheck) -> Iterator[Part]:
    """A dataset's quality, and the verdict."""
    summary = report.summary
    yield from summary_parts(summary)
    history = [stretch.anchor_median_ms for stretch in report.anchor_history]
    reasons = sorted(report.rows_by_reason.items())
    gpu_states = sorted(report.rows_by_gpu_state.items())
    rows = [
        ["architectures requested", str(report.requested)],
        ["without an undisturbed measurement", str(summary.architectures_unusable)],
        ["retest sd of one measurement", f"{number(summary.retest_sd_percent, 2)} %"],
        ["from repeats", str(summary.repeats)],
        ["error of a mean latency", f"{number(summary.error_percent, 2)} %"],
        ["disturbed measurements", f"{100 * report.disturbed_share:.1f} %"],
        *([f"  {reason}", str(count)] for reason, count in reasons),
        *([f"GPU {state}", str(count)] for state, count in gpu_states),
        ["duplicate rows", str(report.duplicate_rows)],
    ]
    if history:
        rows.append(
            ["anchor over time", f"{_bars(history)} {min(history):.2f}–{max(history):.2f} ms"]
        )
    rows += [
        [
            f"panel, end/start of run {run.started}",
            f"{run.shift_percent:+.2f} % (deviation {run.deviation_percent:.2f} %)",
        ]
        for run in report.panel_runs
    ]
    yield Table("quality", ["what", "value"], rows)
    yield Line(f"verdict: {report.verdict}")
    for finding in report.findings:
        yield Caution(finding.text)


def comparison_parts(title: str, report: DatasetComparison) -> Iterator[Part]:
    """How two datasets agree, and what differs."""
    parts = [("list", report.agreement)] if report.judged_by == "list" else []
    if report.panel is not None:
        parts.append(("panel", report.panel))
    yield Table(
        title,
        ["", "architectures", "Spearman", "Kendall tau", "ratio", "deviation %"],
        [
            [
                name,
                str(part.architectures),
                number(part.spearman, 3),
                number(part.kendall_tau, 3),
                number(part.ratio, 4),
                number(part.deviation_percent, 2),
            ]
            for name, part in parts
        ],
    )
    if report.expected_deviation_percent is not None:
        yield Note(
            "two single measurements of one network deviate by "
            f"{number(report.expected_deviation_percent, 2)} % from the retest errors alone"
        )
    differing = [[kind, line] for kind, lines in report.differences.items() for line in lines]
    yield Table("what differs (first / second)", ["kind", "fact"], differing or [["–", "nothing"]])


def made_parts(path: Path, summary: DatasetSummary) -> Iterator[Part]:
    """What a command that made a dataset ends with."""
    yield from summary_parts(summary)
    yield Note(f"written: {path}\nnext: latkit dataset check {path}, latkit train-lpm {path}")


def _bars(values: list[float]) -> str:
    """A line of bars from the smallest to the largest of some values."""
    low, span = min(values), (max(values) - min(values)) or 1.0
    return "".join(BARS[round((v - low) / span * (len(BARS) - 1))] for v in values)
