"""Which datasets there are below a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latkit.core.errors import DatasetError, LatkitError
from latkit.core.events import SILENT, Listener
from latkit.dataset.format import MANIFEST, Target, count_rows, read_manifest

# Where commands make and look for datasets unless a folder is named.
DEFAULT_FOLDER = Path("datasets")


@dataclass(frozen=True)
class ListedDataset:
    """A dataset of a listing.

    Attributes:
        path: its folder.
        target: what it is about.
        requested: architectures that were to be measured.
        rows: how many it has.
    """

    path: Path
    target: Target
    requested: int
    rows: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "dataset": str(self.path),
            "target": self.target.to_dict(),
            "requested": self.requested,
            "rows": self.rows,
        }


def list_datasets(
    folder: str | Path = DEFAULT_FOLDER, listener: Listener = SILENT
) -> tuple[ListedDataset, ...]:
    """Every dataset below a folder, by path.

    Args:
        folder: where to look, at any depth.
        listener: receives a warning for each dataset that cannot be read; it is left out.

    Raises:
        DatasetError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(
            f"there is no folder {folder}", "name one, or make a dataset: latkit profile"
        )
    datasets = []
    for manifest_path in sorted(folder.rglob(MANIFEST)):
        path = manifest_path.parent
        if path.name.startswith("."):  # one that was being written when its process died
            continue
        try:
            manifest, rows = read_manifest(path), count_rows(path)
        except LatkitError as error:
            listener.warn(str(error))
            continue
        datasets.append(ListedDataset(path, manifest.target, manifest.requested, rows))
    return tuple(datasets)


def only_dataset(folder: Path = DEFAULT_FOLDER) -> Path:
    """The one dataset below a folder, for a command that was not given any.

    Raises:
        DatasetError: there is none, or more than one.
    """
    found = (path.parent for path in folder.glob(f"**/{MANIFEST}"))
    # Not one that is being written or pulled, or was when its process died.
    paths = sorted(path for path in found if not path.name.startswith("."))
    if len(paths) == 1:
        return paths[0]
    if not paths:
        raise DatasetError(
            f"no DATASET was named and ./{folder} holds none",
            "make one with latkit profile, or name its folder before the options: latkit train-lpm "
            "DATASET",
        )
    listed = ", ".join(str(path) for path in paths)
    raise DatasetError(f"./{folder} holds {len(paths)} datasets", f"name one of: {listed}")
