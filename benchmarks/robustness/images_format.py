"""Files of images."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np

from benchmarks.robustness.formats import Format, Reader
from benchmarks.robustness.mutations import Mutator
from latkit.search.data import load_data


class ImagesFormat(Format):
    """Files of images, and folders of them."""

    name = "images"

    def prepare(self) -> None:
        from PIL import Image

        values = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
        image = Image.fromarray(values)
        self._contents: list[bytes] = []
        for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "ICO", "PPM", "TGA", "PCX",
                     "SGI", "JPEG2000", "AVIF", "QOI"):  # fmt: skip
            for changed in (image, image.convert("L"), image.convert("RGBA"), image.convert("P")):
                sink = io.BytesIO()
                try:
                    changed.save(sink, kind)
                except (OSError, ValueError, KeyError):
                    continue
                self._contents.append(sink.getvalue())
        for mode, kind in (("I;16", "PNG"), ("I;16", "TIFF"), ("F", "TIFF"), ("1", "PNG")):
            sink = io.BytesIO()
            Image.new(mode, (16, 16)).save(sink, kind)
            self._contents.append(sink.getvalue())

    def draw(self, mutator: Mutator, box: Path) -> Reader:
        folder = box / "images"
        for name in ("a", "b"):
            (folder / name).mkdir(parents=True)
        for index in range(4):
            content = mutator.choice(self._contents)
            suffix = mutator.choice((".png", ".jpg", ".tif", ".webp", ".bmp"))
            if mutator.chance(60):
                content = mutator.content(content, 6)
            (folder / "ab"[index % 2] / f"{index}{suffix}").write_bytes(content)
        self._change(mutator, folder)
        return lambda: load_data(str(folder), None, 0)

    def _change(self, mutator: Mutator, folder: Path) -> None:
        how = mutator.integer(0, 9)
        mutator.note(f"folder: change {how}")
        if how == 0:
            (folder / "a" / "loop").symlink_to(folder, target_is_directory=True)
        elif how == 1:
            (folder / "a" / "x.png").symlink_to(mutator.choice(("/dev/zero", "nothing", "x.png")))
        elif how == 2:
            shutil.rmtree(folder / "b")
        elif how == 3:
            (folder / mutator.choice(("train", "test", ".hidden", "\udcff", "x" * 200))).mkdir()
        elif how == 4:
            (folder / "a" / "big.png").write_bytes(_png(*mutator.choice(_SIZES)))
        elif how == 5:
            (folder / "a" / "d.png").mkdir()


_SIZES = ((2**31 - 1, 1), (30_000, 30_000), (13_000, 13_000), (0, 0), (1, 2**31 - 1), (1, 10_000))


def _png(width: int, height: int) -> bytes:
    """The head of an image of any size, with pixels of zeros that are few bytes."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + check

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(min((width + 1) * height, 2**24)))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
