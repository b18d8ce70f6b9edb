"""Networks as ONNX models: built node by node, batch norms folded into convolutions.

No tracing and no exporter: tens of times cheaper, and the same for every network. The model
has its weights as external data, each at its own place, so that a runtime can be handed the
arrays themselves and nothing is copied or written. (Letting initialisers share memory would make
the graph look faster than it is: it would fit the caches.)
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from latkit.core.errors import InputError
from latkit.networks.onnx_encoding import (
    OnnxNode,
    encode_integers,
    encode_kind,
    encode_model,
    encode_weight,
)
from latkit.networks.operations import FactorizedReduce
from latkit.networks.pool import DrawnWeight
from latkit.networks.tracing import traced
from latkit.networks.weights import pool_start

# Read by every runtime that latkit knows, TensorRT 8.6 and ONNX Runtime 1.15 among them.
OPSET = 13
IR_VERSION = 8

# What a protobuf message may have.
MESSAGE_LIMIT_BYTES = 2**31 - 1

INPUT, OUTPUT = "images", "logits"

Array = npt.NDArray[np.floating]

_BRICKS = (
    nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.BatchNorm2d, nn.Conv2d, nn.Dropout, nn.Flatten,
    nn.Identity, nn.Linear, nn.MaxPool2d, nn.ReLU, FactorizedReduce,
)  # fmt: skip
ELEMENT_TYPES = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16}


@dataclass(frozen=True)
class OnnxNetwork:
    """An ONNX model and its weights.

    Attributes:
        content: the model's file; its initialisers refer to external data by name.
        weights: the data, by initialiser's name.
        drawn: how those of them are drawn that follow from the seed of a random network; in fp32.
        graph: what the content was written from; None of a model that was read.
    """

    content: bytes
    weights: dict[str, Array]
    drawn: dict[str, DrawnWeight] = field(default_factory=dict)
    graph: OnnxGraph | None = field(default=None, repr=False, compare=False)

    @functools.cached_property
    def model(self) -> onnx.ModelProto:
        """The model as ``content`` has it."""
        model: onnx.ModelProto = onnx.ModelProto.FromString(self.content)
        return model

    @property
    def fits_in_one_message(self) -> bool:
        """Whether the model can hold its weights itself."""
        size = sum(array.nbytes for array in self.weights.values())
        return size + len(self.content) + 64 * len(self.weights) <= MESSAGE_LIMIT_BYTES

    def serialized(self) -> bytes:
        """The model with its weights in it, as a runtime reads it from memory.

        Raises:
            InputError: it is larger than a protobuf message may be.
        """
        if not self.fits_in_one_message:
            raise InputError(
                f"the network's ONNX form is larger than the {MESSAGE_LIMIT_BYTES / 2**30:.0f} GiB "
                "that one message may have",
                "use a setting with fewer channels, or with precision=fp16; latkit export --to "
                "onnx writes it with its weights in a file beside it",
            )
        return bytes(self.embedded().SerializeToString())

    def write(self, path: Path) -> list[Path]:
        """Write a file, and the weights to ``NAME.data`` beside it where it cannot hold them.

        Returns:
            The files, the weights' before the model's, which is of no use without them.

        Raises:
            OSError: a file cannot be written.
        """
        if self.fits_in_one_message:
            path.write_bytes(self.embedded().SerializeToString())
            return [path]
        data = external_data_path(path)
        model: onnx.ModelProto = onnx.ModelProto.FromString(self.content)
        with data.open("wb") as file:
            for initializer in model.graph.initializer:
                if initializer.name in self.weights:
                    facts = {entry.key: entry for entry in initializer.external_data}
                    assert int(facts["offset"].value) == file.tell()
                    facts["location"].value = data.name
                    self.weights[initializer.name].tofile(file)
        path.write_bytes(model.SerializeToString())
        return [data, path]

    def embedded(self) -> onnx.ModelProto:
        """A copy of the model that holds its weights itself, as a file does."""
        model: onnx.ModelProto = onnx.ModelProto.FromString(self.content)
        for initializer in model.graph.initializer:
            if initializer.name in self.weights:
                initializer.ClearField("external_data")
                initializer.data_location = TensorProto.DEFAULT
                initializer.raw_data = self.weights[initializer.name].tobytes()
        return model


def external_data_path(path: Path) -> Path:
    """Where the weights of a model in ``path`` are if it cannot hold them itself."""
    return path.with_name(f"{path.name}.data")


def build_onnx(
    network: nn.Module,
    batch: int,
    resolution: int,
    classes: int,
    dynamic_batch: bool = False,
    precision: str = "fp32",
    merged: bool = False,
) -> OnnxNetwork:
    """The network in eval mode as an ONNX model, NCHW.

    Input ``images``: ``batch x 3 x resolution x resolution``; output ``logits``:
    ``batch x classes``; both fp32 in every precision.

    Args:
        network: with whatever weights.
        batch: images per run.
        resolution: side of the images.
        classes: how many logits an image has.
        dynamic_batch: leave the number of images open instead.
        precision: ``fp32`` or ``fp16``: of the weights and of all between input and output. It is
            in the types of the graph, which is all that a strongly typed runtime goes by.
        merged: compute once what several nodes compute of the same tensors, such as the ReLU that
            operations begin with: for runtimes that merge them anyway, which takes them longer.
    """
    graph = OnnxGraph(ELEMENT_TYPES[precision], merged)
    with torch.no_grad():
        logits = graph.module(network, graph.cast(INPUT))
    if precision != "fp32":
        logits = graph.add("Cast", logits, to=TensorProto.FLOAT)
    graph.name_output(logits)
    size: Any = "batch" if dynamic_batch else batch
    return graph.network([size, 3, resolution, resolution], [size, classes])


class OnnxGraph:
    """Nodes and weights in the making; its methods add a module and return its output's name.

    Attributes:
        nodes: in the order in which they were added.
        initializers: encoded, by their names.
        weights: the data of initialisers that do not hold them, by name.
        drawn: see :class:`OnnxNetwork`.
        domains: of operators that are not ONNX's own.
    """

    domains: tuple[str, ...] = ()

    def __init__(self, element_type: int, merged: bool = False) -> None:
        self._element_type = element_type
        # Outputs of nodes by what they compute of which tensors, where that is computed once.
        self._merged: dict[tuple[bytes, tuple[str, ...]], str] | None = {} if merged else None
        self.nodes: list[OnnxNode] = []
        self.initializers: dict[str, bytes] = {}
        self.weights: dict[str, Array] = {}
        self.drawn: dict[str, DrawnWeight] = {}
        self._offset = 0

    def network(
        self, images: list[Any], logits: list[Any], inner: Sequence[str] = ()
    ) -> OnnxNetwork:
        """The model of what was added.

        Args:
            images: shape of the tensor ``INPUT``; a size that is open is a name.
            logits: the same of the tensor ``OUTPUT``.
            inner: further tensors that are outputs, of whatever shape.
        """
        logits_info = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, logits)
        further = [helper.make_tensor_value_info(x, TensorProto.FLOAT, None) for x in inner]
        content = encode_model(
            self.nodes,
            list(self.initializers.values()),
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, images)],
            [logits_info, *further],
            name="latkit",
            opset=OPSET,
            ir_version=IR_VERSION,
            domains=self.domains,
        )
        return OnnxNetwork(content, self.weights, self.drawn, self)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.node(encode_kind(operator, **attributes), inputs)

    def node(self, kind: bytes, inputs: tuple[str, ...]) -> str:
        """The same of an operator and attributes that are encoded."""
        output = f"t{len(self.nodes)}"
        if self._merged is not None:
            first = self._merged.setdefault((kind, inputs), output)
            if first != output:
                return first
        self.nodes.append(OnnxNode(kind, inputs, output))
        return output

    def name_output(self, name: str) -> None:
        """Give the graph's output its name: that of the last node, or of a copy."""
        if self.nodes and self.nodes[-1].output == name:
            # A copy would be one more node, which runtimes first have to remove.
            self.nodes[-1] = self.nodes[-1]._replace(output=OUTPUT)
        else:
            self.nodes.append(OnnxNode(encode_kind("Identity"), (name,), OUTPUT))

    def cast(self, x: str) -> str:
        """An fp32 tensor in the graph's element type."""
        if self._element_type == TensorProto.FLOAT:
            return x
        return self.add("Cast", x, to=self._element_type)

    def pooled(self, x: str) -> str:
        """The mean over pixels: ``B x C`` of ``B x C x H x W``."""
        return self.add("Flatten", self.add("GlobalAveragePool", x), axis=1)

    def module(self, module: nn.Module, x: str) -> str:
        """Add a module in eval mode; its output's name.

        A module that is no brick translates itself by a method ``to_onnx(graph, *inputs)``; of one
        that has none, what it computes is traced.

        Raises:
            InputError: it has no ONNX form here.
        """
        translate: Any = getattr(module, "to_onnx", None)
        if translate is not None:
            return str(translate(self, x))
        if not is_brick(module):
            return traced(self, module, x)
        if isinstance(module, nn.Sequential):
            parts = list(module)
            while parts:
                part = parts.pop(0)
                if isinstance(part, nn.Conv2d):
                    folded = bool(parts) and isinstance(parts[0], nn.BatchNorm2d)
                    x = self.convolution(part, x, parts.pop(0) if folded else None)
                else:
                    x = self.module(part, x)
            return x
        if isinstance(module, (nn.Identity, nn.Dropout)):
            return x
        if isinstance(module, nn.ReLU):
            return self.add("Relu", x)
        if isinstance(module, nn.MaxPool2d):
            return self.add("MaxPool", x, **_window(module))
        if isinstance(module, nn.AvgPool2d):
            return self.add("AveragePool", x, count_include_pad=_counts(module), **_window(module))
        if isinstance(module, FactorizedReduce):
            x = self.add("Relu", x)
            # Without the first row and column: starts, ends and axes.
            ends = self.integers(2**31 - 1, 2**31 - 1)
            shifted = self.add("Slice", x, self.integers(1, 1), ends, self.integers(2, 3))
            half = module.conv_1.out_channels
            scale, shift = _affine(module.bn)
            return self.add(
                "Concat",
                self.convolution(module.conv_1, x, (scale[:half], shift[:half])),
                self.convolution(module.conv_2, shifted, (scale[half:], shift[half:])),
                axis=1,
            )
        if isinstance(module, nn.BatchNorm2d):  # without a convolution to be folded into
            values = (module.weight, module.bias, module.running_mean, module.running_var)
            weights = [self.weight(value) for value in values if value is not None]
            return self.add("BatchNormalization", x, *weights, epsilon=module.eps)
        if isinstance(module, nn.Linear):
            inputs = [
                self.weight(values) for values in (module.weight, module.bias) if values is not None
            ]
            return self.add("Gemm", x, *inputs, transB=1)
        if isinstance(module, nn.Conv2d):
            return self.convolution(module, x, None)
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
            return self.add("GlobalAveragePool", x)
        if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
            return self.add("Flatten", x, axis=1)
        raise _no_form(type(module).__name__)

    def convolution(
        self, conv: nn.Conv2d, x: str, norm: nn.Module | tuple[Tensor, Tensor] | None
    ) -> str:
        """A convolution with the batch norm after it, or that norm's (scale, shift), folded in."""
        if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
            raise _no_form(f"a convolution with padding {conv.padding}, {conv.padding_mode}")
        shift, scale = conv.bias, None
        if norm is not None:
            scale, of_norm = norm if isinstance(norm, tuple) else _affine(norm)
            shift = of_norm if shift is None else of_norm + scale * shift
        inputs = [x, self.weight(conv.weight, scale)]
        if shift is not None:
            inputs.append(self.weight(shift))
        padding = [int(p) for p in conv.padding]
        return self.add(
            "Conv",
            *inputs,
            kernel_shape=list(conv.kernel_size),
            strides=list(conv.stride),
            dilations=list(conv.dilation),
            pads=padding + padding,
            group=conv.groups,
        )

    def weight(self, values: Tensor, scale: Tensor | None = None) -> str:
        """Add an initialiser whose data are kept beside the model.

        Args:
            values: of it.
            scale: what they are multiplied by: of each output channel a number.
        """
        scaled = values if scale is None else values * scale.view(-1, *[1] * (values.dim() - 1))
        array = scaled.detach().contiguous().numpy()
        return self.array(array, _drawn(values, scale, array))

    def array(self, values: Array, drawn: DrawnWeight | None) -> str:
        """The same of an array in fp32, which may be used where it lies.

        Args:
            values: of it.
            drawn: how they are drawn, if they follow from the seed.
        """
        if self._element_type == TensorProto.FLOAT16:
            values = values.astype(np.float16)
        return self.beside(values, self._element_type, drawn)

    def beside(self, values: npt.NDArray[Any], element_type: int, drawn: DrawnWeight | None) -> str:
        """The same of an array of whatever type, which is ONNX's number ``element_type``."""
        name, size = f"w{len(self.weights)}", values.nbytes
        self.initializers[name] = encode_weight(
            name, values.shape, element_type, self._offset, size
        )
        self._offset += size
        self.weights[name] = values
        if drawn is not None:
            self.drawn[name] = drawn
        return name

    def zero(self) -> str:
        """The initialiser 0."""
        zero = helper.make_tensor("zero", self._element_type, [], [0.0])
        return self.shared("zero", zero.SerializeToString())

    def integers(self, *values: int) -> str:
        """The initialiser of some integers, as shapes and places are given."""
        name = f"int64{list(values)}"
        return self.shared(name, encode_integers(name, values))

    def shared(self, name: str, encoded: bytes) -> str:
        """An initialiser that the graph has once."""
        self.initializers.setdefault(name, encoded)
        return name


