"""ONNX Runtime with the real package: no CPU numbers under a GPU's name."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from latkit.backends import BACKENDS
from latkit.backends.onnxruntime import decide_provider
from latkit.backends.onnxruntime_gpu import (
    cuda_options,
    decide_gpu,
    decide_tf32,
    tensorrt_options,
)
from latkit.backends.onnxruntime_session import check_active
from latkit.core.errors import BackendError
from latkit.spaces import Setting
from latkit.spaces.darts.zoo import ZOO
from tests.support.commands import MICRO_TEXT, RunLatkit

needs_cpu_wheel = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    reason="this ONNX Runtime was built with CUDA",
)


@needs_cpu_wheel
@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
class TestWithTheCpuWheel:
    def test_the_probe_names_the_wheel_to_install(self, name: str) -> None:
        probe = BACKENDS.get(name).probe()
        assert probe.status == "missing"
        assert f"ONNX Runtime {onnxruntime.__version__} was built without" in probe.reason
        assert "CPUExecutionProvider" in probe.reason
        assert "pip install 'latkit[onnxruntime-gpu]'" in probe.fix

    def test_profile_is_one_line_and_writes_nothing(self, latkit: RunLatkit, name: str) -> None:
        done = latkit("profile", "--backend", name, "--setting", MICRO_TEXT, "--n", 3, "--out", "d")
        assert done.returncode == 1
        assert done.stdout == ""
        (line,) = [x for x in done.stderr.splitlines() if x.startswith("latkit: ")]
        assert f"backend {name} is missing" in line
        assert "Fix: " in line
        assert "Traceback" not in done.stderr
        assert not Path("d").exists()

    def test_even_where_the_probe_is_fooled(
        self, name: str, micro: Setting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The real package would fall back to the CPU; it is told not to, and asked."""
        backend_class = BACKENDS.get(name)
        threads = torch.get_num_threads()
        ok = dataclasses.replace(backend_class.probe(), status="ok", fix="")
        monkeypatch.setattr(backend_class, "probe", classmethod(lambda cls: ok))
        with (
            pytest.warns(UserWarning, match="not in available provider names"),
            pytest.raises(
                BackendError,
                match=r"does not start .*fallback to CPU EP has been explicitly disabled",
            ),
            backend_class() as backend,
        ):
            backend.compile(ZOO["darts_v2"], micro)
        assert torch.get_num_threads() == threads


def test_the_cpu_session_is_what_it_says(micro: Setting) -> None:
    with BACKENDS.get("onnxruntime-cpu")() as backend:
        facts = backend.fingerprint()
    assert facts["providers"] == "CPUExecutionProvider"
    assert facts["onnxruntime"] == onnxruntime.__version__


def test_the_runtimes_own_exceptions_are_one_line(micro: Setting) -> None:
    class Broken:
        def run_with_iobinding(self, binding: object) -> None:
            raise Fail("no kernel\nfor this")

    setting = micro.replace(memory_format="nchw")
    with (
        BACKENDS.get("onnxruntime-cpu")() as backend,
        backend.compile(ZOO["darts_v2"], setting) as runner,
    ):
        runner._session = Broken()  # type: ignore[attr-defined]
        for use in (lambda: runner.run(1), runner.logits):
            with pytest.raises(BackendError, match=r"failed to run \(no kernel"):
                use()


def test_active_providers() -> None:
    check_active("CUDAExecutionProvider", ["CUDAExecutionProvider", "CPUExecutionProvider"])
    for active in ([], ["CPUExecutionProvider"], ["CPUExecutionProvider", "CUDAExecutionProvider"]):
        with pytest.raises(BackendError, match="did not start CUDAExecutionProvider"):
            check_active("CUDAExecutionProvider", active)


def test_decide_provider() -> None:
    assert decide_provider("X", ["Y", "X"], "1.30").usable
    probe = decide_provider("X", ["Y"], "1.30")
    assert (probe.status, "it has Y" in probe.reason) == ("missing", True)


