"""``latkit dataset import``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from latkit.cli.output import UserPath, json_option, print_json, show, warn
from latkit.cli.progress import Terminal
from latkit.core.errors import InputError
from latkit.core.quantities import COSTS, LATENCY, get_quantity

if TYPE_CHECKING:
    from latkit.dataset.tables import ImportResult

UNITS = {name: click.Choice(list(get_quantity(name).units)) for name in COSTS}


# fmt: off
@click.command(name="import")
@click.argument("files", nargs=-1, required=True)
@click.option("--space", default="darts", show_default=True, help="Search space.")
@click.option("--arch-column", help="Column of the architectures.")
@click.option("--arch-row-number", is_flag=True,
              help="No column names the architectures: the row's number, from 0 on, is the "
                   "identifier.")
@click.option("--op-order",
              help="What lists of operation numbers mean: native (the order of the space), naslib "
                   "(for nasbench201), or the operations in the order of their numbers, with "
                   "commas between them.")
@click.option("--latency-column", help="Column of the latencies.")
@click.option("--unit", type=UNITS[LATENCY],
              help="Of the latencies; leave it out where they are durations.")
@click.option("--energy-column", help="Column of the energies of one run, if there is one.")
@click.option("--energy-unit", type=UNITS["energy_mj"], help="Of the energies.")
@click.option("--memory-column", help="Column of the peak memories, if there is one.")
@click.option("--memory-unit", type=UNITS["peak_memory_mb"], help="Of the memories.")
@click.option("--decimal", type=click.Choice([".", ","]), default=".", show_default=True,
              help="Decimal mark of the numbers in text.")
@click.option("--device", help="Your short name for the hardware; of a bundle's results the "
                              "default is made from the board's own name.")
@click.option("--backend", help="Name of the runtime that was measured.")
@click.option("--setting",
              help="The network around the cell that was measured (see latkit profile --help) "
                   "[default: the space's first: imagenet, nasbench201 or fbnet].")
@click.option("--out", type=UserPath(), required=True, help="Folder of the new dataset.")
@click.option("--skip-bad-rows", is_flag=True,
              help="Import the other rows of a table with bad rows.")
@json_option
@click.pass_context
def import_files(context: click.Context, /, as_json: bool, **fields: Any) -> None:
    """Make a dataset of FILES: what a bundle measured, or a table of latencies from elsewhere.

    A bundle's results (latkit bundle) are one folder, or a ZIP or tar archive of it, and need
    --out alone. Of a table --latency-column, --device and --backend are needed too.

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
    Examples:
      latkit dataset import results --device my-board --out datasets/my-board
      latkit dataset import table.csv --arch-column cell --latency-column p100 --unit ms \\
        --device p100 --backend torch-cuda --setting paper --out datasets/p100
    """
    from latkit.dataset.results import import_results
    from latkit.reports.dataset import made_parts

    if fields["latency_column"] is None:
        _check_options(context, allowed=("files", "out", "device", "as_json"))
        first, *others = fields["files"]
        if others:
            raise InputError("results of bundles are imported one by one", "name one folder")
        result = import_results(first, fields["out"], fields["device"])
    else:
        result = _import_table(**fields)
    for text in (*(() if as_json else result.describe_bad_rows()), *result.notes):
        warn(text)
    if as_json:
        print_json(result.to_dict())
    else:
        show(made_parts(result.dataset.path, result.summary))


def _check_options(context: click.Context, allowed: tuple[str, ...]) -> None:
    source = click.core.ParameterSource
    for option in context.command.params:
        name = option.name or ""
        given = context.get_parameter_source(name) in (source.COMMANDLINE, source.DEFAULT_MAP)
        if given and option.expose_value and name not in allowed:
            raise InputError(
                f"results of a bundle take no {option.opts[0]}",
                "leave it out, or name the --latency-column of a table",
            )


def _import_table(
    space: str, device: str | None, backend: str | None, setting: str | None,
    arch_row_number: bool, **fields: Any,
) -> ImportResult:
    from latkit.core.device import check_backend_name, check_device_name
    from latkit.dataset import Target
    from latkit.dataset.tables import ImportRequest, TableColumn, import_table
    from latkit.spaces import default_setting, parse_setting

    if device is None or backend is None:
        raise InputError("a table needs --device and --backend", "give both")
    given = parse_setting(setting or default_setting(space))
    target = Target(space, check_device_name(device), check_backend_name(backend), given)
    if (fields["arch_column"] is None) != arch_row_number:
        raise InputError(
            "an architecture is named by a column or by the row's number",
            "give either --arch-column or --arch-row-number",
        )
    columns = {LATENCY: TableColumn(fields.pop("latency_column"), fields.pop("unit"))}
    for name, option in (("energy_mj", "energy"), ("peak_memory_mb", "memory")):
        column, unit = fields.pop(f"{option}_column"), fields.pop(f"{option}_unit")
        if (column is None) != (unit is None):
            here, other = ("unit", "column") if column is None else ("column", "unit")
            raise InputError(f"--{option}-{here} needs --{option}-{other}", "give both or neither")
        if column is not None:
            columns[name] = TableColumn(column, unit)
    return import_table(ImportRequest(target=target, columns=columns, **fields), Terminal())
# fmt: on
