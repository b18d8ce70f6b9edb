"""Retargeting from LPMs of the registry: requests, results, refusals."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

import latkit
from latkit.core.errors import InputError
from latkit.core.storage import Storage
from latkit.dataset import Target
from latkit.lpm.recipe import Recipe
from latkit.lpm.store import read_lpm, write_lpm
from latkit.lpm.training import train_lpm
from latkit.registry import Registry
from latkit.search.retarget import explore
from latkit.search.retarget.conditions import BEYOND
from latkit.spaces import get_space, parse_setting
from latkit.tasks.retarget import retarget
from latkit.tasks.retarget_request import RetargetRequest
from latkit.tasks.retarget_result import RetargetResult
from tests.support.accuracy import as_accuracy
from tests.support.commands import MICRO_TEXT, RunLatkit, check, ok
from tests.support.synthetic import MICRO, SPACE, both_dataset

LEAST_MS = 10 + 8 * 0.1  # of the formula's architectures


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
        {"run": made.parent / "d"},  # a dataset
        {"run": "nowhere/at-all"},
        {"device": ("c",)},
        {"device": ("a+energy_mj",)},
        {"space": "nasbench201"},
    ):
        with pytest.raises(InputError) as info:
            retarget(RetargetRequest(**{"run": made, "device": ("a",), **changes}))
        assert info.value.code == "input"
        assert "\n" not in str(info.value)
    assert not Path("retargets").exists()


def test_the_reach_that_is_named_is_what_the_lpm_is_relied_on_for(made: Path) -> None:
    """The LPM was trained on a part of what the formula's architectures take."""
    least, largest = latkit.load_lpm("a").card.dataset["latency_range_ms"]
    for change in ({"max_ms": (0.5,)}, {"target_ms": (500.0,)}):
        with pytest.raises(InputError) as info:
            latkit.retarget(made, device="a", **change)  # type: ignore[arg-type]
        found = re.search(r"reachable: ([\d.]+) to ([\d.]+)\)", info.value.cause)
        assert found is not None
        low, high = map(float, found.groups())
        assert least / BEYOND <= low * 1.001
        assert high <= largest * BEYOND * 1.001
        assert low == pytest.approx(LEAST_MS, rel=0.01)
    # What is named can be had.
    assert cost(latkit.retarget(made, device="a", max_ms=(low * 1.01,)), 0) <= low * 1.01


def test_lpms_of_other_settings_and_spaces(made: Path, registry_url: str) -> None:
    registry = Registry(registry_url)
    entry = registry.resolve("a", "darts")
    lpm, card = registry.load(entry)
    setting = MICRO.replace(batch=2)
    target = dataclasses.replace(card.target, device="c", setting=setting)
    registry.publish(lpm, dataclasses.replace(card, target=target))
    with pytest.raises(InputError, match=re.escape(setting.slug)):
        latkit.retarget(made, device=("a", "c"))
    space = parse_setting("nasbench201")
    target = Target("nasbench201", "d", "torch-cpu", space)
    registry.publish(lpm, dataclasses.replace(card, target=target))
    with pytest.raises(InputError, match="only of nasbench201") as info:
        latkit.retarget(made, device="d")
    assert "--space darts" in info.value.fix


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"method": "one-shot", "space": "darts"}, "has not ended"),
        ({"method": "pc-darts", "lpm": "p100"}, "a search for a device"),
        ({"genotype": "x"}, "no search"),
        (None, "holds no search"),
    ],
)
def test_runs_that_are_none(
    made: Path, latkit: RunLatkit, config: dict[str, Any] | None, says: str
) -> None:
    folder = made.with_name("other")
    folder.mkdir()
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    check(latkit, "retarget", folder, "--device", "a", says=(says, "Fix: "), code=2)


def test_a_run_by_its_reference(made: Path, registry_url: str) -> None:
    lpm, card = read_lpm(Storage(str(made.parent)), made.name)
    target = dataclasses.replace(card.target, device="one-shot", backend="supernet")
    registry = Registry(registry_url)
    registry.publish(lpm, dataclasses.replace(card, target=target))
    by_folder = latkit.retarget(made, device="a", max_ms=(20.0,), out="x")
    found = latkit.retarget("one-shot+accuracy_percent", device="a", max_ms=(20.0,), out="y")
    assert found.points == by_folder.points
    assert found.space == "darts"


def test_the_result_is_read_like_a_searchs(made: Path, latkit: RunLatkit) -> None:
    """By the commands that take an architecture; of a front by the point's name."""
    one = ok(latkit, "retarget", made, "--device", "a", "--max-ms", 20, "--out", "one")
    front = ok(latkit, "retarget", made, "--device", "a", "--front", 3, "--out", "front")
    predicted = ok(latkit, "predict", "--device", "a", "one/result.json", "front/result.json:p2")
    first, second = predicted["predictions"]
    assert first["arch"] == one["arch"]
    assert first["latency_ms"] == pytest.approx(one["points"][0]["costs"][0]["predicted_ms"])
    assert second["arch"] == front["points"][1]["arch"]
    assert ok(latkit, "draw", "one/result.json", "--out", "one.svg")
    exported = ok(latkit, "export", "front/result.json:p3", "--setting", MICRO_TEXT,
                  "--out", "net.onnx")  # fmt: skip
    assert exported["params"] == front["points"][2]["params"]


def test_the_command_prints_a_table(made: Path, latkit: RunLatkit) -> None:
    done = latkit("retarget", made, "--device", "a", "--max-ms", 20, "--confidence", 0.9)
    assert done.returncode == 0, done.stderr
    assert "predicted ms" in done.stdout
    assert Path("retargets/a/max-ms-20-confidence-0.9/result.json").exists()
