"""A request for a search, and the configurations that follow from it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latkit.core.errors import InputError
from latkit.core.requests import check_seed, check_types, set_paths, set_tuples
from latkit.search.config import SearchConfig, preset, with_rates
from latkit.search.earlier import EarlierSearch
from latkit.search.image_source import DataOptions
from latkit.search.oneshot import ONE_SHOT
from latkit.search.supernet import default_method, method_names
from latkit.search.sweep import Search, plan_sweep
from latkit.spaces import SPACES

# Changes that are no fields of a configuration.
_RATES = ("weight_lr", "arch_lr", "scale_lr")


@dataclass(frozen=True)
class SearchRequest:
    """A search, or a sweep of several.

    Attributes:
        device: reference of the LPM to search with: device[/backend[/setting]][@version]; None for
            the method ``one-shot``, which knows no device.
        also: references of the LPMs of further devices; see ``SearchConfig.cost``.
        space: name of the search space.
        data: name of an image source, or a path that one recognises.
        data_options: how images are read.
        out: folder of the search; None: ``searches/DEVICE``, or ``searches/one-shot-SPACE``.
        preset: of the configuration, ``paper`` or ``cpu``.
        start_from: folder of a finished or interrupted search, whose weights and α are the first
            ones; its configuration then stands for the preset's, with frozen weights and few
            epochs (``latkit.search.earlier``), and λ or a target has to be given. Space and images
            have to be its own. None: begin at random.
        method: how it is searched; None: the first method for the space.
        changes: values of the configuration instead of the preset's, by their names in
            ``SearchConfig`` (of one-shot in ``OneShotConfig``); of the former besides ``weight_lr``
            and ``arch_lr`` for the learning rates, and ``scale_lr`` to scale the preset's with the
            batch.
        sweep_lambda: search once for each of these λ; None: no sweep.
        sweep_target_ms: search once for each of these targets; None: no sweep.
        jobs: searches of a sweep at once; None: the cores, on a GPU 1.
        fleet: of ``one-shot``, workers that evaluate sub-networks: the address of a cluster of Ray,
            or ``auto``, the cores or GPUs of this machine. None: this process evaluates.
        tensorboard: whether scalars are written to ``out``/tensorboard too.
        registry: URL of the LPMs; None: the default one.
    """

    device: str | None = None
    also: tuple[str, ...] = ()
    space: str = "darts"
    data: str = "digits"
    data_options: DataOptions = field(default_factory=DataOptions)
    out: Path | None = None
    preset: str = "paper"
    start_from: Path | None = None
    method: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    sweep_lambda: tuple[float, ...] | None = None
    sweep_target_ms: tuple[float, ...] | None = None
    jobs: int | None = None
    fleet: str | None = None
    tensorboard: bool = False
    registry: str | None = None

    def __post_init__(self) -> None:
        set_paths(self, "out", "start_from")
        set_tuples(self, "also", "sweep_lambda", "sweep_target_ms")
        object.__setattr__(self, "data", os.fspath(self.data))

    @property
    def has_weight(self) -> bool:
        """Whether it names a λ or a target, rather than leave it to the preset."""
        named = {"lambda_per_ms", "target_ms"} & set(self.changes)
        return bool(named) or self.sweep_lambda is not None or self.sweep_target_ms is not None

    def plan(self) -> tuple[SearchConfig, list[Search] | None]:
        """The configuration, and the searches of a sweep.

        Raises:
            InputError: values exclude each other, or one cannot work, or ``start_from`` holds no
                search that fits.
            SearchError: the configuration in ``start_from`` is corrupt.
            LatkitError: a file of that cannot be read.
            PluginError: a plug-in does not load.
        """
        methods = (*method_names(), ONE_SHOT)
        if self.method not in (None, *methods):
            raise InputError(
                f"method={self.method} is unknown", f"use one of: {', '.join(methods)}"
            )
        if self.fleet is not None:
            raise InputError(
                "--fleet evaluates the sub-networks of a one-shot search",
                "leave it out, or use --method one-shot",
            )
        if self.device is None:
            raise InputError(
                "a search needs the LPM of a device",
                "name one by --device, or use --method one-shot",
            )
        changes = dict(self.changes)
        self._check_names(changes)
        weights = [name in changes for name in ("lambda_per_ms", "target_ms")]
        sweeps = [values is not None for values in (self.sweep_lambda, self.sweep_target_ms)]
        if sum(weights) + sum(sweeps) > 1:
            raise InputError(
                "--lambda, --target-ms and the sweeps exclude each other", "give one of them"
            )
        weight_lr, arch_lr = changes.pop("weight_lr", None), changes.pop("arch_lr", None)
        scale_lr = changes.pop("scale_lr", False)
        if "target_ms" in changes:
            changes["lambda_per_ms"] = None
        if self.also:
            changes = {"cost": "weighted-sum", **changes, "also": self.also}
        SPACES.check(self.space)
        usual = self._usual()
        check_types(SearchConfig, changes)
        config = dataclasses.replace(usual, **changes)
        config = with_rates(config, weight_lr, arch_lr, usual.batch if scale_lr else config.batch)
        config.check(self.space)
        check_seed(config.seed)
        if self.sweep_lambda is not None:
            return config, plan_sweep(config, "lambda", self.sweep_lambda, self.space)
        if self.sweep_target_ms is not None:
            return config, plan_sweep(config, "target", self.sweep_target_ms, self.space)
        if self.jobs is not None:
            raise InputError("--jobs counts the searches of a sweep", "add --sweep-lambda")
        return config, None

    def _usual(self) -> SearchConfig:
        """The configuration that ``changes`` change."""
        if self.start_from is None:
            method = default_method(self.space) if self.method is None else self.method
            return preset(self.preset, method, self.space)
        earlier = EarlierSearch.read(self.start_from)
        named = {} if self.method is None else {"method": self.method}
        earlier.check(self.space, {**self.changes, **named})
        if self.preset != SearchRequest.preset:
            raise InputError(
                f"a search from {self.start_from} has its values, not those of a preset",
                "leave out --preset",
            )
        if not self.has_weight:
            raise InputError(
                f"the lambda or target of {self.start_from} is that of its device",
                "give --target-ms, or --lambda, or a sweep of one of them",
            )
        return earlier.usual()

    @staticmethod
    def _check_names(changes: Mapping[str, Any]) -> None:
        fields = {field.name for field in dataclasses.fields(SearchConfig)}
        known = sorted({*fields, *_RATES} - {"optimizer", "also", "method", "start"})
        for name in changes:
            if name not in known:
                raise InputError(f"a search has no value {name}", f"use one of: {', '.join(known)}")
