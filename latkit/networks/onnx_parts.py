"""Networks as ONNX graphs put together of recorded parts: the same graphs, made for less.

Making the modules of a network and translating them takes three of its runs by ONNX Runtime. So
each kind of part is translated once, and where a network has it, its nodes are repeated under other
names and its weights drawn, without a module.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from latkit.networks.onnx_encoding import OnnxNode
from latkit.networks.onnx_model import ELEMENT_TYPES, OnnxGraph
from latkit.networks.pool import DrawnWeight
from latkit.networks.weights import RandomParts, pool_start

# The name of a part's input while it is recorded.
_INPUT = "x"


class OnnxParts(RandomParts):
    """Makes parts as :class:`RandomParts` does, most of which can only be added to an ONNX graph.

    Such a part is an instance of its class that has neither children nor parameters. A part that
    is one module, or that cannot be recorded, is made as ever: a norm that follows may be folded
    into a convolution, and a network may look at them.

    Args:
        seed: of the weights.
        precision: of the graph.
    """

    def __init__(self, seed: int, precision: str) -> None:
        super().__init__(seed, torch.contiguous_format)
        self._element_type = ELEMENT_TYPES[precision]

    def __call__(self, constructor: Callable[..., nn.Module], *arguments: object) -> nn.Module:
        record = _recorded(self._element_type, constructor, *arguments)
        if record is None:
            return super().__call__(constructor, *arguments)
        part = object.__new__(record.kind)
        starts = [self._place(count) for count in record.counts]
        add = partial(record.add_to, pool=self._pool.numpy(), starts=starts)
        part.__dict__ = {**record.attributes, "_parameters": {}, "_modules": {}, "to_onnx": add}
        return part


@dataclass(frozen=True)
class _Record:
    """What a part adds to a graph.

    Attributes:
        kind: class of the part.
        attributes: of the part's instance.
        counts: numbers in each of the weights that are drawn, in the order in which they are.
        nodes: in order.
        initializers: encoded, by name and in order; what those of weights are is open.
        weights: of initialisers' names, how they are drawn; a start says which of ``counts``.
        output: name of the part's output.
    """

    kind: type[nn.Module]
    attributes: dict[str, Any]
    counts: tuple[int, ...]
    nodes: tuple[OnnxNode, ...]
    initializers: dict[str, bytes]
    weights: dict[str, DrawnWeight]
    output: str

    def add_to(self, graph: OnnxGraph, x: str, *, pool: Any, starts: Sequence[int]) -> str:
        """Repeat the part in a graph; the name of its output.

        Args:
            graph: of the precision that the part was recorded in.
            x: name of its input.
            pool: of the seed.
            starts: where in it each of the drawn weights starts.
        """
        names = {_INPUT: x}
        for recorded, encoded in self.initializers.items():
            drawn = self.weights.get(recorded)
            if drawn is None:
                graph.shared(recorded, encoded)
                continue
            if drawn.start is not None:
                drawn = DrawnWeight(drawn.shape, starts[drawn.start], drawn.scale)
            names[recorded] = graph.array(drawn.draw(pool), drawn)
        for kind, inputs, output in self.nodes:
            names[output] = graph.node(kind, tuple([names.get(name, name) for name in inputs]))
        return names[self.output]


@functools.lru_cache(maxsize=1024)
def _recorded(
    element_type: int, constructor: Callable[..., nn.Module], *arguments: object
) -> _Record | None:
    """What a part adds to a graph; None if that is not to be, or cannot be, repeated."""
    part = RandomParts(0, torch.contiguous_format)(constructor, *arguments)
    if not part._modules:
        return None
    graph = OnnxGraph(element_type)
    try:
        output = graph.module(part, _INPUT)
    except Exception:  # it is for the network to translate it, in its own way
        return None
    drawn = [p for module in part.modules() for p in module._parameters.values() if p is not None]
    drawn = [p for p in drawn if pool_start(p) is not None]
    places = [pool_start(p) for p in drawn]
    weights = {
        name: weight if weight.start is None else replace(weight, start=places.index(weight.start))
        for name, weight in graph.drawn.items()
    }
    if graph.weights.keys() != weights.keys() or len(set(places)) < len(places):
        return None
    attributes = {name: value for name, value in part.__dict__.items() if name != "_modules"}
    return _Record(
        type(part),
        attributes,
        tuple(p.numel() for p in drawn),
        tuple(graph.nodes),
        graph.initializers,
        weights,
        output,
    )
