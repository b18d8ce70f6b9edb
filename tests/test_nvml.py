"""The GPU's management library: facts from a recorded card, calls against the real package."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest

from latkit.errors import BackendError
from latkit.nvml import CALLS, find_gpu, gpu_facts, load_nvml


class NVMLError(Exception):
    pass


def unsupported(*arguments: Any) -> Any:
    raise NVMLError("Not Supported")


# What a Tesla P100 answers: no MIG, no locked clocks, ECC on.
PASCAL: Any = SimpleNamespace(
    NVMLError=NVMLError,
    NVML_CLOCK_SM=1,
    NVML_CLOCK_MEM=2,
    nvmlSystemGetDriverVersion=lambda: "550.54.15",
    nvmlDeviceGetMaxClockInfo=lambda gpu, kind: {1: 1328, 2: 715}[kind],
    nvmlDeviceGetApplicationsClock=lambda gpu, kind: {1: 1189, 2: 715}[kind],
    nvmlDeviceGetEnforcedPowerLimit=lambda gpu: 250_000,
    nvmlDeviceGetMigMode=unsupported,
    nvmlDeviceGetEccMode=lambda gpu: [1, 1],
    nvmlDeviceGetPersistenceMode=lambda gpu: 0,
    nvmlDeviceGetHandleByUUID=lambda uuid: ("handle", uuid),
    nvmlDeviceGetHandleByPciBusId=lambda bus_id: ("handle on the bus", bus_id),
)


def test_facts() -> None:
    assert gpu_facts(PASCAL, "gpu") == {
        "gpu_driver": "550.54.15",
        "gpu_clock_max_mhz": 1328,
        "gpu_clock_applications_mhz": 1189,
        "gpu_memory_clock_max_mhz": 715,
        "gpu_power_limit_w": 250.0,
        "gpu_mig": None,
        "gpu_ecc": True,
        "gpu_persistence": False,
    }


def test_a_card_that_tells_nothing() -> None:
    names = [name for name in vars(PASCAL) if name.startswith("nvml")]
    silent: Any = SimpleNamespace(**{**vars(PASCAL), **dict.fromkeys(names, unsupported)})
    assert set(gpu_facts(silent, "gpu").values()) == {None}
    with pytest.raises(BackendError, match=r"does not know GPU-12.*Fix: check nvidia-smi"):
        find_gpu(silent, "12")


def test_the_uuid_gets_its_prefix() -> None:
    assert find_gpu(PASCAL, "12-34") == ("handle", "GPU-12-34")
    assert find_gpu(PASCAL, "GPU-12-34") == ("handle", "GPU-12-34")
    assert find_gpu(PASCAL, "MIG-12-34") == ("handle", "MIG-12-34")


def test_a_pci_bus_id_does_too() -> None:
    assert find_gpu(PASCAL, "0000:3B:00.0") == ("handle on the bus", "0000:3B:00.0")


class TestTheRealPackage:
    def test_has_the_calls(self) -> None:
        pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
        for name in CALLS:
            assert callable(getattr(pynvml, name)), name
        assert isinstance(pynvml.NVML_CLOCK_SM, int)
        assert issubclass(pynvml.NVMLError, Exception)
        for name in set(CALLS) & set(vars(PASCAL)):
            real = inspect.signature(getattr(pynvml, name)).parameters
            ours = inspect.signature(getattr(PASCAL, name)).parameters
            if "arguments" not in ours:
                assert len(real) == len(ours), name

    def test_without_a_driver(self) -> None:
        pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            with pytest.raises(BackendError, match=r"does not start.*Fix: check nvidia-smi"):
                load_nvml()
        else:
            pytest.skip("this machine has an NVIDIA driver")
