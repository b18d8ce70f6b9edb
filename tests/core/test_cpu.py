"""The CPU's name, from what Linux tells on different machines."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from latkit.core.cpu import cpu_id, cpu_name
from latkit.core.device import (
    check_device_name,
    contradictions,
    hardware_differences,
    machine_facts,
    suggest_device_name,
)


def arm_core(part: str, implementer: str = "0x41", number: int = 0) -> str:
    return textwrap.dedent(f"""\
        processor\t: {number}
        BogoMIPS\t: 108.00
        Features\t: fp asimd evtstrm crc32 cpuid
        CPU implementer\t: {implementer}
        CPU architecture: 8
        CPU variant\t: 0x0
        CPU part\t: {part}
        CPU revision\t: 3

        """)


RASPBERRY_PI_4 = arm_core("0xd08") + textwrap.dedent("""\
    Hardware\t: BCM2835
    Revision\t: c03114
    Serial\t\t: 10000000abcdef01
    Model\t\t: Raspberry Pi 4 Model B Rev 1.4
    """)
RASPBERRY_PI_3_32_BIT = """\
processor\t: 0
model name\t: ARMv7 Processor rev 4 (v7l)
BogoMIPS\t: 38.40
CPU implementer\t: 0x41
CPU part\t: 0xd03

Hardware\t: BCM2835
"""
POWER9 = """\
processor\t: 0
cpu\t\t: POWER9, altivec supported
clock\t\t: 3800.000000MHz
revision\t: 2.3 (pvr 004e 1203)

timebase\t: 512000000
platform\t: PowerNV
model\t\t: 8335-GTX
machine\t\t: PowerNV 8335-GTX
"""
XEON = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Intel(R) Xeon(R) CPU @ 2.20GHz
flags\t\t: fpu vme hypervisor
"""
RISC_V = "processor\t: 0\nhart\t: 1\nisa\t: rv64imafdc\nmmu\t: sv39\nuarch\t: sifive,u74-mc\n"
IBM_Z = """\
vendor_id       : IBM/S390
# processors    : 2
processor 0: version = FF,  identification = 1B2C3D,  machine = 8561
"""


def machine(root: Path, cpuinfo: str | bytes, board: bytes | None = None) -> Path:
    """A root folder with what a machine tells of itself."""
    (root / "proc").mkdir(parents=True)
    content = cpuinfo.encode() if isinstance(cpuinfo, str) else cpuinfo
    (root / "proc" / "cpuinfo").write_bytes(content)
    if board is not None:
        (root / "proc" / "device-tree").mkdir()
        (root / "proc" / "device-tree" / "model").write_bytes(board)
    return root


@pytest.mark.parametrize(
    ("cpuinfo", "board", "name", "device"),
    [
        (XEON, None, "Intel(R) Xeon(R) CPU @ 2.20GHz", "xeon"),
        (arm_core("0xd0c"), None, "Neoverse-N1", "neoverse-n1"),
        (arm_core("0xd40"), None, "Neoverse-V1", "neoverse-v1"),
        (arm_core("0x001", "0x46"), None, "A64FX", "a64fx"),
        (
            arm_core("0xd05") + arm_core("0xd0b", number=1),
            None,
            "Cortex-A55 + Cortex-A76",
            "cortex-a55-cortex-a76",
        ),
        (
            arm_core("0xABC", "0x77"),
            None,
            "Arm implementer 0x77 part 0xabc",
            "arm-implementer-0x77-part-0xabc",
        ),
        (
            arm_core("0xd0b"),
            b"Raspberry Pi 5 Model B Rev 1.0\0",
            "Raspberry Pi 5 Model B Rev 1.0",
            "raspberry-pi-5-model-b-rev-1-0",
        ),
        # A container does not see the device tree.
        (
            RASPBERRY_PI_4,
            None,
            "Raspberry Pi 4 Model B Rev 1.4",
            "raspberry-pi-4-model-b-rev-1-4",
        ),
        (RASPBERRY_PI_3_32_BIT, None, "Cortex-A53", "cortex-a53"),
        (
            RASPBERRY_PI_3_32_BIT,
            b"Raspberry Pi 3 Model B Plus Rev 1.3\0",
            "Raspberry Pi 3 Model B Plus Rev 1.3",
            "raspberry-pi-3-model-b-plus-rev-1-3",
        ),
        # A virtual machine's device tree names no hardware.
        (arm_core("0xd0c"), b"linux,dummy-virt\0", "Neoverse-N1", "neoverse-n1"),
        (POWER9, b"8335-GTX\0", "POWER9", "power9"),
        (
            RISC_V,
            b"StarFive VisionFive 2 v1.3B\0",
            "StarFive VisionFive 2 v1.3B",
            "starfive-visionfive-2-v1-3b",
        ),
        (RISC_V, None, "sifive,u74-mc", "sifive-u74-mc"),
        (IBM_Z, None, "IBM/S390 8561", "ibm-s390-8561"),
    ],
)
def test_names(tmp_path: Path, cpuinfo: str, board: bytes | None, name: str, device: str) -> None:
    root = machine(tmp_path, cpuinfo, board)
    assert cpu_name(root) == name
    assert machine_facts(root)["cpu"] == name
    assert check_device_name(suggest_device_name(name)) == device


