"""Searches of the spaces other than DARTS by latkit's own supernets, from requests to results."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from latkit.core.errors import InputError, Interrupted
from latkit.core.quantities import LATENCY
from latkit.lpm.training import TrainedLPM
from latkit.registry import Registry
from latkit.search.checkpoint import CHECKPOINT
from latkit.search.collapse import skips
from latkit.search.config import SearchConfig
from latkit.search.data import ImageData, load_data
from latkit.search.decode import cost_range
from latkit.search.epochs import SearchOutcome
from latkit.search.objectives import PredictedObjective
from latkit.search.optimizers import OptimizerConfig
from latkit.search.request import SearchRequest
from latkit.search.result import SearchResult, SweepResult
from latkit.search.run import search
from latkit.search.session import run_search
from latkit.search.supernet import default_method, get_supernet
from latkit.spaces import Setting, get_preset, get_space
from tests.search.test_mixtures import config_of, made_supernet
from tests.support.commands import RunLatkit, check, ok
from tests.support.places import SHARED
from tests.support.synthetic import formula_lpm, formula_values

SETTING_TEXTS = {
    "nasbench201": "nasbench201,cells=3,channels=2,resolution=8",
    "fbnet": "fbnet-cpu,channels=4,resolution=8",
}
# What each operation adds, in milliseconds; skips, the cheapest, are so by far: Adam's first steps
# raise all α of what costs less than the mean alike.
OPERATION_MS = {
    "nasbench201": (3.0, 0.1, 3.2, 3.4, 3.1),
    "fbnet": (3.0, 3.1, 3.2, 3.4, 3.0, 3.1, 3.3, 3.5, 0.1),
}
SHORT = {"batch": 8, "epochs": 2, "limit": 32}

spaces = pytest.mark.parametrize("space", list(OPERATION_MS))


def setting_of(space: str) -> Setting:
    name, _, changes = SETTING_TEXTS[space].partition(",")
    return get_preset(name).with_text(changes)


@pytest.fixture(scope="session")
def lpms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedLPM]:
    """Of each space, by a formula."""
    folder = tmp_path_factory.mktemp("formula")
    return {s: formula_lpm(folder / s, setting_of(s), OPERATION_MS[s]) for s in OPERATION_MS}


@pytest.fixture(scope="session")
def digits() -> ImageData:
    return load_data("digits", SHORT["limit"], 0)


def short(space: str, **changes: Any) -> SearchConfig:
    optimizer = OptimizerConfig(arch_lr=0.5, weight_lr=0.05)
    values = {**SHORT, "optimizer": optimizer, **changes}
    return dataclasses.replace(config_of(space), **values)


def run(
    out: Path, space: str, lpm: TrainedLPM, data: ImageData, config: SearchConfig, **more: Any
) -> SearchOutcome:
    return run_search(config, get_space(space), lpm.lpm, "made", data, out, **more)


# --- the search itself ---------------------------------------------------------------------------


@spaces
def test_a_large_lambda_finds_the_cheapest_and_stopping_is_bitwise(
    space: str, tmp_path: Path, lpms: dict[str, TrainedLPM], digits: ImageData
) -> None:
    there = get_space(space)
    low = cost_range(there, PredictedObjective(lpms[space].lpm)).low_row
    config = short(space, epochs=1, lambda_per_ms=100.0)
    whole = run(tmp_path / "a", space, lpms[space], digits, config)
    assert (there.row_of(whole.architecture)[0] == low).all()
    predicted = formula_values(low, OPERATION_MS[space])
    assert whole.predicted_ms == pytest.approx(predicted, rel=1e-3)
    steps: list[object] = []
    with pytest.raises(Interrupted):
        run(tmp_path / "b", space, lpms[space], digits, config, on_step=steps.append,
            stop=lambda: True)  # fmt: skip
    assert len(steps) == 1  # of two in the epoch
    resumed = run(tmp_path / "b", space, lpms[space], digits, config)
    assert resumed.architecture == whole.architecture
    files = [(tmp_path / name / CHECKPOINT).read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_without_a_lambda_something_else_is_found(
    tmp_path: Path, lpms: dict[str, TrainedLPM], digits: ImageData
) -> None:
    config = short("nasbench201", lambda_per_ms=0.0)
    outcome = run(tmp_path / "s", "nasbench201", lpms["nasbench201"], digits, config)
    assert set(outcome.architecture.operations) != {"skip_connect"}  # type: ignore[attr-defined]


@spaces
def test_a_target_by_second_order(
    space: str, tmp_path: Path, lpms: dict[str, TrainedLPM], digits: ImageData
) -> None:
    reach = cost_range(get_space(space), PredictedObjective(lpms[space].lpm))
    target = 0.6 * reach.low + 0.4 * reach.high
    config = short(space, order=2, epochs=1, batch=16, lambda_per_ms=None, target_ms=target)
    outcome = run(tmp_path / "s", space, lpms[space], digits, config)
    assert outcome.on_target
    assert outcome.cost == pytest.approx(target, rel=0.05001)
    for outside in (0.9 * reach.low, 1.1 * reach.high):
        with pytest.raises(InputError):
            run(tmp_path / "t", space, lpms[space], digits,
                dataclasses.replace(config, target_ms=outside))  # fmt: skip


def test_a_limit_of_skips(tmp_path: Path, lpms: dict[str, TrainedLPM], digits: ImageData) -> None:
    config = short("nasbench201", lambda_per_ms=100.0, max_skips=1)
    outcome = run(tmp_path / "s", "nasbench201", lpms["nasbench201"], digits, config)
    assert str(outcome.architecture).count("skip_connect") == 1


def test_a_limit_of_skips_in_fbnet() -> None:
    supernet, space = made_supernet("fbnet"), get_space("fbnet")
    with torch.no_grad():
        supernet.alpha[:, space.operations.index("skip")] += 9
    for limit, count in ((None, 22), (3, 3)):
        supernet.max_skips = limit
        assert skips(space, space.operations_of(space.row_of(supernet.derive()))) == count
    supernet.max_skips = None


def test_the_guard_against_collapse(
    tmp_path: Path, lpms: dict[str, TrainedLPM], digits: ImageData
) -> None:
    config = short(
        "nasbench201", lambda_per_ms=100.0, epochs=3, stop_on_collapse=True, seed=1,
        optimizer=OptimizerConfig(arch_lr=2e-4),
    )  # fmt: skip
    outcome = run(tmp_path / "s", "nasbench201", lpms["nasbench201"], digits, config)
    assert outcome.collapsed
    assert outcome.epoch < len(outcome.history)
    assert str(outcome.architecture).count("skip_connect") <= 2


# --- requests and commands -----------------------------------------------------------------------


@pytest.fixture
def published(registry_url: str, lpms: dict[str, TrainedLPM]) -> None:
    for made in lpms.values():
        Registry(registry_url).publish(made.lpm, made.card)


def request(out: Path, space: str, **more: Any) -> SearchRequest:
    changes = {**SHORT, "epochs": 1, "channels": 4, **more.pop("changes", {})}
    return SearchRequest("formula", space=space, preset="cpu", out=out, changes=changes, **more)


@spaces
@pytest.mark.usefixtures("published")
def test_from_the_command_line(space: str, latkit: RunLatkit, tmp_path: Path) -> None:
    assert default_method(space) == "darts"
    result = ok(
        latkit, "search", "--space", space, "--device", "formula", "--preset", "cpu", "--channels",
        4, "--limit", 32, "--batch", 8, "--epochs", 1, "--lambda", 0.02, "--out", "found",
    )  # fmt: skip
    there = get_space(space)
    row = there.parse(result["genotype"])
    assert (result["config"]["method"], result["arch"]) == ("darts", result["genotype"])
    assert result["found"]["predicted_ms"] == pytest.approx(
        formula_values(row, OPERATION_MS[space])[0], rel=1e-3
    )
    assert result["found"]["measured_ms"] is None  # nobody's hardware
    assert result["found"]["macs"] == result["found_genotype"]["macs"] > 0
    name = {"nasbench201": "cell", "fbnet": "layers"}[space]
    history = pq.read_table("found/history.parquet").to_pylist()
    assert history[0]["genotype"] == result["genotype"]
    assert history[0][f"alpha_entropy_{name}"] <= np.log(there.num_operations)
    operations = there.operations_of(row)
    assert history[0][f"skip_share_{name}"] == skips(there, operations) / len(operations)
    assert Path("found/cells.txt").read_text().strip() == there.draw(there.architecture(
        row[0], setting_of(space).network
    ))  # fmt: skip
    exported = ok(latkit, "export", "found/result.json", "--setting", SETTING_TEXTS[space],
                  "--out", "net.onnx")  # fmt: skip
    assert exported["genotype"] == result["genotype"]
    assert ok(latkit, "predict", "--space", space, "--device", "formula", "found/result.json")
    assert latkit("draw", "found/result.json", "--out", "found.svg").returncode == 0
    assert latkit("report", "found", "--out", "report.html").returncode == 0
    page = Path("report.html").read_text()
    assert f"The {name} found by" in page
    assert "is not drawn" not in page


@pytest.mark.parametrize("cost", ["macs", "energy", "weighted-sum", "worst-case"])
@pytest.mark.usefixtures("published")
def test_objectives(cost: str, tmp_path: Path, registry_url: str) -> None:
    space = "nasbench201"
    for device, quantity in (("slow", LATENCY), ("formula", "energy_mj")):
        twice = [2 * value for value in OPERATION_MS[space]]
        made = formula_lpm(tmp_path / device, setting_of(space), twice, device, quantity)
        Registry(registry_url).publish(made.lpm, made.card)
    several = cost in ("weighted-sum", "worst-case")
    changes = {"cost": cost, "lambda_per_ms": 0.01}
    result = search(
        request(tmp_path / "s", space, also=("slow",) if several else (), changes=changes)
    )
    assert isinstance(result, SearchResult)
    weighed, there = result.searched_for, get_space(space)
    once = formula_values(there.row_of(result.architecture)[0], OPERATION_MS[space])
    reference = formula_values(there.parse(there.reference)[0], OPERATION_MS[space])
    expected = {
        "macs": result.found.macs / 1e6,
        "energy": 2 * once - 10,
        "weighted-sum": (once + 2 * once - 10) / 2,
        "worst-case": max(once / reference, (2 * once - 10) / (2 * reference - 10)),
    }
    assert weighed.found == pytest.approx(expected[cost], rel=1e-3)


@pytest.mark.usefixtures("published")
def test_a_sweep(tmp_path: Path) -> None:
    """Its process finds latkit's own supernets."""
    result = search(request(tmp_path / "s", "nasbench201", sweep_lambda=(0.0,), jobs=1))
    assert isinstance(result, SweepResult)
    result.check()
    (row,) = json.loads((tmp_path / "s" / "sweep.json").read_text())["searches"]
    get_space("nasbench201").parse(row["genotype"])


