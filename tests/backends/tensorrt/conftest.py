"""The simulated TensorRT and CUDA in place of the packages."""

from __future__ import annotations

import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import latkit.backends.tensorrt as backend_module
from tests.backends.tensorrt.simulated import VERSIONS, simulate_tensorrt
from tests.backends.tensorrt.simulated_cuda import Cuda, TorchGraphs


class Simulated:
    """What stands in the packages' place, and the folder of the timing caches."""

    def __init__(self, tensorrt: Any, cuda: Cuda, graphs: TorchGraphs, folder: Path) -> None:
        self.tensorrt, self.cuda, self.graphs, self.folder = tensorrt, cuda, graphs, folder
        self.behaviour = tensorrt._simulation


def install(version: str, monkeypatch: pytest.MonkeyPatch, folder: Path, **gpu: Any) -> Simulated:
    cuda = Cuda(**gpu)
    tensorrt = simulate_tensorrt(version, cuda)
    package: Any = ModuleType("pycuda")
    package.driver = cuda
    for name, module in (("tensorrt", tensorrt), ("pycuda", package)):
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "pycuda.driver", cuda)  # type: ignore[arg-type]
    monkeypatch.setattr(backend_module, "timing_folder", lambda: folder / "timings")
    graphs = TorchGraphs(cuda)
    for name in ("ExternalStream", "CUDAGraph", "graph", "stream"):
        monkeypatch.setattr(torch.cuda, name, getattr(graphs, name))
    return Simulated(tensorrt, cuda, graphs, folder / "timings")


@pytest.fixture(params=VERSIONS)
def simulated(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Simulated:
    return install(request.param, monkeypatch, tmp_path)
