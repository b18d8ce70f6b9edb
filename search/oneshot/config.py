"""Everything that decides a one-shot search's outcome besides the data, and its presets."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from latkit.core.errors import InputError
from latkit.core.requests import MOST_COUNT, check_seed
from latkit.lpm.training import MIN_ARCHITECTURES
from latkit.search.supernet.mixture import MIXTURES
from latkit.spaces import get_space
from latkit.spaces.setting import check_one_of


@dataclass(frozen=True)
class OneShotConfig:
    """A one-shot search's configuration.

    The paper has no such search. The defaults are those of its DARTS (section 4.1) for the network
    and for the optimiser of its weights, for more epochs: an operation is on one of many paths.

    Attributes:
        cells, channels: of the network; a space may have them fixed.
        epochs: passes over the half of the images that is trained on.
        batch: images of a step, over all processes.
        paths: sub-networks whose gradients of the same batch are averaged in a step. With as many
            as an edge has operations, each step trains all of them (FairNAS).
        limit: images used; None for all. Half train the weights, half are held out.
        weight_lr: learning rate of SGD, annealed to 0 by a cosine.
        momentum, weight_decay: of SGD; an operation's only move when it is on a path.
        gradient_clip: largest norm of the gradient.
        subnets: K, sub-networks that are evaluated.
        eval_images: held-out images that each is evaluated on; None for all.
        eval_batch: images of a batch there, by whose statistics batch norms normalise.
        seed: of everything that is random.
    """

    cells: int = 8
    channels: int = 16
    epochs: int = 250
    batch: int = 64
    paths: int = 1
    limit: int | None = None
    weight_lr: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 3e-4
    gradient_clip: float = 5.0
    subnets: int = 1000
    eval_images: int | None = None
    eval_batch: int = 256
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def learning_rate(self, epoch: int) -> float:
        """The rate of an epoch, which are counted from 0; it would be 0 after the last one."""
        return 0.5 * self.weight_lr * (1 + math.cos(math.pi * epoch / self.epochs))

    def check(self, space: str) -> None:
        """Refuse what cannot work.

        Args:
            space: name of what is searched.

        Raises:
            InputError: a value cannot work, or there are no networks of the space.
            PluginError: a plug-in does not load.
        """
        # Batch norm needs two images.
        least = {
            "cells": 1, "channels": 1, "epochs": 1, "batch": 2, "paths": 1, "limit": 4,
            "subnets": MIN_ARCHITECTURES, "eval_images": 2, "eval_batch": 2,
        }  # fmt: skip
        for name, value in least.items():
            count = getattr(self, name)
            if count is not None and not value <= count <= MOST_COUNT:
                raise InputError(f"{name}={count} cannot be", f"use {value} to {MOST_COUNT}")
        for name in ("weight_lr", "gradient_clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name}={getattr(self, name)} cannot be", "use more than 0")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay={self.weight_decay} cannot be", "use 0 or more")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum={self.momentum} cannot be", "use 0 to below 1")
        size = get_space(space).size
        if self.subnets > size:
            raise InputError(
                f"subnets={self.subnets} is more than the {size} architectures of {space}",
                f"use {size} or fewer",
            )
        MIXTURES.get(space).config_of(self.cells, self.channels, 32, 10)  # whatever the images are
        check_seed(self.seed)


PRESETS: dict[str, OneShotConfig] = {
    "paper": OneShotConfig(),
    # Scaled down for a few minutes on two CPU cores, as the preset of a search is.
    "cpu": OneShotConfig(cells=5, channels=8, epochs=4, limit=2048, weight_lr=0.1, subnets=200),
}


def preset(name: str, space: str) -> OneShotConfig:
    """A preset's configuration for a space, whose network may change some of its values.

    Raises:
        InputError: there is no such preset, or there are no networks of the space.
        PluginError: the space's network is a plug-in that does not load.
    """
    check_one_of("preset", name, tuple(PRESETS))
    return dataclasses.replace(PRESETS[name], **MIXTURES.get(space).presets.get(name, {}))
