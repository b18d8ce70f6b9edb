"""The DARTS space and, through it, the structure every space shares."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latkit.core.errors import InputError, SpaceError
from latkit.spaces import ABSENT, Edge, Group, SearchSpace, get_space
from latkit.spaces.darts.zoo import ZOO

DARTS = get_space("darts")
IN_SPACE = sorted(set(ZOO) - {"nasnet_a", "amoebanet_a"})


def small_space() -> SearchSpace:
    """Two nodes of two kept inputs, 3 operations of which 2 can be chosen: 1*3 * 2^4 = 48."""
    edges = [Edge(0, 2), Edge(1, 2), Edge(0, 3), Edge(1, 3), Edge(2, 3)]
    groups = [Group((0, 1), 2), Group((2, 3, 4), 2)]
    return SearchSpace("small", ["none", "a", "b"], [1, 2], edges, groups)


def test_numbers_in_print() -> None:
    assert DARTS.size == 1_037_664_180
    assert (DARTS.num_edges, DARTS.num_operations, DARTS.encoding_size) == (14, 8, 112)
    assert DARTS.kept_edges == 8
    assert DARTS.operations == (
        "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect",
        "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
    )  # fmt: skip


@given(st.lists(st.integers(0, DARTS.size - 1), min_size=1, max_size=20))
def test_round_trips(ids: list[int]) -> None:
    matrix = DARTS.unrank(ids)
    assert DARTS.rank(matrix).tolist() == ids
    encoding = DARTS.encode(matrix)
    assert encoding.shape == (len(ids), 112)
    assert (encoding.sum(axis=1) == 8).all()
    assert (DARTS.decode(encoding) == matrix).all()
    for row in matrix:
        assert (DARTS.parse(DARTS.format(row))[0] == row).all()


def test_ranking_is_a_bijection_of_a_whole_space() -> None:
    space = small_space()
    assert space.size == 48
    matrix = space.unrank(np.arange(48))
    assert space.rank(matrix).tolist() == list(range(48))
    # Every architecture, built without the code under test.
    every = {
        row
        for row in product([ABSENT, 1, 2], repeat=5)
        if sum(op != ABSENT for op in row[:2]) == 2 and sum(op != ABSENT for op in row[2:]) == 2
    }
    assert {tuple(row) for row in matrix.tolist()} == every


def test_encoding_puts_the_bit_of_edge_e_and_operation_o_at_8e_plus_o() -> None:
    row = DARTS.from_genotype(ZOO["darts_v2"])
    # darts_v2: edge 0->2 and 1->2 are sep_conv_3x3 (4), ... 2->5 is dil_conv_3x3 (6).
    expected = [
        0 * 8 + 4,
        1 * 8 + 4,
        2 * 8 + 4,
        3 * 8 + 4,
        5 * 8 + 3,
        6 * 8 + 4,
        9 * 8 + 3,
        11 * 8 + 6,
    ]
    assert np.flatnonzero(DARTS.encode(row)[0]).tolist() == expected


@pytest.mark.parametrize("bad", [-1, DARTS.size])
def test_identifiers_outside_are_refused(bad: int) -> None:
    with pytest.raises(SpaceError, match="outside the space"):
        DARTS.unrank([0, bad])


def test_rows_outside_are_refused() -> None:
    row = DARTS.unrank(0)[0]
    for edge, value in ((0, ABSENT), (0, 0), (4, 3), (0, 9)):
        changed = row.copy()
        changed[edge] = value
        with pytest.raises(SpaceError, match="row 0 is not an architecture"):
            DARTS.rank(changed)
    with pytest.raises(SpaceError, match="row 0"):
        DARTS.rank(row.astype(int) + 256)  # would be the same in 8 bits
    with pytest.raises(SpaceError, match="14 edges"):
        DARTS.rank(row[:13])


def test_encodings_outside_are_refused() -> None:
    encoding = DARTS.encode(DARTS.unrank(0))
    two_operations = encoding.copy()
    two_operations[0, :8] = 1
    for bad in (encoding * 0.5, encoding[:, :111], two_operations, encoding * 0):
        with pytest.raises(SpaceError):
            DARTS.decode(bad)


class TestSampling:
    def test_is_without_replacement(self) -> None:
        ids = DARTS.sample(100_000, seed=0)
        assert len(np.unique(ids)) == 100_000
        assert ids.min() >= 0
        assert ids.max() < DARTS.size

    def test_is_a_permutation_of_a_whole_space(self) -> None:
        assert sorted(small_space().sample(48, seed=5).tolist()) == list(range(48))

    def test_ith_architecture_depends_on_seed_and_i_alone(self) -> None:
        ids = DARTS.sample(1000, seed=7)
        assert (DARTS.sample(10, seed=7) == ids[:10]).all()
        assert (DARTS.sample(100, seed=7, start=500) == ids[500:600]).all()
        assert not (DARTS.sample(1000, seed=8) == ids).any()

    def test_list_is_the_one_of_format_version_1(self) -> None:
        # Datasets pair up by this list: it must never change.
        assert DARTS.sample(4, seed=0).tolist() == GOLDEN_SEED_0
        assert DARTS.sample(4, seed=1).tolist() == GOLDEN_SEED_1

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_is_uniform(self, seed: int) -> None:
        matrix = DARTS.unrank(DARTS.sample(100_000, seed))
        # Operations on edge 0 (always kept), kept pairs of the last node, and their joint.
        counts = np.bincount(matrix[:, 0], minlength=8)[1:]
        kept = (matrix[:, 9:] != ABSENT) @ (1 << np.arange(5))
        pairs = np.array([(kept == mask).sum() for mask in np.unique(kept)])
        assert len(pairs) == math.comb(5, 2)
        joint = np.unique(kept * 8 + matrix[:, 0], return_counts=True)[1]
        for observed, cells in ((counts, 7), (pairs, 10), (joint, 70)):
            expected = 100_000 / cells
            chi2 = float(((observed - expected) ** 2 / expected).sum())
            # Mean cells - 1, sd sqrt(2 (cells - 1)); 5 sd is beyond one in a million.
            assert chi2 < cells - 1 + 5 * math.sqrt(2 * (cells - 1))

    def test_more_than_the_space_is_refused(self) -> None:
        with pytest.raises(SpaceError, match="49 distinct"):
            small_space().sample(49, seed=0)


class TestText:
    def test_form(self) -> None:
        text = DARTS.format(DARTS.from_genotype(ZOO["darts_v2"])[0])
        assert text == (
            "|sep_conv_3x3~0|sep_conv_3x3~1|+|sep_conv_3x3~0|sep_conv_3x3~1|+"
            "|skip_connect~0|sep_conv_3x3~1|+|skip_connect~0|dil_conv_3x3~2|"
        )

    @pytest.mark.parametrize(
        "bad",
        [
            "",
            "|sep_conv_3x3~0|sep_conv_3x3~1|",
            "|sep_conv_3x3~0|sep_conv_3x3~9|+|none~0|b~1|+|c~0|d~1|+|e~0|f~2|",
            "|none~0|sep_conv_3x3~1|+|sep_conv_3x3~0|sep_conv_3x3~1|+"
            "|skip_connect~0|sep_conv_3x3~1|+|skip_connect~0|dil_conv_3x3~2|",
            "|sep_conv_3x3~0|sep_conv_3x3~0|+|sep_conv_3x3~0|sep_conv_3x3~1|+"
            "|skip_connect~0|sep_conv_3x3~1|+|skip_connect~0|dil_conv_3x3~2|",
        ],
    )
    def test_malformed_is_refused(self, bad: str) -> None:
        with pytest.raises(SpaceError):
            DARTS.parse(bad)


class TestGenotypes:
    @pytest.mark.parametrize("name", IN_SPACE)
    def test_zoo_round_trips(self, name: str) -> None:
        row = DARTS.from_genotype(ZOO[name])
        genotype = DARTS.genotype(row, ZOO[name])
        assert (DARTS.from_genotype(genotype) == row).all()
        pairs = [sorted(ZOO[name].normal[i : i + 2]) for i in range(0, 8, 2)]
        assert [sorted(genotype.normal[i : i + 2]) for i in range(0, 8, 2)] == pairs
        assert genotype.reduce == ZOO[name].reduce

    @pytest.mark.parametrize("name", ["nasnet_a", "amoebanet_a"])
    def test_five_node_cells_are_refused(self, name: str) -> None:
        with pytest.raises(SpaceError, match="5 nodes"):
            DARTS.from_genotype(ZOO[name])


def test_unknown_space() -> None:
    with pytest.raises(InputError, match="unknown search space 'nope'"):
        get_space("nope")


GOLDEN_SEED_0 = [945629146, 518170752, 64630893, 597663193]
GOLDEN_SEED_1 = [609793298, 637870393, 332029448, 726099654]
