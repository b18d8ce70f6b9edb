"""Images to train and test on: three channels, normalised; cutout."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latkit.core.errors import InputError
from latkit.search.data import RESOLUTION, DataOptions, ImageData, load_split
from latkit.training.request import TrainingPlan

# Of test images, at once.
TEST_BATCH = 256


@dataclass(frozen=True)
class TrainingData:
    """Training and test images of the same classes and size, ``N x 3 x R x R``.

    Attributes:
        train, test: the images.
        mean, std: of each channel of the training images, ``1 x 3 x 1 x 1``, in units of a byte.
    """

    train: ImageData
    test: ImageData
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, train: ImageData, test: ImageData) -> TrainingData:
        """Images as they are loaded; those of one channel are taken for grey.

        Raises:
            InputError: they have other channels than 1 or 3, or are not square.
        """
        train, test = _three_channels(train), _three_channels(test)
        if train.images.shape[1:] != test.images.shape[1:]:
            raise InputError(
                f"images of {train.name} differ in size from those of {test.name}",
                "use --resolution",
            )
        return cls(train, test, *train.normalisation())

    @property
    def resolution(self) -> int:
        """Pixels of a side."""
        return self.train.images.shape[-1]

    def identity(self) -> dict[str, Any]:
        """What distinguishes these images from others, as JSON."""
        return {"train": self.train.identity(), "test": self.test.identity()}

    def to_dict(self) -> dict[str, Any]:
        """What a result has of them."""
        return {
            "name": self.train.name,
            "train_images": len(self.train.labels),
            "test_images": len(self.test.labels),
            "classes": self.train.classes,
            "class_names": list(self.train.class_names),
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
        }

    def test_batches(self, rank: int, world: int) -> Iterator[tuple[Tensor, Tensor]]:
        """One process's part of the test images in their order, normalised, and their labels."""
        images, labels = self.test.images[rank::world], self.test.labels[rank::world]
        for x, y in zip(images.split(TEST_BATCH), labels.split(TEST_BATCH), strict=True):
            normalised = (x.float() - self.mean) / self.std
            yield normalised.contiguous(memory_format=torch.channels_last), y


def load(
    plan: TrainingPlan,
    source: str,
    options: DataOptions,
    on_image: Callable[[int, int], None],
) -> TrainingData:
    """The images of a training.

    Raises:
        InputError: as ``latkit.search.data.load_split`` does; or they fill no batch.
        LatkitError: a file cannot be read.
    """
    if options.resolution is None and plan.network.resolution != RESOLUTION:
        options = dataclasses.replace(options, resolution=plan.network.resolution)
    data = TrainingData.of(*load_split(source, plan.config.limit, options, on_image))
    images, batch, cutout = len(data.train.labels), plan.config.batch, plan.config.cutout
    if batch > images:
        raise InputError(
            f"a batch of {batch} is larger than the {images} training images",
            f"use --batch {images} or less, or more images",
        )
    if cutout >= data.resolution:
        raise InputError(
            f"a cutout of {cutout} pixels blanks images of {data.resolution}x{data.resolution}",
            f"use --cutout {data.resolution // 2} or less",
        )
    return data


def cut_out(x: Tensor, centres: Tensor, side: int) -> None:
    """Blank a square of each image in place, of which what is outside the image is lost.

    DeVries and Taylor 2017; of normalised images 0 is the mean colour.

    Args:
        x: ``B x C x H x W``.
        centres: row and column of each square's centre, ``2 x B``; of an even side it is the pixel
            below and to the right of the middle, as in the reference code.
        side: of the squares in pixels.
    """
    rows, columns = (
        (torch.arange(pixels) - centre[:, None] + side // 2).ge(0)
        & (torch.arange(pixels) - centre[:, None] + side // 2).lt(side)
        for pixels, centre in zip(x.shape[2:], centres, strict=True)
    )
    x.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def _three_channels(data: ImageData) -> ImageData:
    channels, height, width = data.images.shape[1:]
    if channels not in (1, 3) or height != width:
        raise InputError(
            f"images of {data.name} have {channels} channels and {width}x{height} pixels, and "
            "networks take square ones of 3 channels",
            "use --resolution, or other data",
        )
    return dataclasses.replace(data, images=data.images.expand(-1, 3, -1, -1))
