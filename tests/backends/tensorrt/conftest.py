"""The simulated TensorRT and CUDA in place of the packages."""

from __future__ import annotations

import gc
import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import latkit.backends.tensorrt as backend_module
from latkit.backends.tensorrt_cuda import CudaPython
from tests.backends.tensorrt.simulated import simulate_tensorrt
from tests.backends.tensorrt.simulated_cuda import Cuda, TorchGraphs
from tests.backends.tensorrt.simulated_runtime import RELEASES, simulate_runtime

PYCUDA = "pycuda"
# Each release of TensorRT with a package that it is called beside; the last runs the suites whole.
PAIRS = (
    ("8.6.1", PYCUDA),
    ("10.0.1", "cuda-python-12.3.0"),
    ("10.16.1.11", "cuda-bindings-12.9.10"),
    ("11.4.0.106", "cuda-bindings-13.5.0"),
)


class Simulated:
    """What stands in the packages' place, and the folder of the timing caches."""

    def __init__(
        self, tensorrt: Any, cuda: Cuda, runtime: Any, graphs: TorchGraphs, folder: Path
    ) -> None:
        self.tensorrt, self.cuda, self.graphs, self.folder = tensorrt, cuda, graphs, folder
        self.runtime = runtime
        self.behaviour = tensorrt._simulation

    def check_clean(self) -> None:
        """Nothing is left on the device, nor current."""
        assert not self.cuda.contexts, "the context was left current"
        assert not self.cuda.buffers, "device memory was not freed"
        if self.runtime is not None:
            gc.collect()
            assert not self.runtime._runtime.alive, "streams or events were not destroyed"


def install(
    version: str, monkeypatch: pytest.MonkeyPatch, folder: Path, api: str = PYCUDA, **gpu: Any
) -> Simulated:
    """Put a release of TensorRT, and one of the packages for CUDA, in the real ones' places."""
    cuda = Cuda(**gpu)
    tensorrt = simulate_tensorrt(version, cuda)
    tensorrt.__spec__ = importlib.machinery.ModuleSpec("tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt)
    hide_cuda(monkeypatch)
    runtime = None
    if api == PYCUDA:
        package: Any = ModuleType("pycuda")
        package.driver = cuda
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", cuda)  # type: ignore[arg-type]
    else:
        runtime = simulate_runtime(api, cuda)
        monkeypatch.setitem(sys.modules, RELEASES[api], runtime)
    monkeypatch.setattr(backend_module, "timing_folder", lambda: folder / "timings")
    graphs = TorchGraphs(cuda)
    for name in ("ExternalStream", "CUDAGraph", "graph", "stream"):
        monkeypatch.setattr(torch.cuda, name, getattr(graphs, name))
    return Simulated(tensorrt, cuda, runtime, graphs, folder / "timings")


def hide_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no package for CUDA, whatever is installed."""
    for name in ("pycuda", "pycuda.driver", *CudaPython.modules):
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]


@pytest.fixture(params=PAIRS, ids="+".join)
def simulated(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Simulated:
    version, api = request.param
    return install(version, monkeypatch, tmp_path, api)
