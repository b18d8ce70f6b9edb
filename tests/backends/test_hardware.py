"""The table of hardware support, and that probes and extras agree with it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from latkit.backends import BACKENDS
from latkit.backends.hardware import (
    BACKEND_SUPPORT,
    GPU_GENERATIONS,
    Capability,
    GpuGeneration,
    gpu_generation,
    least_tensorrt_capability,
)
from latkit.backends.onnxruntime_gpu import decide_gpu
from latkit.backends.tensorrt_api import decide_tensorrt
from latkit.backends.torch_cuda import decide_support

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_a_p100_needs_torch_up_to_2_14_for_cuda_12_6() -> None:
    generation = gpu_generation((6, 0))
    assert (generation.torch, generation.cuda) == ((2, 14), (12, 6))
    assert generation.onnxruntime == (1, 26)
    for wanted in ("torch <= 2.14", "cu126", "onnxruntime-gpu<=1.26", "TensorRT 8.6.1"):
        assert wanted in generation.advice
    assert "torch <= 2.14" in decide_support("Tesla P100", (6, 0), ["sm_75"], "2.15").fix


@pytest.mark.parametrize(
    ("capability", "name"),
    [
        ((9, 0), "Ampere and newer"),
        ((8, 0), "Ampere and newer"),
        ((7, 5), "Turing"),
        ((7, 2), "Volta"),
        ((6, 1), "Pascal"),
        ((5, 2), "Maxwell"),
        ((3, 7), "Maxwell"),
    ],
)
def test_generations(capability: Capability, name: str) -> None:
    assert gpu_generation(capability).name == name
    assert bool(gpu_generation(capability).advice) == (capability < (7, 5))


def test_generations_descend_and_ask_for_no_newer_release_than_the_next() -> None:
    capabilities = [generation.capability for generation in GPU_GENERATIONS]
    assert capabilities == sorted(set(capabilities), reverse=True)
    newest = (9999, 0)
    for newer, older in itertools.pairwise(GPU_GENERATIONS):
        for field in ("torch", "onnxruntime", "tensorrt"):
            assert (getattr(older, field) or newest) <= (getattr(newer, field) or newest)


@pytest.mark.parametrize("generation", GPU_GENERATIONS, ids=lambda generation: generation.name)
def test_probes_take_the_last_releases_and_refuse_the_next(generation: GpuGeneration) -> None:
    capability = generation.capability
    if generation.onnxruntime is not None:
        major, minor = generation.onnxruntime
        assert decide_gpu(capability, f"{major}.{minor}.0", tensorrt=False) is None
        assert decide_gpu(capability, f"{major}.{minor + 1}.0", tensorrt=False) is not None
    if generation.tensorrt is not None:
        major, minor = generation.tensorrt
        assert decide_tensorrt(f"{major}.{minor}.1", [], "a GPU", capability).usable
        assert not decide_tensorrt(f"{major}.{minor + 1}.0", [], "a GPU", capability).usable
    assert decide_tensorrt("11.4.0", [], "a GPU", capability).usable == (
        generation.tensorrt is None
    )


def test_tensorrt_releases() -> None:
    releases = ((8, 6), (10, 0), (10, 4), (10, 5), (11, 4))
    least = [least_tensorrt_capability(release) for release in releases]
    assert least == [(5, 0), (7, 0), (7, 0), (7, 5), (7, 5)]


def test_every_backend_of_latkit_is_in_the_table_with_an_extra_that_exists() -> None:
    own = [name for name in BACKENDS.names() if BACKENDS.is_own(name)]
    assert list(BACKEND_SUPPORT) == own
    extras = {support.extra for support in BACKEND_SUPPORT.values() if support.extra}
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    assert extras <= set(project["optional-dependencies"])
