"""ncnn's texts of layers, run by ncnn on the CPU; weights are drawn into ncnn's memory."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from latkit.backends.failures import runtime_errors
from latkit.backends.ncnn_net import (
    NcnnRunner,
    fix_thread_count,
    load_net,
    net_facts,
    parallel_width,
)
from latkit.board.runtime import BoardRuntime
from latkit.core.errors import BackendError
from latkit.networks.inputs import TensorSpec, random_arrays
from latkit.networks.pool import DrawnWeight, uniform_pool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latkit.backends.ncnn_net import Fill
    from latkit.backends.runner import Runner
    from latkit.board.runtime import Read
    from latkit.core.device import Facts

# Endings of a network's files.
LAYERS, TENSORS = "param", "json"
_IMAGES = "images"


class Runtime(BoardRuntime):
    """What ``ncnn-cpu`` runs, from texts that were written elsewhere."""

    def __init__(self, threads: int, seed: int) -> None:
        super().__init__(threads, seed)
        self._pool = uniform_pool(seed)
        with runtime_errors("ncnn does not start"):
            fix_thread_count()
            width = parallel_width(threads)
        if width not in (threads, None):
            raise BackendError(
                f"ncnn runs on {width} of the {threads} threads requested",
                f"unset OMP_THREAD_LIMIT, or make a bundle of --threads {width}",
            )

    def load(self, read: Read) -> Runner:
        shape, weights = tensors_from_json(read(TENSORS))
        images = random_arrays([TensorSpec(_IMAGES, shape)], self.seed)[_IMAGES]
        with runtime_errors("ncnn cannot build a network"):
            net = load_net(read(LAYERS).decode(), map(self._fill, weights), self.threads)
            return NcnnRunner(net, images[0], self.clock)

    def facts(self) -> Facts:
        return net_facts(self.threads)

    def _fill(self, weight: DrawnWeight | None) -> Fill:
        return None if weight is None else partial(weight.draw_into, self._pool)


def tensors_to_json(shape: tuple[int, ...], weights: Iterable[DrawnWeight | None]) -> bytes:
    """What a text of layers lacks.

    Args:
        shape: of the images.
        weights: in the order in which ncnn reads them, and None for each word between them.
    """
    content: dict[str, Any] = {
        "images": list(shape),
        "weights": [weight and weight.to_list() for weight in weights],
    }
    return json.dumps(content).encode()


def tensors_from_json(content: bytes) -> tuple[tuple[int, ...], list[DrawnWeight | None]]:
    """The inverse of :func:`tensors_to_json`."""
    tensors = json.loads(content)
    weights = [values and DrawnWeight.from_list(values) for values in tensors["weights"]]
    return tuple(tensors["images"]), weights
