"""A genotype's cells as text."""

from __future__ import annotations

from latkit.spaces.darts.genotype import Connections, Genotype

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
