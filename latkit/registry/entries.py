"""Versions in the registry, and the one that comes with latkit."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from latkit.core.quantities import LATENCY
from latkit.core.storage import Storage
from latkit.dataset import Target
from latkit.lpm import builtin_lpms
from latkit.lpm.base import LPM
from latkit.lpm.store import LPMCard, read_card, read_lpm

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

    @classmethod
    def of(cls, card: LPMCard, version: int = 1) -> Entry:
        """Where an LPM belongs."""
        return cls.of_target(card.target, card.quantity.name, version)

    @classmethod
    def of_target(cls, target: Target, cost: str, version: int = 1) -> Entry:
        """Where LPMs of a target and a quantity belong."""
        names = (target.space, target.device, target.backend, target.setting.slug)
        return cls(*names, version, cost)

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


@functools.cache
def built_in_entries() -> tuple[Entry, ...]:
    """The LPMs that come with latkit."""
    storage = _built_in_storage()
    targets = [read_card(storage, folder)[0].target for folder in builtin_lpms.FOLDERS]
    return tuple(
        Entry(target.space, target.device, target.backend, target.setting.slug, BUILT_IN)
        for target in targets
    )


@functools.cache
def load_built_in(entry: Entry) -> tuple[LPM, LPMCard]:
    """An LPM that comes with latkit, and its card; it is read once in a process."""
    folder = builtin_lpms.FOLDERS[built_in_entries().index(entry)]
    # What is made in inference mode could not be used for gradients later.
    with torch.inference_mode(False):
        return read_lpm(_built_in_storage(), folder)


def _built_in_storage() -> Storage:
    return Storage(str(Path(builtin_lpms.__file__).parent))
