"""Decoding: what every kind of image becomes."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from latkit.core.errors import InputError
from latkit.search.images import decode_image, image_suffixes, scale_images

SIDE = 8
RAMP = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE) * 1000 + 500


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(
    width: int, height: int, depth: int, colour_type: int, content: bytes, **chunks: bytes
) -> bytes:
    """A PNG of scan lines without filters: Pillow writes no 16 bits in colour."""

    def chunk(kind: str, body: bytes) -> bytes:
        both = kind.encode() + body
        return struct.pack(">I", len(body)) + both + struct.pack(">I", zlib.crc32(both))

    lines = len(content) // height if content else 0
    rows = b"".join(b"\0" + content[i : i + lines] for i in range(0, len(content), lines or 1))
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    middle = b"".join(chunk(kind, body) for kind, body in chunks.items())
    return (
        b"\x89PNG\r\n\x1a\n" + chunk("IHDR", header) + middle
        + chunk("IDAT", zlib.compress(rows)) + chunk("IEND", b"")
    )  # fmt: skip


def grey(content: bytes) -> npt.NDArray[np.uint8]:
    """The one channel of an image without colour."""
    pixels = decode_image(content, "x", SIDE)
    assert pixels.shape == (SIDE, SIDE, 3)
    assert (pixels == pixels[:, :, :1]).all()
    return pixels[:, :, 0]


class TestSixteenBits:
    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
    def test_grey(self, kind: str) -> None:
        assert (grey(encoded(Image.fromarray(RAMP), kind)) == RAMP >> 8).all()

    def test_big_endian(self) -> None:
        image = Image.fromarray(RAMP.astype(">u2"))
        assert image.mode == "I;16B"
        assert (grey(encoded(image, "TIFF")) == RAMP >> 8).all()

    def test_colour(self) -> None:
        content = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=2)
        made = png(SIDE, SIDE, 16, 2, content.astype(">u2").tobytes())
        assert (decode_image(made, "x", SIDE) == content >> 8).all()

    def test_white_is_zero(self) -> None:
        made = encoded(Image.fromarray(RAMP), "TIFF", tiffinfo={262: 0})
        assert (grey(made) == 255 - (RAMP >> 8)).all()

    def test_a_transparent_grey(self) -> None:
        made = png(SIDE, SIDE, 16, 0, RAMP.astype(">u2").tobytes(), tRNS=struct.pack(">H", 40500))
        assert 40500 in RAMP
        assert (grey(made) == np.where(RAMP == 40500, 255, RAMP >> 8)).all()

    def test_a_transparent_colour(self) -> None:
        content = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=2)
        key = struct.pack(">HHH", *content[2, 3].tolist())
        made = png(SIDE, SIDE, 16, 2, content.astype(">u2").tobytes(), tRNS=key)
        expected = content >> 8
        expected[2, 3] = 255
        assert (decode_image(made, "x", SIDE) == expected).all()

    @pytest.mark.parametrize(
        ("dtype", "mode"), [(np.int16, "I"), (np.int32, "I"), (np.float32, "F")]
    )
    def test_a_range_that_is_not_known(self, dtype: Any, mode: str) -> None:
        tags = {339: 2} if dtype is np.int16 else {}  # SampleFormat: signed
        values = (RAMP // 2).astype(np.uint16) if dtype is np.int16 else RAMP.astype(dtype)
        made = encoded(Image.fromarray(values), "TIFF", tiffinfo=tags)
        with pytest.raises(InputError, match=rf"x\.tif .*mode {mode}\)"):
            decode_image(made, "x.tif", SIDE)


class TestTransparency:
    SHAPE = np.where(RAMP % 3000 < 1500, 255, 0).astype(np.uint8)

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_content_in_the_alpha_channel(self, mode: str) -> None:
        """Black everywhere; only alpha tells the shape."""
        image = Image.new(mode[:-1], (SIDE, SIDE))
        image.putalpha(Image.fromarray(self.SHAPE))
        assert image.mode == mode
        assert (grey(encoded(image)) == 255 - self.SHAPE).all()

    def test_half_transparent(self) -> None:
        image = Image.new("RGBA", (SIDE, SIDE), (0, 100, 200, 51))  # a fifth of it is seen
        pixels = decode_image(encoded(image), "x", SIDE)
        assert np.abs(pixels.astype(int) - [204, 224, 244]).max() <= 1

    def test_a_palette(self) -> None:
        image = Image.fromarray((self.SHAPE // 255).astype(np.uint8)).convert("P")
        image.putpalette([9, 9, 9, 50, 60, 70] + [0] * 750)
        pixels = decode_image(encoded(image, transparency=0), "x", SIDE)
        assert (pixels[self.SHAPE == 0] == 255).all()
        assert (pixels[self.SHAPE == 255] == [50, 60, 70]).all()

    def test_a_transparent_colour(self) -> None:
        content = np.where(self.SHAPE[:, :, None] == 255, [1, 2, 3], [50, 60, 70]).astype(np.uint8)
        made = png(SIDE, SIDE, 8, 2, content.tobytes(), tRNS=bytes([0, 1, 0, 2, 0, 3]))
        pixels = decode_image(made, "x", SIDE)
        assert (pixels[self.SHAPE == 255] == 255).all()
        assert (pixels[self.SHAPE == 0] == [50, 60, 70]).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_orientation(kind: str) -> None:
    """All eight of EXIF, by what the standard says row 0 and column 0 are."""
    upright = (np.arange(64).reshape(8, 8) * 3).astype(np.uint8)
    stored = {
        1: upright,
        2: np.fliplr(upright),
        3: np.rot90(upright, 2),
        4: np.flipud(upright),
        5: upright.T,
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }
    for orientation, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
        made = encoded(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
        assert (grey(made) == upright).all(), orientation


def test_orientation_of_16_bits() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    made = encoded(Image.fromarray(np.rot90(RAMP, 2).copy()), exif=exif)
    assert (grey(made) == RAMP >> 8).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB"])
def test_other_modes(mode: str) -> None:
    image = Image.fromarray(np.where(RAMP > 30000, 255, 0).astype(np.uint8)).convert("RGB")
    if mode == "LAB":
        image = Image.merge("LAB", [image.getchannel(0), *[Image.new("L", (8, 8), 128)] * 2])
    kind = {"YCbCr": "JPEG", "CMYK": "TIFF", "LAB": "TIFF"}.get(mode, "PNG")
    pixels = decode_image(encoded(image.convert(mode), kind), "x", SIDE).astype(int)
    assert np.abs(pixels[:, :, 1] - np.where(RAMP > 30000, 255, 0)).max() <= 40  # of JPEG


def test_photographs_are_decoded_at_a_fraction_of_their_size() -> None:
    """And look as they do at their whole size."""
    y, x = np.mgrid[:1200, :1600]
    waves = np.stack([np.sin(x / 90), np.cos(y / 70), np.sin((x + y) / 50)], axis=2)
    photograph = Image.fromarray((127 + 120 * waves).astype(np.uint8))
    made = encoded(photograph, "JPEG", quality=95)
    with Image.open(io.BytesIO(made)) as image:
        whole = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))
    difference = np.abs(decode_image(made, "x", 32).astype(int) - whole)
    assert difference.mean() < 1
    assert difference.max() < 8


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("L", (SIDE, SIDE), value) for value in (40, 200)]
    made = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (grey(made) == 40).all()


class TestRefused:
    def test_more_pixels_than_pillow_decodes(self) -> None:
        made = png(20_000, 20_000, 8, 2, b"")
        with pytest.raises(InputError, match=r"huge\.png has more than [\d,]+ pixels"):
            decode_image(made, "huge.png", SIDE)

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "WEBP", "PPM", "BMP", "TGA"])
    def test_damaged(self, kind: str) -> None:
        """Whatever is wrong with its bytes, an image that cannot be decoded is named."""
        generator = np.random.default_rng(0)
        pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        whole = np.frombuffer(encoded(Image.fromarray(pixels), kind), dtype=np.uint8)
        causes = []
        for cut in generator.integers(0, len(whole), 20):
            made = whole[:cut].copy()
            made[generator.integers(0, max(1, cut), cut // 50)] ^= 255
            try:
                decode_image(made.tobytes(), "one.img", SIDE)
            except InputError as error:
                causes.append(error.cause)
        assert len(causes) > 10
        assert all("one.img" in cause for cause in causes)

    def test_nonsense(self) -> None:
        with pytest.raises(InputError, match="one is not a readable image") as raised:
            decode_image(b"nonsense", "one", SIDE)
        assert "0x" not in str(raised.value)


def test_suffixes() -> None:
    assert {".jpg", ".jpeg", ".jfif", ".png", ".ppm", ".pgm", ".tif", ".webp"} <= image_suffixes()
    assert not image_suffixes() & {".txt", ".mpg", ".h5", ".pdf", ".csv", ".npy"}


@pytest.mark.parametrize("channels", [1, 3])
def test_scaling_of_decoded_images(channels: int) -> None:
    images = torch.randint(0, 256, (5, channels, 8, 8), dtype=torch.uint8)
    assert torch.equal(scale_images(images, 8), images)
    scaled = scale_images(images, 16)
    assert scaled.shape == (5, channels, 16, 16)
    assert scaled.is_contiguous()
    means = [each.float().mean((2, 3)) for each in (images, scaled)]
    torch.testing.assert_close(means[0], means[1], atol=1.5, rtol=0)
