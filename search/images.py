"""From an image's bytes to its pixels: eight bits a channel, red, green and blue, square."""

from __future__ import annotations

import functools
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latkit.core.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow's names of the formats that photographs and drawings are kept in: it opens others too,
# and lists suffixes of films and of tables among them.
_FORMATS = {
    "AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI",
    "TGA", "TIFF", "WEBP",
}  # fmt: skip
# Formats whose images of mode I (32 bits) have pixels of 16 bits, up to 65,535.
_OF_16_BITS = {"PNG", "PPM"}
_PHOTOMETRIC = 262  # TIFF's tag; its value 0 is WhiteIsZero
# Names in one message; a data set may have thousands of classes.
_MOST_NAMES = 5


class ImageListing(ABC):
    """Labelled images that are not decoded, and may not even be read, yet.

    Attributes:
        name: where they are, for messages.
        labels: an ``N``-dim int64 array with values in ``[0, len(class_names))``.
        class_names: of the classes, every one of which has an image.
        remarks: what was left out or changed, to be shown as warnings.
    """

    name: str
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    remarks: tuple[str, ...]

    @abstractmethod
    def contents(self, chosen: Sequence[int]) -> Iterator[tuple[int, bytes, str]]:
        """Read the images of these indices, in any order.

        Yields:
            The image's place in ``chosen``, its encoded bytes, and its name for messages.

        Raises:
            InputError: an image or its file is corrupt.
            OSError: a file cannot be read.
        """


def listed(names: Sequence[str]) -> str:
    """The first names with commas between them, and how many more there are."""
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Suffixes of image files, in lower case, with their dot."""
    from PIL import Image

    registered = Image.registered_extensions()
    return frozenset(suffix for suffix, name in registered.items() if name in _FORMATS)


def decode_image(content: bytes, name: str, side: int) -> npt.NDArray[np.uint8]:
    """An image scaled to a square, without cropping; of an animation the first frame.

    It is turned upright by its EXIF orientation, transparent pixels are put on white, and 16 bits a
    channel become 8 by 1/256.

    Args:
        content: the encoded image.
        name: of the image, for messages.
        side: pixels of the square's side.

    Returns:
        A ``side x side x 3`` array.

    Raises:
        InputError: the image is corrupt, larger than Pillow's limit, or has pixels of 32
            bits, whose range is not known.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError
    from PIL.TiffImagePlugin import TiffImageFile

    try:
        with Image.open(io.BytesIO(content)) as image:
            # A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that leaves enough pixels.
            image.draft(None, (2 * side, 2 * side))
            of_16_bits = image.format in _OF_16_BITS
            inverted = isinstance(image, TiffImageFile) and not image.tag_v2.get(_PHOTOMETRIC, 1)
            colours = _as_rgb(ImageOps.exif_transpose(image), of_16_bits, inverted, name)
    except (InputError, MemoryError):
        raise
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise InputError(
            f"{name} has more than {most:,} pixels, which Pillow takes for an attack on memory",
            "scale it down or remove it",
        ) from None
    except Exception as error:  # corrupt bytes make Pillow's decoders raise almost anything
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "of no known format"
        raise InputError(
            f"{name} is not a readable image ({reason})", "repair or remove it"
        ) from None
    return np.array(_scaled(colours, side))


def scale_images(images: Tensor, side: int) -> Tensor:
    """Decoded images scaled to a square.

    Args:
        images: an ``N x C x H x W`` uint8 tensor.
        side: pixels of the square's side.
    """
    from PIL import Image

    scaled = torch.from_numpy(np.empty((*images.shape[:2], side, side), dtype=np.uint8))
    for image, target in zip(images.flatten(0, 1), scaled.flatten(0, 1), strict=True):
        channel = _scaled(Image.fromarray(image.numpy()), side)
        target.copy_(torch.from_numpy(np.array(channel)))
    return scaled


def _scaled(image: Image, side: int) -> Image:
    from PIL.Image import Resampling

    if image.size == (side, side):
        return image
    return image.resize((side, side), Resampling.BILINEAR)


def _as_rgb(image: Image, of_16_bits: bool, inverted: bool, name: str) -> Image:
    """Eight bits a channel without transparency; Pillow's own conversion clips what is larger.

    Args:
        image: as Pillow decoded it, upright.
        of_16_bits: whether the mode ``I`` stands for 16 bits.
        inverted: whether 0 is white, which Pillow turns round for 8 bits only.
        name: of the image, for messages.
    """
    from PIL import Image as Images

    transparent = image.info.get("transparency")
    if image.mode.startswith("I;16") or (image.mode == "I" and of_16_bits):
        values = np.asarray(image)
        grey = (values >> 8).astype(np.uint8)
        image = Images.fromarray(255 - grey if inverted else grey)
        if isinstance(transparent, int):
            opaque = np.where(values == transparent, 0, 255).astype(np.uint8)
            image.putalpha(Images.fromarray(opaque))
    elif isinstance(transparent, tuple) and max(transparent) > 255:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)  # as the pixels
    if image.mode in ("I", "F"):
        raise InputError(
            f"{name} has signed or floating-point pixels, or ones of 32 bits (Pillow's mode "
            f"{image.mode}), whose range is not known",
            "save it with 8 or 16 bits a channel",
        )
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        white = Images.new("RGBA", coloured.size, "white")
        image = Images.alpha_composite(white, coloured)
    return image.convert("RGB")
