"""Models of no space on backends: they compute what PyTorch does, or are refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

from latkit.backends import BACKENDS
from latkit.backends.failures import lacks_operator
from latkit.backends.torch_cpu import TorchCpuBackend
from latkit.core.errors import BackendError
from latkit.networks.models import load_model
from latkit.spaces import RunConfig
from tests.support.models import write_conv

NCHW = RunConfig(memory_format="nchw")
RUNTIMES = ("onnxruntime-cpu", "openvino-cpu")


@pytest.mark.parametrize("name", ["mobilenet_v2?width_mult=0.35", "shufflenet_v2_x0_5", "resnet18"])
def test_torchvision_on_every_runtime(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(f"torchvision:{name}", ("1x3x32x32",))
    assert model.module is not None
    content = model.onnx()
    monkeypatch.setattr(type(model), "onnx", lambda self: content)  # exported once
    with torch.inference_mode():
        wanted = model.module(*model.tensors(0)).numpy()
    for runtime in ("torch-cpu", *RUNTIMES):
        with BACKENDS.get(runtime)() as backend, backend.compile_model(model, NCHW) as runner:
            assert np.abs(runner.logits() - wanted).max() <= 1e-4 * np.abs(wanted).max(), runtime


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_operator_that_it_lacks(tmp_path: Path, runtime: str) -> None:
    path = write_conv(tmp_path / "a.onnx", domain="com.example")
    with BACKENDS.get(runtime)() as backend, pytest.raises(BackendError) as refused:
        backend.compile_model(load_model(str(path)), NCHW)
    assert "another --backend" in refused.value.fix
    assert "operators" in refused.value.fix


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_file_that_is_wrong_inside(tmp_path: Path, runtime: str) -> None:
    nodes = [helper.make_node("Relu", ["nowhere"], ["y"])]
    path = write_conv(tmp_path / "a.onnx", nodes=nodes)
    with BACKENDS.get(runtime)() as backend, pytest.raises(BackendError):
        backend.compile_model(load_model(str(path)), NCHW)


def test_a_backend_that_takes_no_models(tmp_path: Path) -> None:
    """As one of another distribution that was written before there was such a thing."""

    class Older(TorchCpuBackend):
        name = "older"
        model_kinds = ()

    model = load_model(str(write_conv(tmp_path / "a.onnx")))
    with Older() as backend, pytest.raises(BackendError) as refused:
        backend.compile_model(model, NCHW)
    assert "older" in refused.value.cause
    with TorchCpuBackend() as backend, pytest.raises(BackendError) as refused:
        backend.compile_model(model, NCHW)
    assert "onnxruntime-cpu" in refused.value.fix
    with pytest.raises(BackendError):
        TorchCpuBackend().compile_model(model, NCHW)  # not open


def test_models_run_in_the_types_of_their_files(tmp_path: Path) -> None:
    backend: Any = BACKENDS.get("onnxruntime-cpu")()
    backend.precisions = ("fp32", "fp16")
    model = load_model(str(write_conv(tmp_path / "a.onnx")))
    with backend, pytest.raises(BackendError):
        backend.compile_model(model, RunConfig(precision="fp16", memory_format="nchw"))


@pytest.mark.parametrize(
    "reason",
    [
        "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for Foo(1)",
        "Fatal error: com.example:Relu(-1) is not a registered function/op",
        "No Op registered for Foo with domain_version of 13",
        "OpenVINO does not support the following ONNX operations: com.example.Relu",
        "No importer registered for op: Foo. Attempting to import as plugin.",
    ],
)
def test_messages_of_missing_operators(reason: str) -> None:
    assert lacks_operator(reason)
    assert not lacks_operator("Got invalid dimensions for input: x for the following indices")
