"""The ONNX form of modules that do not translate themselves, by tracing what they compute."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from latkit.core.errors import InputError

if TYPE_CHECKING:
    from latkit.networks.onnx_model import OnnxGraph


def traced(graph: OnnxGraph, module: nn.Module, x: str) -> str:
    """Add what a module computes of one input to a graph; its output's name.

    Sums, concatenations of channels, means over pixels, flattening and ReLU may stand between its
    submodules.

    Raises:
        InputError: it does something else, or cannot be traced.
    """
    try:
        # Submodules are looked into only where they have no form of their own.
        program = _Tracer().trace(module)
    except Exception as error:  # tracing runs the module's own code on stand-ins
        raise _untraceable(module, str(error)) from None
    names: dict[fx.Node, Any] = {}
    for node in program.nodes:
        arguments = fx.node.map_arg(node.args, names.__getitem__)
        if node.op == "placeholder":
            if names:
                raise _untraceable(module, "it has more than one input")
            names[node] = x
        elif node.op == "call_module":
            names[node] = graph.module(module.get_submodule(node.target), *arguments)
        elif node.op == "output":
            return str(arguments[0])
        else:
            rule = _RULES.get(node.target)
            values = {**fx.node.map_arg(node.kwargs, names.__getitem__)}
            found = None if rule is None else rule(graph, *arguments, **values)
            if found is None:
                raise _untraceable(module, f"it uses {node.format_node()}")
            names[node] = found
    raise _untraceable(module, "it has no output")


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        from latkit.networks.onnx_model import is_brick

        return hasattr(m, "to_onnx") or is_brick(m)


def _untraceable(module: nn.Module, reason: str) -> InputError:
    return InputError(
        f"latkit has no ONNX form of {type(module).__name__}: {' '.join(reason.split())[:200]}",
        "give the module a method to_onnx(graph, x)",
    )


# Each rule returns the output's name, or None where it does not cover the arguments.


def _add(graph: OnnxGraph, a: Any, b: Any) -> str | None:
    return graph.add("Add", a, b) if isinstance(a, str) and isinstance(b, str) else None


def _concat(graph: OnnxGraph, tensors: list[str], dim: int = 0) -> str | None:
    return graph.add("Concat", *tensors, axis=1) if dim == 1 else None


def _mean(graph: OnnxGraph, x: str, dim: Any = None, keepdim: bool = False) -> str | None:
    if dim is None or sorted(d % 4 for d in dim) != [2, 3]:
        return None
    return graph.add("GlobalAveragePool", x) if keepdim else graph.pooled(x)


def _flatten(graph: OnnxGraph, x: str, start_dim: int = 0, end_dim: int = -1) -> str | None:
    return graph.add("Flatten", x, axis=1) if (start_dim, end_dim) == (1, -1) else None


def _relu(graph: OnnxGraph, x: str, inplace: bool = False) -> str | None:
    return graph.add("Relu", x)


_RULES: dict[Any, Callable[..., str | None]] = {
    operator.add: _add, operator.iadd: _add, torch.add: _add, "add": _add,
    torch.cat: _concat, torch.concat: _concat,
    torch.mean: _mean, "mean": _mean,
    torch.flatten: _flatten, "flatten": _flatten,
    torch.relu: _relu, "relu": _relu, nn.functional.relu: _relu,
}  # fmt: skip
