"""Where the parts of a layered graph stand, left to right, with few crossings.

The usual four steps (Sugiyama et al. 1981): a layer for each node, points on the way of links that
pass over layers, the order within layers by the mean place of the neighbours, and heights that
straighten the links.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SWEEPS = 24


@dataclass(frozen=True)
class Placed:
    """A layout.

    Attributes:
        heights: of each part, around zero.
        ways: of each link its points, as (layer, height).
        layers: how many there are.
    """

    heights: Mapping[Hashable, float]
    ways: tuple[tuple[tuple[int, float], ...], ...]
    layers: int


def place(
    layers: Mapping[Hashable, int],
    sizes: Mapping[Hashable, float],
    links: Sequence[tuple[Hashable, Hashable]],
    passing: float,
) -> Placed:
    """Heights of a graph's parts and the ways of its links.

    Args:
        layers: of each part its layer, in the order that parts of a layer have at first.
        sizes: of each part how much height it takes.
        links: pairs of parts of rising layers.
        passing: how much height a link takes in a layer that it passes.
    """
    layer, size = dict(layers), dict(sizes)
    ways: list[list[Hashable]] = []
    steps: list[tuple[Hashable, Hashable]] = []
    for number, (source, target) in enumerate(links):
        way: list[Hashable] = [source]
        for between in range(layer[source] + 1, layer[target]):
            passed = ("passes", number, between)
            layer[passed], size[passed] = between, passing
            way.append(passed)
        way.append(target)
        ways.append(way)
        steps += itertools.pairwise(way)
    count = max(layer.values()) + 1
    columns = [[part for part in layer if layer[part] == n] for n in range(count)]
    before: dict[Hashable, list[Hashable]] = {part: [] for part in layer}
    after: dict[Hashable, list[Hashable]] = {part: [] for part in layer}
    for source, target in steps:
        before[target].append(source)
        after[source].append(target)

    best, fewest = columns, _crossings(columns, after)
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        columns = _ordered(columns, before if forth else after, forth)
        crossings = _crossings(columns, after)
        if crossings < fewest:
            best, fewest = columns, crossings
    heights = _heights(best, size, before, after)
    return Placed(
        heights={part: heights[part] for part in layers},
        ways=tuple(tuple((layer[part], heights[part]) for part in way) for way in ways),
        layers=count,
    )


def _ordered(
    columns: list[list[Hashable]], neighbours: Mapping[Hashable, list[Hashable]], forth: bool
) -> list[list[Hashable]]:
    """The columns, each sorted by the mean place of its parts' neighbours in the one before."""
    result = [list(column) for column in columns]
    numbers = range(1, len(result)) if forth else range(len(result) - 2, -1, -1)
    for number in numbers:
        fixed = {part: i for i, part in enumerate(result[number - 1 if forth else number + 1])}
        own = {part: i for i, part in enumerate(result[number])}

        def centre(
            part: Hashable, fixed: dict[Hashable, int] = fixed, own: dict[Hashable, int] = own
        ) -> float:
            near = [fixed[other] for other in neighbours[part]]
            return sum(near) / len(near) if near else own[part]

        result[number].sort(key=centre)
    return result


def _crossings(columns: list[list[Hashable]], after: Mapping[Hashable, list[Hashable]]) -> int:
    total = 0
    for column, following in itertools.pairwise(columns):
        place_of = {part: i for i, part in enumerate(following)}
        ends = [place_of[to] for part in column for to in sorted(after[part], key=place_of.get)]  # type: ignore[arg-type]
        total += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return total


def _heights(
    columns: list[list[Hashable]],
    size: Mapping[Hashable, float],
    before: Mapping[Hashable, list[Hashable]],
    after: Mapping[Hashable, list[Hashable]],
) -> dict[Hashable, float]:
    heights: dict[Hashable, float] = {}
    for column in columns:
        ends = np.cumsum([size[part] for part in column])
        for part, end in zip(column, ends, strict=True):
            heights[part] = float(end - size[part] / 2 - ends[-1] / 2)
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 else columns[::-1]:
            wanted = []
            for part in column:
                near = [heights[other] for other in (*before[part], *after[part])]
                wanted.append(sum(near) / len(near) if near else heights[part])
            for part, height in zip(column, _apart(wanted, [size[p] for p in column]), strict=True):
                heights[part] = height
    middle = (max(heights.values()) + min(heights.values())) / 2
    return {part: height - middle for part, height in heights.items()}


def _apart(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """The heights nearest to the wanted ones, in squares, that keep the order and the sizes."""
    gaps = [0.0]
    for first, second in itertools.pairwise(sizes):
        gaps.append(gaps[-1] + (first + second) / 2)
    # Without the gaps it is a regression on rising numbers: pool what would fall.
    blocks: list[tuple[float, int]] = []
    for want, gap in zip(wanted, gaps, strict=True):
        mean, count = want - gap, 1
        while blocks and blocks[-1][0] > mean:
            earlier, many = blocks.pop()
            mean = (mean * count + earlier * many) / (count + many)
            count += many
        blocks.append((mean, count))
    flat = [mean for mean, count in blocks for _ in range(count)]
    return [mean + gap for mean, gap in zip(flat, gaps, strict=True)]
