"""Fairness of the paths that are trained, by counting."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from latkit.search.oneshot.paths import FairPaths
from latkit.spaces import SearchSpace, get_space
from latkit.spaces.analytic import ABSENT
from latkit.spaces.structure import Edge, Group


def paths(space: SearchSpace, n: int, seed: int = 0, first: int = 0) -> np.ndarray:
    fair = FairPaths(space, seed)
    rows = np.stack([fair.row(number) for number in range(first, first + n)])
    np.testing.assert_array_equal(space.validate(rows), rows)
    return rows


@pytest.mark.parametrize("name", ["nasbench201", "fbnet"])
def test_where_every_edge_is_kept(name: str) -> None:
    """Of as many paths as there are operations each is on one, on every edge; then anew."""
    space = get_space(name)
    rounds = paths(space, 3 * space.num_operations).reshape(3, space.num_operations, -1)
    for rows in rounds:
        np.testing.assert_array_equal(
            np.sort(rows, axis=0), np.repeat([space.choices], space.num_edges, 0).T
        )
    assert len(np.unique(rounds.reshape(-1, space.num_edges), axis=0)) == rounds[:, :, 0].size


def test_where_two_edges_a_node_are_kept() -> None:
    """After 210 paths, the first number that all nodes fit, edges and operations come out even."""
    space = get_space("darts")
    rows = paths(space, 420)
    for group in space.groups:
        count = len(group.edges)
        # Sooner than that: 5 edges are kept twice each in 5 paths, 4 once each in 2.
        period = count if count % 2 else count // 2
        kept = (rows[:, list(group.edges)] != ABSENT).reshape(420 // period, period, count).sum(1)
        np.testing.assert_array_equal(kept, 2 * period // count)
        for edge in group.edges:
            for part in (rows[:210, edge], rows[210:, edge]):
                counts = Counter(part[part != ABSENT].tolist())
                assert counts == dict.fromkeys(space.choices, 2 * 210 // count // 7)
            # Of 7 successive paths that keep it, each operation is on one.
            carried = rows[:, edge][rows[:, edge] != ABSENT].reshape(-1, 7)
            np.testing.assert_array_equal(np.sort(carried, 1), [space.choices] * len(carried))


def test_all_sets_of_edges_are_as_likely() -> None:
    space = get_space("darts")
    rows = paths(space, 600)
    for group in space.groups:
        columns = (rows[:, list(group.edges)] != ABSENT).tolist()
        counts = Counter(map(tuple, columns))
        sets = len(space.kept_combinations[space.groups.index(group)])
        assert len(counts) == sets
        assert max(counts.values()) < 1.5 * 600 / sets


def test_three_edges_of_five() -> None:
    """Rounds of a space of somebody else: 5 edges, 3 kept, 2 operations."""
    edges = [Edge(source, 5) for source in range(5)]
    space = SearchSpace("other", ["a", "b"], [0, 1], edges, [Group(tuple(range(5)), keep=3)])
    rows = paths(space, 10)
    np.testing.assert_array_equal((rows != ABSENT).reshape(2, 5, 5).sum(1), 3)
    for edge in range(5):
        carried = rows[:, edge][rows[:, edge] != ABSENT].reshape(-1, 2)
        np.testing.assert_array_equal(np.sort(carried, 1), [[0, 1]] * 3)


def test_a_path_is_a_function_of_the_seed_and_its_number() -> None:
    space = get_space("darts")
    rows = paths(space, 40)
    np.testing.assert_array_equal(paths(space, 13, first=27), rows[27:])
    assert not np.array_equal(paths(space, 40, seed=1), rows)
