"""NAS-Bench-201 and FBNet: the numbers and names in print."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from latkit.core.errors import SpaceError
from latkit.spaces import Edge, Group, SearchSpace, get_preset, get_space
from latkit.spaces.analytic import COLUMNS
from latkit.spaces.architecture import architecture_costs
from latkit.spaces.registry import analytic_table
from tests.support.places import SHARED

NASBENCH201, FBNET = get_space("nasbench201"), get_space("fbnet")


class TestNasBench201:
    def test_its_size_and_first_cells_are_the_benchmarks(self) -> None:
        assert NASBENCH201.size == 15_625
        assert [NASBENCH201.format(row) for row in NASBENCH201.unrank([0, 1])] == [
            "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+"
            "|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+"
            "|skip_connect~0|nor_conv_3x3~1|skip_connect~2|",
        ]

    def test_every_cell_has_one_identifier(self) -> None:
        ids = np.arange(NASBENCH201.size)
        matrix = NASBENCH201.unrank(ids)
        assert np.array_equal(NASBENCH201.rank(matrix), ids)
        assert np.array_equal(NASBENCH201.file_ids(matrix), ids)
        assert np.array_equal(np.sort(NASBENCH201.sample(15_625, 0)), ids)
        texts = [NASBENCH201.format(row) for row in matrix[:50]]
        assert np.array_equal(NASBENCH201.from_file(ids[:50], texts), matrix[:50])

    def test_the_whole_native_order(self) -> None:
        path = SHARED / "data" / "nasbench201" / "latency.parquet"
        if not path.exists():
            pytest.skip("the benchmark's table is not beside this checkout")
        texts = pq.read_table(path, columns=["arch"])["arch"].to_pylist()
        assert [NASBENCH201.format(row) for row in NASBENCH201.unrank(range(15_625))] == texts


class TestFbnet:
    def test_identifiers_beyond_64_bits(self) -> None:
        assert FBNET.size == 9**22
        ids = FBNET.sample(500, 3)
        assert max(ids) > 2**64
        assert len(set(ids.tolist())) == 500
        matrix = FBNET.unrank(ids)
        assert (FBNET.rank(matrix) == ids).all()
        assert (FBNET.rank(FBNET.unrank([0, FBNET.size - 1])) == [0, FBNET.size - 1]).all()
        with pytest.raises(SpaceError, match="outside the space fbnet"):
            FBNET.unrank([FBNET.size])

    def test_a_longer_list_begins_with_the_shorter(self) -> None:
        assert (FBNET.sample(50, 7)[:20] == FBNET.sample(20, 7)).all()
        assert (FBNET.sample(30, 7, start=20) == FBNET.sample(50, 7)[20:]).all()

    def test_files_keep_63_bits_and_the_text(self) -> None:
        matrix = FBNET.unrank(FBNET.sample(100, 1))
        kept = FBNET.file_ids(matrix)
        assert kept.dtype == np.int64
        assert kept.min() >= 0
        assert len(set(kept.tolist())) == 100
        texts = [FBNET.format(row) for row in matrix]
        assert np.array_equal(FBNET.from_file(kept, texts), matrix)

    def test_text(self) -> None:
        text = " ".join(str(i % 9) for i in range(22))
        assert FBNET.format(FBNET.parse(text)) == text
        assert FBNET.format(FBNET.parse(text.replace(" ", ","))) == text
        for bad in ("1 2 3", text + " 0", text.replace("8", "9"), text.replace("8", "-1"), "x"):
            with pytest.raises(SpaceError, match="fbnet"):
                FBNET.parse(bad)


class TestRoofline:
    def test_fbnet_is_read_as_the_public_tables_have_it(self) -> None:
        numbers = [i % 9 for i in range(22)]
        row = FBNET.parse(" ".join(map(str, numbers)))
        assert (FBNET.parse(str(numbers)) == row).all()
        assert (FBNET.parse(str(tuple(numbers))) == row).all()

    def test_fbnet_costs_what_its_layers_do(self) -> None:
        """Skips that change no shape are free; kernels, convolutions and bytes are counted."""
        table = analytic_table("fbnet", get_preset("fbnet").network).operations
        skip = FBNET.operations.index("skip")
        free = (table[:, skip] == 0).all(1)
        # Changing ones: the first of each stage but the first stage, whose channels stay 16.
        assert np.flatnonzero(~free).tolist() == [1, 5, 9, 13, 17, 21]
        e1, e6 = (FBNET.operations.index(name) for name in ("k3_e1", "k3_e6"))
        macs = table[:, :, COLUMNS.index("macs")]
        assert (macs[:, e6] > 5 * macs[:, e1]).all()
        # The first layer's k3_e1: 16 -> 16 twice by 1x1 and depthwise 3x3, at 112 x 112.
        assert macs[0, e1] == (2 * 16 * 16 + 9 * 16) * 112**2

    def test_a_row_costs_the_frame_and_its_operations(self) -> None:
        rows = NASBENCH201.unrank([5, 6])
        table = analytic_table("nasbench201", get_preset("nasbench201").network)
        costs = table.rows(rows)
        by_hand = table.frame + sum(table.operations[e, rows[0, e]] for e in range(6))
        assert np.array_equal(costs[0], by_hand)
        (first, _) = architecture_costs(NASBENCH201, rows, get_preset("nasbench201"))
        assert (first.macs, first.params) == (costs[0][2], costs[0][4])


def test_a_space_without_analytic_costs_is_refused_by_name() -> None:
    bare = SearchSpace("bare", ["a", "b"], [0, 1], [Edge(0, 1)], [Group((0,), keep=1)])
    with pytest.raises(SpaceError, match="bare has no analytic costs"):
        bare.analytic_table(None)
