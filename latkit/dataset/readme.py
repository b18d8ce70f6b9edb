"""``README.md`` beside what is shared: what people and the Hugging Face hub show of it.

The hub renders the file and reads the YAML at its top. latkit writes it and never reads it: all
that is in it is in the other files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from latkit.core.quantities import get_quantity
from latkit.dataset.check import summarize
from latkit.dataset.format import Target
from latkit.dataset.latency import LatencyDataset
from latkit.spaces import get_space

README = "README.md"
# Of a licence nothing is known here; the hub has this word for that.
LICENSE = "unknown"
LICENSE_TEXT = (
    "## Licence\n\nUnknown: latkit records none. Ask who published this before you use it beyond "
    "reading; if that is you, write it here and into `license` above."
)
# The hub's sizes, by the number of rows that each begins at.
_SIZES = (
    (1_000_000, "1M<n<10M"), (100_000, "100K<n<1M"), (10_000, "10K<n<100K"), (1_000, "1K<n<10K"),
    (0, "n<1K"),
)  # fmt: skip


def dataset_card(dataset: LatencyDataset) -> str:
    """The ``README.md`` of a dataset; the same dataset has the same text."""
    manifest, summary = dataset.manifest, summarize(dataset)
    spread = summary.latency_ms
    # A space of models has no operations: what was measured are networks, each by its name.
    is_searched = bool(get_space(manifest.target.space).operations)
    networks = f"{escape(manifest.target.space)} architectures" if is_searched else "networks"
    rows = {
        **target_rows(manifest.target),
        "architectures": summary.architectures,
        "rows (measurements)": summary.rows,
        "disturbed rows": summary.rows_disturbed,
        "quantities": ", ".join(map(_quantity, dataset.quantities)),
        "latency, least / mean / most (ms)": " / ".join(
            number(value) for value in (spread and (spread.min, spread.mean, spread.max)) or ()
        )
        or "–",
        "retest error of one measurement (%)": number(summary.retest_sd_percent),
        "error of an architecture's mean (%)": number(summary.error_percent),
        "measured": "imported, nothing is known of the raw times"
        if manifest.anchor is None
        else f"each beside the anchor network {manifest.anchor}",
    }
    size = next(name for least, name in _SIZES if summary.rows >= least)
    return "\n".join(
        (
            front_matter(
                license=LICENSE,
                pretty_name=f"{manifest.target.space} on {manifest.target.device}",
                tags=["latkit", "neural-architecture-search", "latency", manifest.target.space],
                size_categories=[size],
                configs=[{"config_name": "default", "data_files": "part-*.parquet"}],
            ),
            f"# Latencies of {networks} on {escape(manifest.target.device)}\n",
            "One row is one measurement of one network by latkit; `arch_id` and `arch` name it, "
            "`latency_ms` is what it took.\n",
            table("what", "value", rows),
            "## The machine\n",
            table("fact", "value", facts(manifest.fingerprint)),
            "## Use\n",
            "```\nlatkit dataset pull URL d    # verifies every file's SHA-256\n"
            f"latkit dataset check d\n{'latkit train-lpm d' if is_searched else ''}".rstrip()
            + "\n```\n",
            LICENSE_TEXT,
            "",
        )
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


def _quantity(name: str) -> str:
    quantity = get_quantity(name)
    return f"{quantity.noun} ({quantity.unit})"
