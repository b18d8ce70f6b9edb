"""Search spaces: what can be chosen, and how it is encoded, counted and sampled."""

from __future__ import annotations

from functools import cache

from latkit.errors import InputError
from latkit.spaces.base import ABSENT, ChoiceMatrix, Edge, Group, SearchSpace
from latkit.spaces.darts import DartsSpace
from latkit.spaces.genotype import Genotype, parse_genotype

__all__ = [
    "ABSENT",
    "ChoiceMatrix",
    "DartsSpace",
    "Edge",
    "Genotype",
    "Group",
    "SearchSpace",
    "get_space",
    "parse_genotype",
    "space_names",
]

_SPACES = {"darts": DartsSpace}


def space_names() -> list[str]:
    """Names of the spaces this version knows."""
    return sorted(_SPACES)


@cache
def get_space(name: str) -> DartsSpace:
    """The search space of that name.

    Raises:
        InputError: there is no such space.
    """
    if name not in _SPACES:
        raise InputError(f"unknown search space {name!r}", f"use one of: {', '.join(_SPACES)}")
    return _SPACES[name]()
