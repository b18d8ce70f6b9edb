"""``latkit report``"""

from __future__ import annotations

from typing import Any

import click

from latkit.cli.output import UserPath, json_option, note, print_json
from latkit.cli.progress import Terminal


@click.command(name="report")
@click.argument("inputs", nargs=-1, required=True)
@click.option("--out", type=UserPath(), default="report.html", show_default=True, help="File.")
@click.option(
    "--format", type=click.Choice(["html", "md", "json"]), help="[default: by the file's suffix]"
)
@click.option("--title", default="Latency report", show_default=True, help="Of the page.")
@json_option
def command(as_json: bool, **fields: Any) -> None:
    """Make one page of whatever was measured, predicted, searched and trained.

    INPUTS are datasets, LPMs (folders, or references such as p100), searches, sweeps, trainings,
    measurements, results of benchmarks, what latkit train-lpm --json printed, or folders of these.
    The page is one file that needs no network and no JavaScript, and prints; every number says how
    it is known, and every figure has its data in it.

    \b
    Examples:
      latkit report datasets/my-gpu my-gpu searches/my-gpu --out report.html
      latkit report experiments --title 'Jetson, March' --out report.md
      latkit report experiments --out report.json
    """
    from latkit.reports.report import ReportRequest, report

    result = report(ReportRequest(**fields), Terminal())
    if as_json:
        print_json(result.to_dict())
        return
    for headline in result.report.headlines:
        click.echo(f"{headline.device}: {headline.best} ({headline.confidence} confidence)")
    note(f"written: {result.file} ({result.nbytes / 1e3:.0f} kB)\nnext: open it in a browser")