def test_the_device_tree_may_be_in_sys(tmp_path: Path) -> None:
    root = machine(tmp_path, arm_core("0xd0b"))
    model = root / "sys/firmware/devicetree/base/model"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"Radxa ROCK 5B\0")
    assert cpu_name(root) == "Radxa ROCK 5B"


def test_two_raspberry_pis_are_different_hardware(tmp_path: Path) -> None:
    boards = (b"Raspberry Pi 4 Model B Rev 1.4\0", b"Raspberry Pi 5 Model B Rev 1.0\0")
    four, five = (
        machine_facts(machine(tmp_path / str(i), RASPBERRY_PI_4, board))
        for i, board in enumerate(boards)
    )
    assert any(line.startswith("cpu: ") for line in hardware_differences(four, five))
    assert any(line.startswith("cpu: ") for line in contradictions(four, five))


def test_virtual_machines_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    """Clouds give Broadwell, Skylake and Cascade Lake one name."""
    skylake = machine_facts(machine(tmp_path / "a", XEON))
    broadwell = machine_facts(machine(tmp_path / "b", XEON.replace(": 85", ": 79")))
    assert skylake["cpu"] == broadwell["cpu"]
    assert skylake["cpu_id"] == "GenuineIntel-6-85"
    assert hardware_differences(skylake, broadwell) == [
        "cpu_id: GenuineIntel-6-85 / GenuineIntel-6-79"
    ]
    # A card of a time without the fact contradicts nothing.
    del skylake["cpu_id"]
    assert hardware_differences(skylake, broadwell) == []


def test_the_id_has_every_kind_of_core(tmp_path: Path) -> None:
    cores = arm_core("0xd05") + arm_core("0xD0B", number=1) + arm_core("0xd05", number=2)
    assert cpu_id(machine(tmp_path, cores)) == "0x41-0xd05 0x41-0xd0b"
    assert cpu_id(machine(tmp_path / "p", POWER9)) is None


def test_odd_bytes_are_no_traceback(tmp_path: Path) -> None:
    odd = b"vendor_id\t: X\xff\xfe\nmodel name\t: Caf\xe9 9000\nflags\t: fpu hypervisor\nnonsense\n"
    root = machine(tmp_path, odd)
    assert "9000" in cpu_name(root)
    facts = machine_facts(root)
    assert facts["hypervisor"] == "yes"
    assert check_device_name(suggest_device_name(str(facts["cpu"])))


@pytest.mark.parametrize("cpuinfo", ["", "\n\n", "model name\t:\n", "processor\t: 0\n"])
def test_a_machine_that_tells_nothing_still_has_a_name(tmp_path: Path, cpuinfo: str) -> None:
    root = machine(tmp_path, cpuinfo)
    assert cpu_name(root)
    assert cpu_name(tmp_path / "nothing")
    assert cpu_id(root) is None
