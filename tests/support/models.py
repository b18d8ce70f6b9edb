"""Small models of no space: ONNX files, and a module with a callable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MAKERS = """
import torch
from torch import nn

def small(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(width, 5))

def number():
    return 7

def broken():
    raise RuntimeError("no such weights")

class Nan(nn.Module):
    def forward(self, x):
        return (x - x) / (x - x)
"""


def write_makers(folder: Path, name: str) -> None:
    """A module of callables, importable in a folder by that name."""
    (folder / f"{name}.py").write_text(MAKERS)


def conv_model(
    batch: int | str = 1, side: int | str = 8, nodes: Any = None, domain: str = ""
) -> onnx.ModelProto:
    """A convolution of 3 to 4 channels by 3x3 pixels, with an operator after it."""
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3), dtype=np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, side, side])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4, side, side])
    last = nodes or [helper.make_node("Relu", ["c"], ["y"], domain=domain)]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), *last],
        "conv",
        [x],
        [y],
        [numpy_helper.from_array(weights, "w")],
    )
    opsets = [helper.make_opsetid("", 13), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def write_conv(path: Path, **changes: Any) -> Path:
    """Such a model in a file."""
    onnx.save(conv_model(**changes), path)
    return path
