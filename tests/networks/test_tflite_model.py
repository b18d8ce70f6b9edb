"""LiteRT models made of ONNX graphs: what LiteRT computes from them, against PyTorch."""

from __future__ import annotations

import importlib.util
from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from latkit.core.errors import InputError
from latkit.networks.mobile import ChannelShuffle
from latkit.networks.onnx_model import OnnxNetwork, build_onnx
from latkit.networks.operations import FactorizedReduce
from latkit.networks.tflite_model import tflite_model
from latkit.spaces import Setting
from latkit.spaces.build import random_onnx
from latkit.spaces.darts.zoo import ZOO

CHANNELS, CLASSES = 4, 3
needs_litert = pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_litert") is None, reason="ai-edge-litert is not installed"
)


class Whole(nn.Module):
    """A network around one module: a stem to its channels, and a classifier."""

    def __init__(self, module: nn.Module, resolution: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, CHANNELS, 1), nn.BatchNorm2d(CHANNELS))
        self.module = module
        with torch.no_grad():
            channels = module(torch.zeros(1, CHANNELS, resolution, resolution)).shape[1]
        self.classifier = nn.Linear(channels, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.module(self.stem(x)).mean((2, 3)))
        return logits


def interpreter(model: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    made = Interpreter(model_content=model, num_threads=1)
    made.allocate_tensors()
    return made


def operators(model: bytes) -> Counter[str]:
    """What the interpreter reads back, without the parts that it gave to XNNPACK."""
    names = Counter(str(o["op_name"]) for o in interpreter(model)._get_ops_details())
    del names["DELEGATE"]
    return names


def check(module: nn.Module, resolution: int) -> Counter[str]:
    """What LiteRT computes is what PyTorch does; the operators."""
    torch.manual_seed(0)
    network = Whole(module, resolution).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            layer.running_mean.normal_()
    images = torch.randn(2, 3, resolution, resolution)
    with torch.no_grad():
        wanted = network(images).numpy()
    model = tflite_model(build_onnx(network, 2, resolution, CLASSES))
    litert = interpreter(model)
    (taken,), (given,) = litert.get_input_details(), litert.get_output_details()
    assert taken["shape"].tolist() == [2, resolution, resolution, 3]
    litert.set_tensor(taken["index"], np.ascontiguousarray(images.numpy().transpose(0, 2, 3, 1)))
    litert.invoke()
    assert np.allclose(litert.get_tensor(given["index"]), wanted, rtol=1e-4, atol=1e-5)
    return operators(model)


def windows() -> list[tuple[str, nn.Module]]:
    """Every window of the spaces' operations, and others."""
    made: list[tuple[str, nn.Module]] = []
    for size, stride, dilation in ((3, 1, 1), (3, 2, 1), (5, 1, 2), (5, 2, 2), (1, 2, 1)):
        padding = dilation * (size // 2)
        for groups in (1, 2, CHANNELS):
            conv = nn.Conv2d(CHANNELS, 2 * CHANNELS, size, stride, padding, dilation, groups)
            made.append((f"conv {size} {stride} {dilation} {groups}", conv))
    for stride in (1, 2):
        made.append((f"max {stride}", nn.MaxPool2d(3, stride, 1)))
        for counts in (True, False):
            pool = nn.AvgPool2d(3, stride, 1, count_include_pad=counts)
            made.append((f"average {stride} {counts}", pool))
    made.append(("average of parts", nn.AvgPool2d(2, 2)))
    return made


@needs_litert
@pytest.mark.parametrize("resolution", [8, 9])
@pytest.mark.parametrize("window", windows(), ids=lambda pair: pair[0])
def test_windows(window: tuple[str, nn.Module], resolution: int) -> None:
    check(window[1], resolution)


@needs_litert
@pytest.mark.parametrize(
    ("module", "there"),
    [
        (FactorizedReduce(CHANNELS, 2 * CHANNELS), {"SLICE": 1, "RELU": 0, "CONCATENATION": 1}),
        (ChannelShuffle(CHANNELS, 2), {"RESHAPE": 2, "TRANSPOSE": 1}),
        (nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.BatchNorm2d(CHANNELS)), {"MUL": 1, "ADD": 1}),
        (nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), nn.ReLU()), {"CONV_2D": 2, "RELU": 0}),
        (nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.ReLU(), nn.Identity()), {"RELU": 1}),
        (nn.Conv2d(CHANNELS, 2, (1, 7), (1, 2), (0, 3)), {"PAD": 1}),
        (nn.Conv2d(CHANNELS, 2, (7, 1), (2, 1), (3, 0), groups=2), {"CONV_2D": 2}),
    ],
)
def test_operations(module: nn.Module, there: dict[str, int]) -> None:
    found = check(module, 8)
    assert {name: found[name] for name in there} == there


@needs_litert
def test_what_is_computed_twice_is_computed_once(micro: Setting) -> None:
    """As by Google's converter: darts_v2's nodes take the maximum of the same state."""
    onnx_network = random_onnx(ZOO["darts_v2"], micro.replace(memory_format="nchw"), 0)
    nodes = Counter(node.op_type for node in onnx_network.model.graph.node)
    found = operators(tflite_model(onnx_network))
    assert found["MAX_POOL_2D"] < nodes["MaxPool"]
    assert found["CONV_2D"] + found["DEPTHWISE_CONV_2D"] == nodes["Conv"]
    assert found["RELU"] < nodes["Relu"]


def made_network(node: onnx.NodeProto, batch: Any = 1, **weights: np.ndarray) -> OnnxNetwork:
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, 8, 8])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])
    graph = helper.make_graph([node], "made", [images], [logits])
    return OnnxNetwork(helper.make_model(graph).SerializeToString(), dict(weights))


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Sigmoid", ["images"], ["logits"]),
        helper.make_node("Concat", ["images", "images"], ["logits"], axis=2),
        helper.make_node("Flatten", ["images"], ["logits"], axis=1),
        helper.make_node("Reshape", ["images", "shape"], ["logits"]),
    ],
    ids=lambda node: node.op_type,
)
def test_what_has_no_form_is_refused(node: onnx.NodeProto) -> None:
    with pytest.raises(InputError):
        tflite_model(made_network(node, shape=np.array([0, 3, -1])))


def test_an_open_batch_is_refused() -> None:
    with pytest.raises(InputError, match="batch"):
        tflite_model(made_network(helper.make_node("Relu", ["images"], ["logits"]), "batch"))
