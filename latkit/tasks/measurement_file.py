"""``measurement.json``: what ``latkit measure`` found, beside the dataset of its raw times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from latkit.core.errors import DatasetError, from_os_error
from latkit.core.files import write_json_atomically
from latkit.core.json_files import read_json_file
from latkit.core.version import __version__
from latkit.dataset import LatencyDataset
from latkit.dataset.flags import DISTURBED, is_gpu_flag
from latkit.dataset.format import MEASUREMENT

FILE = MEASUREMENT
FORMAT_VERSION = 1
CONFIDENCE = 0.95


@dataclass(frozen=True)
class LayerRow:
    """All layers of one operator; ``ms`` of a profiled run, ``share`` of the whole of it."""

    operator: str
    count: float
    ms: float
    share: float


@dataclass(frozen=True)
class MeasuredRow:
    """A network at one batch and after one pause.

    Attributes:
        what: as the user wrote it.
        name: for people.
        arch: its text in the dataset's column ``arch``.
        genotype, space: of an architecture; None: a model of no space.
        params, macs: of it, the latter for one sample; None: ``macs_reason`` says why.
        input: shape of the first input.
        batch, precision: of a run.
        latency_ms: by the paired protocol, the mean of its undisturbed measurements.
        error_ms: half of the interval in which the mean is with 95 %; None: one measurement.
        measurements, disturbed: how many there were, and how many other work disturbed.
        p50_ms, p90_ms, p99_ms, max_ms: wall times of ``runs`` consecutive runs.
        throughput_per_s: samples a second of these runs, without the pauses.
        pause_ms: slept before every run.
        peak_memory_mb: device memory, or what the process came to hold beyond what it held before;
            None: not known.
        energy_mj: of one run; None: not measured.
        flags: ``disturbed`` and why, if every measurement was; what a GPU was slowed by, and who
            else was on it.
        layers: by operator; None: not requested; empty: the runtime has no profiler.
        layers_explained: share of a profiled run that they add up to.
        profiled_ms: such a run, which takes longer than one that is not profiled.
        published_ms, published_device, published_error_percent: as the paper prints them.
    """

    what: str
    name: str
    arch: str
    genotype: str | None
    space: str | None
    params: int
    macs: int | None
    macs_reason: str
    input: tuple[int, ...]
    batch: int
    precision: str
    latency_ms: float
    error_ms: float | None
    measurements: int
    disturbed: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    runs: int
    throughput_per_s: float
    pause_ms: float
    peak_memory_mb: float | None
    energy_mj: float | None
    flags: tuple[str, ...]
    layers: tuple[LayerRow, ...] | None
    layers_explained: float | None
    profiled_ms: float | None
    published_ms: float | None
    published_device: str | None
    published_error_percent: float | None

    def to_dict(self) -> dict[str, Any]:
        content = asdict(self)
        if self.layers is not None:
            content["layers"] = list(content["layers"])
        return {**content, "flags": list(self.flags), "input": list(self.input)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MeasuredRow:
        """A row of a file.

        Raises:
            KeyError, TypeError: a field is missing.
        """
        row = {field.name: values[field.name] for field in fields(cls)}
        layers = row["layers"]
        row["layers"] = None if layers is None else tuple(LayerRow(**layer) for layer in layers)
        row["flags"], row["input"] = tuple(row["flags"]), tuple(row["input"])
        return cls(**row)


@dataclass(frozen=True)
class Estimate:
    """The latency of one configuration, from its rows in a dataset."""

    latency_ms: float
    error_ms: float | None
    measurements: int
    disturbed: int
    flags: tuple[str, ...]


def estimate(latencies_ms: Sequence[float], flags: Sequence[Sequence[str]]) -> Estimate:
    """The mean latency of measurements and how well it is known (Student's t, 95 %).

    Disturbed measurements count only where there are no others; then the estimate has their flags.
    It has the flags of a GPU's state in any case.
    """
    quiet = [ms for ms, f in zip(latencies_ms, flags, strict=True) if DISTURBED not in f]
    used = np.array(quiet or latencies_ms)
    error = None
    if len(used) > 1:
        t = float(stdtrit(len(used) - 1, (1 + CONFIDENCE) / 2))
        error = t * float(used.std(ddof=1)) / math.sqrt(len(used))
    told = dict.fromkeys(flag for f in flags for flag in f if not quiet or is_gpu_flag(flag))
    disturbed = len(latencies_ms) - len(quiet)
    return Estimate(float(used.mean()), error, len(latencies_ms), disturbed, tuple(told))


def estimates(dataset: LatencyDataset) -> dict[str, Estimate]:
    """The estimate of each configuration of a dataset, by its text."""
    rows: dict[str, tuple[list[float], list[list[str]]]] = {}
    table = dataset.table
    for arch, ms, flags in zip(
        table["arch"].to_pylist(), table["latency_ms"].to_pylist(), table["flags"].to_pylist(),
        strict=True,
    ):  # fmt: skip
        latencies, flagged = rows.setdefault(arch, ([], []))
        latencies.append(ms)
        flagged.append(flags)
    return {arch: estimate(*values) for arch, values in rows.items()}


def read_rows(folder: Path) -> list[MeasuredRow]:
    """The rows that an earlier run left in a folder; none where there is no file.

    Raises:
        DatasetError: the file is corrupt or of another version.
        LatkitError: it cannot be read.
    """
    path = folder / FILE
    try:
        content = read_json_file(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    except ValueError:
        content = None
    fix = "remove it: its dataset is kept, and the same command measures the rest again"
    if not isinstance(content, dict) or content.get("kind") != "measurement":
        raise DatasetError(f"{path} is corrupt", fix)
    if content.get("format_version") != FORMAT_VERSION:
        raise DatasetError(
            f"{path} has format version {content.get('format_version')}, this latkit reads "
            f"{FORMAT_VERSION}",
            "use the version of latkit that wrote it, or another --out",
        )
    try:
        return [MeasuredRow.from_dict(row) for row in content["rows"]]
    except (KeyError, TypeError):
        raise DatasetError(f"{path} is corrupt (a row lacks a field)", fix) from None


def write_rows(folder: Path, head: Mapping[str, Any], rows: Iterable[MeasuredRow]) -> None:
    """Write the file whole.

    Args:
        folder: of the dataset.
        head: what stands before the rows.
        rows: of all configurations.

    Raises:
        LatkitError: it cannot be written.
    """
    content = {
        "kind": "measurement",
        "format_version": FORMAT_VERSION,
        "latkit_version": __version__,
        **head,
        "rows": [row.to_dict() for row in rows],
    }
    try:
        write_json_atomically(folder / FILE, content)
    except OSError as error:
        kept = "every finished measurement is kept; then run the same command again"
        raise from_os_error(error, f"write {folder / FILE}", kept) from None
