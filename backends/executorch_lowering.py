"""A module as a program of ExecuTorch, by ExecuTorch's own export and lowering."""

from __future__ import annotations

import contextlib
import copy
import importlib
import logging
import operator
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from latkit.backends.hardware import BACKEND_SUPPORT
from latkit.core.errors import BackendError

# So many kinds of operators are named in a message.
_NAMED = 5


def lowered(module: nn.Module, inputs: tuple[torch.Tensor, ...], name: str) -> bytes:
    """The program of a module for inputs of these shapes; XNNPACK runs all of it.

    Args:
        module: in eval mode; a copy of its weights is taken.
        inputs: of it.
        name: of the module, for messages.

    Raises:
        BackendError: what lowers is not installed, PyTorch cannot export the module, or XNNPACK
            leaves operators to ExecuTorch's portable kernels.
    """
    with warnings.catch_warnings(), _no_log():
        warnings.simplefilter("ignore")
        lower, partitioner = _import()
        try:
            program = torch.export.export(_contiguous(module), inputs)
            edge = lower(program, partitioner=[partitioner()])
        except Exception as error:  # both run the module's own code, and fail in many ways
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise BackendError(
                f"ExecuTorch cannot lower {name} ({reason})", "use --backend torch-cpu"
            ) from None
        left = left_to_portable_kernels(edge.exported_program().graph_module)
        if left:
            named = left.most_common(_NAMED)
            others = sum(left.values()) - sum(count for _, count in named)
            counts = ", ".join(f"{count} {kind}" for kind, count in named)
            counts += f" and {others} others" if others else ""
            raise BackendError(
                f"XNNPACK does not run all of {name}: {counts} are left to ExecuTorch's portable "
                "kernels, which are slow",
                "write them as XNNPACK takes them (a mean over pixels with keepdim=True), or use "
                "another --backend",
            )
        return bytes(edge.to_executorch().buffer)


def left_to_portable_kernels(graph: Any) -> Counter[str]:
    """Operators of a lowered graph that no delegate has, by name."""
    left: Counter[str] = Counter()
    for node in graph.graph.nodes:
        if node.op != "call_function" or node.target is operator.getitem:
            continue
        if "executorch_call_delegate" not in str(node.target):
            left[str(getattr(node.target, "__name__", node.target))] += 1
    return left


def _contiguous(module: nn.Module) -> nn.Module:
    """The module, if need be with weights that lie as ExecuTorch's layout pass wants them."""
    if all(p.is_contiguous() for p in module.parameters()):
        return module
    return copy.deepcopy(module).to(memory_format=torch.contiguous_format)


@contextlib.contextmanager
def _no_log() -> Iterator[None]:
    """Keep what PyTorch logs of ExecuTorch's packages from standard error."""
    log = logging.getLogger("torch")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _import() -> tuple[Any, Any]:
    try:
        exir = importlib.import_module("executorch.exir")
        partition = importlib.import_module(
            "executorch.backends.xnnpack.partition.xnnpack_partitioner"
        )
    except ImportError as error:
        raise BackendError(
            f"what ExecuTorch lowers modules with is not installed ({error})",
            BACKEND_SUPPORT["executorch-xnnpack"].install,
        ) from None
    return exir.to_edge_transform_and_lower, partition.XnnpackPartitioner
