"""Versions in the registry, and the one that comes with latkit."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from latkit.core.quantities import LATENCY
from latkit.lpm.builtin import TARGET, builtin_lpm
from latkit.lpm.training import TrainedLPM

# The version of an LPM that comes with latkit; published ones count from 1.
BUILT_IN = 0


@dataclass(frozen=True)
class Entry:
    """One published version."""

    space: str
    device: str
    backend: str
    setting: str
    version: int
    cost: str = LATENCY

    @property
    def parent(self) -> str:
        """The folder of all versions."""
        return f"{self.space}/{self.device}/{self.backend}/{self.setting}{self._suffix}"

    @property
    def folder(self) -> str:
        return f"{self.parent}/{self.version}"

    @property
    def reference(self) -> str:
        """The full reference that names this version alone (within its space)."""
        return f"{self.device}/{self.backend}/{self.setting}{self._suffix}@{self.version}"

    @property
    def short_reference(self) -> str:
        """Of any backend and setting, the newest version: what there is of the device."""
        return f"{self.device}{self._suffix}"

    @property
    def _suffix(self) -> str:
        return "" if self.cost == LATENCY else f"+{self.cost}"


def with_built_in(published: Sequence[Entry]) -> list[Entry]:
    """What was published, then the LPMs that come with latkit for targets of which no LPM of the
    same quantity was."""
    parents = {entry.parent for entry in published}
    return [*published, *(e for e in built_in_entries() if e.parent not in parents)]


def built_in_entries() -> list[Entry]:
    """The LPMs that come with latkit."""
    return [Entry(TARGET.space, TARGET.device, TARGET.backend, TARGET.setting.slug, BUILT_IN)]


@functools.cache
def load_built_in() -> TrainedLPM:
    """The LPM that comes with latkit; it is fitted once in a process."""
    # What is made in inference mode could not be used for gradients later.
    with torch.inference_mode(False):
        return builtin_lpm()
