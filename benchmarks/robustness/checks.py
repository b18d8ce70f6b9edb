"""What is wrong between an undisturbed command's folder and that of one that was not: lines."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Of both folders, the undisturbed one first.
Check = Callable[[Path, Path], list[str]]
# Times and what follows from them, which two runs never have in common.
_TIMED = {"created_at", "latkit_version"}
_ENDS = re.compile("seconds$|measured")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def without_times(value: Any) -> Any:
    """A JSON value without times and measured numbers."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in _TIMED and not _ENDS.search(k)}
        return {k: without_times(v) for k, v in kept.items()}
    if isinstance(value, list):
        return [without_times(child) for child in value]
    return value


def same_bytes(*names: str) -> Check:
    return lambda a, b: [f"{n} differs" for n in names if digest(a / n) != digest(b / n)]


def same_page(name: str) -> Check:
    """Of a report, which has the moment of its making in it."""

    def text(path: Path) -> str:
        return re.sub(r'datetime="[^"]*"', "", path.read_text(encoding="utf-8"))

    return lambda a, b: [f"{name} differs"] if text(a / name) != text(b / name) else []


def same_tables(*names: str) -> Check:
    import pyarrow.parquet as pq

    def check(a: Path, b: Path) -> list[str]:
        def rows(path: Path) -> list[dict[str, Any]]:
            return [without_times(row) for row in pq.read_table(str(path)).to_pylist()]

        return [f"{n} differs" for n in names if rows(a / n) != rows(b / n)]

    return check


def same_json(*names: str) -> Check:
    def content(path: Path) -> Any:
        return without_times(json.loads(path.read_text()))

    return lambda a, b: [f"{n} differs" for n in names if content(a / n) != content(b / n)]


def same_keys(name: str, whole: bool) -> Check:
    """Of a dataset: no row twice, and the architectures of the list in its order.

    Args:
        name: of the folder.
        whole: all rows must be the same, of datasets that are made and not measured.
    """

    def check(a: Path, b: Path) -> list[str]:
        from latkit.dataset import LatencyDataset

        first, other = (LatencyDataset.open(folder / name) for folder in (a, b))
        if whole:
            return [] if first.table.equals(other.table) else [f"{name}: other rows"]
        lists = []
        for dataset in (first, other):
            columns = (dataset.table["arch_id"].to_pylist(), dataset.table["visit"].to_pylist())
            keys = list(zip(*columns, strict=True))
            if len(set(keys)) < len(keys):
                return [f"{name}: doubled rows"]
            panel = dataset.in_panel
            pairs = zip(keys, panel, strict=True)
            lists.append([key[0] for key, in_panel in pairs if not in_panel and key[1] == 0])
        return [] if lists[0] == lists[1] else [f"{name}: other architectures, or another order"]

    return check


def no_doubled_rows(name: str) -> Check:
    """Of candidates: what was measured first decides which are measured next."""

    def check(a: Path, b: Path) -> list[str]:
        from latkit.dataset import LatencyDataset

        table = LatencyDataset.open(b / name).table
        keys = set(zip(table["arch_id"].to_pylist(), table["visit"].to_pylist(), strict=True))
        return [] if len(keys) == table.num_rows else [f"{name}: doubled rows"]

    return check


def same_registry(name: str, may_double: bool = False) -> Check:
    """Every version is whole, and none but those of the undisturbed run is there.

    Args:
        name: of the registry's folder.
        may_double: whether a publisher that is killed after it has published, and before it says
            so, may publish again: those are the same but for their numbers.
    """

    def check(a: Path, b: Path) -> list[str]:
        from latkit.registry import Registry

        digests = []
        for folder in (a, b):
            registry = Registry(str(folder / name))
            entries = registry.entries()
            for entry in entries:
                registry.load(entry)
            found = [(e.parent, registry.weights_digest(e)) for e in entries]
            digests.append(sorted(set(found) if may_double else found))
        return [] if digests[0] == digests[1] else [f"{name}: other LPMs"]

    return check


def all_of(*checks: Check) -> Check:
    return lambda a, b: [line for check in checks for line in check(a, b)]


def same_results(a: Path, b: Path) -> list[str]:
    """Of a bundle's results; the panel is measured again by each run."""

    def keys(folder: Path) -> list[tuple[int, int]]:
        lines = (folder / "results" / "journal.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        return [(row["arch_id"], row["visit"]) for row in rows if "panel" not in row["flags"]]

    first, other = keys(a), keys(b)
    if len(set(other)) < len(other):
        return ["results: doubled rows"]
    listed = [[key for key in found if key[1] == 0] for found in (first, other)]
    return [] if listed[0] == listed[1] else ["results: other architectures"]
