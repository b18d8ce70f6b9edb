"""The whole backend on every recorded release: a name that one of them lacks fails here.

The GPU is simulated (see ``simulated.py``): this shows that latkit calls TensorRT and CUDA as they
are and in the right order. It says nothing about a real device's times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from latkit.backends import Backend
from latkit.backends.tensorrt import TensorrtBackend, TensorrtGraphBackend
from latkit.backends.tensorrt_api import OPTIMIZATION_LEVEL, WORKSPACE_MB
from latkit.backends.testing import BackendConformance
from latkit.core.errors import BackendError, LatkitError
from latkit.dataset import LatencyDataset
from latkit.networks.onnx_model import build_onnx
from latkit.spaces import Setting
from latkit.spaces.build import random_network
from latkit.spaces.darts.genotype import Genotype
from latkit.spaces.darts.zoo import ZOO
from latkit.spaces.nasbench201.space import NasBench201Cell
from tests.backends.tensorrt.conftest import PAIRS, Simulated, install
from tests.backends.tensorrt.simulated import VERSIONS
from tests.support.commands import MICRO_TEXT, RunLatkit


class _OnSimulation(BackendConformance):
    version: str
    api: str
    rebuilds = 12  # a third of these networks kept is 80 MiB

    @pytest.fixture(autouse=True)
    def simulation(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Simulated]:
        if self.backend_class is TensorrtGraphBackend:  # PyTorch's CUDA is simulated as well
            monkeypatch.setattr(TensorrtGraphBackend, "probe", TensorrtBackend.probe)
        simulated = install(self.version, monkeypatch, tmp_path, self.api)
        yield simulated
        simulated.check_clean()

    # The simulated device's times mean nothing.
    test_a_larger_network_takes_longer = None  # type: ignore[assignment]


class _OnOlderRelease(_OnSimulation):
    """What differs between releases is how networks are typed, built and run, not what they are.

    The memory of the process does not either: which objects and buffers of TensorRT and CUDA are
    left is counted above, after each test of each release.
    """

    test_closing_releases_memory = None  # type: ignore[assignment]

    def genotypes(self) -> list[Genotype]:
        return super().genotypes()[:2]

    def cells(self) -> list[NasBench201Cell]:
        return super().cells()[:1]


for _version, _api in PAIRS:
    _suite = _OnSimulation if (_version, _api) == PAIRS[-1] else _OnOlderRelease
    for _class in (TensorrtBackend, TensorrtGraphBackend):
        _name = re.sub(r"\W", "_", f"Test_{_class.__name__}_{_version}_{_api}")
        _members = {"version": _version, "api": _api, "backend_class": _class}
        globals()[_name] = type(_name, (_suite,), _members)


def test_the_simulation_is_strict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What latkit must not use is refused: else the suites above could not fail."""
    gone = {
        "8.6.1": ["BuilderFlag.BF16", "NetworkDefinitionCreationFlag.STRONGLY_TYPED"],
        "10.0.1": ["ICudaEngine.num_bindings", "IExecutionContext.execute_async_v2"],
        "10.16.1.11": ["ICudaEngine.num_bindings", "IExecutionContext.execute_async_v2"],
        "11.4.0.106": ["BuilderFlag.FP16", "NetworkDefinitionCreationFlag.EXPLICIT_BATCH"],
    }
    for version in VERSIONS:
        tensorrt = install(version, monkeypatch, tmp_path).tensorrt
        for name in gone[version]:
            cls, _, attribute = name.partition(".")
            assert not hasattr(getattr(tensorrt, cls), attribute), (version, name)
        config = tensorrt._simulation.make("IBuilderConfig")
        with pytest.raises(AttributeError, match="no fastest"):
            config.fastest = 1
        with pytest.raises(TypeError, match="not 1 arguments"):
            config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE)
    with pytest.raises(AttributeError, match="max_workspace_size"):
        config.max_workspace_size = 1


@pytest.fixture
def backend(simulated: Simulated) -> Iterator[Backend]:
    with TensorrtBackend() as backend:
        yield backend


def _compile(backend: Backend, micro: Setting, seed: int = 0) -> Any:
    setting = micro.replace(memory_format="nchw")
    return backend.compile(ZOO["darts_v2"], setting, seed)


def test_what_the_builder_is_told(simulated: Simulated, backend: Backend, micro: Setting) -> None:
    _compile(backend, micro).close()
    (config,) = simulated.behaviour.built
    assert config._cleared == {simulated.tensorrt.BuilderFlag.TF32}
    assert config._set == set()
    assert config._set_properties == {"builder_optimization_level": OPTIMIZATION_LEVEL}
    assert config._pools == {"MemoryPoolType.WORKSPACE": WORKSPACE_MB * 2**20}


