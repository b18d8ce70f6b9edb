"""Every backend of the project is held to the interface; what is absent is skipped with why."""

from __future__ import annotations

import pytest

from latkit.backends import BACKENDS
from latkit.backends.hardware import BACKEND_SUPPORT
from latkit.backends.testing import BackendConformance
from latkit.spaces.darts.genotype import Genotype
from latkit.spaces.darts.zoo import ZOO
from latkit.spaces.fbnet.layers import FbnetLayers
from latkit.spaces.nasbench201.space import NasBench201Cell


def _suite(name: str, memory_format: str | None = None) -> type[BackendConformance]:
    backend_class = BACKENDS.get(name)
    if memory_format is not None:
        backend_class = type(
            backend_class.__name__, (backend_class,), {"memory_formats": (memory_format,)}
        )
    marks = [pytest.mark.gpu] if BACKEND_SUPPORT[name].hardware == "GPU" else []
    return type(
        f"Test_{name}_{memory_format}",
        (BackendConformance,),
        {"backend_class": backend_class, "pytestmark": marks},
    )


TestTorchCpuChannelsLast = _suite("torch-cpu", "channels_last")
TestTorchCpuNchw = _suite("torch-cpu", "nchw")
TestTorchCuda = _suite("torch-cuda")
TestTorchCudaGraph = _suite("torch-cuda-graph")
TestTensorrt = _suite("tensorrt")
TestTensorrtGraph = _suite("tensorrt-graph")
TestOnnxRuntimeCpu = _suite("onnxruntime-cpu")


class TestOnnxRuntimeCpuInt8(_suite("onnxruntime-cpu")):  # type: ignore[misc]
    """Networks come and go in int8 as in fp32; what they compute is compared above."""

    setting = BackendConformance.setting.replace(precision="int8")

    def test_computes_what_pytorch_computes(self) -> None:
        pytest.skip("compared in every precision above")

    def test_models_run_or_are_refused(self) -> None:
        pytest.skip("ONNX files and modules run in their own types")


TestOnnxRuntimeCuda = _suite("onnxruntime-cuda")
TestOnnxRuntimeTensorrt = _suite("onnxruntime-tensorrt")
TestExecutorchXnnpack = pytest.mark.usefixtures("no_trace")(_suite("executorch-xnnpack"))


class TestOpenvinoCpu(_suite("openvino-cpu")):  # type: ignore[misc]
    rebuilds = 8


class TestLitertCpu(_suite("litert-cpu")):  # type: ignore[misc]
    rebuilds = 8


class TestNcnnCpu(_suite("ncnn-cpu")):  # type: ignore[misc]
    """ncnn runs one image at a time."""

    setting = BackendConformance.setting.replace(batch=1)


class TestOnnxRuntimeEpOpenvino(_suite("onnxruntime-ep:OpenVINOExecutionProvider")):  # type: ignore[misc]
    rebuilds = 8


@pytest.mark.usefixtures("no_trace")
class _Compiled(BackendConformance):
    """Compiling a network takes from ten seconds to half a minute."""

    rebuilds = 3

    def genotypes(self) -> list[Genotype]:
        return [ZOO["darts_v2"]]

    def cells(self) -> list[NasBench201Cell]:
        return super().cells()[:1]

    def chains(self) -> list[FbnetLayers]:
        # Each layer that changes the shape is compiled by itself: few others.
        return [FbnetLayers(("k3_e1_g2", "k5_e3", *20 * ("skip",)))]


class TestTorchCpuCompile(_Compiled):
    backend_class = BACKENDS.get("torch-cpu-compile")

    def chains(self) -> list[FbnetLayers]:
        pytest.skip("16 seconds of compiling; the networks of other spaces are compiled here")


@pytest.mark.gpu
class TestTorchCudaCompile(_Compiled):
    backend_class = BACKENDS.get("torch-cuda-compile")


def test_no_backend_is_left_out() -> None:
    suites = [value for value in globals().values() if isinstance(value, type)]
    tested = {
        suite.backend_class.name
        for suite in suites
        if issubclass(suite, BackendConformance) and hasattr(suite, "backend_class")
    }
    assert tested == {BACKENDS.get(name).name for name in BACKENDS.names() if BACKENDS.is_own(name)}
