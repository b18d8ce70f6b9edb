"""ONNX files of others: read, with their shapes fixed, and what they cost."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, shape_inference

from latkit.core.errors import InputError, from_os_error
from latkit.networks.onnx_model import INPUT, MESSAGE_LIMIT_BYTES, OUTPUT

Dims = list[int | str | None]
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
_COUNTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# Operators of ONNX itself that multiply and add, and are not counted here.
_UNCOUNTED = {
    "Attention", "ConvInteger", "DeformConv", "Einsum", "GRU", "If", "LSTM", "Loop",
    "MatMulInteger", "QLinearConv", "QLinearMatMul", "RNN", "Scan",
}  # fmt: skip


def read_onnx(path: Path) -> tuple[onnx.ModelProto, str]:
    """The model in a file, with its weights, and the SHA-256 of its content.

    Raises:
        InputError: it is no ONNX model, or its weights are not beside it.
        LatkitError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # protobuf's own class, which has no public home
        model = onnx.ModelProto()
    if not model.graph.node or not model.graph.output:
        raise InputError(f"{path} is no ONNX model", "name a file that an exporter wrote")
    if any(size < 0 for initializer in model.graph.initializer for size in initializer.dims):
        raise InputError(f"{path} has weights of a negative size", "export the model again")
    digest = hashlib.sha256(content)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (
        OSError, ValueError, TypeError, OverflowError, RuntimeError, onnx.checker.ValidationError,
    ) as error:  # fmt: skip
        raise InputError(
            f"the weights of {path} are not beside it ({' '.join(str(error).split())[:200]})",
            "copy the file with its external data",
        ) from None
    for initializer in model.graph.initializer:
        if initializer.HasField("data_location"):
            digest.update(initializer.raw_data)
    return model, digest.hexdigest()


def input_dims(model: onnx.ModelProto) -> list[tuple[str, Dims, str]]:
    """Name, dimensions and NumPy type of each input; an open dimension is a name or None.

    Raises:
        InputError: an input is no tensor of numbers.
    """
    weights = {initializer.name for initializer in model.graph.initializer}
    inputs = []
    for value in model.graph.input:
        if value.name in weights:  # files of old versions list weights as inputs
            continue
        tensor = value.type.tensor_type
        try:
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        except (KeyError, ValueError, TypeError):
            dtype = np.dtype(object)
        if dtype.kind not in "fiub":
            raise InputError(
                f"the input {value.name} is no tensor of numbers", "use a model of numeric inputs"
            )
        dims: Dims = [
            d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else d.dim_param or None
            for d in tensor.shape.dim
        ]
        inputs.append((value.name, dims, dtype.name))
    return inputs


def with_shapes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """A copy of a model whose inputs have these shapes; what follows from them is left open."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    changed = False
    for value in fixed.graph.input:
        if value.name in shapes:
            dims = value.type.tensor_type.shape.dim
            for dim, size in zip(dims, shapes[value.name], strict=True):
                changed |= dim.dim_value != size
                dim.dim_value = size
    if changed:
        del fixed.graph.value_info[:]
        for output in fixed.graph.output:
            for index, dim in enumerate(output.type.tensor_type.shape.dim):
                if not dim.HasField("dim_value") or index == 0:
                    dim.Clear()
                    dim.dim_param = f"{output.name}_{index}"
    return fixed


def serialized(model: onnx.ModelProto) -> bytes:
    """A model with its weights, as a runtime reads it from memory.

    Raises:
        InputError: it is larger than a protobuf message may be.
    """
    if model.ByteSize() > MESSAGE_LIMIT_BYTES:
        raise InputError("the model is larger than 2 GiB", "use a smaller model")
    return bytes(model.SerializeToString())


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose one fp32 input and first output have latkit's names, as engines need them.

    Raises:
        InputError: it has other inputs or another output.
    """
    inputs = input_dims(model)
    output = model.graph.output[0]
    is_float = output.type.tensor_type.elem_type == TensorProto.FLOAT
    if [dtype for _, _, dtype in inputs] != ["float32"] or not is_float:
        raise InputError(
            "an engine here takes one input and gives one output, both in fp32",
            "use --backend onnxruntime-tensorrt",
        )
    names = {inputs[0][0]: INPUT, output.name: OUTPUT}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[1:]
    for node in copy.graph.node:
        for tensors in (node.input, node.output):
            for index, name in enumerate(tensors):
                tensors[index] = names.get(name, name)
    for value in (*copy.graph.input, *copy.graph.output):
        value.name = names.get(value.name, value.name)
    return copy


def count_params(model: onnx.ModelProto) -> int:
    """Numbers in the weights of a model, batch norms' statistics among them."""
    return sum(math.prod(w.dims) for w in model.graph.initializer if w.data_type in _FLOATS)


def count_macs(model: onnx.ModelProto) -> tuple[int | None, str]:
    """Multiply-adds of convolutions and matrix products of one run; None and why not.

    Args:
        model: with the shapes of its inputs fixed.
    """
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type in _UNCOUNTED:
            return None, f"it has the operator {node.op_type}, whose work is not counted"
    try:
        if _has_impossible_shapes(model):
            return None, "a convolution or pooling is larger than its input"
        inferred = shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # of whatever class a release raises
        return None, f"its shapes do not follow ({' '.join(str(error).split())[:100]})"
    graph = inferred.graph
    shapes: dict[str, list[int]] = {w.name: list(w.dims) for w in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            shapes.setdefault(value.name, [dim.dim_value for dim in dims])
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            shapes.setdefault(node.output[0], list(node.attribute[0].t.dims))
    total = 0
    for node in graph.node:
        if node.op_type not in _COUNTED:
            continue
        try:
            total += _node_macs(node, shapes)
        except KeyError as error:
            return None, f"the shape of {error.args[0]!r} does not follow"
        except IndexError:  # it lacks an input or an output, or one has no dimensions
            return None, f"a node {node.op_type} is malformed"
    return total, ""


def _has_impossible_shapes(model: onnx.ModelProto) -> bool:
    """Whether a shape before the first slices is negative, which ends onnx's process at a slice."""
    if not any(node.op_type == "Slice" for node in model.graph.node):
        return False
    unsliced = onnx.ModelProto()
    unsliced.CopyFrom(model)
    for node in unsliced.graph.node:
        if node.op_type == "Slice":
            node.domain = "latkit.unknown"
    unsliced.opset_import.add(domain="latkit.unknown", version=1)
    graph = shape_inference.infer_shapes(unsliced).graph
    return any(
        dim.dim_value < 0
        for value in (*graph.input, *graph.value_info, *graph.output)
        for dim in value.type.tensor_type.shape.dim
    )


def _node_macs(node: onnx.NodeProto, shapes: Mapping[str, list[int]]) -> int:
    left, right = shapes[node.input[0]], shapes[node.input[1]]
    if node.op_type == "ConvTranspose":  # each input pixel meets the kernel once
        return math.prod(left) * math.prod(right[1:])
    result = math.prod(shapes[node.output[0]])
    if node.op_type == "Conv":
        return result * math.prod(right[1:])
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return result * left[0 if transposed else 1]
    return result * left[-1]