class TestTimingCache:
    def test_is_kept_and_used(self, simulated: Simulated, backend: Backend, micro: Setting) -> None:
        for seed in range(3):
            _compile(backend, micro, seed).close()
        (path,) = simulated.folder.glob("*.cache")
        assert simulated.tensorrt.__version__ in path.name
        assert path.read_bytes().count(b"layer;") == 3

    @pytest.mark.parametrize("content", [b"damaged", b"timings 7.0:layer;"])
    def test_a_damaged_or_foreign_one_is_replaced(
        self, simulated: Simulated, backend: Backend, micro: Setting, content: bytes
    ) -> None:
        _compile(backend, micro).close()
        (path,) = simulated.folder.glob("*.cache")
        path.write_bytes(content)
        _compile(backend, micro).close()
        assert path.read_bytes().count(b"layer;") == 1
        assert not path.read_bytes().startswith(content)

    def test_one_for_each_gpu(self, simulated: Simulated, backend: Backend, micro: Setting) -> None:
        _compile(backend, micro).close()
        simulated.cuda.gpu = "NVIDIA L4"
        _compile(backend, micro).close()
        assert len(list(simulated.folder.glob("*.cache"))) == 2

    def test_that_cannot_be_kept_is_one_line(
        self, simulated: Simulated, backend: Backend, micro: Setting
    ) -> None:
        simulated.folder.write_text("a file where the folder should be")
        with pytest.raises(LatkitError, match=r"Cannot .*timings"):
            _compile(backend, micro)


