"""What a one-shot search gave: ``result.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latkit.core.version import __version__
from latkit.lpm.store import LPMCard
from latkit.search.oneshot import ONE_SHOT
from latkit.search.oneshot.config import OneShotConfig
from latkit.spaces.setting import NetworkConfig

FORMAT_VERSION = 1


@dataclass(frozen=True)
class SubnetSummary:
    """The evaluated sub-networks.

    Attributes:
        count: how many there are.
        images, batch: held-out images that each was evaluated on, and of a batch.
        noise_images: by which its initial weights were looked at.
        lowest, median, highest: of their accuracies in percent.
        best: text of the first of those of the highest accuracy.
    """

    count: int
    images: int
    batch: int
    noise_images: int
    lowest: float
    median: float
    highest: float
    best: str

    @classmethod
    def of(
        cls, rows: Sequence[Mapping[str, Any]], images: int, batch: int, noise_images: int
    ) -> SubnetSummary:
        """Of rows of ``subnets.parquet``."""
        values = np.array([row["accuracy_percent"] for row in rows])
        return cls(
            len(rows), images, batch, noise_images, float(values.min()),
            float(np.median(values)), float(values.max()), str(rows[int(values.argmax())]["arch"]),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "images": self.images,
            "batch": self.batch,
            "noise_images": self.noise_images,
            "accuracy_percent": {
                "lowest": self.lowest,
                "median": self.median,
                "highest": self.highest,
            },
            "best_arch": self.best,
        }


@dataclass(frozen=True)
class OneShotResult:
    """A trained one-shot network, and what is predicted of its sub-networks' accuracy.

    Attributes:
        space: name of what was searched.
        network: around the sub-networks.
        config: of the search.
        data: the images, see ``ImageData.identity``, and their name.
        history: a row for each epoch.
        subnets: the evaluated sub-networks.
        card: of the accuracy LPM; its metrics are cross-validated.
        searched_on: where the network was trained, ``cpu`` or ``cuda``.
        out: the search's folder.
    """

    space: str
    network: NetworkConfig
    config: OneShotConfig
    data: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    subnets: SubnetSummary
    card: LPMCard
    searched_on: str
    out: Path

    def to_dict(self) -> dict[str, Any]:
        """The content of ``result.json``."""
        return {
            "kind": ONE_SHOT,
            "format_version": FORMAT_VERSION,
            "latkit_version": __version__,
            "space": self.space,
            "network": self.network.to_dict(),
            "config": self.config.to_dict(),
            "data": dict(self.data),
            "searched_on": self.searched_on,
            "history": {
                "epochs": len(self.history),
                "seconds": sum(row["seconds"] for row in self.history),
                "last": dict(self.history[-1]),
            },
            "epochs": [dict(row) for row in self.history],
            "subnets": self.subnets.to_dict(),
            "accuracy_lpm": {
                "quantity": self.card.cost,
                "kind": self.card.kind,
                "cross_validated": dict(self.card.metrics),
                "baselines": {name: dict(value) for name, value in self.card.baselines.items()},
            },
        }
