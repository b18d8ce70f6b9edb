"""Models of ONNX."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from benchmarks.robustness.formats import Format, Reader
from benchmarks.robustness.mutations import Mutator
from latkit.networks.models import load_model


class OnnxFormat(Format):
    """Models that ``latkit measure FILE.onnx`` reads; the runtimes behind it are not run."""

    name = "onnx"

    def prepare(self) -> None:
        self._model = onnx.load(str(self.material / "net.onnx"))
        self._matrix = _matrix_model()

    def draw(self, mutator: Mutator, box: Path) -> Reader:
        model = onnx.ModelProto()
        model.CopyFrom(mutator.choice((self._model, self._matrix)))
        if mutator.chance(15):
            content = mutator.content(model.SerializeToString())
        else:
            for _ in range(mutator.integer(1, 3)):
                self._change(mutator, model)
            content = model.SerializeToString()
        (box / "m.onnx").write_bytes(content)
        (box / "w").write_bytes(bytes(64))
        given = mutator.choice(((), ("1x3x8x8",), ("2x4",)))

        def read() -> None:
            loaded = load_model(str(box / "m.onnx"), given)
            onnx.load_model_from_string(loaded.onnx())
            assert loaded.macs is None or loaded.macs >= 0, loaded.macs
            assert loaded.params >= 0
            if sum(math.prod(spec.shape) for spec in loaded.inputs) < 10**7:
                loaded.arrays(0)

        return read

    def _change(self, mutator: Mutator, model: Any) -> None:
        graph = model.graph
        number = mutator.choice((-1, 0, 1, 2, 2**31, 2**62, 2**63 - 1))
        how = mutator.integer(0, 11)
        mutator.note(f"change {how} with {number}")
        node = mutator.choice(graph.node) if graph.node else None
        weight = mutator.choice(graph.initializer) if graph.initializer else None
        if how == 0 and node is not None:
            node.op_type = mutator.choice(("Conv", "Gemm", "MatMul", "ConvTranspose", "Loop", "If",
                                           "", "Constant", "Reshape", "Attention"))  # fmt: skip
        elif how == 1 and node is not None:
            del node.input[mutator.integer(0, 2) :]
        elif how == 2 and node is not None:
            del node.output[:]
        elif how == 3 and weight is not None:
            weight.dims[:] = mutator.choice(([], [number], [number, number], [2] * 70))
        elif how == 4 and weight is not None:
            weight.data_type = mutator.choice((0, 1, 7, 8, 9, 16, 23, 99))
        elif how == 5 and weight is not None:
            weight.ClearField("raw_data")
            weight.data_location = TensorProto.EXTERNAL
            for key, value in (
                ("location", mutator.choice((mutator.path(), "w", "w"))),
                ("offset", mutator.choice(("0", "-1", "x", str(number)))),
                ("length", mutator.choice(("64", "-1", "", str(number)))),
            ):
                entry = weight.external_data.add()
                entry.key, entry.value = key, value.encode("utf-8", "replace").decode()
        elif how == 6:
            for value in graph.input:
                shape = value.type.tensor_type.shape
                for dim in list(shape.dim)[: mutator.integer(1, 4)]:
                    dim.dim_value = number
                if mutator.chance(30):
                    del shape.dim[mutator.integer(0, 3) :]
        elif how == 7:
            for value in graph.input:
                value.type.tensor_type.elem_type = mutator.choice((0, 1, 7, 8, 9, 14, 16, 99))
        elif how == 8:
            field = mutator.choice(("input", "output", "node", "initializer", "value_info"))
            model.graph.ClearField(field)
        elif how == 9:
            del model.opset_import[:]
            if mutator.chance(60):
                model.opset_import.add().version = number
        elif how == 10 and node is not None:
            node.attribute.add().name = mutator.choice(("value", "transA", "group", "pads", ""))
        elif how == 11 and node is not None and node.input:
            node.input[0] = node.output[0] if node.output else ""


def _matrix_model() -> Any:
    from onnx import helper

    weights = [
        helper.make_tensor(name, TensorProto.FLOAT, [4, 4], [0.5] * 16) for name in ("a", "b")
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["y"]),
        helper.make_node("Gemm", ["y", "b"], ["z"], transA=0),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph(nodes, "made", [x], [z], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
