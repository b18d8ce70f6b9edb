"""Networks as ncnn's texts of layers, and how a board draws the weights."""

from __future__ import annotations

from latkit.board.ncnn import LAYERS, TENSORS, tensors_to_json
from latkit.networks.ncnn import TYPE_WORD, to_ncnn
from latkit.spaces import Architecture, Setting
from latkit.spaces.build import input_spec, random_onnx
from latkit.tasks.bundle_format import BundleFormat, not_of_the_seed


class NcnnFormat(BundleFormat):
    """What ``--to ncnn`` puts into a bundle."""

    backend = "ncnn-cpu"
    module = "latkit.board.ncnn"
    packages = ("numpy", "ncnn")

    def files(self, architecture: Architecture, setting: Setting) -> dict[str, bytes]:
        network = random_onnx(architecture, setting, self._seed)
        written = to_ncnn(network)
        for name, weight in network.weights.items():
            if name not in network.drawn:
                raise not_of_the_seed(weight.shape)
        weights = [None if n == TYPE_WORD else network.drawn[n] for n in written.weights]
        return {
            LAYERS: written.layers.encode(),
            TENSORS: tensors_to_json(input_spec(setting).shape, weights),
        }
