"""Plug-in execution providers: their names, packages, devices, and what a first network shows.

ONNX Runtime's own provider for the CPU is one of its devices too, so that everything but a vendor's
library is real here; the conformance suite runs with that of OpenVINO where it is usable.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from latkit.backends import BACKENDS, probe_backend
from latkit.backends import onnxruntime_ep as module
from latkit.backends.onnxruntime_ep import (
    FoundDevice,
    OnnxRuntimeEpBackend,
    choose_device,
    provider_backend,
)
from latkit.backends.onnxruntime_session import CPU, OnnxRuntimeRunner
from latkit.backends.provider_packages import NotInstalledError, backend_name, find_package
from latkit.backends.threads import working_threads
from latkit.core.device import check_backend_name
from latkit.core.errors import BackendError, InputError
from latkit.spaces import Setting
from latkit.spaces.build import random_input, random_network
from latkit.spaces.darts.zoo import ZOO
from tests.support.commands import MICRO_TEXT, RunLatkit

needs_devices = pytest.mark.skipif(
    not hasattr(onnxruntime, "get_ep_devices"), reason="this ONNX Runtime has no plug-in providers"
)


def device(
    provider: str = "MadeExecutionProvider", kind: str = "CPU", virtual: str = "0", **metadata: str
) -> Any:
    """A device as ONNX Runtime lists it."""
    hardware = SimpleNamespace(
        type=SimpleNamespace(name=kind), metadata={"is_virtual": virtual}, vendor="Maker",
        device_id=0x2A, vendor_id=0x1234,
    )  # fmt: skip
    return SimpleNamespace(ep_name=provider, device=hardware, ep_metadata=metadata)


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("onnxruntime-ep:OpenVINOExecutionProvider", "onnxruntime-ep-openvino"),
        ("onnxruntime-ep:openvino", "onnxruntime-ep-openvino"),
        ("onnxruntime-ep-openvino", "onnxruntime-ep-openvino"),
        ("onnxruntime-ep:OpenVINOExecutionProvider:NPU", "onnxruntime-ep-openvino-npu"),
        ("onnxruntime-ep:OpenVINOExecutionProvider.AUTO", "onnxruntime-ep-openvino.auto"),
        ("onnxruntime-ep:NvTensorRTRTXExecutionProvider:GPU1", "onnxruntime-ep-nvtensorrtrtx-gpu1"),
        ("onnxruntime-ep:My EP/2", "onnxruntime-ep-my-ep-2"),
    ],
)
def test_a_name_stands_in_paths_and_references(text: str, name: str) -> None:
    assert backend_name(text) == check_backend_name(name) == name
    BACKENDS.check(text)
    assert BACKENDS.get(text) is BACKENDS.get(name)
    assert BACKENDS.get(text).name == name


@pytest.mark.parametrize("text", ["onnxruntime-ep:", "onnxruntime-ep::GPU", "onnxruntime-ep:/../"])
def test_a_name_without_a_provider(text: str) -> None:
    with pytest.raises(InputError):
        BACKENDS.get(text)


def test_a_longer_name_is_another_backend() -> None:
    with pytest.raises(InputError):
        BACKENDS.get("onnxruntime-epoch")


# --- packages --------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in [name for name in sys.modules if name.startswith("onnxruntime_ep_made")]:
        del sys.modules[name]


def install(site: Path, name: str, code: str) -> None:
    (site / f"{name}.py").write_text(code)


GOOD = """
__version__ = "0.3"
def get_ep_names(): return ["MadeExecutionProvider", "Made.Other"]
def get_library_path(): return __file__
"""


def test_installed_providers_are_listed(site: Path, latkit: RunLatkit) -> None:
    install(site, "onnxruntime_ep_made", GOOD)
    install(site, "onnxruntime_ep_made_badly", "raise OSError('libmade.so.1 is\\nmissing')")
    name = "onnxruntime-ep:MadeExecutionProvider"
    assert {name, "onnxruntime-ep:Made.Other"} <= set(BACKENDS.names())
    for found in (find_package("onnxruntime-ep-made"), find_package("onnxruntime-ep-made-npu")):
        assert str(found) == "onnxruntime-ep-made 0.3"
    with pytest.raises(NotInstalledError) as refused:
        find_package("onnxruntime-ep-ma")
    assert name in refused.value.cause
    assert "libmade.so.1 is missing" in refused.value.cause
    listed = json.loads(latkit("backends", "list", "--json").stdout)
    assert listed[name]["status"] == "unusable"  # its library is none
    assert "onnxruntime_ep_made.py" in listed[name]["reason"]
    assert listed["torch-cpu"]["status"] == "ok"


@pytest.mark.parametrize(
    ("name", "install"),
    [
        ("onnxruntime-ep:WebGpuExecutionProvider", "onnxruntime-ep-webgpu"),
        ("onnxruntime-ep:QNNExecutionProvider:NPU", "onnxruntime-qnn"),
        ("onnxruntime-ep:Nobodys", "--provider-library"),
    ],
)
def test_what_is_not_installed(
    name: str, install: str, monkeypatch: pytest.MonkeyPatch, latkit: RunLatkit
) -> None:
    monkeypatch.setattr("latkit.backends.provider_packages.find_packages", lambda: ([], []))
    probe = probe_backend(name)
    assert probe.status == "missing"
    assert install in probe.fix
    done = latkit("profile", "--backend", name, "--setting", MICRO_TEXT, "--n", 2, "--out", "d")
    assert done.returncode == BackendError.exit_code
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("latkit: ")]
    assert install in line
    assert not Path("d").exists()


@needs_devices
@pytest.mark.parametrize(("provider", "backend"), module._CLASSIC.items())
def test_what_is_no_plug_in(provider: str, backend: str) -> None:
    probe = probe_backend(f"onnxruntime-ep:{provider}")
    assert probe.status == "unusable"
    assert f"--backend {backend}" in probe.fix


@needs_devices
def test_a_library_that_is_none(latkit: RunLatkit) -> None:
    Path("lib.so").write_text("no library")
    run = ("profile", "--setting", MICRO_TEXT, "--n", 2, "--provider-library")
    for backend, library, code in (
        ("onnxruntime-ep:Made", "lib.so", BackendError.exit_code),
        ("onnxruntime-ep:Made", "nowhere.so", InputError.exit_code),
        ("torch-cpu", "lib.so", InputError.exit_code),
    ):
        done = latkit(*run, library, "--backend", backend)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr


# --- devices ---------------------------------------------------------------------------------


def test_the_only_device_needs_no_name() -> None:
    ours = device()
    for name in ("onnxruntime-ep-made", "onnxruntime-ep-made-cpu"):
        assert choose_device(name, [device("Other", "GPU"), ours]) == ("CPU", ours)


def test_of_several_devices_one_is_named() -> None:
    devices = [device(kind=kind) for kind in ("CPU", "GPU", "GPU")]
    assert choose_device("onnxruntime-ep-made-gpu1", devices) == ("GPU1", devices[2])
    for name in ("onnxruntime-ep-made", "onnxruntime-ep-made-gpu", "onnxruntime-ep-made-npu"):
        with pytest.raises(BackendError) as refused:
            choose_device(name, devices)
        for label in ("CPU", "GPU0", "GPU1"):
            assert f"onnxruntime-ep:MadeExecutionProvider:{label}" in refused.value.fix


def test_a_virtual_device_runs_nothing() -> None:
    with pytest.raises(BackendError) as refused:
        choose_device("onnxruntime-ep-made", [device(kind="NPU", virtual="1"), device(CPU)])
    assert "Maker CPU" in refused.value.cause


def test_names_of_hardware() -> None:
    assert FoundDevice("GPU", device(kind="GPU"), None).hardware == "Maker GPU 0x002a"
    named = device(kind="NPU", FULL_DEVICE_NAME="Maker 9000")
    assert FoundDevice("NPU", named, None).hardware == "Maker 9000"


# --- running ---------------------------------------------------------------------------------


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> type[OnnxRuntimeEpBackend]:
    """A backend whose device is that of ONNX Runtime's own provider for the CPU."""
    if not hasattr(onnxruntime, "get_ep_devices"):
        pytest.skip("this ONNX Runtime has no plug-in providers")
    (found,) = [d for d in onnxruntime.get_ep_devices() if d.ep_name == CPU]
    made = provider_backend("onnxruntime-ep:Made")
    monkeypatch.setattr(made, "_find", classmethod(lambda cls: FoundDevice("CPU", found, None)))
    return made


