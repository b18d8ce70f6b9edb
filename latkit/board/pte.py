"""ExecuTorch's programs without weights, run by ExecuTorch with XNNPACK on the CPU."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from latkit.backends.executorch_program import (
    ExecutorchRunner,
    pool_threads,
    program_facts,
    set_pool_threads,
)
from latkit.backends.failures import runtime_errors
from latkit.board.runtime import BoardRuntime
from latkit.core.errors import BackendError
from latkit.networks.inputs import TensorSpec, random_arrays
from latkit.networks.pool import DrawnWeight, uniform_pool
from latkit.networks.pte_file import with_weights

if TYPE_CHECKING:
    from collections.abc import Iterable

    from latkit.backends.runner import Runner
    from latkit.board.runtime import Read
    from latkit.core.device import Facts

# Endings of a network's files.
HEAD, TENSORS = "head", "json"


class Runtime(BoardRuntime):
    """What ``executorch-xnnpack`` runs, from programs that were built elsewhere."""

    def __init__(self, threads: int, seed: int) -> None:
        super().__init__(threads, seed)
        self._pool = uniform_pool(seed)
        try:
            with runtime_errors("executorch does not start"):
                set_pool_threads(threads)
                width = pool_threads()
        except ImportError as error:
            reason = " ".join(str(error).split())[:200]
            raise BackendError(
                f"executorch's runtime does not import ({reason})",
                "install executorch 1.5 or newer, and the torch that it was built for",
            ) from None
        if width != threads:
            raise BackendError(
                f"ExecuTorch runs on {width} of the {threads} threads requested",
                f"make a bundle of --threads {width}",
            )

    def load(self, read: Read) -> Runner:
        tensors = json.loads(read(TENSORS))
        weights = (
            np.ascontiguousarray(DrawnWeight.from_list(drawn).draw(self._pool).transpose(axes))
            for drawn, axes in tensors["weights"]
        )
        content = with_weights(read(HEAD), weights)
        inputs = random_arrays([TensorSpec("images", tuple(tensors["input"]))], self.seed)
        with runtime_errors("executorch cannot load a network"):
            return ExecutorchRunner(content, list(inputs.values()), self.clock)

    def facts(self) -> Facts:
        from importlib.metadata import version

        return program_facts(version("executorch"), self.threads)


def tensors_to_json(
    shape: tuple[int, ...], weights: Iterable[tuple[DrawnWeight, tuple[int, ...]]]
) -> bytes:
    """What a program lacks.

    Args:
        shape: of its input.
        weights: how each is drawn, and then transposed.
    """
    content: dict[str, Any] = {
        "input": list(shape),
        "weights": [[drawn.to_list(), list(axes)] for drawn, axes in weights],
    }
    return json.dumps(content).encode()
