"""Genotype text, as papers and repositories print it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latkit.core.errors import InputError, LatkitError
from latkit.spaces.darts.genotype import parse_genotype
from latkit.spaces.darts.zoo import ZOO, get_genotype

DARTS_V2_IN_PRINT = """Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
    ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0),
    ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5],
    reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
    ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],
    reduce_concat=[2, 3, 4, 5])"""


def test_reads_what_is_in_print() -> None:
    assert parse_genotype(DARTS_V2_IN_PRINT) == ZOO["darts_v2"]


def test_reads_ranges_and_positions() -> None:
    g = ZOO["darts_v2"]
    reduce = f"reduce={list(g.reduce)}, reduce_concat=range(2, 6)"
    text = f"Genotype({list(g.normal)}, range(2, 6), {reduce})"
    assert parse_genotype(text) == g


@pytest.mark.parametrize("name", sorted(ZOO))
def test_round_trips(name: str) -> None:
    assert parse_genotype(str(ZOO[name])) == ZOO[name]


@pytest.mark.parametrize(
    "text",
    [
        "Genotype(",
        "print(1)",
        "Genotype(normal=[], normal_concat=[2], reduce=[], reduce_concat=[2])",
        "Genotype(1, 2, 3, 4)",
        "Genotype([('a', 0), ('b', 1)], [2], [('a', 0), ('b', 1)])",
        "Genotype([('a', 0), ('b', 1)], [3], [('a', 0), ('b', 1)], [2])",
        "Genotype([('a', 0), ('b', 2)], [2], [('a', 0), ('b', 1)], [2])",
        "Genotype([('a', 0), ('b', 1)], range(0, 10**12), [('a', 0), ('b', 1)], [2])",
        "Genotype([(exit(), 0), ('b', 1)], [2], [('a', 0), ('b', 1)], [2])",
        "Genotype(**{})",
        "(" * 10_000,
    ],
)
def test_refuses_anything_else(text: str) -> None:
    with pytest.raises(InputError):
        parse_genotype(text)


@given(st.text())
def test_arbitrary_text_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(LatkitError):
        parse_genotype(text)


def test_zoo_names() -> None:
    assert get_genotype("DARTS-V2") is ZOO["darts_v2"]
    assert get_genotype(DARTS_V2_IN_PRINT) == ZOO["darts_v2"]
    with pytest.raises(InputError, match="did you mean darts_v2"):
        get_genotype("dart_v2")
