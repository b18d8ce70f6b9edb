"""Tables in pages of docs/ that scripts make, between lines that name the table and the script."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def rewrite(text: str, tables: Mapping[str, Sequence[str]], script: str) -> str:
    """A page with its tables made anew.

    Args:
        text: of the page.
        tables: lines of each by its name.
        script: that makes them, e.g. ``benchmarks/hardware.py``.

    Raises:
        ValueError: the page has no place for one.
    """
    end = "<!-- end -->"
    for name, lines in tables.items():
        begin = f"<!-- begin {name}: made by {script} -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not found or not ended:
            raise ValueError(f"the page lacks the lines {begin} and {end}")
        text = "\n".join([before + begin, "", *lines, "", end]) + after
    return text


def main(about: str, page: Path, remade: Callable[[str], str], script: str) -> None:
    """The command of such a script: write the page or, with ``--check``, compare it.

    Args:
        about: the first line of its help.
        page: its path.
        remade: the page's text with its tables made anew.
        script: as of :func:`rewrite`.

    Raises:
        SystemExit: with ``--check``, the page's tables are others.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    text = page.read_text(encoding="utf-8")
    made = remade(text)
    if not options.check:
        page.write_text(made, encoding="utf-8")
    elif made != text:
        raise SystemExit(f"{page} has other tables: run python {script}")
