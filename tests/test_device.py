"""Device names and fingerprints."""

from __future__ import annotations

import pytest

from latkit.device import (
    check_device_name,
    differences,
    hardware_differences,
    suggest_device_name,
)
from latkit.errors import InputError


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
