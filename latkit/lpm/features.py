"""Structural features of architectures: what the latency of almost any engine is nearly linear in.

All are functions of the encoding, differentiable, and exact on architectures; between them they
are the natural continuation (the multilinear one, where reachability is concerned).

Engines differ in what they execute: most run every operation, some prune what cannot reach the
output. So the features come in *views*: ``all`` operations, those ``reaching`` an output, and the
``live`` ones, which an input reaches as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from latkit.spaces import Edge, SearchSpace, Setting
from latkit.spaces.registry import analytic_table

# Architectures that the features are centred and scaled by: the first of the list of this seed.
REFERENCE_SIZE = 4096
REFERENCE_SEED = 2**32 + 1
# Of the highest-cost operation: how near two paths must be to count as equally long.
PATH_SOFTNESS = 0.02
_NO_PATH = 1e4

# Quantities of the analytic table that latency can follow; parameters are in the bytes.
_ANALYTIC_COLUMNS = slice(0, 4)


class StructuralFeatures:
    """Features of a space's architectures in a setting; see :meth:`of`.

    Args:
        space: the space.
        table: the analytic table, ``E x O x 4``.
        center, scale: of each group, what is taken from its columns, and their factors.
        views: those that differ in this space, ``all`` first.

    Attributes:
        groups: by group's name, its columns; the same in every view.
        size: number of columns p.
    """

    def __init__(
        self,
        space: SearchSpace,
        table: Tensor,
        center: dict[str, Tensor],
        scale: dict[str, Tensor],
        views: tuple[str, ...],
    ) -> None:
        self.space, self.views = space, views
        self._table, self._center, self._scale = table, center, scale
        # Where every edge has the same table, an operation's costs are its count times one number.
        self._table_varies = bool((table != table[:1]).any())
        self._kept = [i for i, name in enumerate(space.operations) if name != "none"]
        self.groups: dict[str, slice] = {}
        start = 0
        for name, values in center.items():
            self.groups[name] = slice(start, start + len(values))
            start += len(values)
        self.size = start

    @classmethod
    def of(cls, space: SearchSpace, setting: Setting) -> StructuralFeatures:
        """The features of a space, centred and scaled by its first architectures."""
        table = analytic_table(space.name, setting.network).operations[:, :, _ANALYTIC_COLUMNS]
        bare = cls(space, torch.from_numpy(np.ascontiguousarray(table)), {}, {}, ("all",))
        ids = space.sample(min(REFERENCE_SIZE, space.size), REFERENCE_SEED)
        reference = torch.from_numpy(space.encode(space.unrank(ids))).double()
        center: dict[str, Tensor] = {}
        scale: dict[str, Tensor] = {}
        for name, columns in bare._raw(bare._bits(reference, "all")):
            spread, mean = columns.std(0, correction=0), columns.mean(0)
            moving = spread > 1e-9 * (1 + mean.abs())
            if not moving.any():
                continue
            # A group's columns together vary by about one; the analytic ones have mean one instead.
            share = moving & (name == "roofline")
            size = torch.where(share, mean, spread * moving.sum().sqrt())
            center[name] = torch.where(share, torch.zeros_like(mean), mean)
            scale[name] = torch.where(moving, 1 / size, torch.zeros_like(mean))
        return cls(space, bare._table, center, scale, bare._distinct_views(reference))

    def state(self) -> dict[str, Tensor]:
        """What :meth:`from_state` makes the same features of, by name."""
        groups = {f"center.{name}": values for name, values in self._center.items()}
        groups |= {f"scale.{name}": values for name, values in self._scale.items()}
        return {"table": self._table, **groups}

    @classmethod
    def from_state(
        cls, space: SearchSpace, views: Sequence[str], state: Mapping[str, Tensor]
    ) -> StructuralFeatures:
        """The inverse of :meth:`state`.

        Raises:
            KeyError, RuntimeError: the state does not fit.
        """
        center, scale = (
            {
                name.removeprefix(prefix): values.double()
                for name, values in state.items()
                if name.startswith(prefix)
            }
            for prefix in ("center.", "scale.")
        )
        # A file's tensors have no order; the groups' is that of their computation.
        made = cls(space, state["table"].double(), {}, {}, tuple(views))
        bits = torch.zeros(1, space.num_edges, space.num_operations, dtype=torch.float64)
        order = [name for name, _ in made._raw(bits) if name in center]
        return cls(
            space,
            made._table,
            {name: center[name] for name in order},
            {name: scale[name] for name in order},
            tuple(views),
        )

    def __call__(self, encodings: Tensor, view: str) -> Tensor:
        """Features of encodings: ``b x p`` from ``b x E*O``, of the encodings' type."""
        parts = [
            (columns - self._center[name].to(columns)) * self._scale[name].to(columns)
            for name, columns in self._raw(self._bits(encodings, view))
            if name in self.groups
        ]
        return torch.cat(parts, dim=1)

    def per_edge_costs(self, weights: Tensor) -> Tensor:
        """What each operation adds on each edge in a linear model: ``E x O`` from ``p`` weights.

        Terms of more than one operation are left out.
        """
        space = self.space
        single = torch.eye(space.encoding_size, dtype=weights.dtype)
        costs = torch.zeros(space.encoding_size, dtype=weights.dtype)
        for name, columns in self._raw(single.view(-1, space.num_edges, space.num_operations)):
            if name in _LINEAR and name in self.groups:
                costs += columns @ (weights[self.groups[name]] * self._scale[name].to(weights))
        return costs.view(space.num_edges, space.num_operations)

    def longest_path(self, encodings: Tensor, costs: Tensor, view: str) -> Tensor:
        """The highest-cost path from an input to an output: ``b`` values from ``E x O`` costs.

        Smooth: of paths that cost nearly the same, a little more than the highest cost.
        """
        bits = self._bits(encodings, view)
        edge_costs = (bits * costs).sum(2)
        there = bits[:, :, self._kept].sum(2)
        # An operation that is not there, or is none, is on no path.
        present = torch.where(there > 1e-6, torch.log(there.clamp_min(1e-6)), -_NO_PATH)
        softness = PATH_SOFTNESS * costs.max().clamp_min(1e-6)
        edges = self.space.edges
        arrival = {node: torch.zeros_like(edge_costs[:, 0]) for node in self.space.inputs}
        for node, members in sorted(_by_node([edge.target for edge in edges]).items()):
            paths = [
                arrival[edges[i].source] / softness + edge_costs[:, i] / softness + present[:, i]
                for i in members
                if edges[i].source in arrival
            ]
            arrival[node] = softness * torch.logsumexp(torch.stack(paths), dim=0).clamp_min(0)
        return torch.stack([arrival[node] for node in self.space.outputs]).amax(0)

    def reach(self, encodings: Tensor) -> tuple[Tensor, Tensor]:
        """Of each edge, whether an input reaches its source, and its target an output: ``b x E``.

        Degrees between 0 and 1 where the encodings are.
        """
        bits = encodings.view(-1, self.space.num_edges, self.space.num_operations)
        on = bits[:, :, self._kept].sum(2)
        return self._from_inputs(on), self._to_outputs(on)

    def _bits(self, encodings: Tensor, view: str) -> Tensor:
        """``b x E x O``, without the operations that the view leaves out."""
        bits = encodings.view(-1, self.space.num_edges, self.space.num_operations)
        if view == "all":
            return bits
        from_input, to_output = self.reach(encodings)
        mask = to_output if view == "reaching" else to_output * from_input
        return bits * mask[:, :, None]

    def _from_inputs(self, on: Tensor) -> Tensor:
        edges = self.space.edges
        missed = {node: torch.ones_like(on[:, 0]) for edge in edges for node in _ends(edge)}
        for node in self.space.inputs:
            missed[node] = torch.zeros_like(on[:, 0])
        # Edges by rising target: a node is complete before an edge leaves it.
        for index in sorted(range(len(edges)), key=lambda i: edges[i].target):
            source, target = _ends(edges[index])
            missed[target] = missed[target] * (1 - on[:, index] * (1 - missed[source]))
        return torch.stack([1 - missed[edge.source] for edge in edges], dim=1)

    def _to_outputs(self, on: Tensor) -> Tensor:
        edges = self.space.edges
        missed = {node: torch.ones_like(on[:, 0]) for edge in edges for node in _ends(edge)}
        for node in self.space.outputs:
            missed[node] = torch.zeros_like(on[:, 0])
        for index in sorted(range(len(edges)), key=lambda i: -edges[i].source):
            source, target = _ends(edges[index])
            missed[source] = missed[source] * (1 - on[:, index] * (1 - missed[target]))
        return torch.stack([1 - missed[edge.target] for edge in edges], dim=1)

    def _distinct_views(self, reference: Tensor) -> tuple[str, ...]:
        distinct: dict[str, Tensor] = {}
        for view in ("all", "reaching", "live"):
            bits = self._bits(reference, view)[:, :, self._kept]
            if not any(torch.equal(bits, other) for other in distinct.values()):
                distinct[view] = bits
        return tuple(distinct)

    def _raw(self, bits: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Group by group, its columns before centring: ``b x k`` from ``b x E x O``."""
        table = self._table.to(bits)
        yield "roofline", torch.einsum("beo,eoq->bq", bits, table)
        if self._table_varies:
            yield "operation roofline", torch.einsum("beo,eoq->boq", bits, table).flatten(1)
        kept = bits[:, :, self._kept]
        counts = kept.sum(1)
        yield "count", counts
        yield "edge", kept.flatten(1)
        k = counts.shape[1]
        rows, columns = torch.triu_indices(k, k)
        yield "polynomial", counts[:, rows] * counts[:, columns]
        edges = self.space.edges
        into = _by_node([edge.target for edge in edges])
        out_of = _by_node([edge.source for edge in edges])
        if any(len(members) > 1 for members in out_of.values()):
            # Per node, how many operations read it, and pairs of the same one on the same input.
            fans = torch.stack([kept[:, m].sum((1, 2)) for m in out_of.values()], dim=1)
            yield "fan-out", fans**2
            pairs = [pair for m in out_of.values() for pair in combinations(m, 2)]
            yield "same source", _pairs(kept, pairs)
            joined = [pair for m in into.values() for pair in combinations(m, 2)]
            yield "same target", _pairs(kept, joined)
        chains = [(i, j) for i, e in enumerate(edges) for j in out_of.get(e.target, ())]
        if chains:
            first, second = (torch.tensor(side) for side in zip(*chains, strict=True))
            yield "chain", torch.einsum("beo,bep->bop", kept[:, first], kept[:, second]).flatten(1)


# Groups that are sums over single operations.
_LINEAR = ("roofline", "operation roofline", "count", "edge")


def _pairs(kept: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    """How often the same operation stands on both edges of a pair, by operation: ``b x k``."""
    first, second = (torch.tensor(side) for side in zip(*pairs, strict=True))
    return (kept[:, first] * kept[:, second]).sum(1)


def _ends(edge: Edge) -> tuple[int, int]:
    return edge.source, edge.target


def _by_node(nodes: list[int]) -> dict[int, list[int]]:
    """Of each node, the edges that name it."""
    found: dict[int, list[int]] = {}
    for index, node in enumerate(nodes):
        found.setdefault(node, []).append(index)
    return found
