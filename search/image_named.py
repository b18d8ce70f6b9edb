"""Images by name: ``digits`` and ``cifar10``."""

from __future__ import annotations

import torch

from latkit.core.errors import InputError
from latkit.core.files import user_folder
from latkit.search.image_source import IMAGE_SOURCES, DataOptions, ImageData, ImageSource


@IMAGE_SOURCES.register("digits")
class Digits(ImageSource):
    """scikit-learn's images of digits, 8x8 pixels, which need no network."""

    def open(self, source: str, options: DataOptions) -> ImageData:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = torch.as_tensor(digits.images * 15.9375, dtype=torch.uint8)[:, None]
        labels = torch.as_tensor(digits.target, dtype=torch.int64)
        names = tuple(map(str, range(10)))
        return ImageData("digits (scikit-learn, 8x8)", images, labels, names, flip=False)


@IMAGE_SOURCES.register("cifar10")
class Cifar10(ImageSource):
    """CIFAR-10, downloaded by torchvision."""

    def open(self, source: str, options: DataOptions) -> ImageData:
        return _cifar10(train=True)

    def open_test(self, source: str, options: DataOptions) -> ImageData:
        return _cifar10(train=False)


def _cifar10(train: bool) -> ImageData:
    from torchvision.datasets import CIFAR10

    root = user_folder("cache", "XDG_CACHE_HOME")
    try:
        cifar = CIFAR10(str(root), train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"CIFAR-10 could not be downloaded to {root} ({str(error).splitlines()[0]})",
            "connect to the network, pass a folder of Parquet files or of images, or --data digits",
        ) from None
    images = torch.as_tensor(cifar.data).permute(0, 3, 1, 2).contiguous()
    labels = torch.as_tensor(cifar.targets)
    return ImageData("CIFAR-10", images, labels, tuple(cifar.classes), flip=True)
