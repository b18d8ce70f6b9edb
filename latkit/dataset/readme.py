"""``README.md`` beside what is shared: what people and the Hugging Face hub show of it.

The hub renders the file and reads the YAML at its top. latkit writes it and never reads it: all
that is in it is in the other files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from latkit.dataset.format import Target

README = "README.md"
# Of a licence nothing is known here; the hub has this word for that.
LICENSE = "unknown"
LICENSE_TEXT = (
    "## Licence\n\nUnknown: latkit records none. Ask who published this before you use it beyond "
    "reading; if that is you, write it here and into `license` above."
)


def front_matter(**fields: Any) -> str:
    """The YAML at the top of a card. JSON is YAML, and leaves no name unquoted."""
    lines = [f"{name}: {json.dumps(value)}" for name, value in fields.items()]
    return "\n".join(("---", *lines, "---", ""))


def target_rows(target: Target) -> dict[str, str]:
    """What a dataset or an LPM is about, by the names that people read."""
    return {
        "search space": target.space,
        "device": target.device,
        "backend": target.backend,
        "setting": target.setting.slug,
    }


def facts(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of a machine; a fingerprint has null for what is not."""
    known = {name: value for name, value in fingerprint.items() if value is not None}
    return known or {"unknown": "–"}


def table(left: str, right: str, rows: Mapping[str, Any]) -> str:
    """A Markdown table of two columns."""
    return table_of([[left, right], *([name, value] for name, value in rows.items())])


def table_of(rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table; the first row is its head."""
    first, *others = [[escape(cell) for cell in row] for row in rows]
    lines = [first, ["---"] * len(first), *others]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def number(value: Any) -> str:
    """A number with four digits, or a dash."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"{value:.4g}" if is_number else "–"


def escape(value: Any) -> str:
    """A value as text on one line in which Markdown and HTML find no signs of theirs."""
    text = " ".join(str(value).split())[:500]
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("[", "&#91;"),
                          ("`", "&#96;")):  # fmt: skip
        text = text.replace(sign, written)
    return text
