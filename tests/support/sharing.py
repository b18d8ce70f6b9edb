"""Datasets that tests push and pull."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from latkit.core.events import Listener
from tests.support.synthetic import made_dataset

PARTS = 24


class Notes(Listener):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def many_parts(folder: Path, device: str = "formula") -> Path:
    """A dataset of ``PARTS`` parts, so that a copy takes some time."""
    made_dataset(folder, PARTS, device)
    (part,) = folder.glob("part-*.parquet")
    table = pq.read_table(part)
    part.unlink()
    for number in range(PARTS):
        pq.write_table(table.slice(number, 1), folder / f"part-{number:06d}.parquet")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a dataset's folder that are not hidden."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


def check_same(out: Path, dataset: Path) -> None:
    """The pulled folder has the dataset's files and no other, and nothing is left beside it."""
    assert contents(out) == contents(dataset)
    assert not (out.parent / f".{out.name}.pull").exists()


def flip(folder: Path) -> None:
    (part,) = folder.glob("part-*.parquet")
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