def test_a_device_runs_networks(made: type[OnnxRuntimeEpBackend], micro: Setting) -> None:
    setting = micro.replace(memory_format="nchw")
    assert made.probe().usable
    with made() as backend:
        assert backend.clock == "wall"  # nobody knows which threads do the work
        facts = backend.fingerprint()
        assert facts["provider_version"] == facts["onnxruntime"] == onnxruntime.__version__
        assert (facts["provider_device"], facts["providers"]) == ("CPU", CPU)
        assert facts["inexact_fp32"] == "not known"
        with backend.compile(ZOO["darts_v2"], setting, 1) as runner:
            logits = runner.logits()
            assert len(runner.run(2).wall_ms) == 2
    wanted = random_network(ZOO["darts_v2"], setting, 1)(random_input(setting, 1))
    assert np.allclose(logits, wanted.detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("factor", "refused"), [(1 + 1e-6, False), (1 + 5e-4, True)])
def test_less_than_fp32_is_refused(
    made: type[OnnxRuntimeEpBackend], monkeypatch: pytest.MonkeyPatch, factor: float, refused: bool
) -> None:
    exact = OnnxRuntimeRunner._logits
    monkeypatch.setattr(OnnxRuntimeRunner, "_logits", lambda self: exact(self) * factor)
    if not refused:
        made().__enter__().__exit__(None, None, None)
        return
    with pytest.raises(BackendError) as error:
        made().__enter__()
    assert "fp32" in error.value.cause


