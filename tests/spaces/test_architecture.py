"""Architectures of two spaces: from rows and texts, and which setting takes which."""

from __future__ import annotations

import pytest

from latkit.core.errors import InputError, SpaceError
from latkit.networks.make import construct
from latkit.spaces import get_preset, get_space
from latkit.spaces.architecture import architecture_cost, get_architecture
from latkit.spaces.build import build_network
from latkit.spaces.darts.network import Network
from latkit.spaces.darts.zoo import ZOO
from latkit.spaces.nasbench201.network import NasBench201Network
from latkit.spaces.nasbench201.space import NasBench201Cell
from tests.support.table_space import add_table_space

DARTS, BENCHMARK = get_space("darts"), get_space("nasbench201")
TEXT = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
CELL = NasBench201Cell(
    ("nor_conv_3x3", "none", "nor_conv_1x1", "skip_connect", "avg_pool_3x3", "nor_conv_3x3")
)


def test_a_cells_text_is_the_spaces() -> None:
    assert str(CELL) == TEXT
    assert get_architecture(TEXT, get_preset("nasbench201")) == CELL
    for row in BENCHMARK.unrank(BENCHMARK.sample(30, 1)):
        assert str(BENCHMARK.cell(row)) == BENCHMARK.format(row)


@pytest.mark.parametrize("operations", [("none",) * 5, ("none",) * 5 + ("sep_conv_3x3",)])
def test_what_is_no_cell(operations: tuple[str, ...]) -> None:
    with pytest.raises(SpaceError, match="not the operations of a cell"):
        NasBench201Cell(operations)


def test_rows_become_architectures() -> None:
    row = DARTS.unrank(7)[0]
    made = DARTS.architecture(row, get_preset("tiny").network)
    assert made == DARTS.genotype(row, ZOO["darts_v2"])
    assert get_architecture(DARTS.format(row), get_preset("tiny")) == made
    row = BENCHMARK.unrank(7)[0]
    assert BENCHMARK.architecture(row, get_preset("nasbench201").network) == BENCHMARK.cell(row)


def test_a_text_of_another_space_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"not an architecture of darts.* name a --setting"):
        get_architecture(TEXT, get_preset("imagenet"))
    with pytest.raises(SpaceError, match="not an architecture of fbnet"):
        get_architecture(TEXT, get_preset("fbnet"))


def test_a_space_without_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    add_table_space(monkeypatch)
    space, setting = get_space("tables"), get_preset("tables")
    for attempt in (
        lambda: get_architecture("0", setting),
        lambda: space.architecture(space.unrank(0)[0], setting.network),
        lambda: space.build(None, setting.network, construct),
        lambda: space.build_for_training(None, setting.network, auxiliary=False),
    ):
        with pytest.raises(InputError, match="builds no networks of the space tables"):
            attempt()


def test_each_setting_takes_its_own_space() -> None:
    assert isinstance(build_network(ZOO["gdas"], get_preset("tiny")), Network)
    assert isinstance(build_network(CELL, get_preset("nasbench201")), NasBench201Network)
    with pytest.raises(InputError, match=r"takes no architecture of darts.*--setting imagenet"):
        build_network(ZOO["gdas"], get_preset("nasbench201"))
    with pytest.raises(InputError, match=r"takes no architecture of nasbench201.*nasbench201"):
        build_network(CELL, get_preset("tiny"))
    for architecture in (CELL, ZOO["gdas"]):
        with pytest.raises(InputError, match="a network of fbnet takes no architecture"):
            build_network(architecture, get_preset("fbnet"))


def test_the_cost_of_a_genotype_outside_the_space() -> None:
    genotype, setting = ZOO["nasnet_a"], get_preset("imagenet")
    assert architecture_cost(genotype, setting) == architecture_cost(genotype, setting)
