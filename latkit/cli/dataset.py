"""``latkit dataset``"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from latkit.cli.dataset_import import import_files
from latkit.cli.output import (
    Percent,
    UserPath,
    json_option,
    note,
    number,
    print_json,
    print_table,
    warn,
)

FOLDER = UserPath()
BARS = "▁▂▃▄▅▆▇█"
UNFIT_EXIT_CODE = 3


@click.group(name="dataset")
def command() -> None:
    """Check, compare, merge, import and export datasets."""


command.add_command(import_files)


@command.command(name="list")
@click.argument("folder", type=FOLDER, default=Path("datasets"))
@json_option
def list_datasets(folder: Path, as_json: bool) -> None:
    """Every dataset below FOLDER (default: ./datasets)."""
    from latkit.core.errors import DatasetError, LatkitError
    from latkit.dataset.format import MANIFEST, count_rows, read_manifest

    if not folder.is_dir():
        raise DatasetError(
            f"there is no folder {folder}", "name one, or make a dataset: latkit profile"
        )
    objects: list[dict[str, Any]] = []
    for manifest_path in sorted(folder.rglob(MANIFEST)):
        path = manifest_path.parent
        if path.name.startswith("."):  # one that was being written when its process died
            continue
        try:
            manifest, rows = read_manifest(path), count_rows(path)
        except LatkitError as error:
            warn(str(error))
            continue
        objects.append(
            {
                "dataset": str(path),
                "target": manifest.target.to_dict(),
                "requested": manifest.requested,
                "rows": rows,
            }
        )
    if as_json:
        print_json({"datasets": objects})
        return
    print_table(
        f"datasets below {folder}",
        ["dataset", "space", "device", "backend", "setting", "requested", "rows"],
        [
            [
                found["dataset"],
                *(str(found["target"][key]) for key in ("space", "device", "backend")),
                _setting_slug(found["target"]),
                str(found["requested"]),
                str(found["rows"]),
            ]
            for found in objects
        ],
    )
    note("next: latkit dataset check DATASET" if objects else "next: latkit profile")


@command.command(name="show")
@click.argument("dataset", type=FOLDER)
@json_option
def show_dataset(dataset: Path, as_json: bool) -> None:
    """What DATASET holds, and the machine and protocol it was measured with."""
    from latkit.core.environment import is_variable
    from latkit.dataset import LatencyDataset
    from latkit.dataset.check import summarize

    opened = LatencyDataset.open(dataset)
    summary, manifest = summarize(opened), opened.manifest.to_dict()
    if as_json:
        print_json({"dataset": str(dataset), **summary, **manifest})
        return
    print_summary(summary)
    facts = {
        "setting": _setting_slug(summary["target"]),
        "anchor": manifest["anchor"],
        "anchor median ms": number(summary["anchor_median_ms"]),
        "seed": manifest["seed"],
        "metrics": ", ".join(manifest["metrics"]) or "latency only",
        **{f"protocol {name}": value for name, value in manifest["protocol"].items()},
        **{f"origin {name}": value for name, value in manifest["origin"].items()},
        # Variables of the environment only where they were set: most never are.
        **{k: v for k, v in manifest["fingerprint"].items() if v is not None or not is_variable(k)},
    }
    print_table("made of", ["fact", "value"], [[name, _fact(v)] for name, v in facts.items()])
    note(f"next: latkit dataset check {dataset}")


@command.command(name="check")
@click.argument("dataset", type=FOLDER)
@click.option(
    "--max-error",
    type=Percent(),
    default=0.05,
    show_default="5%",
    help="Relative error of an architecture's mean latency, judged by the repeated visits, above "
    "which the dataset is unfit.",
)
@json_option
@click.pass_context
def check(context: click.Context, dataset: Path, max_error: float, as_json: bool) -> None:
    """Tell whether DATASET can be trusted: retest error, disturbed rows, drift, duplicates.

    The verdict is good, usable (with notes to read) or unfit; the exit code is 3 if unfit (and 1
    if DATASET cannot be read).
    --json has the anchor's history for a plot of the machine's drift.
    """
    from latkit.dataset import LatencyDataset
    from latkit.dataset.check import check_dataset

    report = check_dataset(LatencyDataset.open(dataset), max_error)
    if as_json:
        print_json({"dataset": str(dataset), **report})
    else:
        _print_check(report)
        if report["verdict"] != "unfit":
            note(f"next: latkit train-lpm {dataset}")
    if report["verdict"] == "unfit":
        context.exit(UNFIT_EXIT_CODE)


@command.command(name="compare")
@click.argument("first", type=FOLDER)
@click.argument("second", type=FOLDER)
@json_option
def compare(first: Path, second: Path, as_json: bool) -> None:
    """Compare two datasets of one space, paired by architecture.

    The ratio is the median of SECOND over FIRST; the deviation is the median distance of the
    architectures' ratios from it. The panel (2 to 16 architectures that every run measures)
    compares runs that have no list in common.
    """
    from latkit.dataset import LatencyDataset
    from latkit.dataset.compare import compare_datasets

    report = compare_datasets(LatencyDataset.open(first), LatencyDataset.open(second))
    if as_json:
        print_json({"first": str(first), "second": str(second), **report})
        return
    rows = [("list", report)] if report["judged_by"] == "list" else []
    if report["panel"] is not None:
        rows.append(("panel", report["panel"]))
    print_table(
        f"{second} against {first}",
        ["", "architectures", "Spearman", "Kendall tau", "ratio", "deviation %"],
        [
            [
                name,
                str(part["architectures"]),
                number(part["spearman"], 3),
                number(part["kendall_tau"], 3),
                number(part["ratio"], 4),
                number(part["deviation_percent"], 2),
            ]
            for name, part in rows
        ],
    )
    if report["expected_deviation_percent"] is not None:
        note(
            "two single visits of one network deviate by "
            f"{number(report['expected_deviation_percent'], 2)} % from the retest errors alone"
        )
    differing = [(kind, line) for kind, lines in report["differences"].items() for line in lines]
    print_table(
        "what differs (first / second)",
        ["kind", "fact"],
        [[kind, line] for kind, line in differing] or [["–", "nothing"]],
    )


@command.command(name="merge")
@click.argument("datasets", type=FOLDER, nargs=-1, required=True)
@click.option("--out", type=FOLDER, required=True, help="Folder of the new dataset.")
@click.option(
    "--unlike-machines",
    is_flag=True,
    help="Merge even where the fingerprints contradict each other.",
)
@json_option
def merge(datasets: tuple[Path, ...], out: Path, unlike_machines: bool, as_json: bool) -> None:
    """Make one dataset of several DATASETS of one target and protocol."""
    from latkit.core.errors import InputError
    from latkit.dataset import LatencyDataset
    from latkit.dataset.check import summarize
    from latkit.dataset.merge import merge_datasets

    if len(datasets) < 2:
        raise InputError("one dataset is nothing to merge", "name two or more")
    opened = [LatencyDataset.open(path) for path in datasets]
    merged = merge_datasets(opened, out, unlike_machines)
    print_made(merged.path, summarize(merged), as_json)


@command.command(name="export")
@click.argument("dataset", type=FOLDER)
@click.argument("file", type=FOLDER)
@json_option
def export_file(dataset: Path, file: Path, as_json: bool) -> None:
    """Write DATASET to a new FILE (*.csv or *.parquet), one row an architecture.

    Disturbed visits and the panel are left out, other visits are averaged. The raw rows need no
    export: DATASET's part-*.parquet hold them.
    """
    from latkit.dataset import LatencyDataset
    from latkit.dataset.foreign import export_dataset

    rows = export_dataset(LatencyDataset.open(dataset), file)
    if as_json:
        print_json({"file": str(file), "rows": rows})
    else:
        note(f"{rows} architectures written to {file}")


def print_summary(summary: dict[str, Any]) -> None:
    """The numbers of ``latkit.dataset.check.summarize`` as a table."""
    target, latency = summary["target"], summary["latency_ms"]
    spread = "–"
    if latency is not None:
        spread = f"{latency['min']:.2f} / {latency['mean']:.2f} / {latency['max']:.2f}"
    print_table(
        f"{target['space']} on {target['device']} with {target['backend']}",
        ["architectures", "rows", "disturbed", "latency min/mean/max ms", "retest sd", "clock"],
        [
            [
                str(summary["architectures"]),
                f"{summary['rows']} ({summary['rows_panel']} panel)",
                str(summary["rows_disturbed"]),
                spread,
                f"{number(summary['retest_sd_percent'], 2)} %",
                summary["clock"] or "–",
            ]
        ],
    )


def _print_check(report: dict[str, Any]) -> None:
    print_summary(report)
    reasons = report["disturbed"]["rows_by_reason"]
    history = [stretch["anchor_median_ms"] for stretch in report["anchor_history"]]
    rows = [
        ["architectures requested", str(report["requested"])],
        ["without an undisturbed visit", str(report["architectures_unusable"])],
        ["retest sd of one visit", f"{number(report['retest_sd_percent'], 2)} %"],
        ["from repeats", str(report["repeats"])],
        ["error of a mean latency", f"{number(report['error_percent'], 2)} %"],
        ["disturbed visits", f"{100 * report['disturbed']['share']:.1f} %"],
        *([f"  {reason}", str(count)] for reason, count in sorted(reasons.items())),
        ["duplicate rows", str(report["duplicate_rows"])],
    ]
    if history:
        rows.append(
            ["anchor over time", f"{_bars(history)} {min(history):.2f}–{max(history):.2f} ms"]
        )
    for run in report["panel_runs"]:
        rows.append(
            [
                f"panel, end/start of run {run['started']}",
                f"{run['shift_percent']:+.2f} % (deviation {run['deviation_percent']:.2f} %)",
            ]
        )
    print_table("quality", ["what", "value"], rows)
    click.echo(f"verdict: {report['verdict']}")
    for finding in report["findings"]:
        warn(finding["text"])


def _bars(values: list[float]) -> str:
    """A line of bars from the smallest to the largest of some values."""
    low, span = min(values), (max(values) - min(values)) or 1.0
    return "".join(BARS[round((v - low) / span * (len(BARS) - 1))] for v in values)


def print_made(path: Path, summary: dict[str, Any], as_json: bool) -> None:
    """What a command that made a dataset ends with."""
    if as_json:
        print_json({"dataset": str(path), **summary})
    else:
        print_summary(summary)
        note(f"written: {path}\nnext: latkit dataset check {path}, latkit train-lpm {path}")


def _setting_slug(target: dict[str, Any]) -> str:
    from latkit.dataset import Target

    return Target.from_dict(target).setting.slug


def _fact(value: object) -> str:
    return "–" if value is None else str(value)
