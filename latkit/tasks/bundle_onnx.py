"""Networks as ONNX graphs without weights, and how a board draws the weights."""

from __future__ import annotations

from typing import ClassVar

from latkit.board.onnx import GRAPH, TENSORS, tensors_to_json
from latkit.core.errors import InputError
from latkit.networks.inputs import TensorSpec
from latkit.networks.onnx_model import INPUT
from latkit.spaces import Architecture, Setting
from latkit.spaces.build import input_spec, random_onnx


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

    def files(self, architecture: Architecture, setting: Setting) -> dict[str, bytes]:
        """The files of a network, by their endings.

        Raises:
            InputError: the network has weights that do not follow from the seed.
        """
        network = random_onnx(architecture, setting, self._seed)
        for name, weight in network.weights.items():
            if name not in network.drawn:
                raise InputError(
                    f"a weight of shape {list(weight.shape)} does not follow from the seed, so "
                    "that a bundle cannot leave it out",
                    "build the network of the parts that its space's build is given, and do not "
                    "change them",
                )
        inputs = [TensorSpec(INPUT, input_spec(setting).shape)]
        return {
            GRAPH: network.model.SerializeToString(),
            TENSORS: tensors_to_json(inputs, network.drawn),
        }
