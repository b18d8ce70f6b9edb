"""What every command prints with: notes, tables, progress and JSON.

Results go to stdout; notes and progress go to stderr, so that ``--json`` can be piped.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latkit.core.cores import parse_cores
from latkit.core.errors import InputError
from latkit.core.files import expand_user
from latkit.core.requests import MOST_SEED
from latkit.core.streams import columns_of, is_styled, printable

if TYPE_CHECKING:
    from latkit.reports.parts import Part

F = TypeVar("F", bound=Callable[..., Any])

# What every generator takes, and room for what is derived from it.
SEED = click.IntRange(0, MOST_SEED)


class Percent(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.3 on
    """A share written in percent, ``1.5%`` or ``1.5``; its value is the share, 0.015."""

    name = "percent"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        try:
            share = float(str(value).removesuffix("%")) / 100
        except ValueError:
            share = math.nan
        if not 0 < share < 1:
            self.fail(f"{value!r} is not a percentage between 0 and 100, e.g. 1.5%", param, ctx)
        return share


class Cores(click.ParamType):  # type: ignore[type-arg]
    """Core numbers, ``0,2-3``; its value is a tuple of them."""

    name = "cores"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return parse_cores(str(value))
        except InputError as error:
            self.fail(f"{error.cause}, e.g. 0,2-3", param, ctx)


class UserPath(click.Path):
    """A path; the ``~`` of ``--out=~/d``, which a shell leaves, is expanded."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and re.match(r"[A-Za-z][\w.+-]+://", value):
            self.fail(f"{value!r} is a URL, and a path of this machine is needed", param, ctx)
        path = expand_user(value) if isinstance(value, str) else value
        return super().convert(path, param, ctx)


# Below this many columns a table whose words do not fit is printed row by row.
NARROW = 60


def json_option(function: F) -> F:
    """The ``--json`` flag that every command has."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object instead of tables."
    )(function)


def note(message: str) -> None:
    """A line for the person, on stderr."""
    click.echo(message, err=True)


def heading(message: str) -> None:
    """A line that begins a part, on stderr."""
    click.secho(message, err=True, bold=True, color=is_styled(sys.stderr))


def warn(message: str) -> None:
    """A line the person should not miss, on stderr."""
    click.secho(f"warning: {message}", err=True, fg="yellow", color=is_styled(sys.stderr))


def print_json(value: Any) -> None:
    """The command's result as JSON on stdout."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, allow_nan=False)
    click.echo(text)


def show(parts: Iterable[Part]) -> None:
    """Print a report: tables and lines on stdout, remarks on stderr."""
    from latkit.reports.parts import Caution, Note, Table

    for part in parts:
        if isinstance(part, Table):
            print_table(part.title, part.columns, part.rows)
        elif isinstance(part, Note):
            note(part.text)
        elif isinstance(part, Caution):
            warn(part.text)
        else:
            click.echo(part.text)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; nothing in it is cut where stdout is not a terminal."""
    from rich.console import Console
    from rich.table import Table

    title, *columns = [printable(text, sys.stdout) for text in (title, *columns)]
    rows = [[printable(cell, sys.stdout) for cell in row] for row in rows]
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    width = columns_of(sys.stdout) if sys.stdout.isatty() else 120
    if width < NARROW and _needed_columns(columns, rows) > width:
        click.echo(title)
        for row in rows:
            cells = zip(columns, row, strict=True)
            click.echo("")
            click.echo("\n".join(f"{name}: {cell}" if name else cell for name, cell in cells))
        return
    console = Console(
        width=width,
        highlight=False,
        markup=False,
        color_system="auto" if is_styled(sys.stdout) else None,
    )
    console.print(table)


def _needed_columns(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """How wide a table is whose words are not broken before their eighth letter."""
    needed = 1
    for cells in zip(columns, *rows, strict=True):
        longest = max((len(word) for cell in cells for word in cell.split()), default=0)
        needed += min(8, longest) + 3
    return needed
