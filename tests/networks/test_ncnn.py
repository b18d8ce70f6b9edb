"""Networks as ncnn has them: the text of layers, and what it refuses by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import nn

from latkit.core.errors import InputError
from latkit.networks.ncnn import MAGIC, TYPE_WORD, to_ncnn
from latkit.networks.onnx_model import OnnxGraph, OnnxNetwork, build_onnx
from latkit.spaces import get_space, parse_setting
from latkit.spaces.build import random_onnx
from tests.board.test_onnx import SETTINGS


def network_of(*modules: nn.Module) -> OnnxNetwork:
    return build_onnx(nn.Sequential(*modules).eval(), 1, 8, 4)


class Raw(nn.Module):
    """A module with an ONNX form of the test's own."""

    def __init__(self, form: Callable[[OnnxGraph, str], str]) -> None:
        super().__init__()
        self.to_onnx = form


def test_a_network_by_hand() -> None:
    """Numbers of ncnn's own documentation of its layers."""
    torch.manual_seed(0)
    network = network_of(
        nn.Conv2d(3, 4, (1, 3), stride=(1, 2), padding=(0, 1), bias=False), nn.BatchNorm2d(4),
        nn.ReLU(), nn.Conv2d(4, 4, 5, padding=4, dilation=2, groups=4, bias=False),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 2),
    )  # fmt: skip
    made = to_ncnn(network)
    assert made.layers.splitlines() == [
        str(MAGIC),
        "7 7",
        "Input n0 0 1 images",
        "Convolution n1 1 1 images t1 0=4 1=3 11=1 2=1 12=1 3=2 13=1 4=1 14=0 15=1 16=0 5=1 6=36 "
        "9=1",
        "ConvolutionDepthWise n2 1 1 t1 t2 0=4 1=5 11=5 2=2 12=2 3=1 13=1 4=4 14=4 15=4 16=4 5=0 "
        "6=100 7=4",
        "Pooling n3 1 1 t2 t3 0=1 1=3 11=3 2=2 12=2 3=1 13=1 14=1 15=1 5=1 6=0",
        "Pooling n4 1 1 t3 t4 0=1 4=1",
        "Flatten n5 1 1 t4 t5",
        "InnerProduct n6 1 1 t5 logits 0=2 1=1 2=8",
    ]
    assert made.weights == (TYPE_WORD, "w0", "w1", TYPE_WORD, "w2", TYPE_WORD, "w3", "w4")
    assert [network.weights[name].size for name in made.weights if name] == [36, 4, 100, 8, 2]


@pytest.mark.parametrize("space", SETTINGS)
def test_every_blob_feeds_one_layer(space: str) -> None:
    """And is made once, before it is used; the head counts layers and blobs."""
    setting, structure = parse_setting(SETTINGS[space]), get_space(space)
    for row in structure.unrank(structure.sample(4, 1)):
        network = random_onnx(structure.architecture(row, setting.network), setting, 0)
        made = to_ncnn(network)
        magic, head, *lines = made.layers.splitlines()
        uses: Counter[str] = Counter()
        blobs: list[str] = []
        for line in lines:
            _, _, inputs, outputs, *names = line.split()
            taken = names[: int(inputs)]
            assert set(taken) <= set(blobs)
            uses.update(taken)
            blobs += names[int(inputs) :][: int(outputs)]
        assert magic == str(MAGIC)
        assert head == f"{len(lines)} {len(blobs)}"
        assert len(set(blobs)) == len(blobs)
        assert set(uses.values()) == {1}
        assert set(blobs) - set(uses) == {"logits"}
        assert sorted(filter(None, made.weights)) == sorted(network.weights)


def test_norms_have_their_weights_in_ncnns_order() -> None:
    network = network_of(nn.ReLU(), nn.BatchNorm2d(3))
    assert to_ncnn(network).weights == ("w0", "w2", "w3", "w1")
    # What ncnn of 2025 reads of a value is 15 characters.
    values = [word.partition("=")[2] for word in to_ncnn(network).layers.split()]
    assert max(map(len, values)) <= 15
    assert " 1=9.99999975e-06" in to_ncnn(network).layers


def test_a_relu_is_fused_where_nothing_else_reads_its_input() -> None:
    def form(graph: OnnxGraph, x: str) -> str:
        y = graph.convolution(nn.Conv2d(3, 3, 1), x, None)
        return graph.add("Add", y, graph.add("Relu", y))

    layers = to_ncnn(network_of(Raw(form))).layers
    assert "ReLU" in layers
    assert "9=1" not in layers
    assert "9=1" in to_ncnn(network_of(nn.Conv2d(3, 3, 1), nn.ReLU())).layers


@pytest.mark.parametrize(
    ("operator", "form"),
    [
        ("Sigmoid", lambda g, x: g.add("Sigmoid", x)),
        ("Concat", lambda g, x: g.add("Concat", x, x, axis=2)),
        ("Gemm", lambda g, x: g.add("Gemm", x, g.weight(torch.ones(3, 3)), transB=0)),
        ("Conv", lambda g, x: g.add(
            "Conv", x, g.weight(torch.ones(1, 3, 1)), kernel_shape=[1], strides=[1], dilations=[1],
            pads=[0, 0], group=1)),
        ("Slice", lambda g, x: g.add(
            "Slice", x, g.integers(2, 2), g.integers(2**31 - 1, 2**31 - 1), g.integers(2, 3))),
        ("Reshape", lambda g, x: g.add("Reshape", x, g.integers(0, -1))),
        ("Reshape", lambda g, x: g.add("Relu", g.add(
            "Transpose", g.add("Reshape", x, g.integers(0, 3, 1, 0, -1)), perm=[0, 2, 1, 3, 4]))),
        ("Transpose", lambda g, x: g.add("Transpose", x, perm=[0, 1, 3, 2])),
        ("Mul", lambda g, x: g.add("Mul", x, x)),
        ("Add", lambda g, x: g.add("Add", x, g.weight(torch.ones(3, 1, 1)))),
        ("BatchNormalization", lambda g, x: g.add(
            "BatchNormalization", x, *(g.weight(torch.ones(3)) for _ in range(4)), epsilon=1e-5,
            momentum=0.5)),
        ("MaxPool", lambda g, x: g.add(
            "MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4, ceil_mode=1)),
    ],
)  # fmt: skip
def test_what_is_no_layer_is_named(operator: str, form: Callable[[OnnxGraph, str], str]) -> None:
    with pytest.raises(InputError, match=f"the ONNX operator {operator} "):
        to_ncnn(network_of(Raw(form)))
