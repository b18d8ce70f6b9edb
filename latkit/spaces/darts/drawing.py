"""A genotype's cells, as text and as graphs."""

from __future__ import annotations

from collections.abc import Mapping

from latkit.spaces.darts.genotype import Connections, Genotype
from latkit.spaces.graph import Graph, Link

INPUTS = ("c(k-2)", "c(k-1)")


def draw_genotype(genotype: Genotype) -> str:
    """Both cells, node by node with the operations and inputs that make it."""
    normal = _draw_cell(genotype.normal, genotype.normal_concat)
    reduce = _draw_cell(genotype.reduce, genotype.reduce_concat)
    return f"normal cell\n{normal}\n\nreduction cell\n{reduce}"


def _draw_cell(cell: Connections, concat: tuple[int, ...]) -> str:
    width = max(len(operation) for operation, _ in cell)
    lines = []
    for index, (operation, source) in enumerate(cell):
        head = f"  node {index // 2 + 2} ◀─┬─" if index % 2 == 0 else "           └─"
        origin = INPUTS[source] if source < len(INPUTS) else f"node {source}"
        lines.append(f"{head} {operation} {'─' * (width - len(operation) + 2)} {origin}")
    nodes = ", ".join(map(str, concat))
    return "\n".join([*lines, f"  output ◀─── concatenated: nodes {nodes}"])


def cell_graph(
    title: str, cell: Connections, concat: tuple[int, ...], edges: Mapping[tuple[int, int], int]
) -> Graph:
    """A cell as a graph, whose last node is the output.

    Args:
        title: of the cell.
        cell: its connections, two a node.
        concat: the nodes that the output is made of.
        edges: index of the space's edge from one node to another; none of a cell that the space
            does not choose.
    """
    output = len(cell) // 2 + 2
    links = [
        Link(source, index // 2 + 2, operation, edges.get((source, index // 2 + 2)))
        for index, (operation, source) in enumerate(cell)
    ]
    links += [Link(node, output, None) for node in sorted(concat)]
    nodes = (*INPUTS, *map(str, range(2, output)), "output")
    return Graph(title, nodes, tuple(links))
