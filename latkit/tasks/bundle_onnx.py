"""Networks as ONNX graphs without weights, and how a board draws the weights."""

from __future__ import annotations

from latkit.board.onnx import GRAPH, TENSORS, tensors_to_json
from latkit.networks.inputs import TensorSpec
from latkit.networks.onnx_model import INPUT
from latkit.spaces import Architecture, Setting
from latkit.spaces.build import input_spec, random_onnx
from latkit.tasks.bundle_format import BundleFormat, not_of_the_seed


class OnnxFormat(BundleFormat):
    """What ``--to onnx`` puts into a bundle."""

    backend = "onnxruntime-cpu"
    module = "latkit.board.onnx"
    packages = ("numpy", "onnxruntime")

    def files(self, architecture: Architecture, setting: Setting) -> dict[str, bytes]:
        network = random_onnx(architecture, setting, self._seed, merged=True)
        for name, weight in network.weights.items():
            if name not in network.drawn:
                raise not_of_the_seed(weight.shape)
        inputs = [TensorSpec(INPUT, input_spec(setting).shape)]
        return {
            GRAPH: network.content,
            TENSORS: tensors_to_json(inputs, network.drawn),
        }
