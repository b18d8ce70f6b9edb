"""The CPU's name, from what Linux reports on x86, Arm, POWER, RISC-V and others."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from pathlib import Path

# Arm's CPUs report only numbers: implementer, and part. The common ones that run Linux, as in
# util-linux's lscpu; any other is named by its numbers, which keeps different CPUs apart.
_ARM_PARTS = {
    "0x41": {
        "0xb76": "ARM1176", "0xc07": "Cortex-A7", "0xc08": "Cortex-A8", "0xc09": "Cortex-A9",
        "0xc0d": "Cortex-A17", "0xc0e": "Cortex-A17", "0xc0f": "Cortex-A15",
        "0xd02": "Cortex-A34", "0xd03": "Cortex-A53", "0xd04": "Cortex-A35",
        "0xd05": "Cortex-A55", "0xd06": "Cortex-A65", "0xd07": "Cortex-A57",
        "0xd08": "Cortex-A72", "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75",
        "0xd0b": "Cortex-A76", "0xd0c": "Neoverse-N1", "0xd0d": "Cortex-A77",
        "0xd0e": "Cortex-A76AE", "0xd40": "Neoverse-V1", "0xd41": "Cortex-A78",
        "0xd42": "Cortex-A78AE", "0xd43": "Cortex-A65AE", "0xd44": "Cortex-X1",
        "0xd46": "Cortex-A510", "0xd47": "Cortex-A710", "0xd48": "Cortex-X2",
        "0xd49": "Neoverse-N2", "0xd4a": "Neoverse-E1", "0xd4b": "Cortex-A78C",
        "0xd4c": "Cortex-X1C", "0xd4d": "Cortex-A715", "0xd4e": "Cortex-X3",
        "0xd4f": "Neoverse-V2", "0xd80": "Cortex-A520", "0xd81": "Cortex-A720",
        "0xd82": "Cortex-X4", "0xd83": "Neoverse-V3AE", "0xd84": "Neoverse-V3",
        "0xd85": "Cortex-X925", "0xd87": "Cortex-A725", "0xd8e": "Neoverse-N3",
    },
    "0x42": {"0x516": "ThunderX2"},
    "0x43": {"0x0a1": "ThunderX", "0x0af": "ThunderX2", "0x0b8": "ThunderX3"},
    "0x46": {"0x001": "A64FX"},
    "0x48": {"0xd01": "Kunpeng-920", "0xd40": "Cortex-A76"},
    "0x4e": {"0x003": "Denver-2", "0x004": "Carmel", "0x010": "Olympus"},
    "0x51": {
        "0x001": "Oryon", "0x802": "Kryo-385-Gold", "0x803": "Kryo-385-Silver",
        "0x804": "Kryo-485-Gold", "0x805": "Kryo-485-Silver", "0xc00": "Falkor",
    },
    "0x61": {
        "0x022": "Icestorm-M1", "0x023": "Firestorm-M1", "0x024": "Icestorm-M1-Pro",
        "0x025": "Firestorm-M1-Pro", "0x028": "Icestorm-M1-Max", "0x029": "Firestorm-M1-Max",
        "0x032": "Blizzard-M2", "0x033": "Avalanche-M2",
    },
    "0x6d": {"0xd49": "Azure-Cobalt-100"},
    "0xc0": {"0xac3": "Ampere-1", "0xac4": "Ampere-1a"},
}  # fmt: skip
# Device-tree models of virtual machines, which name no hardware.
_VIRTUAL_MODELS = {"linux,dummy-virt", "linux,dummy-loongson3"}


def cpu_name(root: Path = Path("/")) -> str:
    """What hardware the CPU is, as exactly as the operating system reports it.

    That is the CPU's model name where its processor has one; of an Arm or RISC-V board the
    board's model; of other Arm CPUs their kinds of cores, e.g. ``Cortex-A55 + Cortex-A76``.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    fields = _cpuinfo(root)
    return next(_names(root, fields), "") or platform.processor() or platform.machine() or "unknown"


def cpu_id(root: Path = Path("/")) -> str | None:
    """The numbers by which a CPU identifies its kind; None where it has none.

    They distinguish CPUs whose names are the same, as those of many virtual machines: of x86
    ``vendor-family-model``, of Arm the ``implementer-part`` of each kind of core.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    fields = _cpuinfo(root)
    cores = _arm_cores(fields)
    if cores:
        return " ".join(f"{implementer}-{part}" for implementer, part in cores)
    x86 = [_first(fields, name) for name in ("vendor_id", "cpu family", "model")]
    return "-".join(x86) if all(x86) else None


def _names(root: Path, fields: list[tuple[str, str]]) -> Iterator[str]:
    """Names of the CPU, the best first."""
    cores = _arm_cores(fields)
    # Arm's "model name" is that of the instruction set ("ARMv7 Processor rev 3 (v7l)").
    if not cores:
        yield from filter(None, [_first(fields, "model name")])
        # POWER and SPARC: "POWER9, altivec supported".
        yield from filter(None, [_first(fields, "cpu").partition(",")[0]])
    yield from filter(None, [_board(root)])
    if cores:
        # Raspberry Pi's kernels name the board here too, which containers without /sys can read.
        yield from filter(None, [_first(fields, "model")])
        yield " + ".join(sorted({_arm_name(*core) for core in cores}))
    for name in ("cpu model", "uarch", "hardware"):  # MIPS, RISC-V, old Arm kernels
        yield from filter(None, [_first(fields, name)])
    machine = re.search(r"machine = (\w+)", _first(fields, "processor 0"))
    if machine:  # IBM Z
        yield f"{_first(fields, 'vendor_id')} {machine[1]}"


def _board(root: Path) -> str:
    for place in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        model = _read(root / place).replace("\0", " ").strip()
        if model and model not in _VIRTUAL_MODELS:
            return model
    return ""


def _arm_cores(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """(implementer, part) of each kind of core, in order."""
    cores = set()
    implementer = ""
    for name, value in fields:
        if name == "cpu implementer":
            implementer = value.lower()
        elif name == "cpu part":
            cores.add((implementer, value.lower()))
    return sorted(cores)


def _arm_name(implementer: str, part: str) -> str:
    known = _ARM_PARTS.get(implementer, {}).get(part)
    return known or f"Arm implementer {implementer} part {part}"


def _cpuinfo(root: Path) -> list[tuple[str, str]]:
    """The fields of ``/proc/cpuinfo`` in order, their names in lower case."""
    lines = _read(root / "proc/cpuinfo").splitlines()
    pairs = (line.partition(":") for line in lines)
    return [(name.strip().lower(), value.strip()) for name, colon, value in pairs if colon]


def _first(fields: list[tuple[str, str]], name: str) -> str:
    return next((value for key, value in fields if key == name and value), "")


def _read(path: Path) -> str:
    try:
        # Firmware puts any bytes into names; a replaced one is a name too.
        return path.read_bytes().decode("utf-8", errors="replace")
    except OSError:
        return ""
