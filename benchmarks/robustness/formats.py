"""Formats that latkit reads: valid files of them, changes, and the commands that read them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.robustness.material import REGISTRY
from benchmarks.robustness.mutations import Mutator

Reader = Callable[[], object]
# Writes changed files of one kind into a box, as ``Format.draw``.
Maker = Callable[[Mutator, Path], Reader]


class Format(ABC):
    """A format.

    Args:
        material: folder of :mod:`benchmarks.robustness.material`.
    """

    name: ClassVar[str]

    def __init__(self, material: Path) -> None:
        self.material = material
        self.prepare()

    def prepare(self) -> None:  # noqa: B027  # most formats have something to prepare
        """Read what is changed later, once."""

    @abstractmethod
    def draw(self, mutator: Mutator, box: Path) -> Reader:
        """Write changed files into the box; returns what reads them there."""

    def copy(self, name: str, box: Path) -> Path:
        """A file or folder of the material, in the box."""
        source, target = self.material / name, box / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(".lock"))
        else:
            shutil.copy(source, target)
        return target


class MixedFormat(Format):
    """A format of which there are several kinds of files, each with commands of its own."""

    @abstractmethod
    def makers(self) -> tuple[Maker, ...]:
        """What is drawn from; one that is there twice is drawn twice as often."""

    def draw(self, mutator: Mutator, box: Path) -> Reader:
        make = mutator.choice(self.makers())
        mutator.note(make.__name__.strip("_"))
        use_registry(self.material / REGISTRY)  # a maker may name another one
        return make(mutator, box)


def latkit(*arguments: object) -> Any:
    """A command in this process; of ``--json`` what it prints.

    Raises:
        ValueError: it prints JSON that is none.
    """
    from latkit.cli.main import cli

    words = [str(argument) for argument in arguments]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        cli.main(words, prog_name="latkit", standalone_mode=False)
    if "--json" in words:
        return json.loads(printed.getvalue(), parse_constant=_no_number)
    return None


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is printed as a number")


def use_registry(folder: Path) -> None:
    """Commands of this process use this registry."""
    os.environ["LATKIT_REGISTRY"] = str(folder)
