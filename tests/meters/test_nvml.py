"""The GPU's management library: facts from a recorded card, calls against the real package."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from latkit.core.errors import BackendError
from latkit.dataset.flags import gpu_flags, is_gpu_flag
from latkit.meters.energy import NvmlCounter, open_gpu_meter
from latkit.meters.nvml import (
    CALLS,
    CLOCK_MEMORY,
    CLOCK_SM,
    ERRORS,
    EVENT_REASONS,
    TEMPERATURE_OF_GPU,
    GpuWatch,
    ask,
    event_reasons,
    find_gpu,
    gpu_facts,
    gpu_state,
    load_nvml,
    watch_gpu,
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
    """And so does an older driver, for which a newer package has no function."""
    older = {k: v for k, v in vars(PASCAL).items() if "EventReasons" not in k}
    older["nvmlDeviceGetCurrentClocksThrottleReasons"] = lambda gpu: 0x1
    state = gpu_state(SimpleNamespace(**older), "gpu")  # type: ignore[arg-type]
    assert (state.event_reasons, state.slowed_by) == (("idle",), ())
    assert judge_gpu_state(state, others=0).status == "ok"


def test_flags_of_a_measurement() -> None:
    slowed, others = GpuWatch(PASCAL, "gpu").look()
    flags = gpu_flags(slowed, others)
    assert flags == (
        "throttled: power cap", "throttled: thermal limit (software)", "other-processes: 1"
    )  # fmt: skip
    assert all(map(is_gpu_flag, flags))
    assert not any(map(is_gpu_flag, ("disturbed", "spread", "panel-start")))
    assert gpu_flags((), 0) == ()


def test_a_watch_on_a_card_that_tells_nothing() -> None:
    names = [name for name in vars(PASCAL) if name.startswith("nvml")]
    silent: Any = SimpleNamespace(**{**vars(PASCAL), **dict.fromkeys(names, unsupported)})
    assert GpuWatch(silent, "gpu").look() == ((), 0)
    assert GpuWatch(SimpleNamespace(NVMLError=NVMLError), "gpu").look() == ((), 0)  # type: ignore[arg-type]
    assert watch_gpu(None) is None


def test_event_reasons() -> None:
    assert event_reasons(0) == ()
    assert event_reasons(0x8 | 0x800) == ("hardware slowdown", "0x800")


def test_a_pci_bus_id_does_too() -> None:
    assert find_gpu(PASCAL, "0000:3B:00.0") == ("handle on the bus", "0000:3B:00.0")


RECORDED = json.loads(Path(__file__).with_name("nvml-names.json").read_text())
RELEASES: list[str] = RECORDED["releases"]
# What NVIDIA announces to be removed with CUDA 14 (comments in 13.615.71), of what latkit calls.
ANNOUNCED = (
    "nvmlDeviceGetApplicationsClock",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
    "nvmlDeviceGetTemperature",
)


def recorded(kind: str, release: str) -> dict[str, Any]:
    """What a release has of a kind of names, as ``record_nvml.py`` found it."""
    column = RELEASES.index(release)
    return {name: says for name, (says, there) in RECORDED[kind].items() if there[column] == "1"}


class LibraryMismatchError(Exception):
    """As in the package, it is no NVMLError."""


def package(
    release: str, without: tuple[str, ...] = (), failing: tuple[str, ...] = (), error: Any = None
) -> Any:
    """A package with the functions of a release, each refusing other numbers of arguments.

    Args:
        release: of nvidia-ml-py.
        without: functions that it lacks.
        failing: functions that raise ``error``.
    """

    def function(name: str, says: str) -> Callable[..., Any]:
        parameters = [word for word in says.split(", ") if word]
        required = sum(not word.endswith("=") for word in parameters)

        def call(*arguments: Any) -> Any:
            assert required <= len(arguments) <= len(parameters), (name, arguments)
            if name in failing:
                raise error
            return answer(name, *arguments)

        return call

    functions = {
        name: function(name, says)
        for name, says in recorded("functions", release).items()
        if name not in without
    }
    there = {"NVMLError": NVMLError, "NVMLLibraryMismatchError": LibraryMismatchError}
    errors = {name: there[name] for name in recorded("errors", release) if name in there}
    return SimpleNamespace(**functions, **errors)


def answer(name: str, *arguments: Any) -> Any:
    """What a Tesla P100 answers to a call, and nothing to what latkit must not call."""
    name = name.partition("_v")[0].removesuffix("V")
    name = name.replace("ThrottleReasons", "EventReasons")
    if name == "nvmlDeviceGetTotalEnergyConsumption":
        return 1_000
    if name == "nvmlDeviceGetUUID":
        return "GPU-12-34"
    return None if name == "nvmlInit" else getattr(PASCAL, name)(*arguments)


def known(nvml: Any) -> tuple[Any, ...]:
    """Everything that latkit asks of a package."""
    gpu = find_gpu(nvml, "12-34")
    ask(nvml, "nvmlInit")
    assert find_gpu(nvml, "0000:3B:00.0")
    assert ask(nvml, "nvmlDeviceGetUUID", gpu) == "GPU-12-34"
    assert isinstance(open_gpu_meter(nvml, gpu), NvmlCounter)
    return gpu_facts(nvml, gpu), gpu_state(nvml, gpu), GpuWatch(nvml, gpu).look()


class TestRecordedReleases:
    @pytest.mark.parametrize("release", RELEASES)
    def test_answer_everything(self, release: str) -> None:
        nvml = package(release)
        assert known(nvml) == (
            gpu_facts(PASCAL, "gpu"), gpu_state(PASCAL, "gpu"), GpuWatch(PASCAL, "gpu").look()
        )  # fmt: skip
        assert ERRORS[0] in recorded("errors", release)

    def test_names_do_come_and_go(self) -> None:
        """Else the tests here could not fail."""
        for names in CALLS.items():
            always = ["0" not in RECORDED["functions"][name][1] for name in (names[0], *names[1])]
            assert all(always) == (not names[1]), names

    @pytest.mark.parametrize("release", RELEASES[-2:])
    def test_without_what_is_announced_to_go(self, release: str) -> None:
        facts, state, seen = known(package(release, without=ANNOUNCED))
        assert facts == {**gpu_facts(PASCAL, "gpu"), "gpu_clock_applications_mhz": None}
        assert state == gpu_state(PASCAL, "gpu")
        assert seen == GpuWatch(PASCAL, "gpu").look()

    @pytest.mark.parametrize("release", RELEASES[2:])
    def test_a_driver_older_than_the_package(self, release: str) -> None:
        """The package raises an error of another family where an unversioned name is not there."""
        newest = ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetComputeRunningProcesses_v3")
        nvml = package(release, failing=newest, error=LibraryMismatchError("use a versioned one"))
        assert gpu_state(nvml, "gpu").processes == 2
        unknown = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetTemperatureV")
        nvml = package(release, failing=unknown, error=NVMLError("Function Not Found"))
        assert gpu_state(nvml, "gpu") == gpu_state(PASCAL, "gpu")

    @pytest.mark.parametrize("call", CALLS)
    def test_any_call_may_be_gone(self, call: str) -> None:
        nvml = package(RELEASES[-1], without=(call, *CALLS[call]))
        with pytest.raises(BackendError, match=f"{call}: this release"):
            ask(nvml, call)
        gpu_facts(nvml, "gpu"), gpu_state(nvml, "gpu"), GpuWatch(nvml, "gpu").look()
        open_gpu_meter(nvml, "gpu")
        if "GetHandleBy" in call:
            with pytest.raises(BackendError, match="does not know"):
                find_gpu(nvml, "12-34" if "UUID" in call else "0000:3B:00.0")

    def test_values(self) -> None:
        values = recorded("values", RELEASES[-1])
        ours = {
            "NVML_CLOCK_SM": CLOCK_SM, "NVML_CLOCK_MEM": CLOCK_MEMORY,
            "NVML_TEMPERATURE_GPU": TEMPERATURE_OF_GPU,
        }  # fmt: skip
        assert {name: values.pop(name) for name in ours} == ours
        assert set(values.values()) - {0} == set(EVENT_REASONS)


class TestTheRealPackage:
    def test_is_called_as_it_is(self) -> None:
        """The installed release has at least one name of each call, with the arguments given."""
        pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
        newest = package(RELEASES[-1])
        for call, others in CALLS.items():
            there = [name for name in (call, *others) if hasattr(pynvml, name)]
            if call not in ANNOUNCED:
                assert there, call
            for name in there:
                real = inspect.signature(getattr(pynvml, name)).parameters.values()
                required = sum(p.default is p.empty for p in real)
                ours = RECORDED["functions"][name][0]
                assert hasattr(newest, name)
                assert required == sum(not w.endswith("=") for w in ours.split(", ") if w), name
        assert issubclass(pynvml.NVMLError, Exception)

    def test_without_a_driver(self) -> None:
        pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            with pytest.raises(BackendError, match=r"does not start.*Fix: check nvidia-smi"):
                load_nvml()
        else:
            pytest.skip("this machine has an NVIDIA driver")
