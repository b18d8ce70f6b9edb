"""Pebble, an invented runtime for this example: NumPy, one operation after the other.

It knows nothing of latkit. A session is a list of operations on named arrays ``B x C x H x W``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__version__ = "1.0"
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Operation:
    """One step: ``kind`` is a name of :data:`KERNELS`, ``options`` its arguments by name."""

    kind: str
    inputs: Sequence[str]
    output: str
    options: dict[str, Any]


class Session:
    """A network that is ready to run."""

    def __init__(self, operations: Sequence[Operation], weights: dict[str, Array]) -> None:
        self._steps = [(KERNELS[o.kind], o.inputs, o.output, o.options) for o in operations]
        self._weights = weights

    def run(self, name: str, value: Array, output: str) -> Array:
        arrays = {**self._weights, name: value}
        for kernel, inputs, made, options in self._steps:
            arrays[made] = kernel(*(arrays[i] for i in inputs), **options)
        return arrays[output]


def _taps(
    x: Array, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int],
    dilations: Sequence[int] = (1, 1), fill: float = 0.0,
) -> list[Array]:  # fmt: skip
    """What each place of a sliding window sees: views of one padded array, row by row."""
    top, left, bottom, right = pads
    padding = ((0, 0), (0, 0), (top, bottom), (left, right))
    padded = np.pad(x, padding, constant_values=fill)
    steps = [range(0, size * step, step) for size, step in zip(kernel, dilations, strict=True)]
    height, width = (size - max(s) for size, s in zip(padded.shape[2:], steps, strict=True))
    return [
        padded[:, :, i : i + height : strides[0], j : j + width : strides[1]]
        for i in steps[0]
        for j in steps[1]
    ]


def _convolution(
    x: Array, weight: Array, bias: Array | None = None, *, depthwise: bool, **window: Any
) -> Array:
    taps = _taps(x, weight.shape[2:], **window)
    if depthwise:
        factors = weight.reshape(len(weight), -1, 1, 1)
        y = sum(tap * factors[:, place] for place, tap in enumerate(taps))
    else:
        columns = np.concatenate(taps, axis=1)
        matrix = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
        flat = matrix @ columns.reshape(*columns.shape[:2], -1)
        y = flat.reshape(len(x), len(weight), *columns.shape[2:])
    return y if bias is None else y + bias[:, None, None]


def _max_pool(x: Array, **window: Any) -> Array:
    return functools.reduce(np.maximum, _taps(x, **window, fill=-np.inf))


def _mean_pool(x: Array, **window: Any) -> Array:
    """Padding does not count."""
    return sum(_taps(x, **window)) / sum(_taps(np.ones_like(x[:1, :1]), **window))


def _norm(
    x: Array, scale: Array, shift: Array, mean: Array, variance: Array, *, epsilon: float
) -> Array:
    factor = scale / np.sqrt(variance + np.float32(epsilon))
    return x * factor[:, None, None] + (shift - mean * factor)[:, None, None]


KERNELS: dict[str, Callable[..., Array]] = {
    "add": lambda x, y: x + y,
    "concat": lambda *xs: np.concatenate(xs, axis=1),
    "convolution": _convolution,
    "crop": lambda x: x[:, :, 1:, 1:],
    "linear": lambda x, weight, bias: x @ weight.T + bias,
    "max_pool": _max_pool,
    "mean": lambda x: x.mean(axis=(2, 3)),
    "mean_pool": _mean_pool,
    "norm": _norm,
    "relu": lambda x: np.maximum(x, 0),
    "same": lambda x: x,
    "scale": lambda x, *, factor: x * np.float32(factor),
}
