"""What every command prints with: notes, tables, progress and JSON.

Results go to stdout; notes and progress go to stderr, so that ``--json`` can be piped.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from latkit.cli.streams import columns_of, is_rewritable, is_styled, printable
from latkit.core.files import expand_user

F = TypeVar("F", bound=Callable[..., Any])

# What every generator takes, and room for what is derived from it.
SEED = click.IntRange(0, 2**32 - 1)


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
        cores: list[int] = []
        for part in str(value).split(","):
            match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part.strip())
            if match is None or int(match[2] or match[1]) < int(match[1]):
                self.fail(f"{value!r} is not a list of cores, e.g. 0,2-3", param, ctx)
            cores += range(int(match[1]), int(match[2] or match[1]) + 1)
        return tuple(dict.fromkeys(cores))


class UserPath(click.Path):
    """A path; the ``~`` of ``--out=~/d``, which a shell leaves, is expanded."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and re.match(r"[A-Za-z][\w.+-]+://", value):
            self.fail(f"{value!r} is a URL, and a path of this machine is needed", param, ctx)
        path = expand_user(value) if isinstance(value, str) else value
        return super().convert(path, param, ctx)


# Seconds between progress lines where stderr is no terminal.
LINE_SECONDS = 15.0
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


class ProgressLine:
    """Progress of a long task with rate and remaining time, on stderr.

    On a terminal one line that is rewritten, elsewhere a line every ``LINE_SECONDS``.

    Args:
        label: what is counted.
        total: how many there are.
        done: how many were done before.
    """

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self.label = label
        self.total = total
        self._first = done
        self._started = self._shown = time.monotonic()
        self._terminal = is_rewritable(sys.stderr)
        self._width = 0

    def found_done(self, more: int) -> None:
        """Tell of more that were done before: they are no work of this run."""
        self._first += more

    def remaining_seconds(self, done: int, elapsed: float) -> float | None:
        """What is left at the rate of this run; None: nothing tells yet."""
        worked = done - self._first
        return (self.total - done) * elapsed / worked if worked > 0 else None

    def update(self, done: int, detail: str = "") -> None:
        """Tell how many are done now."""
        now = time.monotonic()
        if now - self._shown < (0.1 if self._terminal else LINE_SECONDS) and done < self.total:
            return
        self._shown = now
        elapsed = now - self._started
        rate = (done - self._first) / elapsed if elapsed else 0.0
        seconds = self.remaining_seconds(done, elapsed)
        remaining = "?" if seconds is None else _duration(seconds)
        text = (
            f"{self.label} {done}/{self.total} ({100 * done // self.total} %)  "
            f"{_duration(elapsed)} elapsed, {remaining} left, {rate:.3g}/s  {detail}"
        ).rstrip()
        if self._terminal:
            # A line that wraps cannot be rewritten.
            text = text[: columns_of(sys.stderr) - 1]
            click.echo("\r" + text.ljust(self._width), err=True, nl=False)
            self._width = len(text)
        else:
            note(text)

    def close(self) -> None:
        """Leave the line."""
        if self._terminal and self._width:
            click.echo(err=True)


class SharedProgress:
    """One line for several tasks of the same size, of which parts may have been done before.

    Args:
        label: what is counted.
        names: of the tasks.
        each: how many each has.
    """

    def __init__(self, label: str, names: Sequence[str], each: int) -> None:
        self.line = ProgressLine(label, len(names) * each)
        self.done: dict[str, int] = {}
        self._each = each

    def update(self, name: str, done: int, before: int, detail: str = "") -> None:
        """Tell how many a task has done, and how many of these an earlier run did."""
        if name not in self.done:
            self.line.found_done(before)
        self.done[name] = done
        self.line.update(sum(self.done.values()), detail)

    def end(self, name: str) -> None:
        """A task is over; what it has not told of, it has not done in this run."""
        self.line.found_done(self._each - self.done.get(name, 0))
        self.done[name] = self._each

    def close(self) -> None:
        """Leave the line."""
        self.line.close()


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d} h"


def number(value: float | int | None, digits: int = 3) -> str:
    """A number for a table; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"
