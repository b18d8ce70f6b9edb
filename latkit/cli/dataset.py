"""``latkit dataset``"""

from __future__ import annotations

from pathlib import Path

import click

from latkit.cli.dataset_import import import_files
from latkit.cli.dataset_sharing import pull, push
from latkit.cli.output import Percent, UserPath, json_option, note, print_json, print_table, show
from latkit.cli.progress import Terminal

FOLDER = UserPath()
UNFIT_EXIT_CODE = 3


@click.group(name="dataset")
def command() -> None:
    """Check, compare, merge, import, export and share datasets."""


for added in (import_files, push, pull):
    command.add_command(added)


@command.command(name="list")
@click.argument("folder", type=FOLDER, default=Path("datasets"))
@json_option
def list_command(folder: Path, as_json: bool) -> None:
    """Every dataset below FOLDER (default: ./datasets)."""
    from latkit.dataset.listing import list_datasets

    datasets = list_datasets(folder, Terminal())
    if as_json:
        print_json({"datasets": [dataset.to_dict() for dataset in datasets]})
        return
    print_table(
        f"datasets below {folder}",
        ["dataset", "space", "device", "backend", "setting", "requested", "rows"],
        [
            [
                str(dataset.path),
                dataset.target.space,
                dataset.target.device,
                dataset.target.backend,
                dataset.target.setting.slug,
                str(dataset.requested),
                str(dataset.rows),
            ]
            for dataset in datasets
        ],
    )
    note("next: latkit dataset check DATASET" if datasets else "next: latkit profile")


@command.command(name="show")
@click.argument("dataset", type=FOLDER)
@json_option
def show_dataset(dataset: Path, as_json: bool) -> None:
    """What DATASET holds, and the machine and protocol it was measured with."""
    from latkit.dataset import LatencyDataset
    from latkit.dataset.check import summarize
    from latkit.reports.dataset import facts_parts, summary_parts

    opened = LatencyDataset.open(dataset)
    summary = summarize(opened)
    if as_json:
        manifest = opened.manifest.to_dict()
        print_json({"dataset": str(dataset), **summary.to_dict(), **manifest})
        return
    show(summary_parts(summary))
    show(facts_parts(summary, opened.manifest))
    note(f"next: latkit dataset check {dataset}")


@command.command(name="check")
@click.argument("dataset", type=FOLDER)
@click.option(
    "--max-error",
    type=Percent(),
    default=0.05,
    help="Relative error of an architecture's mean latency, judged by the replicates, above which "
    "the dataset is unfit [default: 5%].",
)
@json_option
@click.pass_context
def check(context: click.Context, dataset: Path, max_error: float, as_json: bool) -> None:
    """Judge whether DATASET can be trusted: retest error, disturbed rows, drift, duplicates.

    The verdict is good, usable (with notes to read) or unfit; the exit code is 3 if unfit (and 1
    if DATASET cannot be read).
    --json has the anchor's history for a plot of the machine's drift.
    """
    from latkit.dataset import LatencyDataset
    from latkit.dataset.check import check_dataset
    from latkit.reports.dataset import check_parts

    report = check_dataset(LatencyDataset.open(dataset), max_error)
    if as_json:
        print_json({"dataset": str(dataset), **report.to_dict()})
    else:
        show(check_parts(report))
        if report.verdict != "unfit":
            note(f"next: latkit train-lpm {dataset}")
    if report.verdict == "unfit":
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
    from latkit.reports.dataset import comparison_parts

    report = compare_datasets(LatencyDataset.open(first), LatencyDataset.open(second))
    if as_json:
        print_json({"first": str(first), "second": str(second), **report.to_dict()})
    else:
        show(comparison_parts(f"{second} against {first}", report))


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
    from latkit.dataset import LatencyDataset
    from latkit.dataset.check import summarize
    from latkit.dataset.merge import merge_datasets
    from latkit.reports.dataset import made_parts

    opened = [LatencyDataset.open(path) for path in datasets]
    summary = summarize(merge_datasets(opened, out, unlike_machines))
    if as_json:
        print_json({"dataset": str(out), **summary.to_dict()})
    else:
        show(made_parts(out, summary))


@command.command(name="export")
@click.argument("dataset", type=FOLDER)
@click.argument("file", type=FOLDER)
@json_option
def export_file(dataset: Path, file: Path, as_json: bool) -> None:
    """Write DATASET to a new FILE (*.csv or *.parquet), one row an architecture.

    Disturbed measurements and the panel are left out, replicates are averaged. The raw rows need no
    export: DATASET's part-*.parquet hold them.
    """
    from latkit.dataset import LatencyDataset
    from latkit.dataset.tables import export_dataset

    rows = export_dataset(LatencyDataset.open(dataset), file)
    if as_json:
        print_json({"file": str(file), "rows": rows})
    else:
        note(f"{rows} architectures written to {file}")
