"""Cells of tables from elsewhere that hold numbers: their notations and units."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from latkit.core.errors import InputError
from latkit.core.quantities import LATENCY, QUANTITIES, Quantity

# What a column of durations has for a unit, where a unit is named.
DURATION = "duration"
_MS = QUANTITIES[LATENCY].units

# As pandas, Python and ISO 8601 write durations: days, hours, minutes, seconds.
_DURATIONS = (
    re.compile(r"(?:(\d+) days?,? )?(\d+):(\d{2}):(\d{2}(?:\.\d+)?)"),
    re.compile(r"P(?:(\d+)D)?T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?"),
)


class BadCellError(Exception):
    """Why a row is bad."""


@dataclass(frozen=True)
class Duration:
    """A cell that carries its own unit."""

    ms: float


@dataclass(frozen=True)
class TableColumn:
    """A column of measurements.

    Attributes:
        name: in the table.
        unit: of its numbers, one of the ``units`` of its quantity; None for
            latencies that are durations, which have their own.
    """

    name: str
    unit: str | None


def check_units(columns: Mapping[str, TableColumn]) -> None:
    """Refuse unknown quantities and units.

    Raises:
        InputError: there is no latency, or a unit is missing or unknown.
    """
    for name in (LATENCY, *columns):
        quantity = QUANTITIES[name]
        if name not in columns:
            raise InputError(f"the table has no column of {quantity.noun}", "name one")
        unit = columns[name].unit
        if unit is None and name != LATENCY:
            raise InputError(f"the column of {quantity.noun} has no unit", _units(quantity))
        if unit is not None and unit not in quantity.units:
            raise InputError(f"unknown unit {unit!r} of {quantity.noun}", _units(quantity))


def measured(quantity: Quantity, column: TableColumn, cell: Any, decimal: str) -> float:
    """The positive number in a cell, in the unit of the quantity.

    Args:
        quantity: what was measured.
        column: where the cell is.
        cell: a number, a text, a :class:`Duration`, or None.
        decimal: what is between the whole and the fraction in texts, ``.`` or ``,``.

    Raises:
        BadCellError: it is no such number.
        InputError: the column has a unit and holds durations, or neither.
    """
    if isinstance(cell, str):
        cell = _duration(cell.strip()) or cell.strip()
    if isinstance(cell, Duration):
        if column.unit is not None:
            raise InputError(
                f"the column {column.name!r} holds durations, which have their own unit",
                f"leave the unit {column.unit} out",
            )
        value = cell.ms
    else:
        value = _number(cell, decimal)
        if column.unit is not None:
            value *= quantity.units[column.unit]
        elif not math.isnan(value):
            raise InputError(
                f"the column {column.name!r} holds numbers and not durations", _units(quantity)
            )
    if not math.isfinite(value) or value <= 0:
        hint = ""
        other = "." if decimal == "," else ","
        if isinstance(cell, str) and re.fullmatch(rf"\d+{re.escape(other)}\d+", cell):
            hint = f" with the decimal mark {decimal!r} (see --decimal)"
        raise BadCellError(f"the {quantity.noun} {short(cell)} is not a positive number{hint}")
    return value


def _units(quantity: Quantity) -> str:
    return f"name its unit, one of: {', '.join(quantity.units)}"


def _number(cell: Any, decimal: str) -> float:
    """A cell's number, NaN where it has none."""
    if isinstance(cell, str):
        # Python's own notation has underscores, which no table means. A point beside a decimal
        # comma marks thousands, or the file mixes two notations.
        if "_" in cell or (decimal != "." and "." in cell):
            return math.nan
        cell = cell.replace(decimal, ".")
    elif not isinstance(cell, (int, float, Decimal)):
        return math.nan
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return math.nan


def _duration(text: str) -> Duration | None:
    for pattern in _DURATIONS:
        if match := pattern.fullmatch(text):
            days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
            return Duration(_MS["s"] * (((days * 24 + hours) * 60 + minutes) * 60 + seconds))
    return None


def short(cell: Any) -> str:
    """A cell as messages show it: no longer than they bear, without bytes that steer terminals."""
    text = "" if cell is None else str(cell)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
