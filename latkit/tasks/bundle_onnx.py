"""Networks as ONNX graphs without weights, and how a board draws the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from latkit.board.onnx import GRAPH, TENSORS, tensors_to_json
from latkit.core.errors import InputError
from latkit.networks.inputs import TensorSpec
from latkit.networks.onnx_model import INPUT, build_onnx
from latkit.networks.pool import POOL_SIZE, DrawnWeight, uniform_pool
from latkit.spaces import Architecture, Setting
from latkit.spaces.build import input_spec, random_network

# What batch norms scale by lies this close to 1 where they have learnt nothing: with PyTorch's own
# epsilon, and with others.
_SLACKS = (1e-5, 1e-3)
# So many numbers of a weight are compared, up to their last digits, before all of them are.
_COMPARED = 64
_TOLERANCE = 1e-5


class OnnxFormat:
    """What ``--to onnx`` puts into a bundle.

    Attributes:
        backend: of latkit, which measures the same at home.
        module: of ``latkit.board``, which runs it there.
        packages: that a board needs.

    Args:
        seed: of weights and inputs.
    """

    backend: ClassVar[str] = "onnxruntime-cpu"
    module: ClassVar[str] = "latkit.board.onnx"
    packages: ClassVar[tuple[str, ...]] = ("numpy", "onnxruntime")

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._drawn = PoolIndex(seed)

    def files(self, architecture: Architecture, setting: Setting) -> dict[str, bytes]:
        """The files of a network, by their endings.

        Raises:
            InputError: the network has weights that do not follow from the seed.
        """
        network = build_onnx(
            random_network(architecture, setting, self._seed),
            setting.batch,
            setting.resolution,
            setting.classes,
            precision=setting.precision,
        )
        weights = {name: self._drawn.find(values) for name, values in network.weights.items()}
        tensors = tensors_to_json([TensorSpec(INPUT, input_spec(setting).shape)], weights)
        return {GRAPH: network.model.SerializeToString(), TENSORS: tensors}


class PoolIndex:
    """Finds where the weights of a network come from; what it returns draws them bit for bit.

    Weights are looked for by their values, whatever made the network: batch norms are folded into
    them, and their order is the graph's.

    Args:
        seed: of the pool.
    """

    def __init__(self, seed: int) -> None:
        self._pool = uniform_pool(seed)
        # In order of their bins, of which NumPy sorts numbers several times faster than themselves.
        bins = _bins(self._pool)
        self._order = np.argsort(bins, kind="stable")
        self._bins = bins[self._order]

    def find(self, weight: npt.NDArray[Any]) -> DrawnWeight:
        """How a weight is drawn.

        Raises:
            InputError: it is neither a part of the pool nor one number everywhere.
        """
        for drawn in self._guesses(weight):
            if drawn.draw(self._pool).tobytes() == weight.tobytes():
                return drawn
        raise InputError(
            f"a weight of shape {list(weight.shape)} does not follow from the seed, so that a "
            "bundle cannot leave it out",
            "build the network of the parts that its space's build is given",
        )

    def _guesses(self, weight: npt.NDArray[Any]) -> Iterator[DrawnWeight]:
        if (weight == weight.flat[0]).all():
            yield DrawnWeight(weight.shape, None, float(weight.flat[0]))
        elif weight.ndim > 1:
            starts = (self._start(weight, slack) for slack in _SLACKS)
            start = next((start for start in starts if start is not None), None)
            if start is not None:
                values = weight.ravel().astype(np.float64)
                whole = DrawnWeight(weight.shape, start, 1.0).draw(self._pool).ravel()
                # Least squares over all numbers: far closer to the factor than its own last digit.
                scale = np.float32(values @ whole / (whole.astype(np.float64) @ whole))
                for factor in (scale, np.nextafter(scale, 2 * scale), np.nextafter(scale, 0)):
                    yield DrawnWeight(weight.shape, start, float(factor))

    def _start(self, weight: npt.NDArray[Any], slack: float) -> int | None:
        """Where in the pool a weight is, up to a factor this close to 1."""
        unscaled = weight.ravel()[:_COMPARED] * np.sqrt(weight.size // len(weight))
        place = int(np.argmax(np.abs(unscaled)))
        first, last = np.sort(_bins(unscaled[place] * np.array([1 - slack, 1 + slack])))
        low, high = np.searchsorted(self._bins, first), np.searchsorted(self._bins, last, "right")
        starts = self._order[low:high] - place
        starts = starts[(starts >= 0) & (starts <= POOL_SIZE - min(weight.size, POOL_SIZE))]
        parts = self._pool[starts[:, None] + np.arange(len(unscaled))].astype(np.float64)
        scales = unscaled[place] / parts[:, place]
        errors = np.abs(parts * scales[:, None] - unscaled).max(axis=1)
        if not len(errors) or errors.min() > _TOLERANCE:
            return None
        return int(starts[np.argmin(errors)])


def _bins(values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Which of 2^16 equal parts of the pool's range each value is in."""
    end = math.sqrt(3)
    return np.asarray((np.clip(values, -end, end) + end) * (65535 / (2 * end)), dtype=np.uint16)