def _drawn(values: Tensor, scale: Tensor | None, array: Array) -> DrawnWeight | None:
    """How a weight is drawn, if it follows from the seed; see :meth:`OnnxGraph.weight`."""
    start = pool_start(values)
    if start is not None and (scale is None or bool((scale == scale[0]).all())):
        return DrawnWeight(array.shape, start, 1.0 if scale is None else float(scale[0]))
    if array.ndim == 1 and (array == array[0]).all():
        return DrawnWeight(array.shape, None, float(array[0]))
    return None


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A batch norm in eval mode as scale and shift per channel."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.affine:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift + norm.bias if norm.affine else shift


def _counts(pool: nn.AvgPool2d) -> int:
    """Whether the padding counts, where there is any."""
    return int(pool.count_include_pad and pool.padding not in (0, (0, 0)))


def _no_form(what: str) -> InputError:
    return InputError(
        f"latkit has no ONNX form of {what}",
        "build the network of latkit's operations, or give its module a method to_onnx",
    )


def is_brick(module: nn.Module) -> bool:
    """Whether a module is translated as a whole, rather than what its ``forward`` does."""
    return isinstance(module, _BRICKS) or type(module).forward is nn.Sequential.forward


def _window(pool: nn.MaxPool2d | nn.AvgPool2d) -> dict[str, list[int]]:
    size, stride, padding = (int(v) for v in (pool.kernel_size, pool.stride, pool.padding))  # type: ignore[arg-type]
    return {"kernel_shape": [size, size], "strides": [stride, stride], "pads": [padding] * 4}
