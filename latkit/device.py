"""The machine: what it is called, and the facts that make two measurements comparable."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
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
    """The machine's facts and the backend's, as one flat mapping."""
    facts: Facts = {
        "cpu": cpu_name(),
        "cores": os.cpu_count() or 1,
        "usable_cores": usable_cores(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    return {**facts, **backend.fingerprint()}


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


def check_device_name(name: str) -> str:
    """``name`` if it can stand in paths and references.

    Raises:
        InputError: it cannot.
    """
    if not _SLUG.fullmatch(name) or ".." in name or name.endswith("."):
        raise InputError(
            f"{name!r} cannot be a device name",
            "use lower-case letters, digits, '-', '_' and '.', at most 64, e.g. p100",
        )
    return name


def suggest_device_name(hardware_name: str) -> str:
    """A short device name from a marketing name: ``Tesla P100-PCIE-16GB`` gives ``p100``."""
    words = _NOISE.sub(" ", hardware_name.lower())
    slug = re.sub(r"[^a-z0-9]+", "-", words).strip("-")
    if not slug:  # a name of nothing but vendor words, such as "AMD EPYC" without a model
        slug = re.sub(r"[^a-z0-9]+", "-", hardware_name.lower()).strip("-")
    return slug[:64] or "unknown"
