"""What is decided by TensorRT's version, against the recorded API of each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from latkit.backends.tensorrt_api import (
    REQUIRED,
    check_tensors,
    decide_tensorrt,
    explain,
    explain_import,
    missing_names,
    network_flags,
    precision_flags,
    strongly_typed,
    timing_cache_name,
)
from latkit.core.errors import BackendError
from tests.backends.tensorrt.simulated import VERSIONS, load_api, simulate_tensorrt
from tests.backends.tensorrt.simulated_cuda import Cuda

T4 = ("Tesla T4", (7, 5))


def make(version: str) -> Any:
    return simulate_tensorrt(version, Cuda())


@pytest.mark.parametrize("version", VERSIONS)
class TestEveryRelease:
    def test_has_all_that_latkit_uses(self, version: str) -> None:
        api = load_api(version)
        for cls, names in REQUIRED.items():
            assert set(names) <= set(api[cls]), (version, cls)

    def test_is_found_to_lack_nothing(self, version: str) -> None:
        assert missing_names(make(version)) == []
        assert decide_tensorrt(version, [], *T4).usable

    def test_types_networks_by_its_own_rules(self, version: str) -> None:
        tensorrt = make(version)
        strong = not version.startswith("8.")
        flag = tensorrt.NetworkDefinitionCreationFlag
        wanted = flag.STRONGLY_TYPED if strong else flag.EXPLICIT_BATCH
        assert strongly_typed(tensorrt) == strong
        assert network_flags(tensorrt) == 1 << int(wanted)
        assert precision_flags(tensorrt, "fp32") == []
        fp16 = [] if strong else [tensorrt.BuilderFlag.FP16]
        assert precision_flags(tensorrt, "fp16") == fp16


@pytest.mark.parametrize("cls", [cls for cls in REQUIRED if REQUIRED[cls]])
def test_a_release_to_come_that_lacks_a_name_is_refused(cls: str) -> None:
    for name in REQUIRED[cls]:
        tensorrt = make("11.4.0.106")
        delattr(getattr(tensorrt, cls), name)
        whole = f"{cls}.{name}"
        assert missing_names(tensorrt) == [whole]
    probe = decide_tensorrt("12.0.0.1", [whole], *T4)
    assert probe.status == "unusable"
    assert whole in probe.reason
    assert missing_names(SimpleNamespace())[0] == "Builder"


@pytest.mark.parametrize(
    ("version", "capability", "usable", "fix"),
    [
        ("8.6.1", (6, 0), True, ""),
        ("8.6.1", (3, 7), False, "8.6.1"),
        ("10.0.1", (6, 0), False, "tensorrt==8.6.1"),
        ("10.0.1", (7, 0), True, ""),
        ("10.4.0", (7, 0), True, ""),
        ("10.5.0", (7, 0), False, "tensorrt<10.5"),
        ("10.16.1.11", (7, 5), True, ""),
        ("11.4.0.106", (7, 0), False, "tensorrt<10.5"),
        ("11.4.0.106", (12, 0), True, ""),
        ("8.5.3", (7, 5), False, "tensorrt>=8.6"),
        ("9.3.0", (8, 0), False, "tensorrt>=10"),
        ("10.16.0b1", (8, 0), True, ""),
    ],
)
def test_versions_and_gpus(
    version: str, capability: tuple[int, int], usable: bool, fix: str
) -> None:
    probe = decide_tensorrt(version, [], "a GPU", capability)
    assert probe.usable == usable
    assert fix in probe.fix


def test_a_timing_cache_is_for_one_device_version_and_precision() -> None:
    gpu: dict[str, Any] = {"gpu": "Tesla T4", "cuda_driver": 12040}
    names = {
        timing_cache_name("10.0.1", gpu, {"precision": "fp32"}),
        timing_cache_name("10.0.1", gpu, {"precision": "fp16"}),
        timing_cache_name("10.0.2", gpu, {"precision": "fp32"}),
        timing_cache_name("10.0.1", {**gpu, "gpu": "NVIDIA L4"}, {"precision": "fp32"}),
        timing_cache_name("10.0.1", {**gpu, "cuda_driver": 12050}, {"precision": "fp32"}),
    }
    assert len(names) == 5
    turned = {"cuda_driver": 12040, "gpu": "Tesla T4", "gpu_power_limit_w": 50}
    assert timing_cache_name("10.0.1", turned, {"precision": "fp32"}) in names


class TestTensors:
    def test_of_an_engine_of_latkits(self) -> None:
        check_tensors(
            {"logits": "OUTPUT", "images": "INPUT"}, {"images": "FLOAT", "logits": "FLOAT"}
        )

    @pytest.mark.parametrize(
        ("modes", "types"),
        [
            ({"images": "INPUT"}, {"images": "FLOAT"}),
            ({"images": "INPUT", "logits": "INPUT"}, {"images": "FLOAT", "logits": "FLOAT"}),
            ({"images": "INPUT", "logits": "OUTPUT"}, {"images": "FLOAT", "logits": "HALF"}),
            ({"x": "INPUT", "logits": "OUTPUT"}, {"x": "FLOAT", "logits": "FLOAT"}),
            ({}, {}),
        ],
    )
    def test_of_another(self, modes: dict[str, str], types: dict[str, str]) -> None:
        with pytest.raises(BackendError, match="not images and logits in fp32"):
            check_tensors(modes, types)


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ("Cuda Runtime (out of memory)", "batch=1"),
        ("Target GPU SM 60 is not supported by this TensorRT release.", "tensorrt==8.6.1"),
        ("CUDA initialization failure with error: 35", "driver"),
        ("IRuntime::deserializeCudaEngine: Serialization assertion magicTagRead", "build the"),
        ("Could not find any implementation for node {x}.", "MiB of workspace"),
        ("never heard of", "latkit doctor"),
    ],
)
def test_explanations(message: str, fix: str) -> None:
    error = explain("TensorRT cannot do it", ["\n".join(message.split(" ", 1)), "more of it"])
    assert message in error.cause
    assert "\n" not in str(error)
    assert fix in error.fix


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        ("libcuda.so.1: cannot open shared object file", "nvidia-smi"),
        ("libcudart.so.12: cannot open shared object file", "for your CUDA"),
        ("libcudnn.so.8: cannot open shared object file", "nvidia-cudnn-cu12==8.9"),
    ],
)
def test_packages_that_do_not_import(reason: str, fix: str) -> None:
    assert fix in explain_import(reason)


def test_nothing_logged_is_said() -> None:
    assert "gives no reason" in explain("TensorRT cannot do it", []).cause
