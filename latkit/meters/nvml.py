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

# The calls latkit makes; tests hold them against the real package.
CALLS = (
    "nvmlInit",
    "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetHandleByPciBusId",
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle",
    "nvmlDeviceIsMigDeviceHandle",
    "nvmlDeviceGetUUID",
    "nvmlSystemGetDriverVersion",
    "nvmlDeviceGetMaxClockInfo",
    "nvmlDeviceGetApplicationsClock",
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetEccMode",
    "nvmlDeviceGetPersistenceMode",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetComputeRunningProcesses",
)

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
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise BackendError(
            f"the GPU's management library does not start ({error})", "check nvidia-smi"
        ) from None
    return nvml


def find_gpu(nvml: ModuleType, identity: str) -> Any:
    """The library's handle of a GPU, or of a part of one (MIG).

    Args:
        nvml: the initialised library.
        identity: a UUID, with or without the prefix ``GPU-`` or ``MIG-``, or a PCI bus id
            (``0000:3b:00.0``).

    Raises:
        BackendError: the library knows no such GPU.
    """
    try:
        if ":" in identity:
            return nvml.nvmlDeviceGetHandleByPciBusId(identity)
        if identity.startswith(("GPU-", "MIG-")):
            return nvml.nvmlDeviceGetHandleByUUID(identity)
        # CUDA gives the UUID of a part of a GPU as it gives that of a whole one: bare.
        try:
            return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")
        except nvml.NVMLError:
            return nvml.nvmlDeviceGetHandleByUUID(f"MIG-{identity}")
    except nvml.NVMLError as error:
        raise BackendError(
            f"the GPU's management library does not know {identity} ({error})",
            "check nvidia-smi -L",
        ) from None


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
        "gpu_clock_max_mhz": _query(nvml, "nvmlDeviceGetMaxClockInfo", whole, nvml.NVML_CLOCK_SM),
        "gpu_clock_applications_mhz": _query(
            nvml, "nvmlDeviceGetApplicationsClock", whole, nvml.NVML_CLOCK_SM
        ),
        "gpu_memory_clock_max_mhz": _query(
            nvml, "nvmlDeviceGetMaxClockInfo", whole, nvml.NVML_CLOCK_MEM
        ),
        "gpu_power_limit_w": None if limit_mw is None else limit_mw / 1000,
        "gpu_mig": first_on(_query(nvml, "nvmlDeviceGetMigMode", whole)),
        "gpu_ecc": first_on(_query(nvml, "nvmlDeviceGetEccMode", whole)),
        "gpu_persistence": None if persistence is None else bool(persistence),
    }


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
        """Processes of others on the GPU, of which ``own`` contexts are known to be ours.

        Counted rather than identified by their numbers: inside a container the library may give
        those of the machine.
        """
        return max(0, (self.processes or 0) - own)


def gpu_state(nvml: ModuleType, gpu: Any) -> GpuState:
    """What a GPU, or the whole that a part (MIG) belongs to, is doing now."""
    whole = _whole(nvml, gpu)
    mask = _query(nvml, "nvmlDeviceGetCurrentClocksEventReasons", whole)
    if mask is None:
        mask = _query(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", whole)
    power_mw = _query(nvml, "nvmlDeviceGetPowerUsage", whole)
    rates = _query(nvml, "nvmlDeviceGetUtilizationRates", whole)
    processes = _query(nvml, "nvmlDeviceGetComputeRunningProcesses", gpu)
    return GpuState(
        clock_mhz=_query(nvml, "nvmlDeviceGetClockInfo", whole, nvml.NVML_CLOCK_SM),
        memory_clock_mhz=_query(nvml, "nvmlDeviceGetClockInfo", whole, nvml.NVML_CLOCK_MEM),
        power_w=None if power_mw is None else power_mw / 1000,
        temperature_c=_query(nvml, "nvmlDeviceGetTemperature", whole, nvml.NVML_TEMPERATURE_GPU),
        utilisation_percent=None if rates is None else int(rates.gpu),
        event_reasons=None if mask is None else event_reasons(mask),
        slowed_by=None if mask is None else event_reasons(mask & ~NOT_SLOWED),
        processes=None if processes is None else len(processes),
    )


def state_flags(state: GpuState, own: int) -> tuple[str, ...]:
    """What of a GPU's state makes a measurement doubtful, as flags of it.

    Args:
        state: while or right after the network ran.
        own: contexts on the GPU that are known to be ours.

    Returns:
        ``throttled: REASON`` for each reason that slowed it, and ``other-processes: N``.
    """
    flags = [f"throttled: {reason}" for reason in state.slowed_by or ()]
    others = state.other_processes(own)
    return (*flags, f"other-processes: {others}") if others else tuple(flags)


def event_reasons(mask: int) -> tuple[str, ...]:
    """The names of the bits that are set; an unknown bit is given as a number."""
    bits = [1 << i for i in range(mask.bit_length()) if mask >> i & 1]
    return tuple(EVENT_REASONS.get(bit, hex(bit)) for bit in bits)


def _query(nvml: ModuleType, call: str, *arguments: Any) -> Any:
    """What a call returns; None where the package lacks it, or the driver or the card fails it."""
    function = getattr(nvml, call, None)
    if function is None:
        return None
    try:
        return function(*arguments)
    except nvml.NVMLError:
        return None


def _whole(nvml: ModuleType, gpu: Any) -> Any:
    """The GPU that a part of one (MIG) belongs to: clocks and power are its own."""
    if not _query(nvml, "nvmlDeviceIsMigDeviceHandle", gpu):
        return gpu
    whole = _query(nvml, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", gpu)
    return gpu if whole is None else whole
