"""CUDA by pycuda and by cuda-python: what is taken, what each is called by, and how each fails.

The names and arguments are those of the real packages (``cuda-api.json``); the GPU is simulated.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latkit.backends.tensorrt import TensorrtBackend
from latkit.backends.tensorrt_cuda import (
    Cuda,
    CudaGpu,
    CudaPython,
    NoCudaPackageError,
    PyCuda,
    open_cuda,
)
from latkit.core.errors import BackendError
from tests.backends.tensorrt.conftest import PYCUDA, hide_cuda, install
from tests.backends.tensorrt.simulated_runtime import RECORDED, RELEASES, simulate_runtime

ALL = (PYCUDA, *RELEASES)
T4 = CudaGpu("Tesla T4", (7, 5), 16384, 40, "0000:3B:00.0", 12040)


@pytest.fixture(params=ALL)
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cuda:
    install("11.4.0.106", monkeypatch, tmp_path, request.param)
    return open_cuda()


def simulated_device(cuda: Cuda) -> Any:
    return cuda._cuda if isinstance(cuda, PyCuda) else cuda._cuda._runtime.cuda


def test_the_gpu(cuda: Cuda) -> None:
    assert cuda.gpu() == T4


def test_memory_and_its_end(cuda: Cuda) -> None:
    device, sent = simulated_device(cuda), np.arange(8, dtype=np.float32)
    with cuda.errors():
        cuda.enter()
        address = cuda.allocate(sent.nbytes)
        cuda.to_device(address, sent)
        received = np.empty_like(sent)
        cuda.to_host(received, address)
        assert received.tolist() == sent.tolist()
        device.memory_mb = 0
        with pytest.raises(RuntimeError, match="out of memory"), cuda.errors():
            cuda.allocate(4)
        cuda.free(address)
        with pytest.raises((RuntimeError, KeyError)), cuda.errors():
            cuda.to_host(received, address)
        cuda.exit()
    assert not device.buffers
    assert not device.contexts


def test_events_on_a_stream(cuda: Cuda) -> None:
    device = simulated_device(cuda)
    cuda.enter()
    stream, start, end = cuda.stream(), cuda.event(), cuda.event()
    assert device.streams[stream.handle]
    start.record(stream)
    device.streams[stream.handle].add(lambda: setattr(device, "now_ms", device.now_ms + 2.5))
    end.record(stream)
    with pytest.raises(RuntimeError), cuda.errors():
        cuda.elapsed_ms(start, end)  # nothing has been waited for
    end.synchronize()
    assert cuda.elapsed_ms(start, end) == 2.5
    stream.synchronize()
    cuda.exit()


def test_the_device_of_others_is_given_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    simulated = install("11.4.0.106", monkeypatch, tmp_path, "cuda-bindings-13.5.0")
    runtime = simulated.runtime._runtime
    runtime.device = 3
    cuda = open_cuda()
    cuda.enter()
    assert runtime.device == 0
    cuda.exit()
    assert runtime.device == 3


@pytest.mark.parametrize("release", RELEASES)
def test_no_driver(release: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    simulated = install("11.4.0.106", monkeypatch, tmp_path, release)
    simulated.cuda.failing_init = "35"
    probe = TensorrtBackend.probe()
    assert probe.status == "missing"
    assert "driver version is insufficient" in probe.reason
    assert "cuda-python<13" in probe.fix


class TestWhichIsTaken:
    def test_pycuda_where_both_are(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        simulated = install("11.4.0.106", monkeypatch, tmp_path)
        other = simulate_runtime("cuda-bindings-13.5.0", simulated.cuda)
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", other)
        assert isinstance(open_cuda(), PyCuda)
        assert open_cuda().facts()["cuda_api"] == "pycuda"
        monkeypatch.setitem(sys.modules, "pycuda.driver", None)  # type: ignore[arg-type]
        assert isinstance(open_cuda(), CudaPython)
        assert open_cuda().facts()["cuda_api"] == "cuda-python"

    def test_none(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        install("11.4.0.106", monkeypatch, tmp_path)
        hide_cuda(monkeypatch)
        with pytest.raises(NoCudaPackageError):
            open_cuda()
        probe = TensorrtBackend.probe()
        assert (probe.status, probe.reason) == (
            "missing", "neither pycuda nor cuda-python is installed"
        )  # fmt: skip
        assert "cuda-python" in probe.fix

    def test_one_that_does_not_import(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        simulated = install("11.4.0.106", monkeypatch, tmp_path)
        hide_cuda(monkeypatch)
        folder = tmp_path / "broken"
        (folder / "pycuda").mkdir(parents=True)
        (folder / "pycuda" / "__init__.py").write_text("")
        (folder / "pycuda" / "driver.py").write_text("raise ImportError('libcurand.so.10: no')")
        monkeypatch.syspath_prepend(str(folder))
        for name in ("pycuda", "pycuda.driver"):
            monkeypatch.delitem(sys.modules, name)
        with pytest.raises(BackendError, match=r"libcurand.so.10"):
            open_cuda()
        probe = TensorrtBackend.probe()
        assert probe.status == "unusable"
        assert "libcurand.so.10" in probe.reason
        runtime = simulate_runtime("cuda-bindings-13.5.0", simulated.cuda)
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime)
        assert isinstance(open_cuda(), CudaPython)


def test_the_simulation_is_strict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a release lacks is refused: else the tests here could not fail."""
    for release in RELEASES:
        simulated = install("11.4.0.106", monkeypatch, tmp_path, release)
        runtime = simulated.runtime
        assert hasattr(runtime, "cudaEventElapsedTime_v2") == release.startswith(
            ("cuda-bindings-12.8", "cuda-bindings-12.9")
        )
        with pytest.raises(TypeError, match="cudaMemcpy takes dst, src, count, kind"):
            runtime.cudaMemcpy(1, 2, 3)
        with pytest.raises(AttributeError, match="cudaThreadSynchronize"):
            runtime.cudaThreadSynchronize()


class TestTheRealPackage:
    """The one that PyTorch's CUDA builds bring."""

    @pytest.fixture
    def real(self) -> CudaPython:
        for name in CudaPython.modules:
            try:
                return CudaPython(importlib.import_module(name))
            except ModuleNotFoundError:
                continue
        pytest.skip("cuda-python is not installed")

    def test_is_called_as_it_is(self, real: CudaPython) -> None:
        source = Path(sys.modules[CudaPython.__module__].__file__ or "").read_text()
        used = {name for name in RECORDED["functions"] if f'"{name}"' in source}
        used |= {name for name in RECORDED["functions"] if f"_cuda.{name}" in source}
        assert len(used) > 12
        for name in used:
            first = getattr(real._cuda, name).__doc__.partition("\n")[0]
            (says, _), *_ = RECORDED["functions"][name]
            count = first.count(",") + 1 if "()" not in first else 0
            assert count == (says.count(",") + 1 if says else 0), (name, first)
        for name in ("name", "major", "minor", "totalGlobalMem", "multiProcessorCount"):
            assert hasattr(real._cuda.cudaDeviceProp, name)

    def test_without_a_driver(self, real: CudaPython) -> None:
        if torch.cuda.is_available():
            pytest.skip("this machine has an NVIDIA driver")
        with pytest.raises(RuntimeError):
            real.gpu()
        with pytest.raises(RuntimeError):
            real.enter()