@pytest.mark.usefixtures("published")
def test_refused(latkit: RunLatkit) -> None:
    search = ("search", "--preset", "cpu", "--device", "formula", "--out", "found")
    check(latkit, *search, "--space", "nasbench201", "--method", "pc-darts",
          says=("pc-darts", "nasbench201", "--method darts"), code=2)  # fmt: skip
    check(latkit, *search, "--space", "darts", says=("--space fbnet or nasbench201",), code=2)
    check(latkit, *search, "--space", "fbnet", "--cells", 5, says=("22", "--cells"), code=2)
    assert not Path("found").exists()


def test_the_best_cells_of_nasbench201_have_few_skips() -> None:
    """Why its supernet has DARTS+'s criterion of collapse (docs/search.md)."""
    table = SHARED / "data" / "nasbench201" / "accuracy.parquet"
    if not table.exists():
        pytest.skip("the table of accuracies is not beside this checkout")
    space, supernet = get_space("nasbench201"), get_supernet("darts", "nasbench201")
    (column,) = [n for n in pq.read_schema(str(table)).names if n.endswith("_accuracy_percent")]
    accuracy = pq.read_table(str(table))[column].to_numpy()
    best = np.argsort(-accuracy, kind="stable")[: space.size // 100]
    counts = (space.unrank(best) == space.operations.index("skip_connect")).sum(1)
    assert (len(best), int((counts <= supernet.most_skips).sum())) == (156, 154)
