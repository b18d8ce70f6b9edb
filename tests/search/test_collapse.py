"""Signs of collapse, on published and synthetic cells."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from latkit.search.collapse import (
    alpha_entropy,
    last_good_epoch,
    parameter_free_share,
    signs_of_collapse,
    skip_share,
    skips,
)
from latkit.search.supernet.network import DartsSupernet
from latkit.spaces import get_space
from latkit.spaces.darts.genotype import Connections, Genotype
from latkit.spaces.darts.zoo import ZOO

OTHER = ZOO["darts_v2"]
SPACE = get_space("darts")
MOST_SKIPS = DartsSupernet.most_skips


def cell(*operations: str) -> Connections:
    """A normal cell of these operations, filled up with convolutions to eight."""
    filled = [*operations, *["sep_conv_3x3"] * (8 - len(operations))]
    return tuple((name, index % 2) for index, name in enumerate(filled))


# Counted by hand in the genotypes as printed.
@pytest.mark.parametrize(
    ("name", "expected_skips", "parameter_free"),
    [("darts_v1", 3, 3), ("darts_v2", 2, 2), ("snas", 4, 4), ("pc_darts_cifar", 1, 2)],
)
def test_cells_in_print(name: str, expected_skips: int, parameter_free: int) -> None:
    normal = next(g for key, g in ZOO.items() if key.startswith(name)).normal
    operations = [operation for operation, _ in normal]
    assert skips(SPACE, operations) == expected_skips
    assert skip_share(SPACE, operations) == expected_skips / 8
    assert parameter_free_share(SPACE, operations) == parameter_free / 8


@pytest.mark.parametrize(
    ("operations", "signs", "collapsed"),
    [
        ([], None, False),
        (["skip_connect"], None, False),
        (["max_pool_3x3"] * 4, None, False),
        (["skip_connect"] * 2, "2 skip connections", False),
        (["avg_pool_3x3"] * 5, "5 of 8 operations without parameters", False),
        (["skip_connect"] * 3, "3 skip connections", True),
        (
            ["skip_connect", "max_pool_3x3"] * 3,
            "3 skip connections and 6 of 8 operations without parameters",
            True,
        ),
    ],
)
def test_criteria(operations: list[str], signs: str | None, collapsed: bool) -> None:
    names = [operation for operation, _ in cell(*operations)]
    assert signs_of_collapse(SPACE, names, MOST_SKIPS) == signs
    assert signs_of_collapse(SPACE, names, None) is None
    assert (skips(SPACE, names) > 2) == collapsed


def test_entropy() -> None:
    assert alpha_entropy(torch.zeros(14, 8)) == pytest.approx(math.log(8))
    decided = torch.zeros(2, 8)
    decided[:, 3] = 100
    assert alpha_entropy(decided) == pytest.approx(0, abs=1e-6)
    # Two of eight equally likely on one edge, all eight on the other.
    half = torch.tensor([[0.0, 0.0] + [-100.0] * 6, [0.0] * 8])
    assert alpha_entropy(half) == pytest.approx((math.log(2) + math.log(8)) / 2)


@pytest.mark.parametrize(
    ("counts", "warmup", "expected"),
    [
        ([], 0, None),
        ([0, 1, 2], 0, None),
        ([0, 1, 3], 0, 2),
        ([3], 0, None),  # no good cell to go back to
        ([4, 3], 0, None),
        ([4, 1, 5], 0, 2),
        ([1, 5], 1, None),  # the warm-up's cell is not a found one
        ([5, 1, 5], 1, 2),
        ([5], 1, None),
    ],
)
def test_where_to_go_back_to(counts: list[int], warmup: int, expected: int | None) -> None:
    history: list[dict[str, Any]] = []
    for epoch, count in enumerate(counts, start=1):
        normal = cell(*["skip_connect"] * count)
        text = str(Genotype(normal, (2, 3, 4, 5), OTHER.reduce, (2, 3, 4, 5)))
        history.append({"epoch": epoch, "genotype": text})
    assert last_good_epoch(history, warmup, SPACE, MOST_SKIPS) == expected
    assert last_good_epoch(history, warmup, SPACE, None) is None
