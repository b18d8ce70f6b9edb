"""Networks as programs of ExecuTorch without weights, and how a board draws the weights."""

from __future__ import annotations

from collections.abc import Iterator

from latkit.board.pte import HEAD, TENSORS, tensors_to_json
from latkit.networks.onnx_model import OnnxNetwork
from latkit.networks.pool import DrawnWeight
from latkit.networks.pte import build_pte
from latkit.networks.xnnpack_graph import Constant
from latkit.spaces import Architecture, Setting
from latkit.spaces.build import input_spec, random_onnx
from latkit.tasks.bundle_format import BundleFormat, not_of_the_seed


class PteFormat(BundleFormat):
    """What ``--to pte`` puts into a bundle."""

    backend = "executorch-xnnpack"
    module = "latkit.board.pte"
    packages = ("numpy", "torch", "executorch")

    def files(self, architecture: Architecture, setting: Setting) -> dict[str, bytes]:
        network = random_onnx(architecture, setting, self._seed)
        program = build_pte(network)
        weights = _drawn(network, program.constants)
        return {
            HEAD: program.head,
            TENSORS: tensors_to_json(input_spec(setting).shape, weights),
        }


def _drawn(
    network: OnnxNetwork, constants: tuple[Constant, ...]
) -> Iterator[tuple[DrawnWeight, tuple[int, ...]]]:
    """How each constant of a program is drawn, and transposed."""
    for constant in constants:
        values = constant.values
        if constant.name in network.drawn:
            yield network.drawn[constant.name], constant.axes
        elif (values == values.flat[0]).all():
            yield DrawnWeight(values.shape, None, float(values.flat[0])), tuple(range(values.ndim))
        else:
            raise not_of_the_seed(values.shape)
