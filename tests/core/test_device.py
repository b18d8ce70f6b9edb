"""Device names and fingerprints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from latkit.core.device import (
    check_device_name,
    contradictions,
    differences,
    hardware_differences,
    machine_facts,
    pinned_to,
    suggest_device_name,
)
from latkit.core.errors import InputError


@pytest.mark.parametrize(
    ("hardware", "name"),
    [
        ("Tesla P100-PCIE-16GB", "p100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("NVIDIA GeForce RTX 3090", "rtx-3090"),
        ("NVIDIA GeForce RTX 4060 Laptop GPU", "rtx-4060-laptop"),
        ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", "xeon-platinum-8259cl"),
        ("AMD EPYC 7763 64-Core Processor", "epyc-7763"),
        ("AMD", "amd"),
        ("", "unknown"),
        ("☃", "unknown"),
    ],
)
def test_suggestions(hardware: str, name: str) -> None:
    assert suggest_device_name(hardware) == name
    assert check_device_name(name) == name


@pytest.mark.parametrize(
    "bad", ["", "P100", "../x", "a/b", "a..b", "a.", "-a", "a b", "ä", "a" * 65, "a\n", "a@1"]
)
def test_names_that_cannot_stand_in_a_path_are_refused(bad: str) -> None:
    with pytest.raises(InputError, match="cannot be a device name"):
        check_device_name(bad)


def test_differences() -> None:
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == ["b: 2 / 3", "c: None / 4"]
    ours = {"cpu": "x", "torch": "1"}
    assert hardware_differences(ours, {"cpu": "x", "torch": "2"}) == []
    assert hardware_differences(ours, {"cpu": "y", "torch": "1"}) == ["cpu: x / y"]


def test_contradictions_are_among_known_facts() -> None:
    ours = {"a": 1, "b": 2, "c": None, "d": 5}
    theirs = {"a": 1, "b": 3, "c": 4, "e": 6}
    assert contradictions(ours, theirs) == ["b: 2 / 3"]


class TestMachineFacts:
    def write(self, root: Path, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def test_of_a_machine_that_tells_all(self, tmp_path: Path) -> None:
        self.write(
            tmp_path,
            {
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "3500000\n",
                "sys/devices/system/cpu/intel_pstate/no_turbo": "1\n",
                "sys/devices/system/cpu/smt/active": "1\n",
                "sys/fs/cgroup/cpu.max": "150000 100000\n",
                "proc/meminfo": "MemTotal:       32869456 kB\nMemFree: 1 kB\n",
                "proc/cpuinfo": "flags : fpu vme hypervisor sse\n",
                "sys/class/dmi/id/sys_vendor": "QEMU\n",
            },
        )
        facts = machine_facts(tmp_path)
        expected = {
            "governor": "performance", "clock_max_mhz": 3500, "boost": False, "cpu_quota": 1.5,
            "simultaneous_multithreading": True, "memory_gb": 31, "hypervisor": "QEMU",
        }  # fmt: skip
        assert {name: facts[name] for name in expected} == expected

    def test_of_a_machine_that_tells_nothing(self, tmp_path: Path) -> None:
        self.write(tmp_path, {"sys/fs/cgroup/cpu.max": "max 100000\n"})
        facts = machine_facts(tmp_path)
        for name in ("governor", "clock_max_mhz", "boost", "cpu_quota", "memory_gb", "hypervisor"):
            assert facts[name] is None
        assert facts["cpu"]
        assert facts["cores"]

    def test_odd_content_is_no_fact(self, tmp_path: Path) -> None:
        cpufreq = "sys/devices/system/cpu/cpu0/cpufreq"
        self.write(tmp_path, {f"{cpufreq}/scaling_max_freq": "<unknown>", "proc/meminfo": "x"})
        (tmp_path / cpufreq / "scaling_governor").write_bytes(b"\xff\xfe")
        facts = machine_facts(tmp_path)
        assert facts["clock_max_mhz"] is facts["memory_gb"] is facts["governor"] is None


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
class TestPinning:
    def test_to_one_core_and_back(self) -> None:
        before = os.sched_getaffinity(0)
        core = min(before)
        with pinned_to([core]):
            assert os.sched_getaffinity(0) == {core}
            assert machine_facts(Path("/"))["affinity"] == str(core)
        assert os.sched_getaffinity(0) == before

    def test_to_a_core_that_is_not_there(self) -> None:
        before = os.sched_getaffinity(0)
        with (
            pytest.raises(InputError, match=r"may not use core 9999.*Fix: choose from"),
            pinned_to([min(before), 9999]),
        ):
            pass
        assert os.sched_getaffinity(0) == before

    def test_to_none_changes_nothing(self) -> None:
        before = os.sched_getaffinity(0)
        with pinned_to([]):
            assert os.sched_getaffinity(0) == before
