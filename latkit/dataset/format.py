"""The dataset format: a folder with ``dataset.json`` and ``part-*.parquet``.

One row is one measurement of one architecture, and ``visit`` the number of the replicate. In a
dataset that latkit measured, ``ratio_to_anchor`` is what was measured, and ``latency_ms`` is that
ratio times the median anchor time of the whole dataset. An imported dataset has no anchor, and
lacks the columns of raw times. The folder may also hold ``journal.jsonl``, rows not yet in a part;
they count as rows.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from latkit.core.device import check_backend_name, check_device_name
from latkit.core.errors import DatasetError, InputError, LatkitError, from_os_error
from latkit.core.json_files import read_json_file, read_plain_file
from latkit.core.parquet import open_parquet, read_parquet
from latkit.core.quantities import COSTS, LATENCY
from latkit.dataset.cast import cast_to_schema
from latkit.spaces import SPACES, Setting, default_setting, get_space

FORMAT = "latkit-dataset"
FORMAT_VERSION = 1
MANIFEST = "dataset.json"
JOURNAL = "journal.jsonl"
# Held by the one process that writes the folder.
LOCK = ".lock"
# What latkit measure writes beside the others (latkit.tasks.measurement_file).
MEASUREMENT = "measurement.json"
# Rows of a minute, or of a bundle's whole run; one has some thousand bytes.
MOST_JOURNAL_BYTES = 2**30

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
# What an imported dataset has: no raw times, no anchor.
IMPORTED_SCHEMA = pa.schema(
    [
        SCHEMA.field(name)
        for name in ("arch_id", "arch", "latency_ms", "visit", "flags", "macs", "params")
    ]
)
# The years 1 to 9999, in microseconds since 1970: what can be shown as a date.
EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
# Further columns, each present in the whole dataset or not at all.
METRICS = tuple(name for name in COSTS if name != LATENCY)


def with_metrics(schema: pa.Schema, metrics: Iterable[str]) -> pa.Schema:
    """A schema with the columns of metrics added."""
    for name in metrics:
        schema = schema.append(pa.field(name, pa.float64()))
    return schema


@dataclass(frozen=True)
class Target:
    """What a dataset and an LPM are about: (space, device, backend, setting)."""

    space: str
    device: str
    backend: str
    setting: Setting

    def __post_init__(self) -> None:
        if self.setting.space != self.space:
            raise InputError(
                f"the setting is of the space {self.setting.space}, not {self.space}",
                f"use --space {self.setting.space}, or --setting {default_setting(self.space)}",
            )

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
        try:
            SPACES.check(str(values["space"]))
        except InputError:
            raise InputError(
                f"the space {values['space']!r} is unknown to this version",
                f"use a file of one of these spaces: {', '.join(SPACES.names())}",
            ) from None
        return cls(
            str(values["space"]),
            check_device_name(str(values["device"])),
            check_backend_name(str(values["backend"])),
            Setting.from_dict(get_space(values["space"]).config, values["setting"]),
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
        anchor: name of the anchor network, e.g. ``darts_v2,cells=4``; None if imported.
        requested: how many architectures the list has.
        metrics: columns beside the latency (names of ``METRICS``).
        origin: of an imported or merged dataset, what it was made of.
    """

    target: Target
    fingerprint: dict[str, Any]
    protocol: dict[str, Any]
    seed: int
    anchor: str | None
    requested: int
    metrics: tuple[str, ...] = ()
    origin: dict[str, Any] = field(default_factory=dict)

    @property
    def schema(self) -> pa.Schema:
        """The columns of the dataset's parts."""
        return with_metrics(IMPORTED_SCHEMA if self.anchor is None else SCHEMA, self.metrics)

    @property
    def anchored(self) -> bool:
        """Whether the latency is a ratio to the anchor (see ``Protocol.anchored``)."""
        return self.anchor is not None and bool(self.protocol.get("anchored", True))

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
            "metrics": list(self.metrics),
            "origin": self.origin,
        }


def part_paths(folder: Path) -> list[Path]:
    """The part files of a dataset, in the order in which they were written.

    Raises:
        LatkitError: the folder cannot be listed, so that it is not known what was measured.
    """
    try:
        # Not Path.glob, to which a folder that may not be listed is an empty one.
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise from_os_error(error, f"list {folder}", "nothing was changed") from None
    return sorted(folder / name for name in names if fnmatch(name, "part-*.parquet"))


def replicate_keys(table: pa.Table) -> list[tuple[int, int]]:
    """(arch_id, replicate) of each row, which no two rows of a dataset share."""
    return list(zip(table["arch_id"].to_pylist(), table["visit"].to_pylist(), strict=True))