@pytest.mark.parametrize(
    ("capability", "version", "tensorrt", "fix"),
    [
        ((6, 0), "1.26.0", False, None),
        ((6, 0), "1.27.0", False, "onnxruntime-gpu<=1.26"),
        ((6, 1), "1.32.0", False, "onnxruntime-gpu<=1.26"),
        ((6, 0), "1.17.3", True, None),
        ((6, 0), "1.18.0", True, "TensorRT 8.6.1"),
        ((7, 0), "1.32.0", True, None),
        ((9, 0), "1.32.0", False, None),
    ],
)
def test_decide_gpu(
    capability: tuple[int, int], version: str, tensorrt: bool, fix: str | None
) -> None:
    probe = decide_gpu(capability, version, tensorrt)
    if fix is None:
        assert probe is None
    else:
        assert probe is not None
        assert probe.status == "unusable"
        assert fix in probe.fix


@pytest.mark.parametrize(
    ("capability", "override", "usable"),
    [((7, 5), None, True), ((8, 0), None, False), ((9, 0), "1", False), ((9, 0), "0", True)],
)
def test_tf32_of_tensorrt_is_refused(
    capability: tuple[int, int], override: str | None, usable: bool
) -> None:
    probe = decide_tf32(capability, override)
    assert (probe is None) == usable
    if probe is not None:
        assert probe.status == "unusable"
        assert "NVIDIA_TF32_OVERRIDE=0" in probe.fix


def test_the_version_of_the_cudnn_that_is_loaded(tmp_path: Path) -> None:
    """In a process of its own, with a library of that name which a compiler makes."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler on Linux")
    source, library = tmp_path / "a.c", tmp_path / "made.so"
    source.write_text("unsigned long cudnnGetVersion(void) { return 91002; }")
    subprocess.run(
        [compiler, "-shared", "-Wl,-soname,libcudnn.so.9", "-o", library, source], check=True
    )
    code = (
        "import ctypes, sys; from latkit.backends.onnxruntime_gpu import loaded_cudnn\n"
        "before = loaded_cudnn(); ctypes.CDLL(sys.argv[1]); print(before, loaded_cudnn())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(library)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "none 91002\n"


def test_options_are_those_a_version_knows(tmp_path: Path) -> None:
    assert cuda_options("1.32.0")["use_tf32"] == "0"
    assert "use_tf32" not in cuda_options("1.17.3")
    assert tensorrt_options("1.17.0", tmp_path)["trt_timing_cache_path"] == str(tmp_path)
    assert "trt_timing_cache_path" not in tensorrt_options("1.16.3", tmp_path)


def test_the_setting_follows_the_runtime_unless_it_is_named(latkit: RunLatkit) -> None:
    arguments = ("profile", "--backend", "onnxruntime-cpu", "--n", 2, "--device", "this-cpu")
    done = latkit(*arguments, "--setting", MICRO_TEXT, "--json", "--out", "d")
    assert done.returncode == 0, done.stderr
    assert '"memory_format": "nchw"' in done.stdout
    done = latkit(
        *arguments, "--setting", f"{MICRO_TEXT},memory_format=channels_last", "--out", "e"
    )
    assert done.returncode == 1
    assert "onnxruntime-cpu cannot run networks in channels_last" in done.stderr.splitlines()[-1]
    assert "memory_format=nchw" in done.stderr.splitlines()[-1]
    assert "there is no folder e" in latkit("dataset", "list", "e").stderr


def test_datasets_of_two_runtimes_pair_up(latkit: RunLatkit) -> None:
    for backend in ("torch-cpu", "onnxruntime-cpu", "openvino-cpu"):
        done = latkit(
            "profile", "--backend", backend, "--device", "this-cpu", "--setting", MICRO_TEXT,
            "--n", 8, "--protocol", "paper", "--out", backend,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    done = latkit("dataset", "compare", "torch-cpu", "onnxruntime-cpu")
    assert done.returncode == 0, done.stderr
    assert "backend: torch-cpu / onnxruntime-cpu" in done.stdout
    assert latkit("dataset", "compare", "torch-cpu", "openvino-cpu").returncode == 0
