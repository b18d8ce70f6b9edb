"""A dataset in memory, and statistics of its rows."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from latkit.core.errors import DatasetError
from latkit.core.files import expand_user
from latkit.core.quantities import LATENCY
from latkit.dataset.flags import DISTURBED, is_panel
from latkit.dataset.format import (
    Manifest,
    part_paths,
    read_journal,
    read_manifest,
    read_part,
    replicate_keys,
)
from latkit.dataset.statistics import RetestError

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LatencyDataset:
    """A dataset in memory.

    Attributes:
        path: its folder.
        manifest: what it is about.
        table: all rows (``manifest.schema``), in the order of measurement.
    """

    path: Path
    manifest: Manifest
    table: pa.Table

    @classmethod
    def open(cls, path: str | Path) -> LatencyDataset:
        """Read a dataset folder.

        Raises:
            DatasetError: it is not a dataset, a file in it is corrupt, or it has no rows.
            LatkitError: a file in it cannot be read.
        """
        folder = expand_user(path) if isinstance(path, str) else path
        manifest = read_manifest(folder)
        # The journal first: a process that is writing may make a part of it in between.
        journal = read_journal(folder, manifest)
        parts = [read_part(part, manifest) for part in part_paths(folder)]
        in_parts = {key for part in parts for key in replicate_keys(part)}
        journal = [row for row in journal if (row["arch_id"], row["visit"]) not in in_parts]
        table = pa.concat_tables([*parts, pa.Table.from_pylist(journal, schema=manifest.schema)])
        if not table.num_rows:
            raise DatasetError(f"{folder} holds no measurements yet", "run latkit profile on it")
        keys = np.stack([table["arch_id"].to_numpy(), table["visit"].to_numpy()])
        if np.unique(keys, axis=1).shape[1] != table.num_rows:
            raise DatasetError(
                f"{folder} holds the same replicate of an architecture twice",
                "remove the part file that was copied into it",
            )
        return cls(folder, manifest, with_latency(table, manifest))

    @property
    def anchor_median_ms(self) -> float | None:
        """The anchor network's time in this dataset (see :func:`anchor_ms`); None if imported."""
        return None if self.manifest.anchor is None else anchor_ms([self.table])

    @functools.cached_property
    def flagged(self) -> BoolArray:
        """Per row, whether its measurement was disturbed."""
        return np.array([DISTURBED in f for f in self.table["flags"].to_pylist()], dtype=bool)

    @functools.cached_property
    def in_panel(self) -> BoolArray:
        """Per row, whether it is of the fixed panel and not of the requested list."""
        return np.array([is_panel(f) for f in self.table["flags"].to_pylist()], dtype=bool)

    @property
    def disturbed(self) -> int:
        """How many measurements of the list were disturbed."""
        return int((self.flagged & ~self.in_panel).sum())

    @property
    def architectures(self) -> int:
        """How many different ones of the list were measured."""
        return len(np.unique(self.table["arch_id"].to_numpy()[~self.in_panel]))

    def usable(self) -> pa.Table:
        """One row an architecture of the list: the mean of its undisturbed replicates.

        Returns:
            A table with ``arch_id``, ``arch``, ``latency_ms``, ``visits`` (how many the mean is
            of), ``macs``, ``params`` and the dataset's metrics, in the order of first measurement.
        """
        good = self.table.filter(pa.array(~self.flagged & ~self.in_panel))
        columns = {
            "arch_id": "arch_id",
            "arch": "arch_first",
            "latency_ms": "latency_ms_mean",
            "visits": "latency_ms_count",
            "macs": "macs_first",
            "params": "params_first",
            **{name: f"{name}_mean" for name in self.manifest.metrics},
        }
        aggregates = [tuple(name.rsplit("_", 1)) for name in columns.values() if name != "arch_id"]
        grouped = good.group_by("arch_id", use_threads=False).aggregate(aggregates)
        return grouped.select(list(columns.values())).rename_columns(list(columns))

    def retest(self, quantity: str = LATENCY) -> RetestError:
        """Repeatability of undisturbed measurements, from architectures with replicates.

        The panel's are not among them: it is there to compare runs.

        Args:
            quantity: of what, the latency or one of the dataset's metrics.
        """
        good = self.table.filter(pa.array(~self.flagged & ~self.in_panel))
        return RetestError(
            zip(good["arch_id"].to_pylist(), good[quantity].to_pylist(), strict=True)
        )

    @property
    def quantities(self) -> tuple[str, ...]:
        """What was measured: the latency and the manifest's metrics."""
        return (LATENCY, *self.manifest.metrics)

    def digest(self, quantity: str = LATENCY) -> str:
        """SHA-256 of what was measured, independent of how it is cut into parts.

        Args:
            quantity: of the latencies alone, or of them and one of the dataset's metrics.
        """
        order = np.lexsort((self.table["visit"].to_numpy(), self.table["arch_id"].to_numpy()))
        digest = hashlib.sha256(json.dumps(self.manifest.target.to_dict()).encode())
        measured = "ratio_to_anchor" if self.manifest.anchored else "latency_ms"
        more = () if quantity == LATENCY else (quantity,)
        for name in ("arch_id", "visit", measured, *more):
            digest.update(np.ascontiguousarray(self.table[name].to_numpy()[order]).tobytes())
        return f"sha256:{digest.hexdigest()}"


def anchor_ms(tables: Iterable[pa.Table]) -> float:
    """Median of the anchor's times in the undisturbed rows (in all, if all are disturbed)."""
    quiet: list[float] = []
    disturbed: list[float] = []
    for table in tables:
        for flags, times in zip(
            table["flags"].to_pylist(), table["anchor_samples_ms"].to_pylist(), strict=True
        ):
            (disturbed if DISTURBED in flags else quiet).extend(times)
    return float(np.median(quiet or disturbed))


def with_latency(table: pa.Table, manifest: Manifest, median_ms: float | None = None) -> pa.Table:
    """The table with ``latency_ms`` and its spread recomputed from what was measured.

    ``latency_std_ms`` is the standard deviation of single runs within the measurement.

    Args:
        table: rows of a dataset.
        manifest: its manifest. Without an anchor the rows are returned as they are.
        median_ms: the anchor time to which the latencies refer; by default that of the rows.
    """
    if manifest.anchor is None or not table.num_rows:
        return table
    lists = table["samples_ms"].combine_chunks()
    lengths = np.diff(lists.offsets.to_numpy())
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    samples = lists.flatten().to_numpy()
    mean = np.add.reduceat(samples, starts) / lengths
    away = (samples - np.repeat(mean, lengths)) ** 2
    spread = np.sqrt(np.add.reduceat(away, starts) / lengths)
    latency = mean
    if manifest.anchored:
        latency = table["ratio_to_anchor"].to_numpy() * (median_ms or anchor_ms([table]))
    columns = {"latency_ms": latency, "latency_std_ms": spread / mean * latency}
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(name), pa.array(values))
    return table
