"""Everything that decides a search's outcome besides the data and the LPM, and its presets."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, get_args

from latkit.core.errors import InputError
from latkit.core.requests import MOST_COUNT
from latkit.search.bilevel import ORDERS
from latkit.search.estimators import DEFAULT_ESTIMATOR, ESTIMATORS
from latkit.search.objectives import OBJECTIVES, check_noise
from latkit.search.optimizers import OptimizerConfig
from latkit.search.penalty import EdgeSampling
from latkit.search.start import Start
from latkit.search.supernet import get_supernet, method_names

PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class SearchConfig:
    """A search's configuration; the defaults are the paper's for DARTS on CIFAR-10 (section 4.1).

    Attributes:
        method: how it is searched, one of ``method_names()``; with the space it names the supernet.
        order: 1 holds the weights fixed in the α-step; 2 unrolls one weight step.
        estimator: how LAT(α) and its gradient are estimated.
        edge_sampling: which edges the sub-networks of an estimate keep.
        samples: M, sub-networks per estimate of LAT(α).
        cost: the objective, one of ``OBJECTIVES``: what the LPM predicts, ``macs`` (Table 4), or of
            several devices the mean (``weighted-sum``) or the largest share of what is predicted
            of the space's reference (``worst-case``).
        also: references of the LPMs of those further devices.
        lambda_per_ms: λ of Eq. 3, whose unit is 1/cost: 1/ms where the objective is a latency.
            With ``macs`` it is Table 4's η, per million multiply-adds. None with a target.
        target_ms: predicted latency to arrive at, instead of a fixed λ; of an objective in ms only.
        lpm_noise: standard deviation of the noise added to every prediction, in its unit (Table 3).
        warmup_epochs: first epochs, in which α is frozen.
        precision: of the supernet: ``fp32``, or ``bf16`` by autocast. α, the losses and LAT(α)
            are single precision in both.
        stop_on_collapse: end with the last good cell when skip connections take over.
        max_skips: largest number of skip connections in the derived architecture (of DARTS the
            normal cell); None: any.
        cells, channels: of the supernet; a space may have them fixed.
        limit: images used; None for all. Half train the weights, half train α.
        start: the checkpoint of another search whose weights and α are the first ones; None: they
            are random. With it the weights may be frozen, by a ``weight_lr`` of 0.
    """

    method: str = "darts"
    order: int = 1
    cost: str = "predicted"
    also: tuple[str, ...] = ()
    estimator: str = DEFAULT_ESTIMATOR
    edge_sampling: str = "uniform"
    samples: int = 20
    lambda_per_ms: float | None = 0.2
    target_ms: float | None = None
    lpm_noise: float = 0.0
    warmup_epochs: int = 0
    precision: str = "fp32"
    stop_on_collapse: bool = False
    max_skips: int | None = None
    cells: int = 8
    channels: int = 16
    batch: int = 64
    epochs: int = 50
    limit: int | None = None
    seed: int = 0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    start: Start | None = None

    @property
    def frozen(self) -> bool:
        """Whether the weights stay as they begin, so that α alone is trained."""
        return self.optimizer.weight_lr == 0

    def to_dict(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        # Wherever its folder is.
        values["start"] = None if self.start is None else self.start.checkpoint
        # Through JSON, so that a configuration read back compares equal.
        content: dict[str, Any] = json.loads(json.dumps(values))
        return content

    def check(self, space: str = "darts") -> None:
        """Refuse what cannot work.

        Args:
            space: name of what is searched.

        Raises:
            InputError: a value cannot work, or the method is for other spaces.
            PluginError: a plug-in does not load.
        """
        for name, known in (
            ("method", method_names()),
            ("order", ORDERS),
            ("estimator", ESTIMATORS.names()),
            ("edge_sampling", get_args(EdgeSampling)),
            ("cost", OBJECTIVES.names()),
            ("precision", PRECISIONS),
        ):
            _one_of(name, getattr(self, name), known)
        supernet = get_supernet(self.method, space)
        ESTIMATORS.get(self.estimator)  # refuses a plug-in that does not load
        if self.order == 2 and self.precision != "fp32":
            # Its gradient of α was as wrong as it was large.
            raise InputError(
                f"second order takes differences that are lost in {self.precision}",
                "use --order 1, or --precision fp32",
            )
        if (self.lambda_per_ms is None) == (self.target_ms is None):
            raise InputError("a search has either a lambda or a target latency", "give one of them")
        several = OBJECTIVES.get(self.cost).several
        if bool(self.also) != several:
            named = " or ".join(_of_several())
            raise InputError(
                f"the cost {self.cost} is of {'several devices' if several else 'one device'}",
                f"use --also-device together with --cost {named}",
            )
        if self.lambda_per_ms is not None and not 0 <= self.lambda_per_ms < math.inf:
            raise InputError(f"lambda={self.lambda_per_ms} is not a coefficient", "use 0 or more")
        if self.target_ms is not None and not 0 < self.target_ms < math.inf:
            raise InputError(f"target_ms={self.target_ms} is not a latency", "use more than 0")
        check_noise(self.lpm_noise)
        for name in ("weight_lr", "arch_lr"):
            rate = getattr(self.optimizer, name)
            if not 0 < rate < math.inf and not (
                name == "weight_lr" and self.frozen and self.start is not None
            ):
                raise InputError(f"{name}={rate} is not a learning rate", "use more than 0")
        if self.frozen and self.order == 2:
            raise InputError(
                "second order looks ahead by a step of the weights, which are frozen",
                "use --order 1, or a --weight-lr of more than 0",
            )
        if self.frozen and self.warmup_epochs:
            raise InputError(
                "a warm-up trains the weights alone, which are frozen",
                "leave out --warmup-epochs, or use a --weight-lr of more than 0",
            )
        if self.max_skips is not None and self.max_skips < 0:
            raise InputError(f"max_skips={self.max_skips} is too small", "use 0 or more")
        if self.stop_on_collapse and supernet.most_skips is None:
            raise InputError(
                f"{self.method} has no criterion of collapse in {space}",
                "leave out --stop-on-collapse",
            )
        if (
            self.stop_on_collapse
            and self.max_skips is not None
            and self.max_skips <= (supernet.most_skips or 0)
        ):
            raise InputError(
                f"a cell of at most {self.max_skips} skip connections never counts as collapsed",
                "leave out --stop-on-collapse or --max-skips",
            )
        # Batch norm needs two images.
        least = {
            "samples": 1, "cells": 1, "channels": 1, "batch": 2, "epochs": 1, "warmup_epochs": 0,
        }  # fmt: skip
        for name, value in least.items():
            if getattr(self, name) < value:
                raise InputError(
                    f"{name}={getattr(self, name)} is too small", f"use at least {value}"
                )
            if getattr(self, name) > MOST_COUNT:
                raise InputError(
                    f"{name}={getattr(self, name)} is too large", f"use {MOST_COUNT} at most"
                )
        if self.warmup_epochs >= self.epochs:
            raise InputError(
                f"a warm-up of {self.warmup_epochs} of {self.epochs} epochs leaves none to search",
                "use more epochs or a shorter warm-up",
            )
        supernet.check(self)


def _one_of(name: str, value: object, known: Collection[object]) -> None:
    if value not in known:
        raise InputError(f"{name}={value} is unknown", f"use one of: {', '.join(map(str, known))}")


def _of_several() -> list[str]:
    """Objectives of several devices; plug-ins that do not load are left out."""
    broken = OBJECTIVES.broken()
    names = [name for name in OBJECTIVES.names() if name not in broken]
    return [name for name in names if OBJECTIVES.get(name).several]


PRESETS: dict[str, SearchConfig] = {
    "paper": SearchConfig(),
    # Scaled down for a few minutes on two CPU cores: a shallower, thinner supernet, few images and
    # epochs, larger learning rates so that both levels get somewhere in them, and a λ that keeps
    # α's few steps from being spent on latency alone.
    "cpu": SearchConfig(
        lambda_per_ms=0.02,
        cells=5,
        channels=8,
        epochs=4,
        limit=2048,
        optimizer=OptimizerConfig(arch_lr=0.02, weight_lr=0.1),
    ),
}


def with_rates(
    config: SearchConfig, weight_lr: float | None, arch_lr: float | None, batch: int
) -> SearchConfig:
    """A configuration with other learning rates, or with its own scaled to its batch.

    The paper's rates of PC-DARTS are those of DARTS with four times the batch: 4 times as large for
    the weights (SGD), twice for α (Adam). So the one scales linearly, the other by the square root.

    Args:
        config: the configuration.
        weight_lr, arch_lr: rates as they are to be; None: the configuration's, scaled.
        batch: the batch that the configuration's rates are for.
    """
    rates, times = config.optimizer, config.batch / batch
    optimizer = dataclasses.replace(
        rates,
        weight_lr=rates.weight_lr * times if weight_lr is None else weight_lr,
        arch_lr=rates.arch_lr * math.sqrt(times) if arch_lr is None else arch_lr,
    )
    return dataclasses.replace(config, optimizer=optimizer)


def preset(name: str, method: str, space: str = "darts") -> SearchConfig:
    """A preset's configuration for a method, whose supernet may change some of its values.

    Raises:
        InputError: one of them is unknown, or the method is for other spaces.
        PluginError: the supernet is a plug-in that does not load.
    """
    _one_of("preset", name, PRESETS)
    _one_of("method", method, method_names())
    changes = get_supernet(method, space).presets.get(name, {})
    return dataclasses.replace(PRESETS[name], method=method, **changes)
