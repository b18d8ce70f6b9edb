"""Networks in int8 for ONNX Runtime on the CPU, calibrated by it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from latkit.backends.onnxruntime_session import (
    CPU,
    import_runtime,
    own_errors,
    session_options,
    start_session,
)
from latkit.networks.onnx_model import INPUT, Array, OnnxNetwork
from latkit.spaces import Architecture, Setting
from latkit.spaces.build import random_int8


def int8_network(
    architecture: Architecture, setting: Setting, seed: int, threads: int = 1
) -> OnnxNetwork:
    """A network with random weights in int8; see :func:`latkit.spaces.build.random_int8`.

    Args:
        architecture, setting, seed: as there.
        threads: of the run that calibrates.

    Raises:
        InputError: see there.
        RuntimeError: ONNX Runtime cannot run the network in fp32.
    """
    return random_int8(architecture, setting, seed, partial(_outputs, threads=threads))


def _outputs(network: OnnxNetwork, images: Array, threads: int) -> Sequence[Array]:
    """All outputs of one run."""
    options = session_options(network.weights, threads, None)
    # Optimising takes longer than it saves in one run, and nothing is fused around an output.
    options.graph_optimization_level = import_runtime().GraphOptimizationLevel.ORT_DISABLE_ALL
    with own_errors():
        session: Any = start_session(network.content, options, CPU, {})
        outputs: Sequence[Array] = session.run(None, {INPUT: images})
    return outputs
