"""What is ExecuTorch's own: its pool of threads, and what XNNPACK does not run."""

from __future__ import annotations

import importlib.util
import operator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn

from latkit.backends.executorch import ExecutorchXnnpackBackend
from latkit.backends.executorch_lowering import left_to_portable_kernels
from latkit.backends.executorch_program import import_runtime, pool_threads
from latkit.backends.threads import working_threads
from latkit.core.cores import usable_cores
from latkit.core.errors import BackendError
from latkit.spaces import Setting
from latkit.spaces.darts.config import DartsConfig
from latkit.spaces.darts.zoo import ZOO
from latkit.spaces.setting import RunConfig

# Some milliseconds a run.
SETTING = Setting(
    DartsConfig(macro="cifar", cells=3, channels=48, resolution=32, classes=10),
    RunConfig(memory_format="nchw"),
)


@pytest.fixture
def usable() -> None:
    probe = ExecutorchXnnpackBackend.probe()
    if not probe.usable:
        pytest.skip(probe.reason)


@pytest.mark.parametrize("threads", [1, 2])
def test_as_many_threads_work_as_are_requested(usable: None, threads: int) -> None:
    if threads > usable_cores():
        pytest.skip("one core")
    before = pool_threads()
    with ExecutorchXnnpackBackend(threads) as backend:
        assert backend.fingerprint()["threads"] == threads
        with backend.compile(ZOO["darts_v2"], SETTING) as runner:
            assert working_threads(lambda: runner.run(20)) == threads
            assert runner.clock == ("cpu" if threads == 1 else "wall")
    assert pool_threads() == before


def test_a_pool_of_another_size_is_refused(usable: None, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = import_runtime()
    monkeypatch.setattr(runtime, "_threadpool_get_thread_count", lambda: 3)
    monkeypatch.setattr(runtime, "_unsafe_reset_threadpool", lambda threads: None)
    with pytest.raises(BackendError, match="runs on 3 of the 1 threads requested"):
        ExecutorchXnnpackBackend(1).__enter__()


def test_every_run_has_the_same_input(usable: None) -> None:
    """The program leaves its input as it is, which is set once."""
    with (
        ExecutorchXnnpackBackend() as backend,
        backend.compile(ZOO["darts_v2"], SETTING.replace(channels=8)) as runner,
    ):
        first = runner.logits()
        runner.run(3)
        assert np.array_equal(runner.logits(), first)


def test_nothing_is_written_to_standard_error(
    usable: None, capfd: pytest.CaptureFixture[str]
) -> None:
    with ExecutorchXnnpackBackend() as backend:
        backend.compile(ZOO["darts_v2"], SETTING.replace(channels=8)).close()
    assert capfd.readouterr() == ("", "")


def test_operators_that_no_delegate_has_are_counted_by_name() -> None:
    def executorch_call_delegate(x: Any) -> Any:
        return x

    graph = fx.Graph()
    x = graph.placeholder("x")
    delegated = graph.call_function(executorch_call_delegate, (x,))
    x = graph.call_function(operator.getitem, (delegated, 0))
    for _ in range(2):
        x = graph.call_function(torch.mean, (x,))
    graph.output(x)
    assert left_to_portable_kernels(SimpleNamespace(graph=graph)) == {"mean": 2}


def test_a_module_that_xnnpack_does_not_run_whole_is_refused(usable: None, no_trace: None) -> None:
    from latkit.backends.executorch_lowering import lowered

    if importlib.util.find_spec("torchao") is None:
        pytest.skip("what ExecuTorch lowers modules with is not installed")

    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)).relu()

    with pytest.raises(BackendError, match=r"all of net: 1 aten\.mean"):
        lowered(Mean(), (torch.ones(1, 3, 8, 8),), "net")
