"""The facts and the state of a GPU, read from NVIDIA's management library where there is one.

The package ``nvidia-ml-py`` (extra ``energy``) is imported when first asked for. Every fact is
optional: drivers and cards differ in what they report.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

from latkit.core.errors import BackendError

Facts = dict[str, str | int | float | bool | None]

# The calls that latkit makes, by their newest names, each with the older ones: packages and drivers
# gain and lose names (one that a package dropped is no error of the library's, but an
# AttributeError). Tests compare them with what releases of the package really have.
CALLS: dict[str, tuple[str, ...]] = {
    "nvmlInit": (),
    "nvmlDeviceGetHandleByUUID": (),
    "nvmlDeviceGetHandleByPciBusId": (),
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": (),
    "nvmlDeviceIsMigDeviceHandle": (),
    "nvmlDeviceGetUUID": (),
    "nvmlSystemGetDriverVersion": (),
    "nvmlDeviceGetMaxClockInfo": (),
    "nvmlDeviceGetApplicationsClock": (),
    "nvmlDeviceGetEnforcedPowerLimit": (),
    "nvmlDeviceGetMigMode": (),
    "nvmlDeviceGetEccMode": (),
    "nvmlDeviceGetPersistenceMode": (),
    "nvmlDeviceGetTotalEnergyConsumption": (),
    "nvmlDeviceGetPowerUsage": (),
    "nvmlDeviceGetClockInfo": (),
    "nvmlDeviceGetTemperatureV": ("nvmlDeviceGetTemperature",),
    "nvmlDeviceGetUtilizationRates": (),
    "nvmlDeviceGetCurrentClocksEventReasons": ("nvmlDeviceGetCurrentClocksThrottleReasons",),
    "nvmlDeviceGetComputeRunningProcesses": (
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetComputeRunningProcesses_v2",
    ),
}
# The second is raised where the driver lacks what an unversioned name stands for, and is not one of
# the first.
ERRORS = ("NVMLError", "NVMLLibraryMismatchError")

# Enumerators of NVML's binary interface, which keeps them whatever the package calls them.
CLOCK_SM, CLOCK_MEMORY = 1, 2
TEMPERATURE_OF_GPU = 0

# Bits of the mask of why clocks are what they are: part of NVML's binary interface. Older drivers
# and packages call the same mask "throttle reasons".
EVENT_REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal limit (software)",
    0x40: "thermal limit (hardware)",
    0x80: "power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability limit",
}
# An idle GPU, and one whose clocks its owner has set, are not slowed by their surroundings.
NOT_SLOWED = 0x1 | 0x2


def load_nvml() -> ModuleType:
    """The initialised library.

    Raises:
        BackendError: the package or the driver is missing.
    """
    try:
        import pynvml
    except ImportError:
        raise BackendError(
            "the GPU's management library is not installed", "pip install 'latkit[energy]'"
        ) from None
    nvml: ModuleType = pynvml
    try:
        ask(nvml, "nvmlInit")
    except BackendError as error:
        raise BackendError(
            f"the GPU's management library does not start ({error.cause})", "check nvidia-smi"
        ) from None
    return nvml


def ask(nvml: ModuleType, call: str, *arguments: Any) -> Any:
    """What a call returns, under the first of its names that works here.

    Args:
        nvml: the library.
        call: one of ``CALLS``.
        arguments: of the call.

    Raises:
        BackendError: the package has none of the names, or the driver or the card fails it.
    """
    errors = tuple(getattr(nvml, name) for name in ERRORS if hasattr(nvml, name))
    reason = ""
    for name in (call, *CALLS[call]):
        function = getattr(nvml, name, None)
        if function is not None:
            try:
                return function(*arguments)
            except errors as error:
                reason = reason or " ".join(str(error).split())
    raise BackendError(
        f"{call}: {reason or 'this release of nvidia-ml-py does not have it'}",
        "check nvidia-smi, and pip install -U nvidia-ml-py",
    )


def find_gpu(nvml: ModuleType, identity: str) -> Any:
    """The library's handle of a GPU, or of a part of one (MIG).

    Args:
        nvml: the initialised library.
        identity: a UUID, with or without the prefix ``GPU-`` or ``MIG-``, or a PCI bus id
            (``0000:3b:00.0``).

    Raises:
        BackendError: the library knows no such GPU.
    """
    if ":" in identity:
        call, names = "nvmlDeviceGetHandleByPciBusId", [identity]
    else:
        call, names = "nvmlDeviceGetHandleByUUID", [identity]
        if not identity.startswith(("GPU-", "MIG-")):
            # CUDA gives the UUID of a part of a GPU as it gives that of a whole one: bare.
            names = [f"GPU-{identity}", f"MIG-{identity}"]
    for name in names:
        try:
            return ask(nvml, call, name)
        except BackendError as error:
            reason = error.cause
    raise BackendError(
        f"the GPU's management library does not know {identity} ({reason})", "check nvidia-smi -L"
    )


def gpu_facts(nvml: ModuleType, gpu: Any) -> Facts:
    """The facts that decide how fast a GPU is and do not change by themselves.

    Clocks in MHz, power in W; of a part of a GPU (MIG), those of the whole. What the package, the
    driver or the card does not report is None.
    """
    whole = _whole(nvml, gpu)

    def first_on(pair: Any) -> bool | None:
        return None if pair is None else bool(pair[0])

    limit_mw = _query(nvml, "nvmlDeviceGetEnforcedPowerLimit", whole)
    persistence = _query(nvml, "nvmlDeviceGetPersistenceMode", whole)
    return {
        "gpu_driver": _query(nvml, "nvmlSystemGetDriverVersion"),
        "gpu_clock_max_mhz": _query(nvml, "nvmlDeviceGetMaxClockInfo", whole, CLOCK_SM),
        "gpu_clock_applications_mhz": _query(
            nvml, "nvmlDeviceGetApplicationsClock", whole, CLOCK_SM
        ),
        "gpu_memory_clock_max_mhz": _query(nvml, "nvmlDeviceGetMaxClockInfo", whole, CLOCK_MEMORY),
        "gpu_power_limit_w": None if limit_mw is None else limit_mw / 1000,
        "gpu_mig": first_on(_query(nvml, "nvmlDeviceGetMigMode", whole)),
        "gpu_ecc": first_on(_query(nvml, "nvmlDeviceGetEccMode", whole)),
        "gpu_persistence": None if persistence is None else bool(persistence),
    }


def known_facts(identity: str) -> Facts:
    """The facts of a GPU (see :func:`gpu_facts`); none where its library is not here.

    Args:
        identity: see :func:`find_gpu`.
    """
    try:
        nvml = load_nvml()
        return gpu_facts(nvml, find_gpu(nvml, identity))
    except BackendError:  # driver, clocks and limits are known only to the management library
        return {}


@dataclass(frozen=True)
class GpuState:
    """What a GPU is doing at this moment; None where it is not known.

    Attributes:
        clock_mhz, memory_clock_mhz: of its multiprocessors and its memory, now.
        power_w: drawn now.
        temperature_c: of the chip.
        utilisation_percent: share of the last second or less in which a kernel ran.
        event_reasons: why its clocks are what they are, by the names of ``EVENT_REASONS``.
        slowed_by: those of the reasons that make measurements slower than the card can be.
        processes: processes that have a context on it, this one included.
    """

    clock_mhz: int | None
    memory_clock_mhz: int | None
    power_w: float | None
    temperature_c: int | None
    utilisation_percent: int | None
    event_reasons: tuple[str, ...] | None
    slowed_by: tuple[str, ...] | None
    processes: int | None

    def other_processes(self, own: int) -> int:
        """Processes of others, see :func:`other_processes`."""
        return other_processes(self.processes, own)


def gpu_state(nvml: ModuleType, gpu: Any) -> GpuState:
    """What a GPU, or the whole that a part (MIG) belongs to, is doing now."""
    whole = _whole(nvml, gpu)
    mask = _query(nvml, "nvmlDeviceGetCurrentClocksEventReasons", whole)
    power_mw = _query(nvml, "nvmlDeviceGetPowerUsage", whole)
    rates = _query(nvml, "nvmlDeviceGetUtilizationRates", whole)
    processes = _query(nvml, "nvmlDeviceGetComputeRunningProcesses", gpu)
    return GpuState(
        clock_mhz=_query(nvml, "nvmlDeviceGetClockInfo", whole, CLOCK_SM),
        memory_clock_mhz=_query(nvml, "nvmlDeviceGetClockInfo", whole, CLOCK_MEMORY),
        power_w=None if power_mw is None else power_mw / 1000,
        temperature_c=_query(nvml, "nvmlDeviceGetTemperatureV", whole, TEMPERATURE_OF_GPU),
        utilisation_percent=None if rates is None else int(rates.gpu),
        event_reasons=None if mask is None else event_reasons(mask),
        slowed_by=None if mask is None else event_reasons(mask & ~NOT_SLOWED),
        processes=None if processes is None else len(processes),
    )


class GpuWatch:
    """Looks at what makes measurements on a GPU doubtful, by two calls of the library a look.

    Args:
        nvml: the initialised library.
        gpu: its handle of the GPU, or of a part of one.
    """

    def __init__(self, nvml: ModuleType, gpu: Any) -> None:
        self._nvml, self._gpu, self._whole = nvml, gpu, _whole(nvml, gpu)

    def look(self) -> tuple[tuple[str, ...], int]:
        """What slows the GPU now, and how many processes beside this one have a context on it.

        What is not known is nothing. Read it right after the runs that it is about.
        """
        mask = _query(self._nvml, "nvmlDeviceGetCurrentClocksEventReasons", self._whole) or 0
        processes = _query(self._nvml, "nvmlDeviceGetComputeRunningProcesses", self._gpu) or ()
        return event_reasons(mask & ~NOT_SLOWED), other_processes(len(processes), own=1)


def watch_gpu(identity: str | None) -> GpuWatch | None:
    """A watch on a GPU; None where it is none of NVIDIA's, or its library is not here.

    Args:
        identity: see :func:`find_gpu`.
    """
    if identity is None:
        return None
    try:
        nvml = load_nvml()
        return GpuWatch(nvml, find_gpu(nvml, identity))
    except BackendError:
        return None


def other_processes(processes: int | None, own: int) -> int:
    """Processes of others on a GPU, of which ``own`` contexts are known to be ours.

    Counted rather than identified by their numbers: inside a container the library may give those
    of the machine, or none.
    """
    return max(0, (processes or 0) - own)


def event_reasons(mask: int) -> tuple[str, ...]:
    """The names of the bits that are set; an unknown bit is given as a number."""
    bits = [1 << i for i in range(mask.bit_length()) if mask >> i & 1]
    return tuple(EVENT_REASONS.get(bit, hex(bit)) for bit in bits)


def _query(nvml: ModuleType, call: str, *arguments: Any) -> Any:
    """What a call returns; None where it cannot be had (see :func:`ask`)."""
    try:
        return ask(nvml, call, *arguments)
    except BackendError:
        return None


def _whole(nvml: ModuleType, gpu: Any) -> Any:
    """The GPU that a part of one (MIG) belongs to: clocks and power are its own."""
    if not _query(nvml, "nvmlDeviceIsMigDeviceHandle", gpu):
        return gpu
    whole = _query(nvml, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", gpu)
    return gpu if whole is None else whole
