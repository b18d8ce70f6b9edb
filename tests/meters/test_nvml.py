"""The GPU's management library: facts from a recorded card, calls against the real package."""

from __future__ import annotations

import dataclasses
import inspect
from types import SimpleNamespace
from typing import Any

import pytest

from latkit.core.errors import BackendError
from latkit.meters.nvml import (
    CALLS,
    EVENT_REASONS,
    GpuState,
    event_reasons,
    find_gpu,
    gpu_facts,
    gpu_state,
    load_nvml,
    state_flags,
)
from latkit.tasks.doctor import judge_gpu_state


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
    nvmlDeviceIsMigDeviceHandle=unsupported,
    NVML_TEMPERATURE_GPU=0,
    nvmlDeviceGetClockInfo=lambda gpu, kind: {1: 1126, 2: 715}[kind],
    nvmlDeviceGetTemperature=lambda gpu, sensor: 83,
    nvmlDeviceGetPowerUsage=lambda gpu: 249_700,
    nvmlDeviceGetUtilizationRates=lambda gpu: SimpleNamespace(gpu=97, memory=12),
    nvmlDeviceGetCurrentClocksEventReasons=lambda gpu: 0x4 | 0x20,
    nvmlDeviceGetComputeRunningProcesses=lambda gpu: [
        SimpleNamespace(pid=7),
        SimpleNamespace(pid=8),
    ],
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
    assert set(vars(gpu_state(silent, "gpu")).values()) == {None}
    row = judge_gpu_state(gpu_state(silent, "gpu"), others=0)
    assert (row.status, row.fix) == ("ok", "")
    with pytest.raises(BackendError, match=r"does not know 12.*Fix: check nvidia-smi"):
        find_gpu(silent, "12")


def test_the_uuid_gets_its_prefix() -> None:
    assert find_gpu(PASCAL, "12-34") == ("handle", "GPU-12-34")
    assert find_gpu(PASCAL, "GPU-12-34") == ("handle", "GPU-12-34")
    assert find_gpu(PASCAL, "MIG-12-34") == ("handle", "MIG-12-34")


def test_a_part_of_a_gpu_is_found_by_its_bare_uuid() -> None:
    def by_uuid(uuid: str) -> str:
        return uuid if uuid.startswith("MIG-") else unsupported()

    parted: Any = SimpleNamespace(**{**vars(PASCAL), "nvmlDeviceGetHandleByUUID": by_uuid})
    assert find_gpu(parted, "12-34") == "MIG-12-34"


def test_facts_of_a_part_are_those_of_the_whole() -> None:
    def of_whole(answer: Any) -> Any:
        return lambda gpu, *arguments: answer if gpu == "whole" else unsupported()

    parted: Any = SimpleNamespace(
        **{
            **vars(PASCAL),
            "nvmlDeviceIsMigDeviceHandle": lambda gpu: gpu == "part",
            "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": lambda gpu: "whole",
            "nvmlDeviceGetMaxClockInfo": of_whole(1980),
            "nvmlDeviceGetMigMode": of_whole([1, 1]),
            "nvmlDeviceGetPowerUsage": of_whole(400_000),
        }
    )
    facts = gpu_facts(parted, "part")
    assert (facts["gpu_clock_max_mhz"], facts["gpu_mig"]) == (1980, True)
    assert gpu_state(parted, "part").power_w == 400.0


def test_a_call_that_the_package_dropped_is_not_known() -> None:
    fewer = {k: v for k, v in vars(PASCAL).items() if k != "nvmlDeviceGetApplicationsClock"}
    facts = gpu_facts(SimpleNamespace(**fewer), "gpu")  # type: ignore[arg-type]
    assert facts["gpu_clock_applications_mhz"] is None
    assert facts["gpu_clock_max_mhz"] == 1328


def test_the_state() -> None:
    state = gpu_state(PASCAL, "gpu")
    assert (state.clock_mhz, state.power_w, state.temperature_c) == (1126, 249.7, 83)
    assert state.slowed_by == ("power cap", "thermal limit (software)")
    assert [state.other_processes(own) for own in (0, 1, 2, 3)] == [2, 1, 0, 0]
    row = judge_gpu_state(state, others=1)
    assert row.status == "warning"
    assert "1 other process," in row.what
    assert "power cap" in row.what
    assert row.fix


def test_an_older_package_has_the_mask_by_its_older_name() -> None:
    older = {k: v for k, v in vars(PASCAL).items() if "EventReasons" not in k}
    older["nvmlDeviceGetCurrentClocksThrottleReasons"] = lambda gpu: 0x1
    state = gpu_state(SimpleNamespace(**older), "gpu")  # type: ignore[arg-type]
    assert (state.event_reasons, state.slowed_by) == (("idle",), ())
    assert judge_gpu_state(state, others=0).status == "ok"


def test_flags_of_a_measurement() -> None:
    quiet = GpuState(1480, 715, 120.0, 60, 99, ("application clocks",), (), 1)
    assert state_flags(quiet, own=1) == ()
    slowed = dataclasses.replace(quiet, slowed_by=("power cap", "0x400"), processes=3)
    assert state_flags(slowed, own=1) == (
        "throttled: power cap", "throttled: 0x400", "other-processes: 2"
    )  # fmt: skip
    assert state_flags(slowed, own=3) == ("throttled: power cap", "throttled: 0x400")
    unknown = GpuState(None, None, None, None, None, None, None, None)
    assert state_flags(unknown, own=1) == ()


def test_event_reasons() -> None:
    assert event_reasons(0) == ()
    assert event_reasons(0x8 | 0x400) == ("hardware slowdown", "0x400")


def test_a_pci_bus_id_does_too() -> None:
    assert find_gpu(PASCAL, "0000:3B:00.0") == ("handle on the bus", "0000:3B:00.0")


class TestTheRealPackage:
    def test_has_the_calls(self) -> None:
        pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
        for name in CALLS:
            assert callable(getattr(pynvml, name)), name
        assert isinstance(pynvml.NVML_CLOCK_SM, int)
        assert isinstance(pynvml.NVML_TEMPERATURE_GPU, int)
        assert issubclass(pynvml.NVMLError, Exception)
        bits = [v for k, v in vars(pynvml).items() if k.startswith("nvmlClocksEventReason")]
        assert set(EVENT_REASONS) <= set(bits)
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
