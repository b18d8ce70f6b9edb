"""The dataset format: a folder with ``dataset.json`` and ``part-*.parquet``.

One row is one visit of one architecture. ``ratio_to_anchor`` is what was measured;
``latency_ms`` is that ratio times the median anchor time of the whole dataset. The folder may
also hold ``journal.jsonl``, rows not yet in a part; they count as rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from latkit.device import check_device_name
from latkit.errors import DatasetError, InputError, LatkitError, from_os_error
from latkit.networks.setting import Setting
from latkit.profiling.protocol import DISTURBED, retest_sd
from latkit.spaces import space_names

FloatArray = npt.NDArray[np.float64]

FORMAT = "latkit-dataset"
FORMAT_VERSION = 1
MANIFEST = "dataset.json"
JOURNAL = "journal.jsonl"

SCHEMA = pa.schema(
    [
        ("arch_id", pa.int64()),
        ("arch", pa.string()),
        ("latency_ms", pa.float64()),
        ("latency_std_ms", pa.float64()),
        ("ratio_to_anchor", pa.float64()),
        ("samples_ms", pa.list_(pa.float64())),
        ("anchor_samples_ms", pa.list_(pa.float64())),
        ("clock", pa.string()),
        ("wall_ms", pa.float64()),
        ("visit", pa.int32()),
        ("measured_at", pa.timestamp("us", tz="UTC")),
        ("flags", pa.list_(pa.string())),
        ("macs", pa.int64()),
        ("params", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Target:
    """What a dataset and an LPM are about: (space, device, backend, setting)."""

    space: str
    device: str
    backend: str
    setting: Setting

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "setting": self.setting.to_dict()}

    def flat(self) -> dict[str, Any]:
        """The fields with the setting's among them, for comparing two targets."""
        return {
            "space": self.space,
            "device": self.device,
            "backend": self.backend,
            **self.setting.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Target:
        """A target from a file's fields.

        Raises:
            InputError: a field is missing or malformed, or the space is unknown.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        if set(values) != fields or not isinstance(values["setting"], dict):
            raise InputError(f"a target has the fields {', '.join(sorted(fields))}", "add them")
        if values["space"] not in space_names():
            raise InputError(
                f"the space {values['space']!r} is unknown to this version",
                f"use a file of one of these spaces: {', '.join(space_names())}",
            )
        return cls(
            str(values["space"]),
            check_device_name(str(values["device"])),
            str(values["backend"]),
            Setting.from_dict(values["setting"]),
        )

    def __str__(self) -> str:
        return f"{self.space}/{self.device}/{self.backend}/{self.setting.slug}"


@dataclass(frozen=True)
class Manifest:
    """The content of ``dataset.json`` that a run of ``profile`` fixes when it starts.

    Attributes:
        target: what was measured.
        fingerprint: the machine and software it was measured with.
        protocol: how it was measured (``Protocol.to_dict()``).
        seed: names the list of architectures.
        anchor: zoo name of the anchor network.
        requested: how many architectures of the list were asked for.
    """

    target: Target
    fingerprint: dict[str, Any]
    protocol: dict[str, Any]
    seed: int
    anchor: str
    requested: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "target": self.target.to_dict(),
            "fingerprint": self.fingerprint,
            "protocol": self.protocol,
            "seed": self.seed,
            "anchor": self.anchor,
            "requested": self.requested,
        }


@dataclass(frozen=True)
class LatencyDataset:
    """A dataset in memory.

    Attributes:
        path: its folder.
        manifest: what it is about.
        table: all rows (``SCHEMA``), in the order of measurement.
    """

    path: Path
    manifest: Manifest
    table: pa.Table

    @classmethod
    def open(cls, path: str | Path) -> LatencyDataset:
        """Read a dataset folder.

        Raises:
            DatasetError: it is not a dataset, a file in it is corrupt, or it has no rows.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        parts = [read_part(part) for part in part_paths(folder)]
        seen = {
            key
            for part in parts
            for key in zip(part["arch_id"].to_pylist(), part["visit"].to_pylist(), strict=True)
        }
        journal = [r for r in read_journal(folder) if (r["arch_id"], r["visit"]) not in seen]
        table = pa.concat_tables([*parts, pa.Table.from_pylist(journal, schema=SCHEMA)])
        if not table.num_rows:
            raise DatasetError(f"{folder} holds no measurements yet", "run latkit profile on it")
        keys = np.stack([table["arch_id"].to_numpy(), table["visit"].to_numpy()])
        if np.unique(keys, axis=1).shape[1] != table.num_rows:
            raise DatasetError(
                f"{folder} holds the same visit of an architecture twice",
                "remove the part file that was copied into it",
            )
        return cls(folder, manifest, with_latency(table, anchor_median_ms(table)))

    @property
    def anchor_median_ms(self) -> float:
        """Median time of the anchor network over the whole dataset."""
        return anchor_median_ms(self.table)

    @property
    def flagged(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Per row, whether its measurement was disturbed."""
        return np.array([DISTURBED in flags for flags in self.table["flags"].to_pylist()])

    def usable(self) -> pa.Table:
        """One row an architecture: the mean of its undisturbed visits.

        Returns:
            A table with ``arch_id``, ``latency_ms`` and ``macs``, in the order of first
            measurement.
        """
        good = self.table.filter(pa.array(~self.flagged))
        grouped = good.group_by("arch_id", use_threads=False).aggregate(
            [("latency_ms", "mean"), ("macs", "first")]
        )
        return grouped.select(["arch_id", "latency_ms_mean", "macs_first"]).rename_columns(
            ["arch_id", "latency_ms", "macs"]
        )

    def retest_sd(self) -> float | None:
        """Relative sd of a single undisturbed visit, from architectures visited twice."""
        good = self.table.filter(pa.array(~self.flagged))
        visits: dict[int, list[float]] = {}
        for arch_id, ratio in zip(
            good["arch_id"].to_pylist(), good["ratio_to_anchor"].to_pylist(), strict=True
        ):
            visits.setdefault(arch_id, []).append(ratio)
        return retest_sd([(r[0], r[1]) for r in visits.values() if len(r) > 1])

    def digest(self) -> str:
        """SHA-256 of what was measured, independent of how it is cut into parts."""
        order = np.lexsort((self.table["visit"].to_numpy(), self.table["arch_id"].to_numpy()))
        digest = hashlib.sha256(json.dumps(self.manifest.target.to_dict()).encode())
        for name in ("arch_id", "visit", "ratio_to_anchor"):
            digest.update(np.ascontiguousarray(self.table[name].to_numpy()[order]).tobytes())
        return f"sha256:{digest.hexdigest()}"


def part_paths(folder: Path) -> list[Path]:
    """The part files of a dataset, in the order in which they were written."""
    return sorted(folder.glob("part-*.parquet"))


def anchor_samples(table: pa.Table) -> FloatArray:
    """All anchor samples of a table, in ms."""
    return np.asarray(table["anchor_samples_ms"].combine_chunks().flatten())


def anchor_median_ms(table: pa.Table) -> float:
    """Median of all anchor samples of a table."""
    return float(np.median(anchor_samples(table)))


def with_latency(table: pa.Table, median_ms: float) -> pa.Table:
    """The table with ``latency_ms`` and its spread recomputed for an anchor time.

    ``latency_std_ms`` is the standard deviation of single runs within the visit.
    """
    latency = table["ratio_to_anchor"].to_numpy() * median_ms
    spread = [float(np.std(s) / np.mean(s)) for s in table["samples_ms"].to_pylist()]
    for name, values in (("latency_ms", latency), ("latency_std_ms", latency * np.array(spread))):
        table = table.set_column(
            table.schema.get_field_index(name), SCHEMA.field(name), pa.array(values)
        )
    return table


def read_manifest(folder: Path) -> Manifest:
    """Read ``dataset.json``.

    Raises:
        DatasetError: it is missing, corrupt, or from another format version.
    """
    path = folder / MANIFEST
    profile = f"make a dataset with: latkit profile --out {folder}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{folder} is not a dataset: it has no {MANIFEST}", profile) from None
    except NotADirectoryError:
        raise DatasetError(f"{folder} is not a folder", profile) from None
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise DatasetError(
            f"{path} is corrupt (not JSON)", "restore the file from a copy, or profile again"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DatasetError(f"{path} does not describe a latkit dataset", profile)
    if content.get("format_version") != FORMAT_VERSION:
        raise DatasetError(
            f"{path} has format version {content.get('format_version')}, "
            f"this latkit reads {FORMAT_VERSION}",
            "use the version of latkit that wrote it",
        )
    try:
        manifest = Manifest(
            Target.from_dict(content["target"]),
            dict(content["fingerprint"]),
            dict(content["protocol"]),
            int(content["seed"]),
            str(content["anchor"]),
            int(content["requested"]),
        )
    except LatkitError as error:
        raise DatasetError(f"{path}: {error.cause}", error.fix) from None
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{path} is corrupt ({type(error).__name__}: {error})",
            "restore the file from a copy, or profile again",
        ) from None
    return manifest


def read_part(path: Path) -> pa.Table:
    """Read one part file.

    Raises:
        DatasetError: it is corrupt or has other columns.
    """
    fix = (
        f"restore it from a copy, or delete it and run the same latkit profile command: "
        f"only the rows of {path.name} are measured again"
    )
    try:
        # Not pq.read_table: it would take "key=value" folder names for extra columns.
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(f"part file {path} is corrupt ({reason})", fix) from None
    if not table.schema.equals(SCHEMA):
        raise DatasetError(f"part file {path} has other columns than a latkit dataset", fix)
    if any(column.null_count for column in table.columns):
        raise DatasetError(f"part file {path} has empty cells", fix)
    _check_rows(str(path), table, fix)
    return table


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """Rows that are finished but not yet in a part; a torn last line is not a finished row.

    Raises:
        DatasetError: a line other than the last is corrupt.
    """
    path = folder / JOURNAL
    fix = "delete that line; its row is measured again by the same latkit profile command"
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    rows = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            rows += pa.Table.from_pylist([row_from_json(line)], schema=SCHEMA).to_pylist()
        except (ValueError, TypeError, KeyError, pa.ArrowException, RecursionError):
            raise DatasetError(f"line {number} of {path} is corrupt", fix) from None
    _check_rows(str(path), pa.Table.from_pylist(rows, schema=SCHEMA), fix)
    return rows


def row_from_json(line: bytes) -> dict[str, Any]:
    """A row of the journal; the time is stored as microseconds since 1970."""
    row: dict[str, Any] = json.loads(line)
    if set(row) != set(SCHEMA.names) or None in row.values():
        raise ValueError("wrong fields")
    return row


def _check_rows(where: str, table: pa.Table, fix: str) -> None:
    """Refuse latencies and samples that are not positive numbers."""

    def good(times: list[float]) -> bool:
        return bool(times) and all(math.isfinite(t) and t > 0 for t in times)

    columns = [table[name].to_pylist() for name in ("samples_ms", "anchor_samples_ms")]
    ratios = [[ratio] for ratio in table["ratio_to_anchor"].to_pylist()]
    bad = [
        row
        for row, lists in enumerate(zip(*columns, ratios, strict=True))
        if not all(map(good, lists))
    ]
    if bad:
        raise DatasetError(
            f"{where} holds {len(bad)} rows with latencies that are not positive numbers, "
            f"the first at arch_id {table['arch_id'][bad[0]]}",
            fix,
        )
