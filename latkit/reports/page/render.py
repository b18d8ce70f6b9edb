"""A report as HTML, Markdown or JSON."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

from latkit.reports.figures.picture import ROLES
from latkit.reports.figures.svg import inline_svg
from latkit.reports.page.blocks import Figure, Number, Remark, Table
from latkit.reports.page.build import Report

FORMATS = ("html", "md", "json")
# On a dark page: as far from it as those of ``ROLES`` are from white.
DARK = {
    "ink": "#e8ebef",
    "muted": "#a3adb9",
    "grid": "#343b45",
    "paper": "#14181d",
    "mass": "#4a9fd8",
    "series1": "#f2a35e",
    "series2": "#4fc9a0",
    "series3": "#e58ab8",
    "series4": "#5cb4ef",
    "series5": "#d8b84a",
    "series6": "#93b7e3",
}


def render(report: Report, format: str) -> str:
    """A report as a text.

    Args:
        report: what is rendered.
        format: one of ``FORMATS``.
    """
    return {"html": as_html, "md": as_markdown, "json": as_json}[format](report)


def as_json(report: Report) -> str:
    """For machines: every number of the page, unrounded."""
    return json.dumps(report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_html(report: Report) -> str:
    """One page that needs nothing else: its pictures and its style are in it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("latkit.reports.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = itertools.count(1)

    def picture(figure: Figure, key: str) -> Markup:
        # The texts in it are escaped where it is made.
        return Markup(inline_svg(figure.picture(), key, figure.title, figure.description))

    environment.filters["shown"] = shown
    environment.filters["slug"] = lambda text: text.replace(" ", "-")
    environment.tests["table"] = lambda block: isinstance(block, Table)
    environment.tests["remark"] = lambda block: isinstance(block, Remark)
    template = environment.get_template("report.html.j2")
    style = environment.get_template("style.css").render()
    page = template.render(
        report=report,
        style=Markup(style),
        light=ROLES,
        dark=DARK,
        picture=picture,
        next_key=lambda: f"b{next(numbers)}",
    )
    return re.sub(r"\n\s*\n+", "\n", page).lstrip()


def shown(number: Number) -> str:
    """A number of the first screen, with its spread where that is known."""
    text = f"{number.value:,.{number.digits}f}"
    return text if number.spread is None else f"{text} ± {number.spread:,.{number.digits}f}"


def as_markdown(report: Report) -> str:
    """For a repository: tables, and of figures what they show and their data."""
    lines = [f"# {_plain(report.title)}", ""]
    lines += [f"Made by latkit {report.latkit_version} on {report.created_at}.", ""]
    for headline in report.headlines:
        lines += [f"## Best for {_plain(headline.device)}", "", _plain(headline.best), ""]
        lines += [
            f"- **{shown(number)} {number.unit}** {_plain(number.label)}{_marks(number.evidence)}"
            for number in headline.numbers
        ]
        lines += ["", f"How sure: {headline.confidence} confidence.", ""]
        lines += [
            f"- {_plain(reason.text)}{_marks(reason.evidence)}" for reason in headline.reasons
        ]
        lines.append("")
    for section in report.sections:
        lines += [f"## {_plain(section.title)}", ""]
        for block in section.blocks:
            if isinstance(block, Table):
                lines += _table(block)
            elif isinstance(block, Remark):
                warning = "**Note:** " if block.warns else ""
                lines += [f"{warning}{_plain(block.text)}{_marks(block.evidence)}", ""]
            else:
                lines += _figure(block)
    lines += ["## Made of", "", *(f"- {_plain(name)} ({kind})" for name, kind in report.inputs)]
    lines += [f"- left out: {_plain(text)}" for text in report.left_out]
    return "\n".join(lines) + "\n"


def _table(table: Table) -> list[str]:
    names = [f"{_plain(c.name)}{_marks(c.evidence)}" for c in table.columns]
    rule = ["---" if c.digits is None else "---:" for c in table.columns]
    rows = [
        [_plain(column.show(cell)) for column, cell in zip(table.columns, row, strict=True)]
        for row in table.rows
    ]
    lines = [f"| {' | '.join(cells)} |" for cells in (names, rule, *rows)]
    if table.folded:
        body = ["<details>", f"<summary>{_plain(table.title)}</summary>", "", *lines]
        lines = [*body, "", "</details>"]
    else:
        lines = [f"### {_plain(table.title)}", "", *lines]
    return [*lines, "", *([_plain(table.note), ""] if table.note else [])]


def _figure(figure: Figure) -> list[str]:
    # No line of CSV begins like a fence: names of columns and numbers stand first.
    return [
        f"### {_plain(figure.title)}", "", f"{_plain(figure.description)}{_marks(figure.evidence)}",
        "", "<details>", "<summary>data as CSV</summary>", "", "````csv", figure.csv().rstrip("\n"),
        "````", "", "</details>", "",
    ]  # fmt: skip


def _marks(evidence: Any) -> str:
    return f" ({', '.join(evidence)})" if evidence else ""


def _plain(text: str) -> str:
    """A text in which Markdown finds nothing to format, on one line."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(text.split()))
