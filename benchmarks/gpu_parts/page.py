"""The Markdown page of a run, made from its JSON alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

# Of more rows than this a page shows none; the JSON has them.
MOST_ROWS = 12


def page(run: dict[str, Any]) -> str:
    """The page of ``gpu.json``."""
    where = hardware(run)
    lines = [
        f"# latkit on {where}, {run['started_at'][:10]}",
        "",
        f"Made by `{run['command']}` from `gpu.json`, which has every raw number; do not edit. "
        f"latkit {run['latkit_version']}, commit {run['commit']}, {run['seconds']:.0f} s in all.",
        "",
    ]
    if run["device"] != "cuda" or run["quick"]:
        kind = "on a CPU, with torch-cpu in place of torch-cuda" if run["device"] != "cuda" else ""
        scaled = "scaled down: its numbers mean nothing" if run["quick"] else ""
        lines += [f"**This run is {' and '.join(filter(None, (kind, scaled)))}.**", ""]
    lines += [*table(run["parts"]), ""]
    for part in run["parts"]:
        lines += section(part)
    return "\n".join(lines).rstrip() + "\n"


def table(parts: Iterable[dict[str, Any]]) -> list[str]:
    """The table of all parts."""
    rows = [(part["name"], part["verdict"], f"{part['seconds']:.0f}", told(part)) for part in parts]
    return markdown(("part", "verdict", "seconds", "figure"), rows)


def told(part: dict[str, Any]) -> str:
    """A part's figure, and why it is not ``ok`` where it is not."""
    return "; ".join(filter(None, (part["reason"], part["figure"])))


def section(part: dict[str, Any]) -> list[str]:
    """What a part reported."""
    lines = [f"## {part['name']}: {part['title']}", ""]
    reason = f" ({part['reason']})" if part["reason"] else ""
    lines += [f"{part['verdict']}{reason}, {part['seconds']:.1f} s", ""]
    if part["commands"]:
        lines += ["```", *part["commands"], "```", ""]
    if part["checks"]:
        rows = [
            (check["name"], "yes" if check["passed"] else "**no**", check["detail"])
            for check in part["checks"]
        ]
        lines += [*markdown(("check", "holds", "detail"), rows), ""]
    lines += results(part["results"])
    return lines


def results(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Plain values as one table, lists of objects as tables, objects by their names."""
    plain, rest = [], []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            rest += results(value, f"{name}.")
        elif is_table(value):
            if len(value) <= MOST_ROWS:
                columns = list(dict.fromkeys(key for row in value for key in row))
                rows = [[text(row.get(column)) for column in columns] for row in value]
                rest += [f"{name}:", "", *markdown(columns, rows), ""]
            else:
                plain.append((name, f"{len(value)} rows in gpu.json"))
        else:
            plain.append((name, text(value)))
    head = [*markdown(("", "value"), plain), ""] if plain else []
    return head + rest


def is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table; what would break its cells is escaped."""

    def line(cells: Iterable[str]) -> str:
        flat = (" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(flat)} |"

    return [line(columns), "|" + "---|" * len(columns), *map(line, rows)]


def text(value: Any) -> str:
    """A value with as many digits as mean something."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(text, value))
    return "" if value is None else str(value)


def hardware(run: dict[str, Any]) -> str:
    """The name of the hardware a run was on."""
    for part in run["parts"]:
        if "hardware" in part["results"]:
            return str(part["results"]["hardware"])
    return "unknown hardware"
