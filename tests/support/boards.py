"""Bundles, and Python as a board has it: with NumPy and a runtime, and nothing of latkit."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from latkit.board.main import main
from latkit.tasks.bundle import BundleRequest, make_bundle
from tests.support.commands import MICRO_TEXT

# What ONNX Runtime imports, and what belongs to them beside their folders.
PACKAGES = ("numpy", "numpy.libs", "onnxruntime", "flatbuffers", "google", "packaging")


@dataclass(frozen=True)
class Kind:
    """A format of bundles, and a board that runs them.

    Attributes:
        to: of ``latkit bundle``.
        backend: which measures the same at home.
        package: the runtime's.
        packages: of the board, as of :data:`PACKAGES`.
    """

    to: str
    backend: str
    package: str
    packages: tuple[str, ...]


KINDS = (
    Kind("onnx", "onnxruntime-cpu", "onnxruntime", PACKAGES),
    Kind("ncnn", "ncnn-cpu", "ncnn", ("numpy", "numpy.libs", "ncnn", "ncnn.libs")),
)


def make_micro_bundle(out: Path, n: int = 24, **fields: object) -> Path:
    """A bundle whose networks take fractions of a millisecond."""
    make_bundle(BundleRequest(out, n=n, setting=MICRO_TEXT, **fields))  # type: ignore[arg-type]
    return out


def run_here(bundle: Path, out: Path, *options: str) -> int:
    """A bundle in this process; its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["--out", str(out), *options], str(bundle))
    code = ended.value.code
    assert isinstance(code, int)
    return code


class Board:
    """A Python that has some packages of this one and no others.

    Args:
        folder: of links to the packages.
        names: of them.
    """

    def __init__(self, folder: Path, names: tuple[str, ...] = PACKAGES) -> None:
        folder.mkdir()
        self.folder = folder
        for name in names:
            root = importlib.util.find_spec(name.partition(".")[0])
            assert root is not None
            assert root.submodule_search_locations is not None
            place = Path(next(iter(root.submodule_search_locations))).with_name(name)
            if place.exists():  # not every build of NumPy has libraries of its own
                (folder / name).symlink_to(place)

    def start(self, *arguments: object, **options: object) -> subprocess.Popen[str]:
        """Python with these arguments."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        return subprocess.Popen(
            # Without site-packages, and so without any .pth file that leads to this checkout.
            [sys.executable, "-S", *map(str, arguments)],
            env=environment,
            cwd=self.folder.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,  # type: ignore[call-overload]
        )

    def run(self, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        """As :meth:`start`, to its end."""
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)
