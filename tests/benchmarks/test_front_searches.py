"""The searches that the judge of fronts is given, at tiny sizes, and what they cost."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import front_hypernetwork
from benchmarks.front_costs import Found, Passes, account, passes_of_supernet, passes_of_sweep
from benchmarks.front_hypernetwork import Device, Training, drawn, straight_through
from benchmarks.front_judge import CELLS, SPACE
from benchmarks.front_lpms import Tabulated, some
from benchmarks.front_searches import Kept, guarded, hypernetwork, predictors, sweep
from latkit.search.config import preset
from latkit.search.image_source import ImageData
from latkit.search.objectives import evaluate
from latkit.search.oneshot.config import preset as one_shot_preset
from tests.benchmarks.front_tables import made_table

TABLE = made_table()
SMALL = {"cells": 3, "channels": 2, "batch": 8, "epochs": 3}
SWEEP = dataclasses.replace(preset("cpu", "darts", SPACE.name), **SMALL)
ONE_SHOT = dataclasses.replace(one_shot_preset("cpu", SPACE.name), **SMALL)


def made_images() -> ImageData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return ImageData("made", images, torch.arange(40) % 2, ("a", "b"), flip=False)


def test_a_sweep_is_kept_search_by_search_and_goes_on(tmp_path: Path) -> None:
    path, head = tmp_path / "sweep.json", {"method": "sweep", "scale": 1}
    sweep(TABLE, SWEEP, made_images(), Kept(path, head), weights=(0.0, 1.0))
    whole = json.loads(path.read_text())
    assert len(whole["searches"]) == 4
    # 20 images a half are 2 batches of 8; a step has a pass of α and a pass of the weights.
    steps = 2 * SWEEP.epochs
    for search in whole["searches"]:
        assert search["passes"] == {"training": 2 * steps, "evaluation": 0, "images": 16 * steps}
    mean = TABLE.latency["one"][some(10, 0)].mean()
    assert whole["searches"][1]["lambda_per_ms"] == pytest.approx(1 / mean)

    path.write_text(json.dumps({**whole, "searches": whole["searches"][:3]}))
    sweep(TABLE, SWEEP, made_images(), Kept(path, head), weights=(0.0, 1.0))
    again = json.loads(path.read_text())
    for search in (*whole["searches"], *again["searches"]):
        del search["cpu_seconds"]
    assert again == whole
    with pytest.raises(SystemExit, match="other searches"):
        Kept(path, {"method": "sweep", "scale": 2})


def test_a_column_has_the_cells_of_all_searches(tmp_path: Path) -> None:
    passes = {"training": 8, "evaluation": 0, "images": 64}
    searches = [
        {"columns": {"c": {"one": cells}}, "passes": passes, "cpu_seconds": 1.5}
        for cells in ([5, 3], [3])
    ]
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps({"method": "sweep", "searches": searches}))
    found = Found.read(path)
    assert found.columns["c"]["one"].tolist() == [3, 5]
    assert (found.searches, found.passes, found.cpu_seconds) == (2, Passes(16, 0, 128), 3.0)


def test_costs_by_hand(tmp_path: Path) -> None:
    result = {
        "config": {"epochs": 10, "batch": 8, "paths": 5},
        "data": {"images": 64},
        "subnets": {"count": 100, "images": 32, "batch": 16},
    }
    supernet = passes_of_supernet(result)  # 40 steps of 5 paths; 100 cells on 2 batches of 16
    assert supernet == Passes(200, 200, 200 * 8 + 3200)
    whole = passes_of_sweep(2 * CELLS, images=64, batch=8)  # 50 epochs of 4 steps of 2 passes
    assert whole == Passes(400 * 48, 0, 400 * 48 * 8)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result))
    found = Found("sweep", {"c": {"one": np.array([1]), "two": np.array([2])}}, 4, whole, 10.0)
    costs = account([found], [path], devices=2)
    assert costs["sweep"]["cpu_seconds_per_device"] == 5.0
    assert costs["sweep"]["computed_for_all_targets"]["training"] == 12 * whole.training
    (row,) = costs["supernets"]
    ratio = row["over_computed_sweep_of_paper_epochs_on_the_supernet_images"]
    assert ratio == {"passes": 400 / whole.training, "images": supernet.images / whole.images}
    twelfth = row["over_computed_sweep_at_the_scale_it_was_run"]
    assert twelfth["passes"] == pytest.approx(ratio["passes"] / 12)
    assert (
        account([], [path], 2)["supernets"][0]["over_computed_sweep_at_the_scale_it_was_run"]
        is None
    )


def test_few_skip_connections_where_alpha_wants_many() -> None:
    alpha = torch.zeros(SPACE.num_edges, SPACE.num_operations)
    skip = SPACE.operations.index("skip_connect")
    alpha[:, skip] = 2.0
    row = SPACE.unrank(np.array([guarded(alpha)]))
    assert (row == skip).sum() == 2


def test_sampled_operations_have_the_gradient_of_the_expectation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By enumeration: ReinMax's is exact for quadratic functions (Liu et al. 2023, Theorem 3.1)."""
    alpha = torch.tensor([[0.3, -0.7, 1.1]], dtype=torch.float64, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    linear, square = torch.tensor([1.0, 5.0, -2.0]).double(), torch.randn(3, 3).double()

    def function(x: Tensor) -> Tensor:
        return (x @ linear + ((x @ (square + square.T)) * x).sum(-1)).sum()

    mean = torch.zeros_like(alpha)
    probabilities = alpha.detach().softmax(-1)[0]
    for operation, probability in enumerate(probabilities):
        one_hot = torch.eye(3).double()[[operation]]
        monkeypatch.setattr(front_hypernetwork, "drawn", lambda *_, one_hot=one_hot: one_hot)
        sample = straight_through(alpha, generator)
        assert torch.allclose(sample, one_hot)
        (gradient,) = torch.autograd.grad(function(sample), alpha)
        mean += probability * gradient
    values = torch.stack([function(row) for row in torch.eye(3).double()])
    (exact,) = torch.autograd.grad(alpha.softmax(-1)[0] @ values, alpha)
    assert torch.allclose(mean, exact)


def test_operations_are_drawn_by_their_probabilities() -> None:
    alpha = torch.tensor([[0.0, 50.0, 0.0]]).expand(6, 3)
    one_hot = drawn(alpha, torch.Generator().manual_seed(0))
    assert one_hot.tolist() == [[0, 1, 0]] * 6


def test_latency_is_normalised_by_all_cells() -> None:
    latency = TABLE.latency["two"]
    device = Device.of(latency[:10], Tabulated("latency_ms", "ms", latency))
    generator = torch.Generator().manual_seed(0)
    for cell, value in ((latency.argmin(), 0.0), (latency.argmax(), 1.0)):
        row = SPACE.unrank(np.array([cell]))
        alpha = 100 * torch.from_numpy(SPACE.encode(row)).view(SPACE.num_edges, -1)
        assert float(device.normalised(alpha, generator)) == pytest.approx(value, abs=1e-5)
    assert float(device.features.mean()) == pytest.approx(0, abs=1e-6)


def test_a_hypernetwork_for_all_devices(tmp_path: Path) -> None:
    found = []
    for name in ("a.json", "b.json"):
        path = tmp_path / name
        for _ in range(2):  # the second time there is nothing left to do
            kept = Kept(path, {"method": "hypernetwork", "scale": 1})
            hypernetwork(TABLE, ONE_SHOT, made_images(), kept)
        (search,) = json.loads(path.read_text())["searches"]
        found.append(search["columns"])
    assert found[0] == found[1]
    (cells,) = found[0].values()
    assert {device: len(each) for device, each in cells.items()} == {"one": CELLS, "two": CELLS}
    steps = 2 * ONE_SHOT.epochs
    assert search["passes"] == {"training": 2 * steps, "evaluation": 0, "images": 16 * steps}


def test_a_hypernetwork_learns_that_operations_take_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_hypernetwork, "RATE", 0.03)
    latencies = predictors(TABLE, 0)
    devices = {
        name: Device.of(ms[some(10, 0)], latencies[name]) for name, ms in TABLE.latency.items()
    }
    training = Training(devices, dataclasses.replace(ONE_SHOT, epochs=12), made_images())
    training.run()
    for name, latency in latencies.items():
        predicted = evaluate(SPACE, latency, SPACE.unrank(np.arange(SPACE.size)))
        (cell,) = training.cells(name, [0.0])
        assert predicted[cell] < np.quantile(predicted, 0.1)
