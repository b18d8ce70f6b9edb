"""The datasets of a fleet's workers made into one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from latkit.core.errors import BackendError, DatasetError, from_os_error
from latkit.dataset import LatencyDataset
from latkit.dataset.format import MANIFEST, read_manifest
from latkit.dataset.merge import merge_datasets
from latkit.dataset.writer import write_dataset

# In the folder of a worker whose rows are not used.
QUARANTINE = "quarantine.json"


def check_replaceable(out: Path) -> None:
    """Refuse to replace what no earlier run of a fleet left.

    Raises:
        DatasetError: it is something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST).exists() or "merged" not in (read_manifest(out).origin or {}):
        raise DatasetError(f"{out} holds what no fleet has measured", "choose another --out")


def merge_workers(folder: Path, out: Path) -> None:
    """Make one dataset of those of the workers, in place of an earlier one.

    Args:
        folder: of the workers' folders.
        out: see :func:`check_replaceable`.

    Raises:
        BackendError: no worker is trusted.
        DatasetError: the datasets do not belong together, or one is corrupt.
        LatkitError: ``out`` cannot be written.
    """
    trusted = [
        LatencyDataset.open(worker)
        for worker in sorted(folder.glob("*"))
        if (worker / MANIFEST).exists() and not (worker / QUARANTINE).exists()
    ]
    datasets = [dataset for dataset in trusted if dataset.table.num_rows]
    if not datasets:
        raise BackendError(
            "no worker of the fleet is trusted", f"see the reasons: {folder}/*/{QUARANTINE}"
        )
    new = out.with_name(f"{out.name}.new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        if len(datasets) > 1:
            # Workers of one kind differ in the cores that are their own.
            merge_datasets(datasets, new, different_hardware=True)
        else:
            (only,) = datasets
            manifest = replace(only.manifest, origin={"merged": [only.digest()]})
            write_dataset(new, manifest, only.table.combine_chunks())
        if out.exists():
            shutil.rmtree(out)
        new.rename(out)
    except OSError as error:
        kept = "the workers' datasets are whole; run the same command again"
        raise from_os_error(error, f"write {out}", kept) from None
