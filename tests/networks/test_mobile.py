"""Bricks for phones against what they are by definition, in PyTorch and in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from latkit.networks.mobile import ChannelShuffle, ConvBN, InvertedResidual
from latkit.networks.onnx_encoding import encode_model
from latkit.networks.onnx_model import IR_VERSION, OPSET, OnnxGraph, OnnxNetwork


def in_onnxruntime(module: nn.Module, x: Tensor) -> np.ndarray:
    """A module's ONNX form, which need not be a whole network of square images."""
    graph = OnnxGraph(TensorProto.FLOAT)
    output = graph.module(module, "x")
    shape = ["n", *x.shape[1:]]
    content = encode_model(
        graph.nodes,
        list(graph.initializers.values()),
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", None, None, None])],
        name="module",
        opset=OPSET,
        ir_version=IR_VERSION,
    )
    model = OnnxNetwork(content, graph.weights).embedded()
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": x.numpy()})[0])


@pytest.mark.parametrize("channels_last", [False, True])
def test_shuffled_channels(channels_last: bool) -> None:
    """Two groups deal their channels in turn: 0 3 1 4 2 5; the shape need not be square."""
    x = torch.randn(2, 6, 3, 5)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    shuffle = ChannelShuffle(6, 2)
    wanted = x[:, [0, 3, 1, 4, 2, 5]]
    assert torch.equal(shuffle(x), wanted)
    assert np.array_equal(in_onnxruntime(shuffle, x), wanted.numpy())
    x.requires_grad_()
    shuffle(x).square().sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2 * x.detach())


@pytest.mark.parametrize(
    ("c_out", "kernel", "stride", "expansion", "groups", "residual"),
    [
        (4, 3, 1, 1, 1, True),
        (4, 5, 1, 6, 1, True),
        (4, 3, 1, 1, 2, True),
        (4, 3, 2, 3, 2, False),
        (6, 5, 1, 1, 2, False),
    ],
)
def test_inverted_residuals(
    c_out: int, kernel: int, stride: int, expansion: int, groups: int, residual: bool
) -> None:
    torch.manual_seed(0)
    module = InvertedResidual(4, c_out, kernel, stride, expansion, groups).train()
    x = torch.randn(3, 4, 6, 8)
    for _ in range(3):  # batch norms get statistics
        module(2 * x + 1)
    module.eval()
    middle = 4 * expansion
    convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.groups) for c in convs] == [
        (middle, groups), (middle, middle), (c_out, groups),
    ]  # fmt: skip
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    y = norms[0](convs[0](x)).relu()
    if groups == 2:
        y = torch.stack(y.chunk(2, dim=1), dim=2).flatten(1, 2)
    y = norms[2](convs[2](norms[1](convs[1](y)).relu()))
    before = x.clone()
    with torch.no_grad():
        got = module(x)
    assert torch.equal(x, before)  # ReLUs in place leave the input alone
    torch.testing.assert_close(got, y + x if residual else y)
    assert got.shape == (3, c_out, 6 // stride, 8 // stride)
    np.testing.assert_allclose(in_onnxruntime(module, x), got.numpy(), rtol=1e-4, atol=1e-5)


def test_norms_without_parameters() -> None:
    for module in (ConvBN(4, 6, affine=False), InvertedResidual(4, 4, 3, 1, 3, affine=False)):
        assert {p.dim() for p in module.parameters()} == {4}
