"""Models encoded part by part: protobuf reads them, and would have written the same."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from latkit.networks.onnx_encoding import (
    OnnxNode,
    encode_integers,
    encode_kind,
    encode_model,
    encode_weight,
)
from latkit.spaces import get_space, parse_setting
from latkit.spaces.build import random_onnx


@pytest.mark.parametrize(
    "text",
    [
        "imagenet,memory_format=nchw",  # with lengths that take three bytes
        "imagenet,cells=3,channels=8,resolution=64,precision=fp16,memory_format=nchw",
        "nasbench201,cells=3,channels=4,resolution=8,memory_format=nchw",
        "fbnet,resolution=32,classes=10,memory_format=nchw",
    ],
)
def test_protobuf_writes_the_same_networks(text: str) -> None:
    setting = parse_setting(text)
    space = get_space(setting.space)
    for row in space.unrank(space.sample(2, 4)):
        network = random_onnx(space.architecture(row, setting.network), setting, 0)
        assert network.model.SerializeToString() == network.content


def test_a_model_by_protobufs_helpers() -> None:
    """Names and contents of 127, 128 and 16,384 bytes, where lengths become longer."""
    for length in (1, 127, 128, 2**14):
        name = "x" * length
        nodes = [
            helper.make_node("Conv", [name, "w"], ["y"], strides=[1, 2], group=1),
            helper.make_node("BatchNormalization", ["y"], [name + "y"], epsilon=0.5),
        ]
        weight = TensorProto(
            name="w", dims=[length, 3], data_type=TensorProto.FLOAT16,
            data_location=TensorProto.EXTERNAL,
        )  # fmt: skip
        for key, value in (("location", "weights"), ("offset", str(length)), ("length", "6")):
            weight.external_data.add(key=key, value=value)
        integers = helper.make_tensor("places", TensorProto.INT64, [2], [-1, length])
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3])
        graph = helper.make_graph(nodes, "made", [value], [value], [weight, integers])
        wanted = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="made"
        )
        found = encode_model(
            [
                OnnxNode(encode_kind("Conv", strides=[1, 2], group=1), (name, "w"), "y"),
                OnnxNode(encode_kind("BatchNormalization", epsilon=0.5), ("y",), name + "y"),
            ],
            [
                encode_weight("w", (length, 3), TensorProto.FLOAT16, length, 6),
                encode_integers("places", (-1, length)),
            ],
            [value],
            [value],
            name="made",
            opset=13,
            ir_version=8,
        )
        assert onnx.ModelProto.FromString(found) == wanted
        assert found == wanted.SerializeToString()


def test_numbers_that_are_equal_are_not_the_same_attribute() -> None:
    kinds = [encode_kind("Any", value=value) for value in (1, 1.0, [1], [1.0])]
    assert len(set(kinds)) == len(kinds)
