"""What works on this machine, what does not, the reason, and the fix.

Everything heavy is imported where it is examined: a broken PyTorch is something to report.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from latkit.core.version import __version__

if TYPE_CHECKING:
    from latkit.meters.nvml import GpuState

Status = Literal["ok", "warning", "missing", "unusable", "broken"]


@dataclass(frozen=True)
class DoctorRow:
    """The state of one part of the installation or the machine.

    Attributes:
        part: what was examined: a package, the CPU, a backend, the registry.
        status: ``broken`` is what latkit cannot do without.
        what: its version and state, or the reason why it does not work.
        fix: what to do; empty where nothing is.
    """

    part: str
    status: Status
    what: str
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        return {"part": self.part, "status": self.status, "reason": self.what, "fix": self.fix}


@dataclass(frozen=True)
class Diagnosis:
    """The rows of all parts, those that others depend on first."""

    rows: tuple[DoctorRow, ...]

    @property
    def broken(self) -> bool:
        """Whether something that latkit cannot do without is broken."""
        return any(row.status == "broken" for row in self.rows)

    def to_dict(self) -> list[dict[str, str]]:
        return [row.to_dict() for row in self.rows]


def doctor() -> Diagnosis:
    """Examine this machine and this installation. Never raises, and changes nothing."""
    return Diagnosis(
        (
            DoctorRow("latkit", "ok", __version__),
            *map(_package, ("torch", "torchvision")),
            *_machine(),
            *_gpu(),
            *_backends(),
            *_broken_plug_ins(),
            _energy(),
            _registry(),
        )
    )


def judge_gpu_state(state: GpuState, others: int) -> DoctorRow:
    """Whether a GPU's present state will show in what is measured on it.

    Args:
        state: of the GPU.
        others: processes of others that have a context on it.
    """
    readings = [
        f"{value} {unit}"
        for value, unit in (
            (state.clock_mhz, "MHz"), (state.power_w, "W"), (state.temperature_c, "°C")
        )
        if value is not None
    ]  # fmt: skip
    faults, fixes = [], []
    if others:
        faults.append(f"{others} other process{'es' if others > 1 else ''}")
        fixes.append("stop other work on it before you profile")
    if state.slowed_by:
        faults.append(f"slowed by {', '.join(state.slowed_by)}")
        fixes.append("see nvidia-smi -q -d PERFORMANCE")
    what = ", ".join([*faults, *readings]) or "its state is not known"
    return DoctorRow("gpu quiet", "warning" if faults else "ok", what, "; ".join(fixes))


def _package(name: str) -> DoctorRow:
    try:
        __import__(name)
        return DoctorRow(name, "ok", version(name))
    # A broken binary can raise anything, which must be reported here instead of ending this.
    except Exception as error:
        fix = "install torch and torchvision releases that belong together: pip install -U both"
        return DoctorRow(name, "broken", f"does not import: {_one_line(error)}", fix)


def _machine() -> list[DoctorRow]:
    from latkit.core.device import cpu_name, suggest_device_name, usable_cores

    name = cpu_name()
    cores = usable_cores()
    what = f"{name}, {cores} usable cores; device name {suggest_device_name(name)}"
    rows = [DoctorRow("cpu", "ok", what)]
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        busy = load > 0.5 * cores
        fix = "stop other work before you profile; disturbed rows are left out" if busy else ""
        what = f"load average {load:.1f} on {cores} cores"
        rows.append(DoctorRow("quiet", "warning" if busy else "ok", what, fix))
    return rows


def _gpu() -> list[DoctorRow]:
    """The GPU that PyTorch finds, with the releases that its age rules out."""
    try:
        import torch

        from latkit.backends.hardware import dotted, gpu_generation

        if not torch.cuda.is_available():
            return []
        name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    except Exception as error:  # as above: a broken torch raises anything
        return [DoctorRow("gpu", "broken", _one_line(error), "check nvidia-smi")]
    what = f"{name}, compute capability {dotted(capability)}"
    advice = gpu_generation(capability).advice
    return [DoctorRow("gpu", "warning" if advice else "ok", what, advice), _gpu_quiet()]


def _gpu_quiet() -> DoctorRow:
    import torch

    from latkit.backends.torch_cuda import current_gpu_uuid
    from latkit.core.errors import LatkitError
    from latkit.meters.nvml import find_gpu, gpu_state, load_nvml

    try:
        nvml = load_nvml()
        state = gpu_state(nvml, find_gpu(nvml, current_gpu_uuid()))
    except LatkitError as error:
        return DoctorRow("gpu quiet", "missing", f"not known: {error.cause}", error.fix)
    return judge_gpu_state(state, state.other_processes(own=int(torch.cuda.is_initialized())))


def _backends() -> list[DoctorRow]:
    from latkit.backends import BACKENDS, probe_backend

    rows = []
    for name in BACKENDS.names():
        try:
            probe = probe_backend(name)
        except Exception as error:  # as above: a broken torch raises anything
            reason = f"does not import: {_one_line(error)}"
            rows.append(DoctorRow(name, "broken", reason, "see torch above"))
        else:
            rows.append(DoctorRow(name, probe.status, probe.reason, probe.fix))
    return rows


def _broken_plug_ins() -> list[DoctorRow]:
    """Plug-ins other than backends, which have rows of their own, that do not load."""
    try:
        from latkit.lpm.kinds import LPM_KINDS
        from latkit.search.estimators import ESTIMATORS
        from latkit.search.image_source import IMAGE_SOURCES
        from latkit.search.objectives import OBJECTIVES
        from latkit.search.supernet import SUPERNETS
        from latkit.spaces import SPACES
    except Exception:  # torch does not import, and has its row
        return []
    kinds = (SPACES, LPM_KINDS, OBJECTIVES, ESTIMATORS, SUPERNETS, IMAGE_SOURCES)
    return [
        DoctorRow(f"{plugins.kind} {name}", "unusable", error.cause, error.fix)
        for plugins in kinds
        for name, error in plugins.broken().items()
    ]


def _energy() -> DoctorRow:
    from latkit.backends import BACKENDS, default_backend_name
    from latkit.core.errors import LatkitError

    try:
        name, _ = default_backend_name()
        meter = BACKENDS.get(name)().open_meter()
    except LatkitError as error:
        return DoctorRow("energy meter", "missing", error.cause, error.fix)
    except Exception as error:  # as above: a broken torch raises anything
        return DoctorRow("energy meter", "missing", _one_line(error), "see torch above")
    return DoctorRow("energy meter", "ok", f"{meter.name}, of {name}")


def _registry() -> DoctorRow:
    from latkit.core.errors import LatkitError

    try:
        from latkit.registry import Registry

        registry = Registry()
        registry.check_writable()
        entries = registry.entries()
    except LatkitError as error:
        return DoctorRow("registry", "broken", error.cause, error.fix)
    except Exception as error:  # as above: a broken torch raises anything
        return DoctorRow("registry", "broken", _one_line(error), "see torch above")
    return DoctorRow("registry", "ok", f"{registry.url}, {len(entries)} LPMs")


def _one_line(error: Any) -> str:
    return " ".join(str(error).split())[:200]
