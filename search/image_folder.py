"""A folder of images with one folder a class, perhaps below a folder of the training split."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from latkit.core.errors import InputError
from latkit.core.json_files import read_plain_file
from latkit.search.images import ImageListing, image_suffixes, listed

# Of an image's file; a link may lead to a device, which has no end.
MOST_IMAGE_BYTES = 2**30
_TRAINING = {"train", "training"}
_OTHER_SPLITS = {"test", "testing", "val", "valid", "validation", "eval", "evaluation", "dev"}
# What file managers, notebooks and archivers leave behind, beside names with a dot.
_LEFT_BEHIND = {"__MACOSX", "@eaDir"}


class FolderListing(ImageListing):
    """Images below class folders, in the order of their names.

    A class is a folder that has images in it, directly or deeper; links to folders are followed.
    Where there is none, ``class_names`` is empty.

    Args:
        folder: it holds the class folders, or a folder ``train`` or ``training`` (in any case of
            letters) that does.

    Raises:
        InputError: the class folders look like splits, or there are two training splits.
        OSError: a folder cannot be listed.
    """

    def __init__(self, folder: Path) -> None:
        root, remarks = _training_root(folder)
        self.name = text_of(folder)
        self._paths: list[Path] = []
        labels: list[int] = []
        names: list[str] = []
        deeper: list[str] = []  # those of them with images in folders of theirs
        empty: list[str] = []
        beside = 0
        others: Counter[str] = Counter()
        above = frozenset(_identity(path) for path in (root.resolve(), *root.resolve().parents))
        for entry in _visible(root):
            if not entry.is_dir():
                if entry.is_symlink() and not os.path.exists(entry.path):
                    raise InputError(
                        f"{text_of(entry.path)} is a link to nothing, perhaps once to a class",
                        "mend the link, or remove it",
                    )
                beside += _is_image(entry.name)
                continue
            files = list(_files_below(Path(entry.path), above))
            images = [path for path in files if _is_image(path.name)]
            others.update(p.suffix.lower() or p.name for p in files if not _is_image(p.name))
            if not images:
                empty.append(text_of(entry.name))
                continue
            labels += [len(names)] * len(images)
            names.append(text_of(entry.name))
            if any(path.parent != Path(entry.path) for path in images):
                deeper.append(names[-1])
            self._paths += images
        _check_no_splits(root, names, deeper)
        place = text_of(root)
        if empty:
            remarks.append(f"folders of {place} without images are no classes: {listed(empty)}")
        if beside:
            remarks.append(f"images of {place} in no class folder are left out: {beside}")
        if others:
            kinds = [f"{count} {suffix}" for suffix, count in others.most_common()]
            remarks.append(f"files of {place} that are no images are left out: {listed(kinds)}")
        self.labels = np.array(labels, dtype=np.int64)
        self.class_names = tuple(names)
        self.remarks = tuple(remarks)

    def contents(self, chosen: Sequence[int]) -> Iterator[tuple[int, bytes, str]]:
        for place, index in enumerate(chosen):
            path = self._paths[index]
            yield place, read_plain_file(path, MOST_IMAGE_BYTES), text_of(path)


def find_test_folders(folder: Path) -> list[Path]:
    """Folders of other splits beside the training split of a folder, the test split's first."""
    root, _ = _training_root(folder)
    root = root.resolve()
    if root.name.lower() not in _TRAINING:
        return []
    beside = [
        Path(entry.path)
        for entry in _visible(root.parent)
        if entry.is_dir() and split_of(entry.name) == "other"
    ]
    return sorted(beside, key=lambda path: not is_test(path.name))


def is_test(name: str) -> bool:
    """Whether what is of another split than training is called a test, not a validation."""
    return any(word.startswith("test") for word in re.split("[^a-z]+", name.lower()))


def split_of(name: str) -> str | None:
    """The split that a file or folder is named after: ``train``, ``other``, or None."""
    for word in re.split("[^a-z]+", name.lower()):
        if word in _OTHER_SPLITS:
            return "other"
        if word.startswith("train"):
            return "train"
    return None


def text_of(path: Path | str) -> str:
    """A path as text that can be written as UTF-8, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's data."""
    return name.startswith(".") or name in _LEFT_BEHIND


def _training_root(folder: Path) -> tuple[Path, list[str]]:
    """The folder that holds the class folders, and remarks about what is beside it.

    A folder called ``train`` with images directly in it is a class, say of vehicles.

    Raises:
        InputError: there are two training splits.
    """
    remarks: list[str] = []
    while True:
        entries = [entry.name for entry in _visible(folder)]
        folders = [name for name in entries if (folder / name).is_dir()]
        training = [n for n in folders if n.lower() in _TRAINING and _holds_folders(folder / n)]
        if len(training) > 1:
            raise InputError(
                f"{text_of(folder)} has more than one training split ({listed(training)})",
                "pass one of them",
            )
        if not training:
            # A folder around the class folders, as an archive has it, cannot be the only class.
            if len(entries) != 1 or folders != entries or not _holds_folders(folder / folders[0]):
                return folder, remarks
            training = folders
        beside = [text_of(n) for n in folders if n not in training and split_of(n) is None]
        if beside:
            remarks.append(f"only {training[0]} of {text_of(folder)} is used, not {listed(beside)}")
        folder = folder / training[0]


def _holds_folders(folder: Path) -> bool:
    """Whether it may hold class folders: it has folders and no image directly in it."""
    entries = list(_visible(folder))
    return any(e.is_dir() for e in entries) and not any(_is_image(e.name) for e in entries)


def _check_no_splits(root: Path, names: Sequence[str], deeper: Sequence[str]) -> None:
    """Refuse classes that look like splits.

    Args:
        names: of the classes.
        deeper: those that may hold class folders themselves.

    Raises:
        InputError: they are all called so, or several of ``deeper`` are.
    """
    splits = [split_of(name) for name in names]
    if (None not in splits and "other" in splits) or (
        {"train", "other"} <= {split_of(name) for name in deeper}
    ):
        raise InputError(
            f"the folders of images in {text_of(root)} are splits, not classes ({listed(names)})",
            "pass the training split itself, which has to hold a folder for each class",
        )


def _visible(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What a folder holds, by name."""
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    return (entry for entry in ordered if not is_hidden(entry.name))


def _files_below(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """All files, by name; a link back to a folder above is not followed."""
    here = _identity(folder)
    if here in above:
        return
    for entry in _visible(folder):
        if entry.is_dir():
            yield from _files_below(Path(entry.path), above | {here})
        # A link without a target is an error when it is read, not an image less.
        elif entry.is_file() or entry.is_symlink():
            yield Path(entry.path)


def _identity(folder: Path) -> tuple[int, int]:
    """What a folder is the same by, whatever links lead to it."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in image_suffixes()
