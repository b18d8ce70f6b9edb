"""Models of no space: what is read, what it is called, and what it costs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from torch import nn

from latkit.core.errors import InputError, LatkitError
from latkit.networks.inputs import TensorSpec, choose_shapes, parse_input, random_arrays
from latkit.networks.models import first_tensor, from_module, is_model, load_model
from latkit.networks.onnx_file import count_macs
from tests.support.models import conv_model, write_conv, write_makers

SHAPE = ("1x3x8x8",)


@pytest.fixture
def makers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of callables in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"makers_{tmp_path.name}"
    write_makers(tmp_path, name)
    return name


class TestInputs:
    def test_texts(self) -> None:
        assert parse_input("1x3x224x224") == (None, (1, 3, 224, 224))
        assert parse_input("ids=1x128") == ("ids", (1, 128))
        for text in ("", "3x", "0x3", "axb", "1x-3", "1,3,8,8"):
            with pytest.raises(InputError):
                parse_input(text)

    def test_shapes_are_declared_or_given(self) -> None:
        declared = [("x", [1, 3, 8, 8])]
        assert choose_shapes("m", declared, ()) == [(1, 3, 8, 8)]
        assert choose_shapes("m", [("x", ["N", 3, None, 8])], ("2x3x4x8",)) == [(2, 3, 4, 8)]
        two = [("a", ["N", 4]), ("b", [2])]
        assert choose_shapes("m", two, ("a=3x4",)) == [(3, 4), (2,)]

    @pytest.mark.parametrize(
        ("declared", "given", "says"),
        [
            ([("x", ["N", 3])], (), "--input 1x3"),
            ([("x", [1, 3])], ("1x4",), "1x3, not 1x4"),
            ([("x", [1, 3])], ("1x3x1",), "1x3, not 1x3x1"),
            ([("x", [1, 3])], ("z=1x3",), "no input 'z'"),
            ([("a", ["N"]), ("b", ["N"])], ("1",), "--input a="),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, declared: list[tuple[str, list[int | str | None]]], given: tuple[str, ...], says: str
    ) -> None:
        with pytest.raises(InputError, match=says):
            choose_shapes("m", declared, given)

    def test_values_follow_from_the_seed(self) -> None:
        specs = [TensorSpec("x", (2, 3)), TensorSpec("ids", (2, 5), "int64")]
        first, again, other = (random_arrays(specs, seed) for seed in (0, 0, 1))
        assert np.array_equal(first["x"], again["x"])
        assert not np.array_equal(first["x"], other["x"])
        assert set(np.unique(first["ids"])) <= {0, 1}


class TestTorchvision:
    WHAT = "torchvision:mobilenet_v3_small?num_classes=7"

    def test_weights_and_identity_follow_from_the_seed(self) -> None:
        first, again, other = (load_model(self.WHAT, ("1x3x32x32",), seed) for seed in (0, 0, 1))
        assert first.module is not None
        assert first.identity == again.identity != other.identity
        outputs = [m.module(*first.tensors(0)) for m in (first, again, other)]  # type: ignore[misc]
        assert torch.equal(outputs[0], outputs[1])
        assert not torch.equal(outputs[0], outputs[2])
        assert outputs[0].shape == (1, 7)
        assert first.params == sum(p.numel() for p in first.module.parameters())

    def test_what_is_not_there_is_refused(self) -> None:
        for what in (
            "torchvision:resnet19", "torchvision:resnet18?widht=2",
            "torchvision:resnet18?weights=DEFAULT",
        ):  # fmt: skip
            with pytest.raises(InputError):
                load_model(what)


class TestCallable:
    def test_makes_a_module(self, makers: str) -> None:
        model = load_model(f"{makers}:small?width=6", SHAPE)
        assert model.params == 6 * 27 + 6 + 6 * 5 + 5
        assert model.macs == 6 * 27 * 64 + 6 * 5
        assert load_model(f"{makers}:small?width=6", ("4x3x8x8",)).macs == model.macs

    @pytest.mark.parametrize(
        ("what", "given"),
        [("{}:number", SHAPE), ("{}:broken", SHAPE), ("{}:none", SHAPE), ("{}x:small", SHAPE),
         ("{}:small?depth=2", SHAPE), ("{}:small", ()), ("{}:small", ("1x4x8x8",)),
         ("{}:torch", SHAPE)],
    )  # fmt: skip
    def test_what_makes_none_is_refused(
        self, makers: str, what: str, given: tuple[str, ...]
    ) -> None:
        with pytest.raises(InputError):
            load_model(what.format(makers), given)


class TestFile:
    def test_what_it_is(self, tmp_path: Path) -> None:
        path = write_conv(tmp_path / "a.onnx")
        model = load_model(str(path))
        assert (model.kind, model.batch, model.fixed_batch) == ("onnx", 1, True)
        assert model.params == 4 * 27
        assert model.macs == 4 * 27 * 64
        copy = tmp_path / "b.onnx"
        copy.write_bytes(path.read_bytes())
        assert load_model(str(copy)).identity == model.identity
        assert load_model(str(write_conv(copy, side=16))).identity != model.identity

    def test_dynamic_axes_take_a_shape(self, tmp_path: Path) -> None:
        path = str(write_conv(tmp_path / "a.onnx", batch="N", side="side"))
        with pytest.raises(InputError, match="--input"):
            load_model(path)
        model = load_model(path, ("2x3x8x8",)).at_batch(3)
        session = onnxruntime.InferenceSession(model.onnx())
        assert session.get_inputs()[0].shape == [3, 3, 8, 8]
        assert session.run(None, model.arrays(0))[0].shape == (3, 4, 8, 8)
        assert model.macs == 4 * 27 * 64

    def test_a_fixed_batch_stays(self, tmp_path: Path) -> None:
        with pytest.raises(InputError):
            load_model(str(write_conv(tmp_path / "a.onnx"))).at_batch(2)

    def test_external_weights(self, tmp_path: Path) -> None:
        path = tmp_path / "a.onnx"
        onnx.save(conv_model(), path, save_as_external_data=True, size_threshold=0, location="a.w")
        assert load_model(str(path)).params == 4 * 27
        (tmp_path / "a.w").unlink()
        with pytest.raises(InputError):
            load_model(str(path))

    def test_what_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(LatkitError):
            load_model(str(tmp_path / "absent.onnx"))
        for content in (b"", b"hello, world", b"\x08\x07"):
            (tmp_path / "a.onnx").write_bytes(content)
            with pytest.raises(InputError):
                load_model(str(tmp_path / "a.onnx"))

    def test_macs_that_are_not_known_have_a_reason(self) -> None:
        macs, reason = count_macs(conv_model(domain="com.example"))
        assert macs is None
        assert "Relu" in reason
        lstm = [helper.make_node("LSTM", ["c", "w", "w"], ["y"], hidden_size=4)]
        assert count_macs(conv_model(nodes=lstm))[0] is None
        assert count_macs(conv_model(side="open"))[0] is None

    def test_modules_and_their_files_cost_the_same(self) -> None:
        module = nn.Sequential(
            nn.ConvTranspose2d(3, 4, 2, stride=2), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(),
            nn.Linear(4 * 14 * 14, 5, bias=False),
        )  # fmt: skip
        model = from_module(module, "m", "m", ("2x3x8x8",))
        macs, reason = count_macs(onnx.load_model_from_string(model.onnx()))
        assert reason == ""
        assert model.macs is not None
        assert macs == 2 * model.macs


def test_first_tensor() -> None:
    x = torch.zeros(2)
    for output in (x, (x, 1), {"a": None, "out": [x]}, [[x]]):
        assert first_tensor(output) is x
    with pytest.raises(ValueError, match="no tensor"):
        first_tensor({"a": 1})


def test_what_is_a_model(tmp_path: Path) -> None:
    for what in ("torchvision:resnet18", "a/b.ONNX", "pkg.mod:Class.make", "m:f?x=1"):
        assert is_model(what)
    (tmp_path / "cells.py").write_text("")
    others = ("darts_v2", "zoo:darts_v2", "7", "|nor_conv_3x3~0|", f"{tmp_path}/cells.py:A",
              "Genotype(normal=[('sep_conv_3x3', 0)])")  # fmt: skip
    assert not any(map(is_model, others))


@pytest.mark.parametrize(
    ("name", "params_m", "macs_m"), [("nasnet_a", 5.3, 564), ("pnasnet", 5.1, 588)]
)
def test_published_networks_cost_what_is_published(
    name: str, params_m: float, macs_m: float
) -> None:
    model = load_model(f"latkit.spaces.darts.nasnet:{name}", ("1x3x224x224",))
    assert model.macs is not None
    assert model.params / 1e6 == pytest.approx(params_m, rel=0.01)
    assert model.macs / 1e6 == pytest.approx(macs_m, rel=0.01)


@pytest.mark.parametrize("op_type", ["Conv", "Gemm", "MatMul", "ConvTranspose"])
def test_nodes_without_inputs_have_no_macs(op_type: str, tmp_path: Path) -> None:
    """A runtime refuses them; they are read until then."""
    model = conv_model()
    node = next(node for node in model.graph.node if node.op_type == "Conv")
    node.op_type = op_type
    del node.input[1:]
    macs, reason = count_macs(model)
    assert macs is None
    assert reason


def test_inputs_that_no_memory_holds() -> None:
    with pytest.raises(InputError):
        random_arrays([TensorSpec("x", (2**31, 2**31, 2**31))], 0)


@pytest.mark.parametrize("location", ["x" * 300, "../secret", "/etc/hostname", "", ".", "no"])
def test_weights_that_lie_elsewhere(location: str, tmp_path: Path) -> None:
    """Those of a file outside of the model's folder are not read."""
    (tmp_path / "secret").write_bytes(bytes(4096))
    model = conv_model()
    weight = model.graph.initializer[0]
    weight.ClearField("float_data")
    weight.raw_data = b""
    weight.data_location = onnx.TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", location
    (tmp_path / "m").mkdir()
    path = tmp_path / "m" / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError):
        load_model(str(path))


def test_weights_of_a_negative_size(tmp_path: Path) -> None:
    model = conv_model()
    model.graph.initializer[0].dims[0] = -1
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError):
        load_model(str(tmp_path / "m.onnx"))


def test_a_kernel_larger_than_its_input_before_a_slice() -> None:
    """onnx's inference of shapes ends the process there."""
    x, w = (helper.make_tensor_value_info(n, 1, s) for n, s in (("x", [1, 1, 4, 4]), ("z", None)))
    weight = helper.make_tensor("w", 1, [1, 1, 9, 9], [0.0] * 81)
    limits = [helper.make_tensor(name, 7, [1], [value]) for name, value in
              (("starts", 1), ("ends", 2**31), ("axes", 2))]  # fmt: skip
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"]),
             helper.make_node("Slice", ["y", "starts", "ends", "axes"], ["z"])]  # fmt: skip
    graph = helper.make_graph(nodes, "made", [x], [w], [weight, *limits])
    macs, reason = count_macs(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert macs is None
    assert reason
