"""What images to search on are, where they come from, and all sources by name."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latkit.core.errors import InputError, LatkitError
from latkit.core.plugins import Plugins
from latkit.search.images import ImageListing

# Bytes of images that are worked on at once: room for their copies is not worth thinking about.
_BYTES_AT_ONCE = 2**22


@dataclass(frozen=True)
class ImageData:
    """Labelled images.

    Attributes:
        name: where they came from.
        images: an ``N x C x H x W`` uint8 tensor.
        labels: an ``N``-dim int64 tensor with values in ``[0, classes)``.
        class_names: of the classes, by label.
        flip: whether a mirrored image still belongs to its class (digits do not).
        remarks: what was left out or changed when they were loaded, to be shown as warnings.
    """

    name: str
    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    flip: bool
    remarks: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def normalisation(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel, ``1 x C x 1 x 1``, in bytes."""
        counts = np.zeros((self.images.shape[1], 256))
        for part in self._parts():
            for channel, count in zip(part.swapaxes(0, 1), counts, strict=True):
                count += np.bincount(channel.reshape(-1), minlength=256)
        values, pixels = np.arange(256.0), counts[0].sum()
        mean = counts @ values / pixels
        squares = (counts * (values - mean[:, None]) ** 2).sum(1)
        std = np.sqrt(squares / max(1.0, pixels - 1)).clip(1.0)
        shape = (1, -1, 1, 1)
        return torch.tensor(mean).float().view(shape), torch.tensor(std).float().view(shape)

    def identity(self) -> dict[str, Any]:
        """What distinguishes these images from others, wherever they are stored, as JSON.

        The digests are the first 16 digits of SHA-256, of bytes and of little-endian int64.
        """
        images, labels = hashlib.sha256(), self.labels.numpy()
        for part in self._parts():
            images.update(np.ascontiguousarray(part).data)
        return {
            "images": len(self.labels),
            "size": list(self.images.shape[1:]),
            "flip": self.flip,
            "classes": list(self.class_names),
            "images_digest": images.hexdigest()[:16],
            "labels_digest": hashlib.sha256(labels.astype("<i8").data).hexdigest()[:16],
        }

    def is_constant(self) -> bool:
        """Whether all images are the same, so that nothing can be learnt."""
        first = self.images[:1].numpy()
        return all(bool((part == first).all()) for part in self._parts())

    def _parts(self) -> Iterator[npt.NDArray[np.uint8]]:
        """The images, some at a time: a copy of them all, in wider numbers, may not fit."""
        step = max(1, _BYTES_AT_ONCE // max(1, self.images[0].numel()))
        return (part.numpy() for part in self.images.split(step))


@dataclass(frozen=True)
class DataOptions:
    """How images are read.

    Attributes:
        resolution: pixels of a side to scale them to, a multiple of 4; None: 32, and ``digits`` and
            ``cifar10`` keep their own size.
        flip: whether half of the images of a batch are mirrored; those of digits never are.
        image_column: of Parquet files; see ``ParquetListing``.
        label_column: likewise.
    """

    resolution: int | None = None
    flip: bool = True
    image_column: str | None = None
    label_column: str | None = None


class ImageSource(ABC):
    """Where images come from; a class is made without arguments.

    A user names a source by its name, or, if it is of paths, by a path that it recognises.

    Attributes:
        of_paths: whether users write paths that it recognises, instead of its name.
        has_columns: whether ``image_column`` and ``label_column`` mean something to it; where they
            are given else, they are refused.
    """

    of_paths: ClassVar[bool] = False
    has_columns: ClassVar[bool] = False

    def recognises(self, path: str) -> bool:
        """Whether a path is of this source; plug-ins come before latkit's own sources."""
        return False

    @abstractmethod
    def open(self, source: str, options: DataOptions) -> ImageData | ImageListing:
        """All images of the training split.

        Args:
            source: what the user wrote: the source's name, or a path that it recognises.
            options: how images are read. Of ``ImageData`` the caller takes a part, scales it if a
                resolution is given, and does not mirror what may not be mirrored; a listing's
                images it reads, decodes and scales.

        Raises:
            InputError: there are no such images.
            OSError: they cannot be read.
        """

    def open_test(self, source: str, options: DataOptions) -> ImageData | ImageListing | None:
        """All images of the test split, which only ``latkit train`` needs; None: there is none.

        Classes are matched with those of the training split by their names.

        Args:
            source, options: as in :meth:`open`.

        Raises:
            InputError: the test split is not what it should be.
            OSError: it cannot be read.
        """
        return None


IMAGE_SOURCES: Plugins[ImageSource] = Plugins(
    "image source",
    "latkit.image_sources",
    ImageSource,  # type: ignore[type-abstract]
    {
        "digits": "latkit.search.image_named",
        "cifar10": "latkit.search.image_named",
        "parquet": "latkit.search.image_paths",
        "folder": "latkit.search.image_paths",
    },
)


def find_source(source: str) -> ImageSource:
    """The source that a user has named.

    Raises:
        InputError: there is none.
        PluginError: it is a plug-in that does not load.
    """
    names = IMAGE_SOURCES.names()
    if source in names and not (named := IMAGE_SOURCES.get(source)()).of_paths:
        return named
    known = []
    for name in sorted(names, key=IMAGE_SOURCES.is_own):
        try:
            found = IMAGE_SOURCES.get(name)()
        except LatkitError:
            continue  # a plug-in that does not load
        if found.of_paths and found.recognises(source):
            return found
        if not found.of_paths:
            known.append(name)
    known.sort(key=names.index)
    raise InputError(
        f"no data at {source!r}: it is neither a known name nor a folder nor a Parquet file",
        f"pass {', '.join(known)}, {PATHS}",
    )


PATHS = (
    "a folder with train*.parquet (Hugging Face layout), a Parquet file, or a folder with one "
    "folder of images per class"
)
