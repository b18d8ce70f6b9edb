"""Drawings of architectures: cells as layered graphs, chains as strips of blocks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from latkit.reports.figures.layout import place
from latkit.reports.figures.operations import operation_colour, short_name
from latkit.reports.figures.picture import Box, Label, Line, Picture, contrasting, text_width
from latkit.spaces.graph import Graph

# Of each edge of a space, the share of the predicted quantity that its operation takes.
Shares = Mapping[int, float]

COLUMN, ROW, MARGIN = 92.0, 44.0, 24.0
PILL_WIDTH, PILL_HEIGHT, NODE = 84.0, 26.0, 15.0
PLAIN_WIDTH, MIN_WIDTH, MAX_WIDTH = 2.5, 1.2, 14.0
# The share that the widest line has at least: small ones must not look large.
LEAST_FULL = 0.12
BLOCK, BLOCK_HEIGHT, TALLEST = 44.0, 84.0, 150.0


def architecture_picture(
    graphs: Sequence[Graph], title: str, shares: Shares | None = None, note: str = ""
) -> Picture:
    """Graphs beside each other below a title, and a legend of the operations below them.

    Args:
        graphs: of one architecture.
        title: what it is.
        shares: of each edge of the space that an LPM weighs; None: all are of one width.
        note: a line below the title, e.g. what the shares are of.
    """
    parts = [graph_picture(graph, shares) for graph in graphs]
    operations = list(dict.fromkeys(name for graph in graphs for name in graph.operations))
    legend = _legend(operations, max(sum(p.width for p in parts), 560.0))
    wide = max(sum(p.width for p in parts), legend.width, 1.15 * text_width(title, 18) + 2 * MARGIN,
               text_width(note) + 2 * MARGIN)  # fmt: skip
    head = 46.0 + (22.0 if note else 0.0)
    body = max(p.height for p in parts)
    picture = Picture(wide, head + body + legend.height)
    picture.add(Label(MARGIN, 26, title, size=18, anchor="start", bold=True))
    if note:
        picture.add(Label(MARGIN, 50, note, colour="muted", anchor="start"))
    x = (wide - sum(p.width for p in parts)) / 2
    for part in parts:
        picture.place(part, x, head)
        x += part.width
    picture.place(legend, 0, head + body)
    return picture


def graph_picture(graph: Graph, shares: Shares | None = None, titled: bool = True) -> Picture:
    """One graph, with its title or without."""
    known = shares if shares and any(link.edge in shares for link in graph.links) else None
    title = graph.title if titled else ""
    return (_strip if graph.is_chain else _cell)(graph, known, title)


def _cell(graph: Graph, shares: Shares | None, title: str) -> Picture:
    depth = [0] * len(graph.nodes)
    for link in sorted(graph.links, key=lambda link: link.target):
        depth[link.target] = max(depth[link.target], depth[link.source] + 1)
    layers: dict[Hashable, int] = {node: 2 * d for node, d in enumerate(depth)}
    sizes: dict[Hashable, float] = dict.fromkeys(layers, ROW)
    links: list[tuple[Hashable, Hashable]] = []
    for number, link in enumerate(graph.links):
        if link.operation is None:
            links.append((link.source, link.target))
            continue
        pill = ("operation", number)
        layers[pill], sizes[pill] = 2 * depth[link.target] - 1, ROW
        links += [(link.source, pill), (pill, link.target)]
    placed = place(layers, sizes, links, 0.6 * ROW)
    heights = [height for way in placed.ways for _, height in way]
    low, high = min(heights), max(heights)
    head = MARGIN + 30.0 if title else 6.0
    end = max(NODE, text_width(max(graph.nodes, key=len)) / 2)
    picture = Picture(
        (placed.layers - 1) * COLUMN + 2 * (MARGIN + end),
        high - low + ROW + MARGIN + head,
    )

    def point(layer: float, height: float) -> tuple[float, float]:
        return MARGIN + end + layer * COLUMN, height - low + ROW / 2 + head

    if title:
        picture.add(Label(picture.width / 2, 22, title, size=15, bold=True))
    ways = iter(placed.ways)
    for link in graph.links:
        if link.operation is None:
            way = [point(*at) for at in next(ways)]
            picture.add(Line(way, "muted", 1.2, smooth=True, dashed=True, opacity=0.8))
            continue
        share = None if shares is None or link.edge is None else shares.get(link.edge)
        width = _width(share, shares)
        colour, faint = operation_colour(link.operation), link.operation == "none"
        into, out = [point(*at) for at in next(ways)], [point(*at) for at in next(ways)]
        # To the pill's sides, which they meet level.
        into[-1] = (into[-1][0] - PILL_WIDTH / 2, into[-1][1])
        out[0] = (out[0][0] + PILL_WIDTH / 2, out[0][1])
        for way in (into, out):
            picture.add(Line(way, colour, width, smooth=True, dashed=faint, opacity=0.9))
    for number, link in enumerate(graph.links):
        if link.operation is not None:
            pill = ("operation", number)
            x, y = point(layers[pill], placed.heights[pill])
            share = None if shares is None or link.edge is None else shares.get(link.edge)
            _pill(picture, x, y, link.operation, share)
    for node, label in enumerate(graph.nodes):
        x, y = point(layers[node], placed.heights[node])
        half = max(NODE, text_width(label) / 2 + 7)
        picture.add(
            Box(x - half, y - NODE, 2 * half, 2 * NODE, "paper", NODE, outline="ink"),
            Label(x, y, label, bold=True),
        )
    return picture


def _pill(picture: Picture, x: float, y: float, operation: str, share: float | None) -> None:
    colour = operation_colour(operation)
    text = short_name(operation) + ("" if share is None else f" {_percent(share)}")
    size = min(12.0, 12.0 * (PILL_WIDTH - 10) / text_width(text, 12.0))
    picture.add(
        Box(x - PILL_WIDTH / 2, y - PILL_HEIGHT / 2, PILL_WIDTH, PILL_HEIGHT, colour, 7,
            outline="paper"),
        Label(x, y, text, size=size, colour=contrasting(colour)),
    )  # fmt: skip


def _strip(graph: Graph, shares: Shares | None, title: str) -> Picture:
    """Blocks in a row; their heights are their shares, where these are known."""
    count = len(graph.links)
    floor = 40 + (TALLEST if shares else BLOCK_HEIGHT)
    picture = Picture(2 * MARGIN + count * BLOCK, floor + 92)
    most = max(shares.values()) if shares else 0.0
    if title:
        picture.add(Label(picture.width / 2, 20, title, size=15, bold=True))
    for link in graph.links:
        assert link.operation is not None
        share = None if shares is None or link.edge is None else shares.get(link.edge)
        height = BLOCK_HEIGHT if share is None or most <= 0 else max(4.0, TALLEST * share / most)
        x = MARGIN + link.source * BLOCK
        colour = operation_colour(link.operation)
        picture.add(Box(x + 2, floor - height, BLOCK - 4, height, colour, 4))
        if share is not None:
            picture.add(Label(x + BLOCK / 2, floor - height - 9, _percent(share), size=11))
        picture.add(
            Label(x + BLOCK / 2, floor + 10, str(link.source + 1), size=11, colour="muted"),
            Label(x + BLOCK / 2, floor + 20, short_name(link.operation), size=12, anchor="end",
                  turned=True),
        )  # fmt: skip
    picture.add(
        Label(MARGIN, floor + 82, "layer by layer, from the stem to the head; channels: "
              + _runs(graph.nodes[1:]), size=12, colour="muted", anchor="start")
    )  # fmt: skip
    return picture


def _runs(labels: Sequence[str]) -> str:
    """Equal labels in a row as one: ``24 ×4``."""
    runs: list[tuple[str, int]] = []
    for label in labels:
        if runs and runs[-1][0] == label:
            runs[-1] = (label, runs[-1][1] + 1)
        else:
            runs.append((label, 1))
    return ", ".join(label if many == 1 else f"{label} ×{many}" for label, many in runs)


def _legend(operations: Sequence[str], width: float) -> Picture:
    picture = Picture(width, 0)
    x, y = MARGIN, 18.0
    for name in operations:
        needed = 24 + text_width(name, 12) + 18
        if x + needed > width - MARGIN and x > MARGIN:
            x, y = MARGIN, y + 22
        picture.add(
            Box(x, y - 7, 14, 14, operation_colour(name), 3),
            Label(x + 21, y, name, size=12, anchor="start"),
        )
        x += needed
    picture.height = y + 20
    return picture


def _width(share: float | None, shares: Shares | None) -> float:
    """A line's width: in proportion to the share."""
    if share is None or shares is None:
        return PLAIN_WIDTH
    return max(MIN_WIDTH, MAX_WIDTH * share / max(*shares.values(), LEAST_FULL))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0095 or share <= 0 else "<1 %"