def test_a_library_that_raises_anything(
    made: type[OnnxRuntimeEpBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(cls: object) -> FoundDevice:
        raise OSError("the driver\nis gone")

    monkeypatch.setattr(made, "_find", classmethod(broken))
    probe = made.probe()
    assert probe.status == "unusable"
    assert "the driver is gone" in probe.reason


def test_more_threads_than_requested_are_refused(
    made: type[OnnxRuntimeEpBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "working_threads", lambda run: 2)
    with pytest.raises(BackendError) as refused:
        made().__enter__()
    assert "--threads 2" in refused.value.fix


def test_a_network_that_is_not_wholly_taken(
    made: type[OnnxRuntimeEpBackend], monkeypatch: pytest.MonkeyPatch, micro: Setting
) -> None:
    def part(provider: str, *operators: str) -> Any:
        nodes = [SimpleNamespace(op_type=operator) for operator in operators]
        return SimpleNamespace(ep_name=provider, get_nodes=lambda: nodes)

    parts = [part(CPU, "Conv", "Relu"), part("Another", "MaxPool", "MaxPool", "Slice")]
    session = SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)
    started = iter([RuntimeError(f"a session: {module._REFUSED} by the user"), session])

    def start(self: object, model: bytes, options: Any) -> Any:
        outcome = next(started)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    setting = micro.replace(memory_format="nchw")
    with made() as backend:
        monkeypatch.setattr(made, "_start", start)
        with pytest.raises(BackendError) as refused:
            backend.compile(ZOO["darts_v2"], setting)
    assert "3 of 5 operators" in refused.value.cause
    assert "2 MaxPool, 1 Slice" in refused.value.cause


def test_no_meter_of_an_unknown_device(made: type[OnnxRuntimeEpBackend]) -> None:
    backend = made()
    backend.__dict__["_found"] = FoundDevice("GPU", device(kind="GPU"), None)
    with pytest.raises(BackendError):
        backend.open_meter()


def test_a_gpu_of_nvidias_is_known_to_its_library(
    made: type[OnnxRuntimeEpBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, gpu = made(), device(kind="GPU", version="1")
    backend.__dict__["_found"] = FoundDevice("GPU", gpu, None)
    gpu.device.metadata["pci_bus_id"] = "0000:3b:00.0"
    assert backend.gpu_identity() is None, "of another vendor"
    gpu.device.vendor_id = module.NVIDIA
    assert backend.gpu_identity() == "0000:3b:00.0"
    opened = []
    monkeypatch.setattr(module, "open_meter", lambda *arguments: opened.append(arguments))
    backend.open_meter()
    assert opened == [("gpu", "0000:3b:00.0")]
    monkeypatch.setattr(module, "known_facts", lambda identity: {"gpu_driver": identity})
    monkeypatch.setattr(module, "loaded_cudnn", lambda: "none")
    backend.provider = gpu.ep_name
    facts = backend.fingerprint()
    assert (facts["gpu_driver"], facts["cudnn"]) == ("0000:3b:00.0", "none")
    del gpu.device.metadata["pci_bus_id"]  # as before ONNX Runtime 1.31
    assert backend.gpu_identity() is None
    with pytest.raises(BackendError):
        backend.open_meter()


def test_options_that_pin_openvino() -> None:
    for kind, more in (("CPU", {"INFERENCE_NUM_THREADS": "2"}), ("GPU", {})):
        options = json.loads(module._openvino_options(device(ov_device=kind), 2)["load_config"])
        assert options[kind].items() >= {"INFERENCE_PRECISION_HINT": "f32", **more}.items()


# --- threads ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
def test_threads_that_work(count: int) -> None:
    content = bytes(2**24)

    def work() -> None:
        hashlib.sha256(content).digest()

    def run() -> None:
        threads = [threading.Thread(target=keep, args=(done,)) for _ in range(count - 1)]
        for thread in threads:
            thread.start()
        work()
        for _ in threads:
            worked.acquire()

    def keep(done: threading.Event) -> None:
        work()
        worked.release()
        done.wait()  # a pool's threads outlive its work

    done, worked = threading.Event(), threading.Semaphore(0)
    try:
        found = working_threads(run)
    finally:
        done.set()
    if found is None:
        pytest.skip("this system does not count what a thread uses")
    assert found == count
