"""What ncnn has of its own: its options, how its weights are read, and its threads."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from latkit.backends import ncnn_net
from latkit.backends.ncnn import NcnnCpuBackend
from latkit.backends.ncnn_net import NcnnRunner, load_net, parallel_width
from latkit.core.errors import BackendError
from latkit.spaces import Setting
from latkit.spaces.build import random_input, random_network
from latkit.spaces.darts.zoo import ZOO

ncnn = pytest.importorskip("ncnn", reason="ncnn is not installed")
HEAD = "7767517\n2 2\nInput a 0 1 x\n"
LINEAR = f"{HEAD}InnerProduct b 1 1 x y 0=2 1=1 2=6\n"


@pytest.fixture
def backend() -> Iterator[NcnnCpuBackend]:
    with NcnnCpuBackend() as opened:
        yield opened


def test_a_batch_is_refused(backend: NcnnCpuBackend, micro: Setting) -> None:
    with pytest.raises(BackendError, match="one image at a time"):
        backend.compile(ZOO["darts_v2"], micro.replace(batch=2, memory_format="nchw"))


def test_half_precision_is_off_and_kernels_are_ncnns(backend: NcnnCpuBackend) -> None:
    facts, default, chosen = backend.fingerprint(), ncnn.Option(), ncnn_net._new_net(1).opt
    assert default.use_fp16_arithmetic
    assert not any(getattr(chosen, n) for n in dir(chosen) if "fp16" in n or "bf16" in n)
    kernels = str(facts["ncnn_options"]).split(",")
    assert "winograd63_convolution" in kernels
    assert not any("16" in name for name in kernels)
    for name in dir(default):
        if name.startswith("use_") and "16" not in name:
            assert getattr(default, name) == getattr(chosen, name)


def test_what_ncnn_does_by_itself_is_no_fp32(
    backend: NcnnCpuBackend, micro: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Storage in fp16, on CPUs of 2013 and newer: which latkit's options rule out."""
    setting = micro.replace(memory_format="nchw")
    with torch.inference_mode():
        wanted = random_network(ZOO["darts_v2"], setting, 0)(random_input(setting, 0)).numpy()
    errors = []
    for halves in (ncnn_net._HALVES, ()):
        monkeypatch.setattr(ncnn_net, "_HALVES", halves)
        with backend.compile(ZOO["darts_v2"], setting) as runner:
            errors.append(np.abs(runner.logits() - wanted).max() / np.abs(wanted).max())
    if errors[0] == errors[1]:
        pytest.skip("ncnn has no half precision on this CPU")
    assert errors[0] < 1e-6 < 1e-5 < errors[1]


def test_weights_are_written_where_ncnn_has_them() -> None:
    """A product by hand: 2 x 3 numbers and two biases, read in this order after a word."""
    weight, bias = np.arange(6, dtype=np.float32), np.array([10, 20], dtype=np.float32)
    fills = [None, lambda memory: np.copyto(memory, weight), lambda memory: np.copyto(memory, bias)]
    net = load_net(LINEAR, fills, 1)
    with NcnnRunner(net, np.array([1, 2, 3], dtype=np.float32), "cpu") as runner:
        weight[:] = bias[:] = 0  # it has its own
        assert runner.logits().tolist() == [[8 + 10, 26 + 20]]


@pytest.mark.parametrize(
    ("layers", "weights", "what"),
    [
        ("7767517\n", 0, "layers"),
        (f"{HEAD}Unheard b 1 1 x y\n", 0, "layers"),
        (LINEAR, 0, "weights"),
        (LINEAR, 2, "weights"),
        (LINEAR, 4, "weights"),
    ],
)
def test_what_does_not_fit_is_an_error(
    layers: str, weights: int, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    fills = [None, *[lambda memory: memory.fill(1)] * 3][:weights]
    with pytest.raises(RuntimeError, match=f"does not take the network's {what}"):
        load_net(layers, fills, 1)


def test_a_weight_of_another_size_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    def fill(memory: object) -> None:
        np.copyto(memory, np.ones(5, dtype=np.float32))  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="broadcast"):
        load_net(LINEAR, [None, fill, fill], 1)


def test_an_interruption_passes_around_ncnn(capfd: pytest.CaptureFixture[str]) -> None:
    def interrupted(memory: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_net(LINEAR, [None, interrupted], 1)


def test_the_input_stays_what_it_was() -> None:
    """ncnn works in place where it may: not on what the next run reads."""
    net = load_net(f"{HEAD}ReLU b 1 1 x y\n", (), 1)
    with NcnnRunner(net, np.array([-1, 2], dtype=np.float32), "cpu") as runner:
        runner.run(3)
        assert runner.logits().tolist() == [[0, 2]]
        assert np.array(runner._image).tolist() == [-1, 2]


def test_threads_are_counted_and_nothing_is_left_behind() -> None:
    """Neither the cores of this thread nor OpenMP's choice are another after it."""
    before = ncnn.get_omp_dynamic()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    ncnn.set_omp_dynamic(1)
    with NcnnCpuBackend():
        assert not ncnn.get_omp_dynamic()
        assert parallel_width(1) in (1, None)
    assert ncnn.get_omp_dynamic()
    ncnn.set_omp_dynamic(before)
    assert cores is None or os.sched_getaffinity(0) == cores


def test_a_width_that_is_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latkit.backends.ncnn.parallel_width", lambda threads: 2)
    with pytest.raises(BackendError, match="runs on 2 of the 1 threads"), NcnnCpuBackend():
        pass
