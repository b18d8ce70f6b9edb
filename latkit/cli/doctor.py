"""``latkit doctor``"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import TYPE_CHECKING

import click

from latkit import __version__
from latkit.cli.output import json_option, note, print_json, print_table

if TYPE_CHECKING:
    from latkit.meters.nvml import GpuState

Row = tuple[str, str, str, str]


@click.command(name="doctor")
@json_option
def command(as_json: bool) -> None:
    """Tell what works on this machine, what does not, why, and the fix.

    Exits with 1 if something that latkit cannot do without is broken.
    """
    rows = [*_packages(), *_machine(), *_backends(), *_energy(), _registry()]
    if as_json:
        names = ("part", "status", "reason", "fix")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print_table("latkit doctor", ["part", "status", "what", "fix"], rows)
    if any(status == "broken" for _, status, _, _ in rows):
        note("something latkit needs is broken; apply the fixes above, from the top")
        raise click.exceptions.Exit(1)
    note("next: latkit demo")


def _packages() -> list[Row]:
    rows: list[Row] = [("latkit", "ok", __version__, "")]
    for package, module in (("torch", "torch"), ("torchvision", "torchvision")):
        try:
            __import__(module)
            rows.append((package, "ok", version(package), ""))
        # A broken binary can raise anything, and must show here instead of ending the doctor.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            fix = "install torch and torchvision releases that belong together: pip install -U both"
            rows.append((package, "broken", f"does not import: {reason}", fix))
    return rows


def _machine() -> list[Row]:
    from latkit.core.device import cpu_name, suggest_device_name, usable_cores

    name = cpu_name()
    cores = usable_cores()
    rows: list[Row] = [
        ("cpu", "ok", f"{name}, {cores} usable cores; device name {suggest_device_name(name)}", "")
    ]
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        busy = load > 0.5 * cores
        rows.append(
            (
                "quiet",
                "warning" if busy else "ok",
                f"load average {load:.1f} on {cores} cores",
                "stop other work before you profile; disturbed rows are left out" if busy else "",
            )
        )
    return [*rows, *_gpu()]


def _gpu() -> list[Row]:
    """The GPU that PyTorch sees, with what its age rules out."""
    try:
        import torch

        if not torch.cuda.is_available():
            return []
        name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        from latkit.backends.hardware import gpu_generation
    except Exception as error:  # as above: a broken torch raises anything
        return [("gpu", "broken", " ".join(str(error).split())[:200], "check nvidia-smi")]
    what = f"{name}, compute capability {capability[0]}.{capability[1]}"
    advice = gpu_generation(capability).advice
    rows: list[Row] = [("gpu", "warning" if advice else "ok", what, advice)]
    return [*rows, *_gpu_quiet()]


def _gpu_quiet() -> list[Row]:
    """Whether other processes or limits will show in what is measured on the GPU."""
    import torch

    from latkit.backends.torch_cuda import current_gpu_uuid
    from latkit.core.errors import LatkitError
    from latkit.meters.nvml import find_gpu, gpu_state, load_nvml

    try:
        nvml = load_nvml()
        state = gpu_state(nvml, find_gpu(nvml, current_gpu_uuid()))
    except LatkitError as error:
        return [("gpu quiet", "missing", f"not known: {error.cause}", error.fix)]
    others = state.other_processes(own=int(torch.cuda.is_initialized()))
    return [("gpu quiet", *judge_gpu_state(state, others))]


def judge_gpu_state(state: GpuState, others: int) -> tuple[str, str, str]:
    """Status, what and fix of a GPU's present state.

    Args:
        state: of the GPU.
        others: processes of others that have a context on it.
    """
    told = [
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
    what = ", ".join([*faults, *told]) or "tells nothing"
    return "warning" if faults else "ok", what, "; ".join(fixes)


def _backends() -> list[Row]:
    from latkit.backends import BACKENDS, probe_backend

    rows: list[Row] = []
    for name in BACKENDS.names():
        try:
            probe = probe_backend(name)
        except Exception as error:  # as above: a broken torch raises anything
            reason = " ".join(str(error).split())[:200]
            rows.append((name, "broken", f"does not import: {reason}", "see torch above"))
        else:
            rows.append((name, probe.status, probe.reason, probe.fix))
    return rows


def _energy() -> list[Row]:
    from latkit.backends import BACKENDS, default_backend_name
    from latkit.core.errors import LatkitError

    try:
        name, _ = default_backend_name()
        meter = BACKENDS.get(name)().open_meter()
    except LatkitError as error:
        return [("energy meter", "missing", error.cause, error.fix)]
    except Exception as error:  # as above: a broken torch raises anything
        return [("energy meter", "missing", str(error)[:200], "see torch above")]
    return [("energy meter", "ok", f"{meter.name}, of {name}", "")]


def _registry() -> Row:
    from latkit.core.errors import LatkitError
    from latkit.registry import Registry

    try:
        registry = Registry()
        registry.check_writable()
        entries = registry.entries()
    except LatkitError as error:
        return ("registry", "broken", error.cause, error.fix)
    return ("registry", "ok", f"{registry.url}, {len(entries)} LPMs", "")
