"""The inputs of models of no space: their shapes as users write them, and random values."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from latkit.core.errors import InputError

Array = npt.NDArray[Any]
# Of an input: of more NumPy does not even try to make an array.
MOST_NUMBERS = 2**58
EXAMPLE = "--input 1x3x224x224"
_SHAPE = re.compile(r"(?:(?P<name>[^=]+)=)?(?P<sizes>[1-9]\d{0,8}(?:x[1-9]\d{0,8})*)")


@dataclass(frozen=True)
class TensorSpec:
    """An input of a model; the first dimension is the batch.

    Attributes:
        name: of the input.
        shape: with the batch.
        dtype: NumPy's name of the element type.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    def at_batch(self, batch: int) -> TensorSpec:
        """The same input of another number of samples."""
        return replace(self, shape=(batch, *self.shape[1:]))


def shape_text(shape: Sequence[int | str | None]) -> str:
    """A shape as users write it, ``1x3x224x224``; open dimensions by their names."""
    return "x".join("?" if size is None else str(size) for size in shape)


def parse_input(text: str) -> tuple[str | None, tuple[int, ...]]:
    """Name and shape of ``1x3x224x224`` or ``NAME=1x128``.

    Raises:
        InputError: it is neither.
    """
    match = _SHAPE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{text!r} is no shape of an input", f"write {EXAMPLE}, or NAME=1x128")
    return match["name"], tuple(int(size) for size in match["sizes"].split("x"))


def choose_shapes(
    model: str, declared: Sequence[tuple[str, Sequence[int | str | None]]], given: Sequence[str]
) -> list[tuple[int, ...]]:
    """The shape of every input of a model.

    Args:
        model: its name, for messages.
        declared: name and shape of each input; a dimension that is no number is open.
        given: what the user named; a shape without a name is of the only input.

    Raises:
        InputError: a dimension stays open, or a shape does not fit.
    """
    wanted = dict(parse_input(text) for text in given)
    names = [name for name, _ in declared]
    if None in wanted and len(names) > 1:
        raise InputError(
            f"{model} has {len(names)} inputs ({', '.join(names)})",
            f"name each: --input {names[0]}=1x128",
        )
    for name in wanted:
        if name is not None and name not in names:
            raise InputError(f"{model} has no input {name!r}", f"its inputs are {', '.join(names)}")
    shapes = []
    for name, declared_shape in declared:
        shape = wanted.get(name, wanted.get(None))
        said = shape_text(declared_shape)
        is_open = any(not isinstance(size, int) for size in declared_shape)
        if shape is None:
            if is_open or not declared_shape:
                example = shape_text([s if isinstance(s, int) else 1 for s in declared_shape])
                raise InputError(
                    f"{model} leaves dimensions of its input {name} open ({said})",
                    f"name them, e.g. --input {example or '1'}",
                )
            shape = tuple(int(size or 0) for size in declared_shape)
        if len(shape) != len(declared_shape) or any(
            isinstance(size, int) and size != shape[place]
            for place, size in enumerate(declared_shape)
        ):
            raise InputError(
                f"the input {name} of {model} is {said}, not {shape_text(shape)}",
                "name a shape that fits" + ("" if is_open else ", or leave --input out"),
            )
        shapes.append(shape)
    return shapes


def random_arrays(specs: Sequence[TensorSpec], seed: int) -> dict[str, Array]:
    """Values of every input: standard normal, or zeros and ones where it takes whole numbers.

    Raises:
        InputError: an input has more numbers than any memory holds.
    """
    generator = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for spec in specs:
        dtype = np.dtype(spec.dtype)
        if math.prod(spec.shape) > MOST_NUMBERS:
            raise InputError(
                f"the input {spec.name} is {shape_text(spec.shape)}, which no memory holds",
                "use a model of smaller inputs, or a smaller batch",
            )
        if dtype.kind == "f":
            values = generator.standard_normal(spec.shape, dtype=np.float32).astype(dtype)
        else:
            values = generator.integers(0, 2, spec.shape).astype(dtype)
        arrays[spec.name] = np.ascontiguousarray(values)
    return arrays
