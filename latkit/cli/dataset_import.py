"""``latkit dataset import``"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latkit.cli.output import UserPath, json_option, warn
from latkit.core.quantities import COSTS, LATENCY

if TYPE_CHECKING:
    from latkit.dataset.foreign import BadRow

# Bad rows of an imported table that are printed one by one, and ranges of the others' numbers;
# --json has them all.
SHOWN_BAD_ROWS = 20
SHOWN_RANGES = 10
UNITS = {name: click.Choice(list(cost.units)) for name, cost in COSTS.items()}


@click.command(name="import")
@click.argument("files", nargs=-1, required=True)
@click.option("--space", default="darts", show_default=True, help="Search space.")
@click.option("--arch-column", help="Column of the architectures.")
@click.option(
    "--arch-row-number",
    is_flag=True,
    help="No column names the architectures: the row's number, from 0 on, is the identifier.",
)
@click.option(
    "--op-order",
    help="What lists of operation numbers mean: native (the order of the space), naslib (for "
    "nasbench201), or the operations in the order of their numbers, with commas between them.",
)
@click.option("--latency-column", required=True, help="Column of the latencies.")
@click.option(
    "--unit", type=UNITS[LATENCY], help="Of the latencies; leave it out where they are durations."
)
@click.option("--energy-column", help="Column of the energies of one run, if there is one.")
@click.option("--energy-unit", type=UNITS["energy_mj"], help="Of the energies.")
@click.option("--memory-column", help="Column of the peak memories, if there is one.")
@click.option("--memory-unit", type=UNITS["peak_memory_mb"], help="Of the memories.")
@click.option(
    "--decimal",
    type=click.Choice([".", ","]),
    default=".",
    show_default=True,
    help="Decimal mark of the numbers in text.",
)
@click.option("--device", required=True, help="Your short name for the hardware.")
@click.option("--backend", required=True, help="Name of the runtime that was measured.")
@click.option(
    "--setting",
    "setting_text",
    help="The network around the cell that was measured (see latkit profile --help) [default: the "
    "space's first: imagenet, nasbench201 or fbnet].",
)
@click.option("--out", type=UserPath(), required=True, help="Folder of the new dataset.")
@click.option(
    "--skip-bad-rows", is_flag=True, help="Import the other rows of a table with bad rows."
)
@json_option
def import_files(
    files: tuple[str, ...],
    space: str,
    arch_column: str | None,
    arch_row_number: bool,
    op_order: str | None,
    latency_column: str,
    unit: str | None,
    energy_column: str | None,
    energy_unit: str | None,
    memory_column: str | None,
    memory_unit: str | None,
    decimal: str,
    device: str,
    backend: str,
    setting_text: str | None,
    out: Path,
    skip_bad_rows: bool,
    as_json: bool,
) -> None:
    """Make a dataset of FILES, a table of latencies measured elsewhere.

    FILES are text (with commas, semicolons or tabs), Parquet or Arrow (Feather), compressed or
    not; several files, a folder or a pattern are one table, and each may be an fsspec URL. It may
    have energies and peak memories as well (latkit train-lpm --cost). Units are never guessed:
    each column of numbers needs its own.

    An architecture is its canonical text, its identifier (a whole number), a list of operation
    numbers, or a Genotype(...). Several rows of one architecture are repeated measurements.
    Rows with an unknown architecture, or a number that is not positive, are reported by their
    line (in Parquet and Arrow, by their row), and nothing is written unless --skip-bad-rows is
    given.

    \b
    Example:
      latkit dataset import table.csv --arch-column cell --latency-column p100 --unit ms \\
        --device p100 --backend torch-cuda --setting paper --out datasets/p100
    """
    from latkit.cli.dataset import print_made
    from latkit.core.device import check_backend_name, check_device_name
    from latkit.core.errors import DatasetError, InputError
    from latkit.dataset import Target
    from latkit.dataset.check import summarize
    from latkit.dataset.foreign import ForeignColumn, read_foreign, write_imported
    from latkit.dataset.plausibility import doubts
    from latkit.spaces import default_setting, get_space, parse_setting

    get_space(space)
    names = check_device_name(device), check_backend_name(backend)
    target = Target(space, *names, parse_setting(setting_text or default_setting(space)))
    if (arch_column is None) != arch_row_number:
        raise InputError(
            "an architecture is named by a column or by the row's number",
            "give either --arch-column or --arch-row-number",
        )
    columns = {LATENCY: ForeignColumn(latency_column, unit)}
    for name, option, column, its_unit in (
        ("energy_mj", "energy", energy_column, energy_unit),
        ("peak_memory_mb", "memory", memory_column, memory_unit),
    ):
        if (column is None) != (its_unit is None):
            given, other = ("unit", "column") if column is None else ("column", "unit")
            raise InputError(f"--{option}-{given} needs --{option}-{other}", "give both or neither")
        if column is not None and its_unit is not None:
            columns[name] = ForeignColumn(column, its_unit)
    foreign = read_foreign(files, target, arch_column, columns, decimal=decimal, op_order=op_order)
    several = len(foreign.files) > 1
    bad = foreign.bad_rows
    if bad and not skip_bad_rows:
        _warn_of_bad_rows(bad, several)
        table = f"{len(foreign.files)} files" if several else foreign.files[0]
        raise DatasetError(
            f"{len(bad)} of {len(bad) + foreign.table.num_rows} rows of {table} cannot be "
            f"imported, the first is {_place(bad[0], several)}",
            "mend them, or import the others with --skip-bad-rows",
        )
    made = write_imported(foreign, target, out)
    if not as_json:
        _warn_of_bad_rows(bad, several)
    notes = list(doubts(made))
    for text in notes:
        warn(text)
    facts = {"bad_rows": [dataclasses.asdict(row) for row in bad], "notes": notes}
    print_made(made.path, {**summarize(made), **facts}, as_json)


def _place(row: BadRow, several: bool) -> str:
    return f"{row.file}, {row.place}" if several else row.place


def _warn_of_bad_rows(bad: tuple[BadRow, ...], several: bool) -> None:
    for row in bad[:SHOWN_BAD_ROWS]:
        warn(f"{_place(row, several)}: {row.reason}")
    others = bad[SHOWN_BAD_ROWS:]
    if others:
        by_file = [
            (file, _ranges([row.number for row in rows]))
            for file, rows in itertools.groupby(others, lambda row: row.file)
        ]
        shown = [
            f"{f'of {file}, ' if several else ''}{', '.join(ranges[:SHOWN_RANGES])}"
            f"{', …' if len(ranges) > SHOWN_RANGES else ''}"
            for file, ranges in by_file[:SHOWN_RANGES]
        ]
        more = "; …" if len(by_file) > SHOWN_RANGES else ""
        warn(f"and {len(others)} more, at {'; '.join(shown)}{more}")


def _ranges(numbers: list[int]) -> list[str]:
    """``["25-29", "31"]`` of rising numbers."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1][1:] = [n]
        else:
            runs.append([n])
    return ["-".join(map(str, run)) for run in runs]