def read_manifest(folder: Path) -> Manifest:
    """Read ``dataset.json``.

    Raises:
        DatasetError: it is missing, corrupt, or from another format version.
    """
    path = folder / MANIFEST
    profile = f"make a dataset with: latkit profile --out {folder}"
    try:
        content = read_json_file(path)
    except FileNotFoundError:
        raise DatasetError(f"{folder} is not a dataset: it has no {MANIFEST}", profile) from None
    except NotADirectoryError:
        raise DatasetError(f"{folder} is not a folder", profile) from None
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    except ValueError as error:
        raise DatasetError(
            f"{path} is corrupt (not JSON in UTF-8: {str(error)[:200]})",
            "restore the file from a copy, or profile again",
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
        anchor = content["anchor"]
        metrics = tuple(content.get("metrics", ()))
        manifest = Manifest(
            Target.from_dict(content["target"]),
            dict(content["fingerprint"]),
            dict(content["protocol"]),
            int(content["seed"]),
            None if anchor is None else str(anchor),
            int(content["requested"]),
            metrics,
            dict(content.get("origin", {})),
        )
        if not set(metrics) <= set(METRICS):
            raise ValueError(f"unknown metrics {', '.join(map(str, metrics))}")
    except LatkitError as error:
        raise DatasetError(f"{path}: {error.cause}", error.fix) from None
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(
            f"{path} is corrupt ({type(error).__name__}: {error})",
            "restore the file from a copy, or profile again",
        ) from None
    return manifest


def count_rows(folder: Path) -> int:
    """Rows of a dataset, from the parts' metadata and the journal's lines.

    Raises:
        DatasetError: a part is corrupt.
        LatkitError: a file cannot be read.
    """
    rows = 0
    for path in part_paths(folder):
        try:
            with open_parquet(path) as file:
                rows += file.metadata.num_rows
        except OSError as error:
            raise from_os_error(error, f"read {path}", "nothing was changed") from None
        except ValueError as error:
            raise DatasetError(
                f"part file {path} is corrupt (not Parquet: {error})",
                "latkit dataset show names what to do",
            ) from None
    try:
        return rows + read_plain_file(folder / JOURNAL, MOST_JOURNAL_BYTES).count(b"\n")
    except FileNotFoundError:
        return rows
    except OSError as error:
        raise from_os_error(error, f"read {folder / JOURNAL}", "nothing was changed") from None


def read_part(path: Path, manifest: Manifest) -> pa.Table:
    """Read one part file, whatever tool wrote it.

    Raises:
        DatasetError: it is corrupt, or has other columns that :func:`cast_to_schema` cannot bring
            back to the dataset's.
        LatkitError: it cannot be read.
    """
    fix = (
        f"restore it from a copy, or delete it and run the same latkit profile command: "
        f"only the rows of {path.name} are measured again"
    )
    if manifest.origin or manifest.anchor is None:
        fix = "restore it from a copy, or import or merge into a new folder again"
    try:
        table = read_parquet(path)
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    except ValueError as error:
        raise DatasetError(f"part file {path} is corrupt (not Parquet: {error})", fix) from None
    try:
        table = cast_to_schema(table, manifest.schema)
    except ValueError as error:
        raise DatasetError(
            f"part file {path} has other columns than its {MANIFEST} says: {error}",
            "write the columns that are named as they were, or restore the file from a copy",
        ) from None
    empty = [name for name in table.column_names if table[name].null_count]
    if empty:
        raise DatasetError(f"part file {path} has empty cells ({', '.join(empty)})", fix)
    _check_rows(str(path), table, fix)
    return table


def read_journal(folder: Path, manifest: Manifest) -> list[dict[str, Any]]:
    """Rows that are finished but not yet in a part; a torn last line is not a finished row.

    Raises:
        DatasetError: a line other than the last is corrupt.
    """
    path = folder / JOURNAL
    fix = "delete that line; its row is measured again by the same latkit profile command"
    try:
        lines = read_plain_file(path, MOST_JOURNAL_BYTES).split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    schema = manifest.schema
    rows = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            rows += pa.Table.from_pylist([_row_from_json(line, schema)], schema=schema).to_pylist()
        except (ValueError, TypeError, KeyError, OverflowError, pa.ArrowException, RecursionError):
            raise DatasetError(f"line {number} of {path} is corrupt", fix) from None
    _check_rows(str(path), pa.Table.from_pylist(rows, schema=schema), fix)
    return rows


def _row_from_json(line: bytes, schema: pa.Schema) -> dict[str, Any]:
    """A row of the journal; the time is stored as microseconds since 1970."""
    row: dict[str, Any] = json.loads(line)
    if set(row) != set(schema.names) or None in row.values():
        raise ValueError("wrong fields")
    return row


def _check_rows(where: str, table: pa.Table, fix: str) -> None:
    """Refuse latencies, samples and metrics that are not positive numbers."""
    if "measured_at" in table.schema.names:
        times = table["measured_at"].cast(pa.int64()).to_numpy()
        if not ((times >= EARLIEST_US) & (times <= LATEST_US)).all():
            raise DatasetError(f"{where} holds times that no calendar has", fix)
    measured = [name for name in ("ratio_to_anchor", *METRICS) if name in table.schema.names]
    # latency_ms follows from the ratio where there is one.
    if "ratio_to_anchor" not in measured:
        measured.append("latency_ms")
    good = np.ones(table.num_rows, dtype=bool)
    wrong_columns = []
    for name in measured:
        positive = _positive(table[name].to_numpy())
        good &= positive
        if not positive.all():
            wrong_columns.append(name)
    for name in ("samples_ms", "anchor_samples_ms"):
        if name in table.schema.names:
            lists = table[name].combine_chunks()
            lengths = np.diff(lists.offsets.to_numpy())
            rows = np.repeat(np.arange(table.num_rows), lengths)
            wrong = ~_positive(lists.flatten().to_numpy(zero_copy_only=False))
            positive = lengths > 0
            positive[rows[wrong]] = False
            good &= positive
            if not positive.all():
                wrong_columns.append(name)
    bad = np.flatnonzero(~good)
    if len(bad):
        raise DatasetError(
            f"{where} holds {len(bad)} rows whose {' and '.join(wrong_columns)} are not positive "
            f"numbers, the first at arch_id {table['arch_id'][int(bad[0])]}",
            fix,
        )


def _positive(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.isfinite(values) & (values > 0))
