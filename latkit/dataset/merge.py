"""Several datasets of one target made into one."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from latkit.core.device import contradictions, differences
from latkit.core.errors import DatasetError, InputError
from latkit.dataset.format import Manifest
from latkit.dataset.latency import LatencyDataset, with_latency
from latkit.dataset.writer import write_dataset


def merge_datasets(
    datasets: Sequence[LatencyDataset], out: str | Path, different_hardware: bool = False
) -> LatencyDataset:
    """Write the rows of all datasets, in the order of measurement, as a new dataset.

    Replicates of an architecture are numbered anew. A row that is in two of the datasets is taken
    once. The result is not continued by ``profile``: measure into another folder, and merge.

    Args:
        datasets: two or more, of one target, measured by one protocol.
        out: folder of the new dataset.
        different_hardware: merge even where fingerprints contradict each other; the result then
            keeps only the facts they share.

    Raises:
        InputError: fewer than two datasets.
        DatasetError: they do not belong together, or ``out`` is not empty.
        LatkitError: ``out`` cannot be written.
    """
    out = Path(out)
    if len(datasets) < 2:
        raise InputError("one dataset is nothing to merge", "name two or more")
    first, *others = datasets
    fingerprint = first.manifest.fingerprint
    for other in others:
        _check_alike(first, other, different_hardware)
        facts = other.manifest.fingerprint
        fingerprint = {name: v for name, v in fingerprint.items() if facts.get(name, v) == v}
    table = pa.concat_tables([dataset.table for dataset in datasets])
    table = table.filter(pa.array(_first_occurrences(datasets)))
    if "measured_at" in table.column_names:
        table = table.sort_by("measured_at")
    counts = Counter[int]()
    replicates = []
    for arch_id in table["arch_id"].to_pylist():
        replicates.append(counts[arch_id])
        counts[arch_id] += 1
    index = table.schema.get_field_index("visit")
    table = table.set_column(index, table.schema.field(index), pa.array(replicates, pa.int32()))
    manifest = dataclasses.replace(
        first.manifest,
        fingerprint=fingerprint,
        requested=max(dataset.manifest.requested for dataset in datasets),
        origin={"merged": [dataset.digest() for dataset in datasets]},
    )
    write_dataset(out, manifest, with_latency(table, manifest).combine_chunks())
    return LatencyDataset.open(out)


def _check_alike(first: LatencyDataset, other: LatencyDataset, different_hardware: bool) -> None:
    def identity(manifest: Manifest) -> dict[str, object]:
        return {
            **manifest.target.flat(),
            **manifest.protocol,
            "anchor": manifest.anchor,
            "metrics": manifest.metrics,
        }

    where = f"{first.path} and {other.path}"
    changed = differences(identity(first.manifest), identity(other.manifest))
    if changed:
        raise DatasetError(
            f"{where} do not belong together ({'; '.join(changed)})",
            "merge datasets of one target and protocol; latkit dataset compare shows two beside "
            "each other",
        )
    changed = contradictions(first.manifest.fingerprint, other.manifest.fingerprint)
    if changed and not different_hardware:
        raise DatasetError(
            f"{where} were measured on different hardware ({'; '.join(changed)})",
            "check with latkit dataset compare that they agree, then add --unlike-machines",
        )


def _first_occurrences(datasets: Sequence[LatencyDataset]) -> list[bool]:
    """Per row, whether no earlier dataset has the same measurement."""
    manifest = datasets[0].manifest
    # Two measurements share neither moment nor raw times. Of imported rows there are only the
    # numbers: equal ones within a dataset are repeated measurements, and of those that two
    # datasets share the second has none to add.
    names = ["arch_id", "measured_at", "samples_ms"]
    if "measured_at" not in datasets[0].table.column_names:
        names = ["arch_id", "latency_ms", *manifest.metrics]
    taken = Counter[tuple[object, ...]]()
    is_first = []
    for dataset in datasets:
        here = Counter[tuple[object, ...]]()
        for row in dataset.table.select(names).to_pylist():
            key = tuple(
                tuple(value) if isinstance(value, list) else value for value in row.values()
            )
            here[key] += 1
            is_first.append(here[key] > taken[key])
        # Not "|=", which looks at all that was taken before, for each of a thousand datasets.
        taken.update({key: count - taken[key] for key, count in here.items() if count > taken[key]})
    return is_first
