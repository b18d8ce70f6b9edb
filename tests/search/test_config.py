"""Configurations: the presets' numbers, and what cannot work."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from latkit.core.errors import InputError
from latkit.search.config import PRESETS, SearchConfig, preset, with_rates
from latkit.search.supernet.pc_darts import PCDartsSupernet


def test_the_paper_preset_of_darts_is_the_papers() -> None:
    paper = preset("paper", "darts")
    assert paper == SearchConfig()
    assert (paper.cells, paper.channels, paper.batch, paper.epochs) == (8, 16, 64, 50)
    assert (paper.samples, paper.lambda_per_ms, paper.limit) == (20, 0.2, None)
    assert paper.warmup_epochs == 0
    o = paper.optimizer
    assert (o.arch_lr, o.arch_betas, o.arch_weight_decay) == (3e-4, (0.5, 0.999), 1e-3)
    assert (o.weight_lr, o.momentum, o.weight_decay, o.gradient_clip) == (0.025, 0.9, 3e-4, 5.0)


def test_the_paper_preset_of_pc_darts_is_the_papers() -> None:
    """Section 4.1: what it does not name is as for DARTS."""
    darts, ours = preset("paper", "darts"), preset("paper", "pc-darts")
    assert (ours.method, ours.batch, ours.warmup_epochs) == ("pc-darts", 256, 15)
    assert (ours.optimizer.weight_lr, ours.optimizer.arch_lr) == (0.1, 6e-4)
    changed = {"method": "darts", "batch": 64, "warmup_epochs": 0, "optimizer": darts.optimizer}
    assert dataclasses.replace(ours, **changed) == darts
    assert dataclasses.replace(ours.optimizer, weight_lr=0.025, arch_lr=3e-4) == darts.optimizer


def test_a_configuration_survives_json() -> None:
    content = preset("cpu", "darts").to_dict()
    assert content["optimizer"]["arch_betas"] == [0.5, 0.999]
    assert content["lambda_per_ms"] == 0.02


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": "enas"}, "method=enas is unknown. Fix: use one of: darts"),
        ({"order": 3}, "order=3 is unknown. Fix: use one of: 1"),
        ({"estimator": "guess"}, "estimator=guess is unknown"),
        ({"edge_sampling": "all"}, "edge_sampling=all is unknown. Fix: use one of: uniform"),
        (
            {"precision": "bf16", "order": 2},
            "second order takes differences that are lost in bf16. Fix: use --order 1",
        ),
        ({"precision": "fp8"}, "precision=fp8 is unknown. Fix: use one of: fp32, bf16"),
        ({"lambda_per_ms": -1.0}, "lambda=-1.0 is not a coefficient"),
        ({"lambda_per_ms": float("nan")}, "lambda=nan is not a coefficient"),
        ({"lambda_per_ms": float("inf")}, "lambda=inf is not a coefficient"),
        ({"lambda_per_ms": None}, "either a lambda or a target"),
        ({"target_ms": 20.0}, "either a lambda or a target"),
        ({"channels": 0}, "channels=0 is too small"),
        ({"method": "pc-darts", "channels": 6}, "channels=6 does not fit pc-darts"),
        ({"cost": "guess"}, "cost=guess is unknown. Fix: use one of: predicted, energy, macs"),
        ({"cost": "worst-case"}, "the cost worst-case is of several devices"),
        ({"also": ("p100",)}, "the cost predicted is of one device"),
        ({"lpm_noise": -1.0}, "-1.0 is no standard deviation"),
        ({"lpm_noise": float("nan")}, "nan is no standard deviation"),
        ({"target_ms": float("nan"), "lambda_per_ms": None}, "target_ms=nan is not a latency"),
        ({"channels": 10**30}, "is too large. Fix: use 1000000000 at most"),
        ({"cells": 2}, "cells=2 is too small. Fix: use at least 3"),
        ({"batch": 1}, "batch=1 is too small"),
        ({"epochs": 0}, "epochs=0 is too small"),
        ({"warmup_epochs": -1}, "warmup_epochs=-1 is too small"),
        ({"warmup_epochs": 50}, "a warm-up of 50 of 50 epochs leaves none"),
    ],
)
def test_values_that_cannot_work(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as raised:
        dataclasses.replace(SearchConfig(), **changes).check()
    assert says in str(raised.value)


@pytest.mark.parametrize("rate", ["weight_lr", "arch_lr"])
@pytest.mark.parametrize("value", [0.0, -0.1, float("nan"), float("inf")])
def test_learning_rates_that_cannot_work(rate: str, value: float) -> None:
    optimizer = dataclasses.replace(SearchConfig().optimizer, **{rate: value})
    with pytest.raises(InputError, match=rate):
        dataclasses.replace(SearchConfig(), optimizer=optimizer).check()


def test_learning_rates_scale_with_the_batch_as_the_papers_do() -> None:
    """From DARTS's batch to that of PC-DARTS."""
    darts, pc_darts = preset("paper", "darts"), preset("paper", "pc-darts")
    larger = dataclasses.replace(darts, batch=pc_darts.batch)
    assert with_rates(larger, None, None, darts.batch).optimizer == pc_darts.optimizer
    smaller = dataclasses.replace(pc_darts, batch=darts.batch)
    assert with_rates(smaller, None, None, pc_darts.batch).optimizer == darts.optimizer
    given = with_rates(larger, 0.3, None, darts.batch).optimizer
    assert (given.weight_lr, given.arch_lr) == (0.3, pc_darts.optimizer.arch_lr)
    given = with_rates(larger, None, 0.3, larger.batch).optimizer
    assert (given.weight_lr, given.arch_lr) == (darts.optimizer.weight_lr, 0.3)


def test_a_method_without_values_of_its_own_has_those_of_the_preset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PCDartsSupernet, "presets", {"cpu": {"batch": 32}})
    assert preset("paper", "pc-darts") == dataclasses.replace(PRESETS["paper"], method="pc-darts")
    changed = dataclasses.replace(PRESETS["cpu"], method="pc-darts", batch=32)
    assert preset("cpu", "pc-darts") == changed


def test_unknown_presets() -> None:
    with pytest.raises(InputError, match="preset=gpu is unknown"):
        preset("gpu", "darts")
    with pytest.raises(InputError, match="method=enas is unknown"):
        preset("cpu", "enas")
