"""What architectures cost analytically: kernels, multiply-adds, bytes and parameters.

Each of these is that of the frame (stem, joints, classifier) and the sum of what the operations
add, so a table of the operations on the edges is all that is needed to cost any number of
architectures. MACs (multiply-adds) are those of convolutions and the classifier for one image;
pooling, normalisation and additions are not counted, as in the field's tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ABSENT = -1

# Kernels are those of an eager run, convolutions among them. MACs and bytes are for one image, the
# bytes what fp32 inputs, weights and outputs take.
COLUMNS = ("kernels", "convolutions", "macs", "bytes", "params")
_MACS, _PARAMS = COLUMNS.index("macs"), COLUMNS.index("params")
Table = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cost:
    """Multiply-adds for one image, and trainable parameters."""

    macs: int = 0
    params: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.params + other.params)


@dataclass(frozen=True)
class AnalyticTable:
    """Analytic costs of a space's architectures in a network.

    Attributes:
        frame: the columns of what all architectures share; only MACs and parameters count.
        operations: an ``E x O x 5`` array, of each operation on each edge, in all cells together.
    """

    frame: Table
    operations: Table

    def rows(self, matrix: npt.ArrayLike) -> Table:
        """The columns of architectures: ``n x 5`` from an ``n x E`` choice matrix."""
        array = np.atleast_2d(np.asarray(matrix, dtype=np.int64))
        edges = np.arange(array.shape[1])
        chosen = self.operations[edges, np.maximum(array, 0)]
        chosen[array == ABSENT] = 0
        return np.asarray(self.frame + chosen.sum(axis=1))

    def costs(self, matrix: npt.ArrayLike) -> list[Cost]:
        """MACs and parameters of the whole networks of an ``n x E`` choice matrix."""
        return [Cost(round(row[_MACS]), round(row[_PARAMS])) for row in self.rows(matrix)]


def operation_row(kernels: int, convolutions: int, cost: Cost, activations: int) -> Table:
    """One operation's columns; ``activations`` are the numbers it reads and writes."""
    nbytes = 4 * (activations + cost.params)
    return np.array([kernels, convolutions, cost.macs, nbytes, cost.params], dtype=np.float64)


def frame_row(cost: Cost) -> Table:
    """The columns of what all architectures share."""
    return np.array([0, 0, cost.macs, 0, cost.params], dtype=np.float64)


def conv_bn_cost(c_in: int, c_out: int, kernel: int, side: int, groups: int = 1) -> Cost:
    """A convolution with a batch norm, to ``side`` pixels."""
    weights = c_in * c_out * kernel**2 // groups
    return Cost(weights * side * side, weights + 2 * c_out)


def classifier_cost(channels: int, classes: int) -> Cost:
    """A linear classifier with a bias."""
    return Cost(channels * classes, (channels + 1) * classes)
