"""Networks as ONNX graphs without weights, and how a board draws the weights."""

from __future__ import annotations

from latkit.backends import BACKENDS
from latkit.backends.failures import runtime_errors
from latkit.board.onnx import GRAPH, TENSORS, tensors_to_json
from latkit.core.errors import BackendError
from latkit.networks.inputs import TensorSpec
from latkit.networks.onnx_model import INPUT, OnnxNetwork
from latkit.spaces import Architecture, Setting
from latkit.spaces.build import input_spec, random_onnx
from latkit.tasks.bundle_format import BundleFormat, not_of_the_seed


class OnnxFormat(BundleFormat):
    """What ``--to onnx`` puts into a bundle."""

    backend = "onnxruntime-cpu"
    module = "latkit.board.onnx"
    packages = ("numpy", "onnxruntime")

    def files(self, architecture: Architecture, setting: Setting) -> dict[str, bytes]:
        if setting.precision == "int8":
            network = self._int8_network(architecture, setting)
        else:
            network = random_onnx(architecture, setting, self._seed, merged=True)
        for name, weight in network.weights.items():
            if name not in network.drawn:
                raise not_of_the_seed(weight.shape)
        inputs = [TensorSpec(INPUT, input_spec(setting).shape)]
        return {
            GRAPH: network.content,
            TENSORS: tensors_to_json(inputs, network.drawn),
        }

    def _int8_network(self, architecture: Architecture, setting: Setting) -> OnnxNetwork:
        """The network with the scales that ``latkit profile`` finds here.

        Raises:
            BackendError: ONNX Runtime is not here to run the network in fp32, or fails.
        """
        from latkit.backends.onnxruntime_int8 import int8_network

        probe = BACKENDS.get(self.backend).probe()
        if not probe.usable:
            raise BackendError(
                f"a bundle in int8 is calibrated by ONNX Runtime: {probe.reason}", probe.fix
            )
        with runtime_errors("onnxruntime cannot calibrate a network"):
            return int8_network(architecture, setting, self._seed)
