"""Retargeting from LPMs of the registry: requests, results, refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import latkit
from latkit.core.errors import InputError
from latkit.core.storage import Storage
from latkit.lpm.recipe import Recipe
from latkit.lpm.store import write_lpm
from latkit.lpm.training import train_lpm
from latkit.registry import Registry
from latkit.search.retarget import explore
from latkit.spaces import get_space
from latkit.tasks.retarget import retarget
from latkit.tasks.retarget_request import RetargetRequest
from latkit.tasks.retarget_result import RetargetResult
from tests.support.accuracy import as_accuracy
from tests.support.synthetic import MICRO, SPACE, both_dataset

LATENCY_MS = (10, 50)  # of the formula's architectures, at least and at most


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(explore, "EVALUATIONS", 2500)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def made(tmp_path: Path, registry_url: str) -> Path:
    """Latency and energy LPMs of two devices, and an accuracy LPM's folder."""
    registry = Registry(registry_url)
    dataset = both_dataset(tmp_path / "d", 60)
    for quantity in ("latency_ms", "energy_mj"):
        lpm = train_lpm(dataset, Recipe("op-count", quantity=quantity))
        for device in ("a", "b"):
            target = dataclasses.replace(lpm.card.target, device=device)
            registry.publish(lpm.lpm, dataclasses.replace(lpm.card, target=target))
    accuracy = as_accuracy(lpm)
    (tmp_path / "accuracy").mkdir()
    write_lpm(Storage(str(tmp_path)), "accuracy", accuracy.lpm, accuracy.card)
    return tmp_path / "accuracy"


def cost(result: RetargetResult, point: int, quantity: str = "latency_ms") -> float:
    return next(c.predicted for c in result.points[point].costs if c.quantity == quantity)


def test_from_the_folder_of_a_search(made: Path) -> None:
    """As a one-shot search leaves it, through the front door."""
    run = made.with_name("run")
    run.mkdir()
    made.rename(run / "lpm")
    found = latkit.retarget(run, device="a", max_ms=(20,))
    assert found.accuracy == str(run / "lpm")
    assert cost(found, 0) <= 20
    front = latkit.retarget(latkit.RetargetRequest(run, ("a",)), front=3)
    assert len(front.points) == 3


def test_the_most_accurate_within_limits(made: Path) -> None:
    free = retarget(RetargetRequest(made, ("a",), max_ms=100.0))
    limited = retarget(RetargetRequest(made, ("a",), max_ms=20.0))
    (point,) = limited.points
    assert cost(limited, 0) <= 20
    assert point.accuracy_percent < free.points[0].accuracy_percent
    row = SPACE.parse(point.arch)
    assert point.arch_id == SPACE.rank(row)[0]
    size = get_space("darts").analytic_table(MICRO.network).costs(row)[0]
    assert (point.macs, point.params) == (size.macs, size.params)
    small = retarget(
        RetargetRequest(made, ("a",), max_params_millions=point.params / 1e6 * 0.9, max_ms=20.0)
    )
    assert small.points[0].params <= 0.9 * point.params
    sure = retarget(RetargetRequest(made, ("a",), max_ms=20.0, confidence=0.9))
    (latency,) = sure.points[0].costs
    assert latency.predicted + latency.predicted_std <= 20 + 1e-6


def test_near_a_target_on_two_devices_and_within_an_energy(made: Path) -> None:
    result = retarget(RetargetRequest(made, ("a", "b"), target_ms=20.0, max_mj=(80.0, 90.0)))
    (point,) = result.points
    assert [c.quantity for c in point.costs] == ["latency_ms"] * 2 + ["energy_mj"] * 2
    assert cost(result, 0) == pytest.approx(20, rel=0.05)
    assert cost(result, 0, "energy_mj") <= 80


def test_a_front_is_a_result_and_json(made: Path) -> None:
    result = retarget(RetargetRequest(str(made), "a", front=5))  # type: ignore[arg-type]
    times = [cost(result, index) for index in range(5)]
    accuracies = [point.accuracy_percent for point in result.points]
    assert times == sorted(times)
    assert accuracies == sorted(accuracies)
    content = json.loads((result.out / "result.json").read_text())
    assert content == json.loads(json.dumps(result.to_dict()))
    assert [point["name"] for point in content["points"]] == ["p1", "p2", "p3", "p4", "p5"]
    (latency,) = content["points"][0]["costs"]
    assert (latency["cost"], latency["unit"]) == ("latency_ms", "ms")
    assert latency["predicted_ms"] == times[0]
    assert latency["measured_ms"] is None
    assert not content["exhaustive"]


@pytest.mark.parametrize(
    "changes",
    [
        {"device": ()},
        {"max_ms": (1.0, 2.0)},
        {"front": 0},
        {"front": 3, "target_ms": 20.0},
        {"confidence": 0.3},
        {"confidence": 1.0},
        {"seed": -1},
    ],
)
def test_requests_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        RetargetRequest(**{"run": "x", "device": ("a",), **changes})


def test_what_does_not_fit_is_refused(made: Path) -> None:
    for changes in (
        {"max_ms": 1.0},  # nothing is so fast
        {"run": "a"},  # an LPM of the latency
        {"device": ("c",)},
        {"device": ("a+energy_mj",)},
        {"space": "nasbench201"},
    ):
        with pytest.raises(InputError) as info:
            retarget(RetargetRequest(**{"run": made, "device": ("a",), **changes}))
        assert info.value.code == "input"
        assert "\n" not in str(info.value)
