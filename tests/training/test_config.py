"""Schedules by hand, presets as published, values that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from latkit.core.errors import InputError, LatkitError
from latkit.training.config import PRESETS, TrainingConfig
from latkit.training.request import TrainingRequest


def test_cosine() -> None:
    config = TrainingConfig(lr=0.1, epochs=4)
    rates = [config.learning_rate(epoch) for epoch in range(4)]
    # (1 + cos(0, 45, 90, 135 degrees)) / 20
    assert rates == pytest.approx([0.1, 0.08535534, 0.05, 0.01464466])


def test_warm_up_and_linear_decay() -> None:
    config = TrainingConfig(lr=0.5, epochs=10, warmup_epochs=5, schedule="linear")
    rates = [config.learning_rate(epoch) for epoch in range(10)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_drop_path_rises_linearly() -> None:
    config = TrainingConfig(drop_path=0.2, epochs=4)
    rates = [config.drop_path_probability(epoch) for epoch in range(4)]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.15])


def test_presets_as_published() -> None:
    cifar, imagenet = PRESETS["cifar"], PRESETS["imagenet"]
    assert (cifar.epochs, cifar.batch, cifar.lr, cifar.schedule) == (600, 128, 0.025, "cosine")
    assert (cifar.momentum, cifar.weight_decay, cifar.clip) == (0.9, 3e-4, 5)
    assert (cifar.drop_path, cifar.cutout, cifar.auxiliary_weight) == (0.2, 16, 0.4)
    assert (imagenet.epochs, imagenet.batch, imagenet.lr) == (250, 1024, 0.5)
    assert (imagenet.schedule, imagenet.warmup_epochs) == ("linear", 5)
    assert (imagenet.weight_decay, imagenet.label_smoothing) == (3e-5, 0.1)
    networks = [TrainingRequest("gdas", preset=name).plan().network for name in PRESETS]
    assert [(n.cells, n.channels, n.resolution) for n in networks[:2]] == [  # type: ignore[attr-defined]
        (20, 36, 32), (14, 48, 224),
    ]  # fmt: skip


def test_what_is_scaled_down() -> None:
    def scaled(**changes: Any) -> bool:
        return TrainingRequest("gdas", **changes).plan().is_scaled_down

    assert not scaled()
    assert not scaled(lr=0.1, epochs=700)
    assert scaled(preset="cpu-small")
    assert scaled(epochs=599)
    assert scaled(limit=1000)
    assert scaled(cells=8)


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 0.0}, {"lr": float("nan")}, {"epochs": 0}, {"epochs": 10**10}, {"batch": 1},
        {"warmup_epochs": 600}, {"schedule": "step"}, {"precision": "fp8"}, {"clip": -1.0},
        {"drop_path": 1.0}, {"label_smoothing": -0.1}, {"cutout": -1}, {"seeds": 0},
        {"seed": 2**32 - 1, "seeds": 2}, {"preset": "svhn"}, {"space": "nowhere"}, {"cells": 2},
        {"channels": 3}, {"space": "fbnet", "architecture": "fbnet_c", "drop_path": 0.1},
        {"space": "fbnet", "architecture": "fbnet_c", "channels": 6},
        {"space": "fbnet"}, {"space": "nasbench201"},
        {"space": "nasbench201", "preset": "imagenet"},
        {"space": "nasbench201", "architecture": "7", "auxiliary_weight": 0.4, "cells": 4},
        {"architecture": "darts_v9"}, {"weight_decay": float("inf")}, {"momentum": 1.0},
    ],
)  # fmt: skip
def test_values_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(LatkitError) as error:
        TrainingRequest(**{"architecture": "darts_v2", **changes}).plan()
    assert error.value.fix
    assert error.value.exit_code in (1, 2)
    if "architecture" not in changes:
        assert isinstance(error.value, InputError)


def test_what_networks_of_a_space_lack_is_left_out() -> None:
    plan = TrainingRequest("7", space="nasbench201").plan()
    assert plan.config.auxiliary_weight == 0
    assert plan.config.drop_path == 0.2
    plan = TrainingRequest("fbnet_c", space="fbnet").plan()
    assert plan.config.auxiliary_weight == plan.config.drop_path == 0
    assert plan.config.cutout == 16


def test_every_preset_has_a_network_of_fbnet() -> None:
    networks = [
        TrainingRequest("fbnet_c", space="fbnet", preset=name).plan().network for name in PRESETS
    ]
    assert [(n.channels, n.resolution) for n in networks] == [  # type: ignore[attr-defined]
        (16, 32), (16, 224), (8, 32),
    ]  # fmt: skip
    assert TrainingRequest("fbnet_a", space="fbnet", channels=8).plan().is_scaled_down
