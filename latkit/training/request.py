"""A request for a training, and the configuration and network that follow from it."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path

from latkit.core.errors import InputError
from latkit.core.requests import check_seed, set_paths
from latkit.search.image_source import DataOptions
from latkit.spaces import SearchSpace, Setting, default_setting, get_preset, get_space
from latkit.spaces.architecture import read_network
from latkit.spaces.base import Architecture
from latkit.spaces.reader import Given
from latkit.spaces.setting import NetworkConfig, check_one_of
from latkit.training.config import PRESETS, TrainingConfig


@dataclass(frozen=True)
class TrainingRequest:
    """An architecture to be trained from scratch, once or from several seeds.

    Attributes:
        architecture: a name, a text or a file (see ``latkit.spaces.reader.read_architectures``).
        data: name of an image source, or a path that one recognises.
        space: of the architecture.
        preset: of the values below, ``cifar``, ``imagenet`` or ``cpu-small``.
        out: folder of the training; None: ``trainings/ARCHITECTURE``.
        data_options: how images are read.
        seed: the first.
        seeds: how many trainings, from ``seed`` on.
        cells, channels: of the network; None: the preset's.
        epochs, batch, lr, schedule, warmup_epochs, momentum, weight_decay, clip, drop_path, cutout,
            auxiliary_weight, label_smoothing, limit, precision: see ``TrainingConfig``; None: the
            preset's.
    """

    architecture: Given
    data: str = "cifar10"
    space: str = "darts"
    preset: str = "cifar"
    out: Path | None = None
    data_options: DataOptions = field(default_factory=DataOptions)
    seed: int = 0
    seeds: int = 1
    cells: int | None = None
    channels: int | None = None
    epochs: int | None = None
    batch: int | None = None
    lr: float | None = None
    schedule: str | None = None
    warmup_epochs: int | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    clip: float | None = None
    drop_path: float | None = None
    cutout: int | None = None
    auxiliary_weight: float | None = None
    label_smoothing: float | None = None
    limit: int | None = None
    precision: str | None = None

    def __post_init__(self) -> None:
        set_paths(self, "out")
        object.__setattr__(self, "data", os.fspath(self.data))

    def plan(self) -> TrainingPlan:
        """What is trained, and how.

        Raises:
            InputError: a value cannot work, or the architecture is none of the space's.
            SpaceError: the architecture is not of the space.
            LatkitError: the architecture's file cannot be read.
        """
        check_one_of("preset", self.preset, tuple(PRESETS))
        if self.seeds < 1:
            raise InputError(f"seeds={self.seeds} is too small", "use 1 or more")
        check_seed(self.seed)
        check_seed(self.seed + self.seeds - 1)
        space = get_space(self.space)
        config = self._config(space)
        config.check()
        network = self._network(space)
        architecture = read_network(self.architecture, Setting(network))
        return TrainingPlan(space, architecture, network, config, self.preset)

    def _config(self, space: SearchSpace) -> TrainingConfig:
        preset = PRESETS[self.preset]
        # What the space's networks do not have is left out, unless it is asked for.
        if not space.has_auxiliary_head:
            preset = dataclasses.replace(preset, auxiliary_weight=0.0)
        if not space.has_drop_path:
            if self.drop_path:
                raise InputError(
                    f"networks of {space.name} have no drop-path", "leave out --drop-path"
                )
            preset = dataclasses.replace(preset, drop_path=0.0)
        given = {item.name: getattr(self, item.name) for item in dataclasses.fields(preset)}
        changes = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(preset, **changes)

    def _network(self, space: SearchSpace) -> NetworkConfig:
        known = space.trained_in or dict.fromkeys(
            PRESETS, get_preset(default_setting(space.name)).network
        )
        if self.preset not in known:
            raise InputError(
                f"the preset {self.preset} has no network of {space.name}",
                f"use --preset {' or '.join(known)}",
            )
        network = known[self.preset]
        space.architecture(space.unrank(0)[0], network)  # refuses spaces without networks
        for name in ("cells", "channels"):
            value = getattr(self, name)
            if value is not None:
                if not hasattr(network, name):
                    raise InputError(
                        f"{name} of a network of {space.name} is fixed", f"leave out --{name}"
                    )
                network = dataclasses.replace(network, **{name: value})
        return network


@dataclass(frozen=True)
class TrainingPlan:
    """What is trained, and how.

    Attributes:
        space: of the architecture.
        architecture: what is trained.
        network: the network around it, as the preset has it: classes and resolution are the data's.
        config: how it is trained.
        preset: what ``config`` and ``network`` began as.
    """

    space: SearchSpace
    architecture: Architecture
    network: NetworkConfig
    config: TrainingConfig
    preset: str

    @property
    def is_scaled_down(self) -> bool:
        """Whether less is trained, on less, than in the paper."""
        usual, network = PRESETS[self.preset], self.network
        full = self.space.trained_in.get(self.preset, network)
        return (
            self.preset == "cpu-small"
            or self.config.limit is not None
            or self.config.epochs < usual.epochs
            or any(
                getattr(network, name, 0) < getattr(full, name, 0) for name in ("cells", "channels")
            )
        )
