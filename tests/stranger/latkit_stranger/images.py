"""An image source: stripes that stand or lie."""

from __future__ import annotations

import torch

from latkit.search.image_source import DataOptions, ImageData, ImageSource


class Stripes(ImageSource):
    """128 grey images of 8x8 pixels."""

    def open(self, source: str, options: DataOptions) -> ImageData:
        generator = torch.Generator().manual_seed(0)
        lying = torch.arange(128) % 2 == 0
        bars = torch.rand(128, 1, 1, 8, generator=generator).expand(-1, -1, 8, -1)
        images = torch.where(lying[:, None, None, None], bars, bars.transpose(2, 3))
        names = ("standing", "lying")
        return ImageData(source, (255 * images).byte(), lying.long(), names, flip=False)
