"""The searches that the judge of fronts is given, at tiny sizes, and what they cost."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.front_costs import Found, Passes, account, passes_of_supernet, passes_of_sweep
from benchmarks.front_hypernetwork import Device, Hypernetwork, Training
from benchmarks.front_judge import CELLS, SPACE
from benchmarks.front_lpms import Tabulated, some
from benchmarks.front_searches import Kept, guarded, hypernetwork, predictors, sweep
from latkit.search.config import preset
from latkit.search.image_source import ImageData
from latkit.search.objectives import evaluate
from tests.benchmarks.front_tables import made_table

TABLE = made_table()
SMALL = dataclasses.replace(
    preset("cpu", "darts", SPACE.name), cells=3, channels=2, batch=8, epochs=2
)


def made_images() -> ImageData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return ImageData("made", images, torch.arange(40) % 2, ("a", "b"), flip=False)


def test_a_sweep_is_kept_search_by_search_and_goes_on(tmp_path: Path) -> None:
    path, head = tmp_path / "sweep.json", {"method": "sweep", "scale": 1}
    sweep(TABLE, SMALL, made_images(), Kept(path, head), weights=(0.0, 1.0))
    whole = json.loads(path.read_text())
    assert len(whole["searches"]) == 4
    # 20 images a half are 2 batches of 8; a step has a pass of α and a pass of the weights.
    steps = 2 * SMALL.epochs
    for search in whole["searches"]:
        assert search["passes"] == {"training": 2 * steps, "evaluation": 0, "images": 16 * steps}
    mean = TABLE.latency["one"][some(10, 0)].mean()
    assert whole["searches"][1]["lambda_per_ms"] == pytest.approx(1 / mean)

    path.write_text(json.dumps({**whole, "searches": whole["searches"][:3]}))
    sweep(TABLE, SMALL, made_images(), Kept(path, head), weights=(0.0, 1.0))
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
        "subnets": {"count": 100, "images": 32, "batch": 16, "noise_images": 4},
    }
    # 40 steps of 5 paths; 100 cells on 2 batches of 16, and on 4 images of noise.
    supernet = passes_of_supernet(result)
    assert supernet == Passes(300, 200, 200 * 8 + 3200 + 400)
    whole = passes_of_sweep(2 * CELLS, images=64, batch=8)  # 50 epochs of 4 steps of 2 passes
    assert whole == Passes(400 * 48, 0, 400 * 48 * 8)
    (tmp_path / "result.json").write_text(json.dumps(result))
    found = Found("sweep", {"c": {"one": np.array([1]), "two": np.array([2])}}, 4, whole, 10.0)
    costs = account([found], [tmp_path], devices=2)
    assert costs["sweep"]["cpu_seconds_per_device"] == 5.0
    assert costs["sweep"]["computed_for_all_targets"]["training"] == 12 * whole.training
    (row,) = costs["supernets"]
    ratio = row["over_computed_sweep_of_paper_epochs_on_the_supernet_images"]
    assert ratio == {"passes": 500 / whole.training, "images": supernet.images / whole.images}
    twelfth = row["over_computed_sweep_at_the_scale_it_was_run"]
    assert twelfth["passes"] == pytest.approx(ratio["passes"] / 12)
    assert (
        account([], [tmp_path], 2)["supernets"][0]["over_computed_sweep_at_the_scale_it_was_run"]
        is None
    )


def test_few_skip_connections_where_alpha_wants_many() -> None:
    alpha = torch.zeros(SPACE.num_edges, SPACE.num_operations)
    skip = SPACE.operations.index("skip_connect")
    alpha[:, skip] = 2.0
    row = SPACE.unrank(np.array([guarded(alpha)]))
    assert (row == skip).sum() == 2


def test_banks_are_mixed_by_attention() -> None:
    network = Hypernetwork(banks=2, features=4, preferences=3)
    with torch.no_grad():
        network.keys.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]]))
        network.tables[0], network.tables[1] = 4.0, 0.0
    share = np.e / (np.e + 1)
    alpha = network(torch.tensor([2.0, 5.0, 5.0, 5.0]), 1)  # its product with a key, over 2
    assert alpha.shape == (SPACE.num_edges, SPACE.num_operations)
    assert alpha.detach().numpy() == pytest.approx(4 * share)


def test_features_are_the_same_for_a_device_that_is_twice_as_slow() -> None:
    objective, latency = Tabulated("latency_ms", "ms", TABLE.latency["one"]), np.arange(1.0, 11)
    one, two = Device.of(latency, objective), Device.of(latency**2, objective)
    assert torch.allclose(one.features, two.features)
    assert float(one.features.mean()) == pytest.approx(0, abs=1e-6)
    assert (one.mean_ms, two.mean_ms) == (5.5, 38.5)


def test_a_hypernetwork_for_all_devices(tmp_path: Path) -> None:
    found = []
    for name in ("a.json", "b.json"):
        path = tmp_path / name
        for _ in range(2):  # the second time there is nothing left to do
            kept = Kept(path, {"method": "hypernetwork", "scale": 1})
            hypernetwork(TABLE, SMALL, made_images(), kept, weights=(0.0, 0.1, 1.0))
        (search,) = json.loads(path.read_text())["searches"]
        found.append(search["columns"])
    assert found[0] == found[1]
    (cells,) = found[0].values()
    assert {device: len(each) for device, each in cells.items()} == {"one": 3, "two": 3}
    steps = 2 * SMALL.epochs
    assert search["passes"] == {"training": 2 * steps, "evaluation": 0, "images": 16 * steps}


def test_a_hypernetwork_learns_what_takes_time_where_that_counts() -> None:
    latencies = predictors(TABLE, 0)
    devices = {
        name: Device.of(ms[some(10, 0)], latencies[name]) for name, ms in TABLE.latency.items()
    }
    rates = dataclasses.replace(SMALL.optimizer, arch_lr=0.3)
    config = dataclasses.replace(SMALL, epochs=12, optimizer=rates)
    training = Training(devices, (0.0, 1e3), config, made_images())
    training.run()
    for name, latency in latencies.items():
        predicted = evaluate(SPACE, latency, SPACE.unrank(np.arange(SPACE.size)))
        _, cell = training.cells(name)
        assert predicted[cell] < np.quantile(predicted, 0.1)
