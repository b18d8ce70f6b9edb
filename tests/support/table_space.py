"""A space that is known by tables alone: latkit builds no networks of it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest

from latkit.spaces import SPACES, Edge, Group, NetworkConfig, SearchSpace, Setting

NAME = "tables"


@dataclass(frozen=True, kw_only=True)
class TableConfig(NetworkConfig):
    """What the tables were measured in."""

    space: ClassVar[str] = NAME


class TableSpace(SearchSpace):
    """Chains of two layers."""

    config = TableConfig
    presets: ClassVar = {NAME: Setting(TableConfig(resolution=8, classes=2))}
    reference = "|a~0|+|b~1|"

    def __init__(self) -> None:
        edges = [Edge(0, 1), Edge(1, 2)]
        super().__init__(NAME, "ab", range(2), edges, [Group((i,), keep=1) for i in range(2)])


def add_table_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install it as a plug-in for one test."""
    point = EntryPoint(NAME, f"{__name__}:{TableSpace.__name__}", SPACES.group)
    monkeypatch.setattr(SPACES, "_points", {NAME: point})