class TestFailures:
    @pytest.mark.parametrize(
        ("logged", "fix"),
        [
            ("Could not find any implementation for node conv_7.", "smaller setting"),
            ("[defaultAllocator] CUDA error: out of memory", "free the GPU's memory"),
            ("something nobody foresaw", "latkit doctor"),
        ],
    )
    def test_of_the_builder(
        self, simulated: Simulated, backend: Backend, micro: Setting, logged: str, fix: str
    ) -> None:
        simulated.behaviour.failing_build = logged
        with pytest.raises(BackendError) as caught:
            _compile(backend, micro)
        assert logged in caught.value.cause
        assert fix in caught.value.fix

    def test_of_the_next_build_has_its_own_reason(
        self, simulated: Simulated, backend: Backend, micro: Setting
    ) -> None:
        for logged in ("first failure", "second failure"):
            simulated.behaviour.failing_build = logged
            with pytest.raises(BackendError, match=logged):
                _compile(backend, micro)
        simulated.behaviour.failing_build = ""
        _compile(backend, micro).close()

    def test_a_file_that_is_no_network(self, simulated: Simulated, backend: Any) -> None:
        with pytest.raises(BackendError, match=r"cannot read the network \(Failed to parse"):
            backend.plan(b"no ONNX", "fp32")

    def test_errors_of_a_good_build_explain_nothing(
        self, simulated: Simulated, backend: Any, micro: Setting
    ) -> None:
        simulated.behaviour.noise = "Skipping tactic 0: out of memory"
        _compile(backend, micro).close()
        with pytest.raises(BackendError, match="magicTag") as caught:
            backend.load(b"plan 7.0\n", np.zeros((1, 3, 8, 8), np.float32))
        assert "build the engine again" in caught.value.fix

    def test_images_of_another_shape(
        self, simulated: Simulated, backend: Any, micro: Setting
    ) -> None:
        onnx = build_onnx(random_network(ZOO["darts_v2"], micro, 0), 1, 8, 10).embedded()
        plan = backend.plan(onnx.SerializeToString(), "fp32")
        with pytest.raises(BackendError, match=r"takes images of shape \(1, 3, 8, 8\), not"):
            backend.load(plan, np.zeros((1, 3, 4, 4), np.float32))

    def test_a_plan_of_another_version(self, simulated: Simulated, backend: Any) -> None:
        with pytest.raises(BackendError, match="magicTag") as caught:
            backend.load(b"plan 7.0\n", np.zeros((1, 3, 8, 8), np.float32))
        assert "build the engine again" in caught.value.fix

    def test_no_device_memory(self, simulated: Simulated, backend: Backend, micro: Setting) -> None:
        simulated.cuda.memory_mb = 0
        with pytest.raises(BackendError, match="out of memory") as caught:
            _compile(backend, micro)
        assert "smaller setting" in caught.value.fix
        assert not simulated.cuda.buffers

    def test_no_driver(self, simulated: Simulated) -> None:
        simulated.behaviour.has_driver = False
        with pytest.raises(BackendError, match="CUDA initialization failure") as caught:
            TensorrtBackend().__enter__()
        assert "driver must be as new" in caught.value.fix
        assert not simulated.cuda.contexts

    def test_a_capture_that_fails_says_why(
        self, simulated: Simulated, micro: Setting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(TensorrtGraphBackend, "probe", TensorrtBackend.probe)
        simulated.behaviour.failing_capture = True
        with (
            pytest.raises(BackendError, match="not permitted when stream is capturing"),
            TensorrtGraphBackend() as backend,
        ):
            _compile(backend, micro)
        assert simulated.graphs.current is None, "PyTorch's stream was left behind"
        assert not simulated.cuda.buffers

    def test_a_graph_that_captured_nothing(
        self, simulated: Simulated, micro: Setting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its replays would take no time at all."""
        monkeypatch.setattr(TensorrtGraphBackend, "probe", TensorrtBackend.probe)
        simulated.graphs.captures_nothing = True
        with (
            pytest.raises(BackendError, match="computes something else"),
            TensorrtGraphBackend() as backend,
        ):
            _compile(backend, micro)
        assert not simulated.cuda.buffers


class TestProbe:
    def test_ok(self, simulated: Simulated) -> None:
        probe = TensorrtBackend.probe()
        assert probe.usable
        assert probe.reason.endswith("on Tesla T4, capability 7.5")
        assert TensorrtBackend().hardware_name() == "Tesla T4"

    def test_the_graph_target_needs_a_cuda_build_of_pytorch(self, simulated: Simulated) -> None:
        probe = TensorrtGraphBackend.probe()
        assert probe.status == "missing"
        assert "PyTorch, which captures the graph, cannot use the GPU" in probe.reason

    def test_a_busy_gpu_breaks_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def busy() -> tuple[int, int]:
            raise RuntimeError("CUDA-capable device(s) is/are busy or unavailable")

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", busy)
        assert not TensorrtBackend.probe().usable

    def test_no_driver(self, simulated: Simulated) -> None:
        simulated.cuda.failing_init = "cuInit failed: no CUDA-capable device is detected"
        probe = TensorrtBackend.probe()
        assert probe.status == "missing"
        assert "no CUDA-capable device" in probe.reason or "insufficient" in probe.reason

    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_p100(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str) -> None:
        install(version, monkeypatch, tmp_path, gpu="Tesla P100-PCIE-16GB", capability=(6, 0))
        probe = TensorrtBackend.probe()
        assert probe.usable == (version == "8.6.1")
        if not probe.usable:
            assert "has no code for Tesla P100-PCIE-16GB (sm_60" in probe.reason
            assert "tensorrt==8.6.1" in probe.fix


def test_profile(simulated: Simulated, latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch) -> None:
    done = latkit(
        "profile", "--backend", "tensorrt", "--setting", f"{MICRO_TEXT},precision=fp16",
        "--n", 3, "--out", "d", "--protocol", "fast",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    dataset = LatencyDataset.open(Path("d"))
    assert dataset.manifest.target.backend == "tensorrt"
    assert dataset.manifest.target.setting.precision == "fp16"
    assert set(dataset.table["clock"].to_pylist()) == {"event"}
    facts = dataset.manifest.fingerprint
    assert facts["tensorrt"] == simulated.tensorrt.__version__
    assert facts["strongly_typed"] == (not facts["tensorrt"].startswith("8."))


def test_export_without_device_memory_is_one_line(simulated: Simulated, latkit: RunLatkit) -> None:
    simulated.cuda.memory_mb = 0
    done = latkit(
        "export", "darts_v2", "--setting", MICRO_TEXT, "--to", "tensorrt", "--out", "net.plan"
    )
    assert done.returncode == 1
    assert "out of memory" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("net.plan").exists()


def test_export(simulated: Simulated, latkit: RunLatkit) -> None:
    arguments = ("export", "darts_v2", "--setting", MICRO_TEXT, "--to", "tensorrt")
    done = latkit(*arguments, "--out", "net.plan")
    assert done.returncode == 0, done.stderr
    assert Path("net.plan").read_bytes().startswith(b"plan ")
    done = latkit(*arguments, "--out", "b.plan", "--dynamic-batch")
    assert done.returncode == 2
    assert "batch" in done.stderr
