"""Images to search on, held in memory as bytes, and their batches.

Sources: ``digits`` (in scikit-learn, needs no network), ``cifar10`` (downloaded by torchvision),
a folder of Parquet files in the Hugging Face layout, or an ImageFolder (a folder a class).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from latkit.errors import InputError, from_os_error
from latkit.files import expand_user, user_folder

RESOLUTION = 32
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"}


@dataclass(frozen=True)
class ImageData:
    """Labelled images.

    Attributes:
        name: where they came from.
        images: an ``N x C x H x W`` uint8 tensor.
        labels: an ``N``-dim int64 tensor with values in ``[0, classes)``.
        classes: number of classes.
        flip: whether a mirrored image still belongs to its class (digits do not).
    """

    name: str
    images: Tensor
    labels: Tensor
    classes: int
    flip: bool

    def normalisation(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel, ``1 x C x 1 x 1``, in bytes."""
        channels = self.images.transpose(0, 1).flatten(1).float()
        shape = (1, -1, 1, 1)
        return channels.mean(1).view(shape), channels.std(1).clamp_min(1.0).view(shape)


def load_data(source: str, limit: int | None, seed: int) -> ImageData:
    """Load training images.

    Args:
        source: ``digits``, ``cifar10`` or a folder.
        limit: use this many images, drawn at random with ``seed``; None for all.

    Raises:
        InputError: the source is unknown, empty, unreadable, or has a single class.
    """
    if source == "digits":
        data = _digits()
    elif source == "cifar10":
        data = _cifar10()
    else:
        try:
            return _checked(_folder(expand_user(source), limit, seed))
        except OSError as error:
            raise from_os_error(error, f"read {source}", "nothing was changed") from None
    chosen = _choose(len(data.labels), limit, seed)
    return _checked(
        ImageData(data.name, data.images[chosen], data.labels[chosen], data.classes, data.flip)
    )


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


def _digits() -> ImageData:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.as_tensor(digits.images * 15.9375, dtype=torch.uint8)[:, None]
    labels = torch.as_tensor(digits.target, dtype=torch.int64)
    return ImageData("digits (scikit-learn, 8x8)", images, labels, 10, flip=False)


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
    return ImageData("CIFAR-10", images, torch.as_tensor(cifar.targets), 10, flip=True)


def _folder(folder: Path, limit: int | None, seed: int) -> ImageData:
    fix = (
        "pass digits, cifar10, a folder with train*.parquet (Hugging Face layout), or a folder "
        "with one folder of images per class"
    )
    if not folder.is_dir():
        raise InputError(
            f"no data at {str(folder)!r}: it is neither a known name nor a folder", fix
        )
    parquet = sorted(folder.glob("train*.parquet")) or sorted(folder.glob("data/train*.parquet"))
    if parquet:
        return _parquet(folder, parquet, limit, seed)
    root = folder / "train" if (folder / "train").is_dir() else folder
    names = sorted(p.name for p in root.iterdir() if p.is_dir())
    found = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((root / name).rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not found:
        raise InputError(f"{folder} holds neither train*.parquet nor folders of images", fix)
    chosen = [found[i] for i in _choose(len(found), limit, seed).tolist()]
    images = [_decode(path.read_bytes(), str(path), RESOLUTION) for path, _ in chosen]
    labels = torch.tensor([label for _, label in chosen])
    return ImageData(str(folder), torch.stack(images), labels, len(names), flip=True)


def _parquet(folder: Path, paths: Sequence[Path], limit: int | None, seed: int) -> ImageData:
    layout = "use the Hugging Face layout: a column img or image with bytes, and an integer label"
    try:
        table = pa.concat_tables([pq.ParquetFile(path).read() for path in paths])
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{folder} has a corrupt Parquet file ({reason})", layout) from None
    image = next((name for name in ("img", "image") if name in table.column_names), None)
    label = next((name for name in ("label", "labels") if name in table.column_names), None)
    if image is None or label is None or not pa.types.is_integer(table.schema.field(label).type):
        raise InputError(f"{folder} has the columns {', '.join(table.column_names)}", layout)
    labels = torch.as_tensor(table[label].to_numpy().astype(np.int64))
    if len(labels) and int(labels.min()) < 0:
        raise InputError(f"{folder} has unlabelled images (label -1)", layout)
    chosen = _choose(len(labels), limit, seed)
    cells: list[Any] = table[image].take(pa.array(chosen.numpy())).to_pylist()
    decoded = []
    for index, cell in zip(chosen.tolist(), cells, strict=True):
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise InputError(f"image {index} of {folder} has no bytes", layout)
        decoded.append(_decode(content, f"image {index} of {folder}", None))
    if len({image.shape for image in decoded}) > 1:
        raise InputError(f"the images of {folder} differ in size", "resize them to one size")
    classes = int(labels.max()) + 1 if len(labels) else 0
    images = torch.stack(decoded) if decoded else torch.empty(0, 3, 1, 1, dtype=torch.uint8)
    return ImageData(str(folder), images, labels[chosen], classes, flip=True)


def _decode(content: bytes, name: str, resolution: int | None) -> Tensor:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as opened:
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise InputError(f"{name} is not a readable image", "repair or remove it") from None
    if resolution is not None:
        image = image.resize((resolution, resolution), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _choose(available: int, limit: int | None, seed: int) -> Tensor:
    order = torch.randperm(available, generator=torch.Generator().manual_seed(seed))
    return order if limit is None else order[:limit]


def _checked(data: ImageData) -> ImageData:
    if len(data.labels) == 0:
        raise InputError(f"{data.name} holds no images", "choose other data")
    present = int(data.labels.unique().numel())
    if present < 2:
        raise InputError(
            f"the {len(data.labels)} images of {data.name} are of {present} class",
            "use data with at least two classes, or a larger --limit",
        )
    side = data.images.shape[-1]
    if data.images.shape[-2] != side or side % 4:
        raise InputError(
            f"images of {data.images.shape[-2]}x{side} pixels cannot be searched on",
            "use square images whose side is a multiple of 4 (a cell network halves it twice)",
        )
    return data
