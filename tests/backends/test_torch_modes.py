"""Autocast and compiling: what runs is what the target's name says."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

import latkit.backends.torch_cpu as backend_module
from latkit.backends import BACKENDS
from latkit.backends.torch_cuda import check_precision
from latkit.backends.torch_modes import (
    autocast,
    compile_whole,
    decide_compiler,
    decide_triton,
    find_compiler,
)
from latkit.core.errors import BackendError
from latkit.spaces import Setting
from latkit.spaces.darts.zoo import ZOO

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")


def _types(precision: str) -> set[torch.dtype]:
    """Of the convolutions' outputs, under a precision's autocast."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)).eval()
    seen: set[torch.dtype] = set()
    network[0].register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    with torch.inference_mode(), autocast("cpu", precision):
        network(torch.randn(1, 3, 4, 4))
    return seen


def test_autocast_computes_in_the_precision_asked_for() -> None:
    assert _types("fp32") == {torch.float32}
    assert _types("bf16") == {torch.bfloat16}
    with autocast("cpu", "bf16"):
        assert not torch.is_autocast_cache_enabled()


@pytest.mark.parametrize(
    ("precision", "capability", "runs"),
    [
        ("bf16", (8, 0), True),
        ("bf16", (7, 5), False),
        ("bf16", (6, 0), False),
        ("fp16", (6, 0), True),
        ("fp32", (3, 7), True),
    ],
)
def test_precisions_of_gpus(precision: str, capability: tuple[int, int], runs: bool) -> None:
    if runs:
        check_precision(precision, capability)
    else:
        with pytest.raises(BackendError, match=r"no bf16 arithmetic.*precision=fp16"):
            check_precision(precision, capability)


class TestCompiler:
    def test_is_needed(self) -> None:
        assert decide_compiler("g++", "2.9").usable
        probe = decide_compiler(None, "2.9")
        assert probe.status == "missing"
        assert "C++" in probe.reason

    def test_is_the_one_the_environment_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CXX", "env g++")
        assert find_compiler() == "env g++"
        monkeypatch.setenv("CXX", "no-such-compiler")
        assert find_compiler() is None
        assert not BACKENDS.get("torch-cpu-compile").probe().usable
        monkeypatch.setenv("PATH", os.devnull)
        monkeypatch.delenv("CXX")
        assert find_compiler() is None

    def test_on_a_gpu(self) -> None:
        assert decide_triton((7, 0), True) is None
        for capability, installed, reason in (((9, 0), False, "triton"), ((6, 0), True, "6.0")):
            probe = decide_triton(capability, installed)
            assert probe is not None
            assert reason in probe.reason
            assert probe.fix


@needs_compiler
class TestCompileWhole:
    def test_every_network_is_compiled_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """PyTorch stops after eight that share their code, and runs the rest eagerly."""
        import torch._inductor.compile_fx as inductor

        compiled: list[Any] = []

        def fake(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
            compiled.append(graph)
            return graph.forward

        monkeypatch.setattr(inductor, "compile_fx", fake)
        x = torch.randn(1, 3, 4, 4)
        for count in range(1, 13):
            network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU()).eval()
            run = compile_whole(network, x)
            assert len(compiled) == count
            with torch.inference_mode():
                assert torch.equal(run(x), network(x))
        assert len(compiled) == 12

    def test_what_runs_eagerly_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As where PyTorch gives up compiling and says no more than a warning."""
        monkeypatch.setattr(torch, "compile", lambda network, **options: network)
        with pytest.raises(BackendError, match="compiled the network 0 times"):
            compile_whole(torch.nn.ReLU(), torch.randn(3))

    def test_a_network_that_cannot_be_one_graph_is_one_line(
        self, micro: Setting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Branches(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x + 1 if x.sum() > 0 else x

        monkeypatch.setattr(backend_module, "random_network", lambda *arguments: Branches())
        with (
            BACKENDS.get("torch-cpu-compile")() as backend,
            pytest.raises(BackendError, match=r"cannot build a network .*control flow"),
        ):
            backend.compile(ZOO["darts_v2"], micro)


def test_bf16_on_the_cpu_is_another_target(micro: Setting) -> None:
    half = micro.replace(precision="bf16")
    assert half.slug != micro.slug
    with BACKENDS.get("torch-cpu")() as backend:
        with backend.compile(ZOO["darts_v2"], half) as runner:
            assert runner.run(2).clock_ms
        with pytest.raises(BackendError, match="cannot run networks in fp16"):
            backend.compile(ZOO["darts_v2"], micro.replace(precision="fp16"))
