"""Networks in int8: what is quantised, by which scales, and what is computed."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from latkit.networks.onnx_model import Array, OnnxNetwork, build_onnx
from latkit.networks.pool import DrawnWeight, uniform_pool
from latkit.networks.quantized import quantized

onnxruntime = pytest.importorskip("onnxruntime")
SIDE, CLASSES = 8, 4


def run(network: OnnxNetwork, images: Array) -> list[Array]:
    """All outputs by ONNX Runtime, in the order of the graph's."""
    session = onnxruntime.InferenceSession(network.serialized(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"images": images}))


def both(module: nn.Module, images: Array) -> tuple[OnnxNetwork, Array, Array]:
    """A network in int8, its logits, and those in fp32."""
    plain = build_onnx(module.eval(), len(images), SIDE, CLASSES, merged=True)
    shapes = list(images.shape), [len(images), CLASSES]
    network = quantized(plain, shapes, images, run, uniform_pool(0))
    return network, run(network, images)[0], run(plain, images)[0]


def operators(network: OnnxNetwork) -> Counter[str]:
    return Counter(node.op_type for node in network.model.graph.node)


def initializers(network: OnnxNetwork) -> dict[str, Any]:
    return {
        weight.name: onnx.numpy_helper.to_array(weight)
        for weight in network.embedded().graph.initializer
    }


@pytest.fixture
def images() -> Array:
    return np.random.default_rng(0).standard_normal((2, 3, SIDE, SIDE), dtype=np.float32)


def head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]


def test_every_channel_has_its_scale(images: Array) -> None:
    """Weights that are not drawn: of each output channel the largest is 64."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3, padding=1)
    with torch.no_grad():
        conv.weight.mul_(torch.tensor([1, 10, 0.1, 0, 3]).view(5, 1, 1, 1))
    network, logits, wanted = both(nn.Sequential(conv, nn.ReLU(), *head(5)), images)
    (node,) = (n for n in network.model.graph.node if n.op_type == "QLinearConv")
    tensors = initializers(network)
    values, scales, zeros = (tensors[name] for name in node.input[3:6])
    assert values.dtype == np.int8
    assert np.abs(values).reshape(5, -1).max(axis=1).tolist() == [64, 64, 64, 0, 64]
    assert zeros.tolist() == [0] * 5
    dequantized = values * scales[:, None, None, None]
    given = conv.weight.detach().numpy()
    assert (np.abs(dequantized - given) <= scales[:, None, None, None] / 2 * 1.001).all()
    # The bias is in units of both scales.
    unit = tensors[node.input[1]] * scales[:3]
    assert conv.bias is not None
    bias = tensors[node.input[8]][:3] * unit
    assert np.abs(bias - conv.bias.detach().numpy()[:3]).max() <= unit.max() / 2 * 1.001
    assert np.abs(logits - wanted).max() <= 0.05 * np.abs(wanted).max()


def test_a_drawn_weight_is_drawn_again_in_int8() -> None:
    pool = uniform_pool(3)
    weight = DrawnWeight((4, 2, 3, 3), 7, 0.5)
    integers = DrawnWeight(weight.shape, weight.start, weight.scale, "int8")
    values = integers.draw(pool)
    assert values.dtype == np.int8
    assert np.abs(values).max() <= 64
    scale = integers.int8_scale
    assert scale == pytest.approx(0.5 * math.sqrt(3 / 18) / 64)
    assert np.abs(values * scale - weight.draw(pool)).max() <= scale / 2 * 1.001


def test_a_relu_that_alone_reads_a_convolution_is_the_end_of_its_scale(images: Array) -> None:
    network, logits, wanted = both(
        nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.Conv2d(5, 5, 1), *head(5)), images
    )
    assert operators(network) == {
        "QuantizeLinear": 1, "QLinearConv": 2, "QLinearGlobalAveragePool": 1, "Flatten": 1,
        "QGemm": 1, "DequantizeLinear": 1,
    }  # fmt: skip
    first = network.model.graph.node[1]
    assert initializers(network)[first.input[7]] == 0  # the zero point is the smallest number
    assert np.abs(logits - wanted).max() <= 0.05 * np.abs(wanted).max()


class Everything(nn.Module):
    """A ReLU of a tensor that others read too, a norm that cannot be folded, sums and zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(3, 1, padding=1)
        self.mean = nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)
        self.norm = nn.BatchNorm2d(12)
        self.head = nn.Sequential(*head(12))

    def to_onnx(self, graph: Any, x: str) -> str:
        x = graph.module(self.conv, x)
        relu = graph.module(self.relu, x)
        total = graph.add("Add", graph.module(self.pool, x), graph.module(self.mean, relu))
        nothing = graph.add("Mul", total, graph.zero())
        joined = graph.add("Concat", graph.add("Add", total, nothing), relu, axis=1)
        normed = graph.module(self.norm, joined)
        return str(graph.module(self.head, graph.module(self.relu, normed)))


def test_what_has_no_form_in_integers_stays_in_fp32(images: Array) -> None:
    network, logits, wanted = both(Everything(), images)
    found = operators(network)
    for operator in ("Conv", "Add", "Concat", "AveragePool", "GlobalAveragePool", "Mul", "Gemm"):
        assert found[operator] == 0
    assert found["QLinearAdd"] == 2
    assert found["QLinearMul"] == found["QLinearConcat"] == found["MaxPool"] == 1
    # The second ReLU follows the norm in fp32; the first is a change of scale.
    assert found["BatchNormalization"] == found["Relu"] == 1
    assert found["QuantizeLinear"] == 3
    assert found["DequantizeLinear"] == 3
    assert np.abs(logits - wanted).max() <= 0.05 * np.abs(wanted).max()
    assert network.model.SerializeToString() == network.content


def test_a_tensor_of_zeros_has_a_scale(images: Array) -> None:
    conv = nn.Conv2d(3, 5, 1)
    with torch.no_grad():
        conv.weight.zero_()
        assert conv.bias is not None
        conv.bias.zero_()
    _, logits, wanted = both(nn.Sequential(conv, *head(5)), images)
    assert np.isfinite(logits).all()
    assert np.abs(logits - wanted).max() <= 0.05 * np.abs(wanted).max()
