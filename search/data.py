"""Images to search on, held in memory as bytes, and their batches.

Sources: ``digits`` (in scikit-learn, needs no network), ``cifar10`` (downloaded by torchvision),
Parquet files in the layouts of the Hugging Face hub, or a folder with a folder a class.
"""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latkit.core.errors import InputError, from_os_error
from latkit.core.files import expand_user, user_folder
from latkit.search.image_folder import FolderListing, text_of
from latkit.search.image_parquet import ParquetListing, find_parquet
from latkit.search.images import ImageListing, decode_image, listed, scale_images

# Pixels of a side that images of files are scaled to, unless another resolution is asked for.
RESOLUTION = 32
# Of a side: nobody searches on more, and the system may kill who asks for more memory than it has.
_MOST_PIXELS = 4096
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


def load_data(
    source: str,
    limit: int | None,
    seed: int,
    options: DataOptions | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> ImageData:
    """Load training images.

    Args:
        source: ``digits``, ``cifar10``, a folder or a Parquet file.
        limit: use this many images, drawn at random with ``seed``; None for all.
        seed: of the draw, and of the images' order.
        options: how they are read.
        on_image: told how many of how many images of files are decoded.

    Raises:
        InputError: the source is unknown, empty, unreadable, or nothing can be learnt from it.
        LatkitError: a file cannot be read.
    """
    options = options or DataOptions()
    side = options.resolution
    if side is not None and (side % 4 or not 4 <= side <= _MOST_PIXELS):
        raise InputError(
            f"images of {side}x{side} pixels cannot be searched on",
            f"use a --resolution from 4 to {_MOST_PIXELS} that is a multiple of 4 (a cell network "
            "halves it twice)",
        )
    try:
        if source in ("digits", "cifar10"):
            return _checked(_named(source, limit, seed, options))
        listing = _listing(expand_user(source), options)
        return _checked(_decoded(listing, limit, seed, options, on_image))
    except OSError as error:
        raise from_os_error(error, f"read {source}", "nothing was changed") from None
    except MemoryError:
        raise InputError(
            f"memory ran out while the images of {source} were read",
            "use a smaller --limit or --resolution",
        ) from None


def batches(
    data: ImageData,
    indices: Tensor,
    batch: int,
    normalisation: tuple[Tensor, Tensor],
    generator: torch.Generator,
    skip: int = 0,
    share: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Tensor, Tensor]]:
    """One shuffled pass over ``data[indices]`` in full batches, augmented and normalised.

    Augmentation is the field's: a random crop after padding by an eighth, and a mirror where
    the classes allow it. Everything random comes from ``generator``, and what is drawn depends
    neither on ``skip`` nor on ``share``.

    Args:
        data: the images.
        indices: those to pass over.
        batch: images of a batch, over all processes.
        normalisation: see :meth:`ImageData.normalisation`.
        generator: source of randomness.
        skip: batches at the beginning that were seen before and are left out.
        share: (rank, processes): yield this process's equal part of each batch only.

    Yields:
        Images (``B x C x H x W`` float32, channels last) and labels.
    """
    rank, processes = share
    own = slice(rank * batch // processes, (rank + 1) * batch // processes)
    mean, std = normalisation
    height, width = data.images.shape[2:]
    pad = max(1, height // 8)
    shuffled = indices[torch.randperm(len(indices), generator=generator)]
    for number in range(len(shuffled) // batch):
        chosen = shuffled[number * batch : (number + 1) * batch][own]
        # Drawn for the whole batch, and for skipped ones too: then every process, and a search
        # that goes on in the middle of an epoch, sees what it would have seen.
        offsets = torch.randint(0, 2 * pad + 1, (2, batch), generator=generator)[:, own]
        mirrored = torch.rand(batch, generator=generator)[own] < 0.5
        if number < skip:
            continue
        x = (data.images[chosen].float() - mean) / std
        x = torch.nn.functional.pad(x, (pad, pad, pad, pad))
        rows = offsets[0, :, None] + torch.arange(height)
        columns = offsets[1, :, None] + torch.arange(width)
        if data.flip:
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        each = torch.arange(len(chosen))[:, None, None]
        # Indices on both sides of the channel slice put channels last in memory.
        cropped = x[each, :, rows[:, :, None], columns[:, None, :]]
        yield cropped.permute(0, 3, 1, 2), data.labels[chosen]


def _named(source: str, limit: int | None, seed: int, options: DataOptions) -> ImageData:
    if options.image_column or options.label_column:
        raise InputError(
            f"{source} has no columns",
            "leave out --image-column and --label-column, which are for Parquet files",
        )
    data = _digits() if source == "digits" else _cifar10()
    chosen = _choose(len(data.labels), limit, seed)
    images = data.images[chosen]
    if options.resolution is not None:
        images = scale_images(images, options.resolution)
    return dataclasses.replace(
        data, images=images, labels=data.labels[chosen], flip=data.flip and options.flip
    )


def _digits() -> ImageData:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.as_tensor(digits.images * 15.9375, dtype=torch.uint8)[:, None]
    labels = torch.as_tensor(digits.target, dtype=torch.int64)
    names = tuple(map(str, range(10)))
    return ImageData("digits (scikit-learn, 8x8)", images, labels, names, flip=False)


def _cifar10() -> ImageData:
    from torchvision.datasets import CIFAR10

    root = user_folder("cache", "XDG_CACHE_HOME")
    try:
        cifar = CIFAR10(str(root), train=True, download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"CIFAR-10 could not be downloaded to {root} ({str(error).splitlines()[0]})",
            "connect to the network, pass a folder of Parquet files or images, or --data digits",
        ) from None
    images = torch.as_tensor(cifar.data).permute(0, 3, 1, 2).contiguous()
    labels = torch.as_tensor(cifar.targets)
    return ImageData("CIFAR-10", images, labels, tuple(cifar.classes), flip=True)


def _listing(path: Path, options: DataOptions) -> ImageListing:
    """The images of a folder or a Parquet file.

    Raises:
        InputError: there are none, or not of this kind.
        OSError: they cannot be listed.
    """
    name, columns = text_of(path), (options.image_column, options.label_column)
    fix = (
        "pass digits, cifar10, a folder with train*.parquet (Hugging Face layout), a Parquet file, "
        "or a folder with one folder of images per class"
    )
    if path.is_file() and path.suffix.lower() == ".parquet":
        return ParquetListing([path], name, *columns)
    if not path.is_dir():
        raise InputError(
            f"no data at {name!r}: it is neither a known name nor a folder nor a Parquet file", fix
        )
    if files := find_parquet(path, named_training=True):
        return ParquetListing(files, name, *columns)
    folders = FolderListing(path)
    if folders.class_names:
        if any(columns):
            raise InputError(
                f"{name} is a folder of images, which have no columns",
                "leave out --image-column and --label-column",
            )
        return folders
    if files := find_parquet(path, named_training=False):
        return ParquetListing(files, name, *columns)
    raise InputError(f"{name} holds neither train*.parquet nor folders of images", fix)


def _decoded(
    listing: ImageListing,
    limit: int | None,
    seed: int,
    options: DataOptions,
    on_image: Callable[[int, int], None],
) -> ImageData:
    from PIL.Image import DecompressionBombWarning

    side = options.resolution or RESOLUTION
    chosen = _choose(len(listing.labels), limit, seed)
    images = np.empty((len(chosen), 3, side, side), dtype=np.uint8)
    with warnings.catch_warnings():
        # Of images half as large as those that are refused.
        warnings.simplefilter("ignore", DecompressionBombWarning)
        # Of damaged tags beside an image that can be read.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        contents = listing.contents(chosen.tolist())
        for done, (place, content, name) in enumerate(contents, start=1):
            images[place] = decode_image(content, name, side).transpose(2, 0, 1)
            on_image(done, len(chosen))
    labels = torch.from_numpy(listing.labels)[chosen]
    return ImageData(
        listing.name, torch.from_numpy(images), labels, listing.class_names, options.flip,
        listing.remarks,
    )  # fmt: skip


def _choose(available: int, limit: int | None, seed: int) -> Tensor:
    order = torch.randperm(available, generator=torch.Generator().manual_seed(seed))
    return order if limit is None else order[:limit]


def _checked(data: ImageData) -> ImageData:
    """The data, with a remark if ``--limit`` left classes without images.

    Raises:
        InputError: nothing can be learnt from it.
    """
    images = len(data.labels)
    if images == 0:
        raise InputError(f"{data.name} holds no images", "choose other data")
    counts = torch.bincount(data.labels, minlength=data.classes).tolist()
    names = list(zip(data.class_names, counts, strict=True))
    present = [name for name, count in names if count]
    if len(present) < 2:
        raise InputError(
            f"the {images} images of {data.name} are of 1 class ({present[0]})",
            "use data with at least two classes, or a larger --limit",
        )
    if data.is_constant():
        raise InputError(
            f"the {images} images of {data.name} are all the same, pixel by pixel",
            "look at one of them; content that is only transparent white on white, or in 16 bits "
            "of which the upper 8 are 0, is lost",
        )
    if len(present) == data.classes:
        return data
    absent = [name for name, count in names if not count]
    remark = (
        f"{len(absent)} of the {data.classes} classes of {data.name} have none of the {images} "
        f"images: {listed(absent)}; use a larger --limit"
    )
    return dataclasses.replace(data, remarks=(*data.remarks, remark))
