"""The machine: what it is called, and the facts that make two measurements comparable."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latkit.errors import InputError

if TYPE_CHECKING:
    from latkit.backends.base import Backend, Facts

_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# Words of a marketing name that do not tell one piece of hardware from another.
_NOISE = re.compile(
    r"\b(nvidia|tesla|geforce|quadro|amd|intel|cpu|gpu|processor|with|graphics|"
    r"pcie|sxm\d*|hbm\d*e?|\d+gb)\b|\d+-core|\((r|tm)\)|@.*$"
)


def cpu_name() -> str:
    """The CPU's model name, as the operating system reports it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Number of cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fingerprint(backend: Backend) -> Facts:
    """The machine's facts and the backend's, as one flat mapping.

    What the machine does not tell is None.
    """
    return {**machine_facts(Path("/")), **backend.fingerprint()}


def machine_facts(root: Path) -> Facts:
    """What decides how fast this machine's CPU is and does not change by itself.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    cpu = root / "sys/devices/system/cpu"
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count() or 1,
        "usable_cores": usable_cores(),
        "affinity": _affinity(),
        "cpu_quota": _cpu_quota(root / "sys/fs/cgroup/cpu.max"),
        "governor": _word(cpu / "cpu0/cpufreq/scaling_governor"),
        "clock_max_mhz": _megahertz(cpu / "cpu0/cpufreq/scaling_max_freq"),
        "boost": _boost(cpu),
        "simultaneous_multithreading": _switch(cpu / "smt/active"),
        "hypervisor": _hypervisor(root),
        "memory_gb": _memory_gb(root / "proc/meminfo"),
        "architecture": platform.machine(),
        "system": platform.system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


@contextlib.contextmanager
def pinned_to(cores: Sequence[int]) -> Iterator[None]:
    """Keep this thread, and those it starts, on some cores; on none in particular if empty.

    Raises:
        InputError: the system cannot pin, or the process may not use these cores.
    """
    if not cores:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise InputError("this system cannot pin a process to cores", "leave out --cores")
    before = os.sched_getaffinity(0)
    beyond = sorted(set(cores) - before)
    if beyond:
        raise InputError(
            f"this process may not use core {', '.join(map(str, beyond))}",
            f"choose from {', '.join(map(str, sorted(before)))}",
        )
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _affinity() -> str | None:
    """The cores this process may use, e.g. ``0-3,8``."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    ranges: list[list[int]] = []
    for core in sorted(os.sched_getaffinity(0)):
        if ranges and core == ranges[-1][-1] + 1:
            ranges[-1] = [ranges[-1][0], core]
        else:
            ranges.append([core])
    return ",".join("-".join(map(str, r)) for r in ranges)


def _word(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _switch(path: Path) -> bool | None:
    word = _word(path)
    return None if word is None else word == "1"


def _megahertz(path: Path) -> int | None:
    word = _word(path)
    return int(word) // 1000 if word and word.isdecimal() else None


def _boost(cpu: Path) -> bool | None:
    boost = _switch(cpu / "cpufreq/boost")
    if boost is None:
        no_turbo = _switch(cpu / "intel_pstate/no_turbo")
        boost = None if no_turbo is None else not no_turbo
    return boost


def _hypervisor(root: Path) -> str | None:
    """The name of the hypervisor, ``yes`` where the CPU only tells that there is one."""
    name = _word(root / "sys/hypervisor/type")
    if name is None and "hypervisor" in (_word(root / "proc/cpuinfo") or "").split():
        name = _word(root / "sys/class/dmi/id/sys_vendor") or "yes"
    return name


def _memory_gb(meminfo: Path) -> int | None:
    match = re.search(r"MemTotal:\s+(\d+) kB", _word(meminfo) or "")
    # Rounded: kernels reserve a little more or less from one start to the next.
    return None if match is None else round(int(match[1]) / 2**20)


def _cpu_quota(path: Path) -> float | None:
    """Cores' worth of time that the control group grants; None where it is unlimited."""
    words = (_word(path) or "").split()
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        return None
    return int(words[0]) / int(words[1])


def hardware_differences(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    """Hardware facts in which two fingerprints differ, as ``name: ours / theirs`` lines."""
    names = ("cpu", "architecture", "gpu", "gpu_capability", "gpu_memory_mb")
    return differences(
        {name: ours.get(name) for name in names}, {name: theirs.get(name) for name in names}
    )


def differences(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    """Facts in which two fingerprints differ, as ``name: ours / theirs`` lines."""
    return [
        f"{name}: {ours.get(name)} / {theirs.get(name)}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]


def contradictions(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    """The differences in facts that both fingerprints know."""
    both = [n for n in ours if ours[n] is not None and theirs.get(n) is not None]
    return differences({n: ours[n] for n in both}, {n: theirs[n] for n in both})


def check_device_name(name: str) -> str:
    """``name`` if it can stand in paths and references.

    Raises:
        InputError: it cannot.
    """
    return _check_slug(name, "device", "p100")


def check_backend_name(name: str) -> str:
    """``name`` if it can stand in paths and references, whether there is such a backend or not.

    Raises:
        InputError: it cannot.
    """
    return _check_slug(name, "backend", "torch-cuda")


def _check_slug(name: str, what: str, example: str) -> str:
    if not _SLUG.fullmatch(name) or ".." in name or name.endswith("."):
        raise InputError(
            f"{name!r} cannot be a {what} name",
            f"use lower-case letters, digits, '-', '_' and '.', at most 64, e.g. {example}",
        )
    return name


def suggest_device_name(hardware_name: str) -> str:
    """A short device name from a marketing name: ``Tesla P100-PCIE-16GB`` gives ``p100``."""
    words = _NOISE.sub(" ", hardware_name.lower())
    slug = re.sub(r"[^a-z0-9]+", "-", words).strip("-")
    if not slug:  # a name of nothing but vendor words, such as "AMD EPYC" without a model
        slug = re.sub(r"[^a-z0-9]+", "-", hardware_name.lower()).strip("-")
    return slug[:64] or "unknown"
