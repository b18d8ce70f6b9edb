"""What NVIDIA's management library tells of a GPU: thin, and absent without complaint.

The package ``nvidia-ml-py`` (extra ``energy``) is imported when first asked for. Every fact is
optional: drivers and cards differ in what they answer.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from latkit.errors import BackendError

Facts = dict[str, str | int | float | bool | None]

# The calls latkit makes; tests hold them against the real package.
CALLS = (
    "nvmlInit",
    "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetHandleByPciBusId",
    "nvmlSystemGetDriverVersion",
    "nvmlDeviceGetMaxClockInfo",
    "nvmlDeviceGetApplicationsClock",
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetEccMode",
    "nvmlDeviceGetPersistenceMode",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetPowerUsage",
)


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
    """The library's handle of a GPU.

    Args:
        nvml: the initialised library.
        identity: a UUID, with or without the prefix ``GPU-``, or a PCI bus id (``0000:3b:00.0``).

    Raises:
        BackendError: the library knows no such GPU.
    """
    on_bus = ":" in identity
    if not on_bus and not identity.startswith(("GPU-", "MIG-")):
        identity = f"GPU-{identity}"
    try:
        if on_bus:
            return nvml.nvmlDeviceGetHandleByPciBusId(identity)
        return nvml.nvmlDeviceGetHandleByUUID(identity)
    except nvml.NVMLError as error:
        raise BackendError(
            f"the GPU's management library does not know {identity} ({error})",
            "check nvidia-smi -L",
        ) from None


def gpu_facts(nvml: ModuleType, gpu: Any) -> Facts:
    """The facts that decide how fast a GPU is and do not change by themselves.

    Clocks in MHz, power in W. What the driver or the card does not tell is None.
    """

    def ask(call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(gpu, *arguments)
        except nvml.NVMLError:
            return None

    def first_on(pair: Any) -> bool | None:
        return None if pair is None else bool(pair[0])

    limit_mw = ask(nvml.nvmlDeviceGetEnforcedPowerLimit)
    try:
        driver = nvml.nvmlSystemGetDriverVersion()
    except nvml.NVMLError:
        driver = None
    persistence = ask(nvml.nvmlDeviceGetPersistenceMode)
    return {
        "gpu_driver": driver,
        "gpu_clock_max_mhz": ask(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM),
        "gpu_clock_applications_mhz": ask(nvml.nvmlDeviceGetApplicationsClock, nvml.NVML_CLOCK_SM),
        "gpu_memory_clock_max_mhz": ask(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_MEM),
        "gpu_power_limit_w": None if limit_mw is None else limit_mw / 1000,
        "gpu_mig": first_on(ask(nvml.nvmlDeviceGetMigMode)),
        "gpu_ecc": first_on(ask(nvml.nvmlDeviceGetEccMode)),
        "gpu_persistence": None if persistence is None else bool(persistence),
    }
