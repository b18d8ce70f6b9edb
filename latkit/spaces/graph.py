"""An architecture as a graph to be drawn: nodes, and what connects them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy.typing as npt

from latkit.core.errors import InputError
from latkit.spaces.analytic import ABSENT

if TYPE_CHECKING:
    from latkit.spaces.base import SearchSpace


@dataclass(frozen=True)
class Link:
    """What leads from one node to another.

    Attributes:
        source, target: the nodes, by their place in :attr:`Graph.nodes`.
        operation: what is on the way; None: the output is made of its source as it is.
        edge: index of the space's edge that it is, by which an LPM knows it; None: of none.
    """

    source: int
    target: int
    operation: str | None
    edge: int | None = None


@dataclass(frozen=True)
class Graph:
    """A directed graph without cycles.

    Attributes:
        title: what it is of, e.g. ``normal cell``.
        nodes: their labels; links go from earlier to later ones.
        links: in the order of their targets.
    """

    title: str
    nodes: tuple[str, ...]
    links: tuple[Link, ...]

    @property
    def operations(self) -> tuple[str, ...]:
        """The different operations, in order of appearance."""
        return tuple(dict.fromkeys(link.operation for link in self.links if link.operation))

    @property
    def is_chain(self) -> bool:
        """Whether each node is linked with the next one and no other."""
        return [(link.source, link.target) for link in self.links] == [
            (node, node + 1) for node in range(len(self.nodes) - 1)
        ]


@runtime_checkable
class Drawable(Protocol):
    """What a space has whose architectures can be drawn."""

    def graphs(self, cell: Any) -> tuple[Graph, ...]:
        """An architecture as graphs, of DARTS one a cell.

        Args:
            cell: an architecture of the space, or a row of a choice matrix.
        """


def graphs_of(space: SearchSpace, cell: Any) -> tuple[Graph, ...]:
    """An architecture as graphs; see :meth:`Drawable.graphs`.

    Raises:
        InputError: architectures of the space cannot be drawn.
    """
    if isinstance(space, Drawable):
        return space.graphs(cell)
    raise InputError(
        f"architectures of the space {space.name} cannot be drawn",
        "give its class a method graphs (latkit.spaces.graph.row_graph makes one of a row)",
    )


def row_graph(space: SearchSpace, row: npt.ArrayLike, title: str, nodes: Sequence[str]) -> Graph:
    """The graph of one row of a choice matrix, whose nodes are those of the space's edges.

    Raises:
        SpaceError: the row is not of the space.
    """
    choices = space.validate(row)[0].tolist()
    links = tuple(
        Link(edge.source, edge.target, space.operations[choice], index)
        for index, (edge, choice) in enumerate(zip(space.edges, choices, strict=True))
        if choice != ABSENT
    )
    return Graph(title, tuple(nodes), links)
