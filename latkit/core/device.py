"""The machine: what it is called, and the facts that make two measurements comparable."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from latkit.core.cgroup import cpu_quota
from latkit.core.cores import affinity, pinned_to, usable_cores
from latkit.core.cpu import cpu_id, cpu_name
from latkit.core.environment import is_variable
from latkit.core.errors import InputError

if TYPE_CHECKING:
    from typing import TypeAlias

__all__ = [
    "Facts",
    "check_backend_name",
    "check_device_name",
    "contradictions",
    "cpu_name",
    "differences",
    "environment_differences",
    "hardware_differences",
    "machine_facts",
    "pinned_to",
    "suggest_device_name",
    "usable_cores",
]

# Of a fingerprint: plain values by name. A text, for Python 3.8 on a board.
Facts: TypeAlias = "dict[str, str | int | float | bool | None]"

_SLUG = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
# Words of a marketing name that do not distinguish one piece of hardware from another.
_NOISE = re.compile(
    r"\b(nvidia|tesla|geforce|quadro|amd|intel|cpu|gpu|processor|with|graphics|"
    r"pcie|sxm\d*|hbm\d*e?|\d+gb)\b|\d+-core|\((r|tm)\)|@.*$"
)


def machine_facts(root: Path = Path("/")) -> Facts:
    """What decides how fast this machine's CPU is and does not change by itself.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    cpu = root / "sys/devices/system/cpu"
    return {
        "cpu": cpu_name(root),
        "cpu_id": cpu_id(root),
        "cores": os.cpu_count() or 1,
        "usable_cores": usable_cores(),
        "affinity": affinity(),
        "cpu_quota": cpu_quota(root),
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


def _text(path: Path) -> str | None:
    """The content of a file, whatever bytes are in it."""
    try:
        return path.read_bytes().decode("utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _word(path: Path) -> str | None:
    """The content of a file that the kernel itself writes; None if it is no text."""
    text = _text(path)
    return None if text is None or "\ufffd" in text else text


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
    """The name of the hypervisor, ``yes`` where the CPU only shows that there is one."""
    name = _word(root / "sys/hypervisor/type")
    if name is None and "hypervisor" in (_text(root / "proc/cpuinfo") or "").split():
        name = _word(root / "sys/class/dmi/id/sys_vendor") or "yes"
    return name


def _memory_gb(meminfo: Path) -> int | None:
    match = re.search(r"MemTotal:\s+(\d+) kB", _word(meminfo) or "")
    # Rounded: kernels reserve a little more or less from one start to the next.
    return None if match is None else round(int(match[1]) / 2**20)


def hardware_differences(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    """Hardware facts in which two fingerprints differ, as ``name: ours / theirs`` lines."""
    names = ["cpu", "architecture", "gpu", "gpu_capability", "gpu_memory_mb"]
    if ours.get("cpu_id") and theirs.get("cpu_id"):  # virtual machines share names
        names.insert(1, "cpu_id")
    return differences(
        {name: ours.get(name) for name in names}, {name: theirs.get(name) for name in names}
    )


def environment_differences(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    """Variables of the environment in which two fingerprints differ, if both know them."""
    return [line for line in contradictions(ours, theirs) if is_variable(line)]


def differences(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    """Facts in which two fingerprints differ, as ``name: ours / theirs`` lines."""
    return [
        f"{name}: {ours.get(name)} / {theirs.get(name)}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]


def contradictions(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    """The differences in facts that both fingerprints know."""
    both = [name for name in ours if _knows(ours, name) and _knows(theirs, name)]
    return differences({n: ours[n] for n in both}, {n: theirs[n] for n in both})


def _knows(facts: Mapping[str, object], name: str) -> bool:
    """Whether a fact is known: that a variable of the environment is unset is one."""
    return name in facts and (facts[name] is not None or is_variable(name))


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
