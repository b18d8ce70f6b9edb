"""What the base classes check for every backend, and the registry of backends."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from latkit.backends import BACKENDS, default_backend_name
from latkit.backends.base import Clock, Runner, Samples
from latkit.backends.testing import BackendConformance
from latkit.backends.torch_cpu import TorchCpuBackend
from latkit.core.errors import BackendError, InputError
from latkit.spaces import Architecture, Setting
from latkit.spaces.darts.zoo import ZOO


class Scripted(Runner):
    """A runner whose runtime returns given times."""

    clock: Clock = "wall"

    def __init__(self, samples: Samples) -> None:
        super().__init__()
        self.samples = samples
        self.closed = 0

    def _run(self, n: int) -> Samples:
        return self.samples

    def _logits(self) -> npt.NDArray[np.float32]:
        return np.zeros((1, 10), dtype=np.float32)

    def _close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0])
def test_a_time_that_is_no_time_is_refused(bad: float) -> None:
    for samples in (Samples((1.0, bad), (1.0, 1.0)), Samples((1.0, 1.0), (1.0, bad))):
        with pytest.raises(BackendError, match="not a positive number"):
            Scripted(samples).run(2)


def test_a_wrong_number_of_samples_is_refused() -> None:
    with pytest.raises(BackendError, match="returned 1 samples for 2 runs"):
        Scripted(Samples((1.0,), (1.0,))).run(2)


def test_a_closed_runner_refuses_to_run_and_closes_once() -> None:
    with Scripted(Samples((1.0,), (1.0,))) as runner:
        assert runner.run(1).wall_ms == (1.0,)
    runner.close()
    assert runner.closed == 1
    for use in (lambda: runner.run(1), runner.logits):
        with pytest.raises(BackendError, match="closed"):
            use()


def test_an_unopened_backend_refuses_to_compile(micro: Setting) -> None:
    backend = BACKENDS.get("torch-cpu")()
    with pytest.raises(BackendError, match="not open"):
        backend.compile(ZOO["darts_v2"], micro)


class Hoarder(TorchCpuBackend):
    """Keeps every second network."""

    def __enter__(self) -> Hoarder:
        self.kept: list[Runner] = []
        return super().__enter__()

    def _compile(self, architecture: Architecture, setting: Setting, seed: int) -> Runner:
        runner = super()._compile(architecture, setting, seed)
        if seed % 2:
            self.kept.append(super()._compile(architecture, setting, seed))
        return runner


class HoarderSuite(BackendConformance):
    backend_class = Hoarder


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs memory in /proc")
def test_the_conformance_suite_finds_a_leak() -> None:
    with Hoarder() as backend, pytest.raises(pytest.fail.Exception, match="memory grows"):
        HoarderSuite().test_closing_releases_memory(backend)


def test_names() -> None:
    assert {"torch-cpu", "torch-cuda"} <= set(BACKENDS.names())
    for name in BACKENDS.names():
        # That in files has no colon (see tests/backends/test_onnxruntime_ep.py).
        assert BACKENDS.get(BACKENDS.get(name).name) is BACKENDS.get(name)
        assert ":" in name or BACKENDS.get(name).name == name
        probe = BACKENDS.get(name).probe()
        assert probe.reason
        assert bool(probe.fix) != probe.usable
    with pytest.raises(InputError, match="did you mean torch-cuda"):
        BACKENDS.get("torch-cuda0")


def test_default_is_cuda_only_where_it_is_usable() -> None:
    name, why = default_backend_name()
    usable = BACKENDS.get("torch-cuda").probe().usable
    assert name == ("torch-cuda" if usable else "torch-cpu")
    assert "\n" not in why
    assert "torch-cuda" in why


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_cuda_without_a_gpu_is_refused_with_the_fix() -> None:
    with pytest.raises(BackendError, match=r"torch-cuda is missing.*Fix:.*torch-cpu"):
        BACKENDS.get("torch-cuda")().__enter__()


@pytest.mark.parametrize("package", ["backends", "search"])
def test_a_second_copy_of_a_package_cannot_be_imported(package: str) -> None:
    path = Path(__file__).parents[2] / package / "__init__.py"
    spec = importlib.util.spec_from_file_location(package, path)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=rf"latkit\.{package}"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
