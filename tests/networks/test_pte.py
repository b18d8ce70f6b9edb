"""latkit's programs for ExecuTorch have the graphs that ExecuTorch's own lowering makes."""

from __future__ import annotations

import hashlib
import importlib.resources
import importlib.util
import json
import subprocess
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from torch import Tensor, nn

from latkit.core.errors import InputError
from latkit.networks.mobile import InvertedResidual
from latkit.networks.onnx_model import OUTPUT, OnnxNetwork, build_onnx
from latkit.networks.operations import FactorizedReduce, ReLUConvBN, SepConv
from latkit.networks.pte import build_pte
from latkit.networks.xnnpack import to_xnnpack

BATCH, RESOLUTION, CLASSES = 2, 8, 5
# Nodes whose input's number is 0, which FlatBuffers leave out, where it is the graph's.
_ONE_INPUT = {"XNNStaticTranspose", "XNNClamp"}


class Everything(nn.Module):
    """Small, with all operators of latkit's spaces that have an activation or a layout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.reduce = FactorizedReduce(8, 8)
        self.separable = SepConv(8, 3, 1)
        self.shuffled = InvertedResidual(8, 8, 3, 1, 2, groups=2)
        self.max_pool = nn.MaxPool2d(3, 2, padding=1)
        self.average_pool = nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)
        self.norm = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU())
        self.preprocess = ReLUConvBN(48, 8)
        self.classifier = nn.Linear(8, CLASSES)

    def to_onnx(self, graph: Any, x: str) -> str:
        x = graph.module(self.stem, x)
        a, b = graph.module(self.reduce, x), graph.module(self.max_pool, x)
        c = graph.module(self.separable, graph.add("Add", a, b))
        d = graph.add("Add", graph.add("Mul", a, graph.zero()), c)
        e = graph.module(self.shuffled, d)
        f = graph.module(self.norm, graph.module(self.average_pool, e))
        x = graph.module(self.preprocess, graph.add("Concat", a, b, c, d, e, f, axis=1))
        return str(graph.module(self.classifier, graph.pooled(x)))


class Interpreted(nn.Module):
    """An ONNX network of latkit's as a PyTorch module with the same operators."""

    def __init__(self, network: OnnxNetwork) -> None:
        super().__init__()
        self.nodes = list(network.model.graph.node)
        self.constants = {
            i.name: numpy_helper.to_array(i)
            for i in network.model.graph.initializer
            if i.name not in network.weights
        }
        for name, array in network.weights.items():
            self.register_buffer(name, torch.from_numpy(np.array(array)))
        self.register_buffer("zero", torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        made = {"images": images}
        for node in self.nodes:
            given = [
                made[name] if name in made else getattr(self, name, self.constants.get(name))
                for name in node.input
            ]
            values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            made[node.output[0]] = _run(node.op_type, given, values)
        return made[OUTPUT]


def _run(operator: str, given: list[Any], values: dict[str, Any]) -> Tensor:
    x = given[0]
    if operator == "Conv":
        bias = given[2] if len(given) > 2 else None
        padding = values["pads"][:2]
        return F.conv2d(
            x, given[1], bias, values["strides"], padding, values["dilations"], values["group"]
        )
    if operator == "BatchNormalization":
        weight, bias, mean, variance = given[1:]
        return F.batch_norm(x, mean, variance, weight, bias, eps=values["epsilon"])
    if operator in ("MaxPool", "AveragePool"):
        window = values["kernel_shape"], values["strides"], values["pads"][:2]
        if operator == "MaxPool":
            return F.max_pool2d(x, *window)
        return F.avg_pool2d(x, *window, count_include_pad=False)
    if operator == "Slice":
        return x[:, :, 1:, 1:]
    if operator == "Reshape":
        sizes = [x.shape[i] if size == 0 else int(size) for i, size in enumerate(given[1])]
        return x.reshape(torch.empty(x.shape, device="meta").reshape(sizes).shape)
    rules = {
        "Add": lambda: x + given[1], "Mul": lambda: x * given[1], "Relu": lambda: F.relu(x),
        "Concat": lambda: torch.cat(given, dim=1), "Identity": lambda: x,
        "GlobalAveragePool": lambda: x.mean((2, 3), keepdim=True),
        "Flatten": lambda: x.flatten(1), "Gemm": lambda: F.linear(x, *given[1:]),
        "Transpose": lambda: x.permute(values["perm"]),
    }  # fmt: skip
    return rules[operator]()


def network_of(module: nn.Module) -> OnnxNetwork:
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            part.running_mean.uniform_(-1, 1)
    return build_onnx(module.eval(), BATCH, RESOLUTION, CLASSES)


def lowered_payload(module: nn.Module, images: Tensor) -> bytes:
    """XNNPACK's part of the program that ExecuTorch itself makes of a module."""
    exir = pytest.importorskip("executorch.exir", exc_type=ImportError)
    partition = pytest.importorskip(
        "executorch.backends.xnnpack.partition.xnnpack_partitioner", exc_type=ImportError
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(module, (images,))
        edge = exir.to_edge_transform_and_lower(
            exported, partitioner=[partition.XnnpackPartitioner()]
        )
        program = edge.to_executorch().executorch_program
    (delegated,) = program.backend_delegate_data
    assert not program.execution_plan[0].operators
    return bytes(delegated.data)


def decoded(payload: bytes, folder: Path) -> dict[str, Any]:
    """The graph in a payload, read by FlatBuffers' own compiler."""
    size, place = (int.from_bytes(payload[start : start + 4], "little") for start in (14, 10))
    folder.mkdir()
    (folder / "graph.bin").write_bytes(payload[place : place + size])
    package = importlib.resources.files("executorch")
    schema = package / "backends/xnnpack/serialization/schema.fbs"
    subprocess.run(
        [str(package / "data/bin/flatc"), "--json", "--strict-json", "-o", str(folder), str(schema),
         "--", str(folder / "graph.bin")],
        check=True,
    )  # fmt: skip
    content: dict[str, Any] = json.loads(
        (folder / "graph.json").read_text().replace(": inf", ": 1e999")
    )
    return content


def signatures(payload: bytes, folder: Path) -> Counter[str]:
    """What each node of a graph computes, of what and how, whatever its place and its numbers."""
    graph = decoded(payload, folder)
    constants_place = int.from_bytes(payload[18:22], "little")
    known: dict[int, str] = {}
    for value in graph["xvalues"]:
        tensor = value["xvalue_union"]
        number = tensor.get("id_out", 0)
        if tensor["dims"] == [1]:  # ExecuTorch's partitioner makes an input of a number
            known[number] = "number"
        elif tensor.get("flags") == 1:
            known[number] = f"input {tensor['dims']}"
        elif "constant_buffer_idx" in tensor:
            stored = graph["constant_data"][tensor["constant_buffer_idx"]]
            digest = stored.get("named_key")
            if not digest:
                start = constants_place + stored.get("offset", 0)
                digest = hashlib.sha256(payload[start : start + stored["size"]]).hexdigest()
            known[number] = f"constant {tensor['dims']} {digest}"
    dims = {v["xvalue_union"].get("id_out", 0): v["xvalue_union"]["dims"] for v in graph["xvalues"]}
    found: Counter[str] = Counter()
    for node in graph["xnodes"]:
        kind, fields = node["xnode_union_type"], dict(node["xnode_union"])
        output = fields.pop("output_id")
        fields.setdefault("input_id" if kind in _ONE_INPUT else "input1_id", 0)
        of = {
            name: known.get(number, "none") if name.endswith("_id") else number
            for name, number in sorted(fields.items())
        }
        text = f"{kind} {of} {node.get('output_min_max')} {dims[output]}"
        known[output] = hashlib.sha256(text.encode()).hexdigest()
        found[text] += 1
    return found


def payload_of(network: OnnxNetwork) -> bytes:
    """XNNPACK's part of latkit's program."""
    content = build_pte(network).serialized()
    place = int.from_bytes(content[24:32], "little")
    assert content[place + 4 : place + 8] == b"XH00"
    return content[place:]


def test_graphs_are_those_of_executorch(tmp_path: Path, no_trace: None) -> None:
    """Nodes, what is fused, layouts and the transposes between them, and all weights."""
    if importlib.util.find_spec("executorch") is None:
        pytest.skip("executorch is not installed")
    network = network_of(Everything())
    images = torch.randn(BATCH, 3, RESOLUTION, RESOLUTION)
    wanted = signatures(lowered_payload(Interpreted(network).eval(), images), tmp_path / "theirs")
    assert sum(wanted.values()) > 30
    assert signatures(payload_of(network), tmp_path / "ours") == wanted


def test_the_same_network_gives_the_same_bytes() -> None:
    network = network_of(Everything())
    first, second = build_pte(network), build_pte(network)
    assert first.serialized() == second.serialized()
    assert first.serialized().startswith(first.head)
    weights = sum(constant.padded_bytes for constant in first.constants)
    assert len(first.serialized()) == len(first.head) + weights
    assert first.head[4:12] == b"ET12eh00"


def _add_vector(graph: Any, x: str) -> str:
    return str(graph.add("Add", x, graph.weight(torch.zeros(3))))


@pytest.mark.parametrize(
    ("translate", "named"),
    [
        (lambda graph, x: graph.add("Sigmoid", x), "the operator Sigmoid"),
        (lambda graph, x: graph.module(nn.AvgPool2d(3, 1, 1), x), "an average over padding"),
        (lambda graph, x: graph.add("Add", x, graph.pooled(x)), "a sum of unlike shapes"),
        (_add_vector, "a constant"),
        (lambda graph, x: graph.add("Mul", x, x), "a product with another tensor"),
    ],
)
def test_what_has_no_form_is_refused_by_name(translate: Any, named: str) -> None:
    module = nn.Sequential()
    module.to_onnx = translate  # type: ignore[assignment]
    with pytest.raises(InputError, match=f"no XNNPACK form of {named}"):
        to_xnnpack(network_of(module))


def test_an_open_number_of_images_is_refused() -> None:
    network = build_onnx(Everything().eval(), BATCH, RESOLUTION, CLASSES, dynamic_batch=True)
    with pytest.raises(InputError, match="made for one number of images"):
        to_xnnpack(network)
