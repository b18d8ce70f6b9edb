"""Search spaces: what can be chosen, and how it is encoded, counted and sampled."""

from __future__ import annotations

from functools import cache
from typing import Literal, TypeAlias, overload

from latkit.errors import InputError
from latkit.spaces.base import ABSENT, ChoiceMatrix, Edge, Group, SearchSpace
from latkit.spaces.darts import DartsSpace
from latkit.spaces.fbnet import FbnetSpace
from latkit.spaces.genotype import Genotype, parse_genotype
from latkit.spaces.nasbench201 import NasBench201Cell, NasBench201Space

__all__ = [
    "ABSENT",
    "Architecture",
    "ChoiceMatrix",
    "DartsSpace",
    "Edge",
    "FbnetSpace",
    "Genotype",
    "Group",
    "NasBench201Cell",
    "NasBench201Space",
    "SearchSpace",
    "get_space",
    "parse_genotype",
    "space_names",
]

# What a network is built of.
Architecture: TypeAlias = Genotype | NasBench201Cell

_SPACES: dict[str, type[SearchSpace]] = {
    "darts": DartsSpace,
    "nasbench201": NasBench201Space,
    "fbnet": FbnetSpace,
}


def space_names() -> list[str]:
    """Names of the spaces this version knows."""
    return list(_SPACES)


@overload
def get_space(name: Literal["darts"]) -> DartsSpace: ...
@overload
def get_space(name: Literal["nasbench201"]) -> NasBench201Space: ...
@overload
def get_space(name: str) -> SearchSpace: ...
def get_space(name: str) -> SearchSpace:
    """The search space of that name.

    Raises:
        InputError: there is no such space.
    """
    if name not in _SPACES:
        raise InputError(f"unknown search space {name!r}", f"use one of: {', '.join(_SPACES)}")
    return _make(name)


@cache
def _make(name: str) -> SearchSpace:
    return _SPACES[name]()  # type: ignore[call-arg]
