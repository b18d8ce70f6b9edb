"""A space other than DARTS is searched by a supernet that an entry point adds."""

from __future__ import annotations

import dataclasses
import json
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from latkit.core.errors import InputError, Interrupted
from latkit.dataset import LatencyDataset, Target
from latkit.dataset.writer import DatasetWriter
from latkit.lpm.training import Recipe, TrainedLPM, train_lpm
from latkit.registry import Registry
from latkit.search.checkpoint import CHECKPOINT
from latkit.search.config import preset
from latkit.search.data import load_data
from latkit.search.request import SearchRequest
from latkit.search.result import SearchResult, SweepResult
from latkit.search.run import search
from latkit.search.session import run_search
from latkit.search.supernet import SUPERNETS, default_method
from latkit.spaces import get_preset, get_space
from latkit.spaces.architecture import architecture_costs
from tests.support.commands import RunLatkit
from tests.support.synthetic import made_manifest, made_row

SPACE = get_space("nasbench201")
SETTING = get_preset("nasbench201").replace(cells=3, channels=2, resolution=8)
# Milliseconds an operation adds, in the order of the space's operations.
OPERATION_MS = np.array([0, 0.1, 1.0, 3.0, 0.5])
SMALL = {"channels": 2, "limit": 64, "lambda_per_ms": 0.02}


def latency_ms(matrix: np.ndarray) -> np.ndarray:
    return np.asarray(10 + OPERATION_MS[matrix].sum(1))


@pytest.fixture(autouse=True)
def published(tmp_path: Path, registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An LPM by formula, and the supernet."""
    value = "tests.search.cell_supernet:CellSupernet"
    point = EntryPoint("cell", value, SUPERNETS.group)
    monkeypatch.setattr(SUPERNETS, "_points", {"cell": point})
    trained = made_cell_lpm(tmp_path / "made")
    Registry(registry_url).publish(trained.lpm, trained.card)


def made_cell_lpm(folder: Path) -> TrainedLPM:
    ids = SPACE.sample(200, 0)
    matrix = SPACE.unrank(ids)
    target = Target("nasbench201", "formula", "torch-cpu", SETTING)
    with DatasetWriter(folder, made_manifest(len(ids), target=target)) as writer:
        for index, latency in enumerate(latency_ms(matrix).tolist()):
            (cost,) = architecture_costs(SPACE, matrix[index], SETTING)
            arch = SPACE.format(matrix[index])
            writer.append(
                {**made_row(0, latency), "arch_id": int(ids[index]), "arch": arch,
                 "macs": cost.macs, "params": cost.params}
            )  # fmt: skip
    return train_lpm(LatencyDataset.open(folder), Recipe("op-count"))


def request(out: Path, **more: object) -> SearchRequest:
    values = {"space": "nasbench201", "preset": "cpu", "out": out, "changes": SMALL, **more}
    return SearchRequest("formula", **values)  # type: ignore[arg-type]


def test_a_search(tmp_path: Path, latkit: RunLatkit) -> None:
    assert default_method("nasbench201") == "cell"
    assert preset("cpu", "cell").epochs == 2
    result = search(request(tmp_path / "s"))
    assert isinstance(result, SearchResult)
    content = json.loads((tmp_path / "s" / "result.json").read_text())
    assert content == json.loads(json.dumps(result.to_dict()))
    row = SPACE.parse(content["genotype"])
    assert content["arch_id"] == SPACE.rank(row)[0]
    assert content["found"]["predicted_ms"] == pytest.approx(latency_ms(row)[0], rel=1e-3)
    reference = SPACE.parse(SPACE.reference)
    assert content["reference"]["predicted_ms"] == pytest.approx(latency_ms(reference)[0], rel=1e-3)
    history = pq.read_table(str(tmp_path / "s" / "history.parquet"))
    assert {"alpha_entropy_cell", "skip_share_cell", "parameter_free_share_cell"} < {
        *history.column_names
    }
    assert (tmp_path / "s" / "cells.txt").read_text().strip() == content["genotype"]
    # The same from the command line, which prints it.
    arguments = ("search", "--space", "nasbench201", "--device", "formula", "--preset", "cpu",
                 "--channels", 2, "--limit", 64, "--lambda", 0.02, "--out", "again")  # fmt: skip
    done = latkit(*arguments)
    assert done.returncode == 0, done.stderr
    assert content["genotype"] in done.stdout
    again = json.loads(Path("again/result.json").read_text())
    assert again["genotype"] == content["genotype"]
    assert again["config"] == content["config"]


def test_a_target_and_a_limit(tmp_path: Path) -> None:
    changes = {"channels": 2, "limit": 64, "target_ms": 17.0, "max_skips": 0}
    result = search(request(tmp_path / "s", changes=changes))
    assert isinstance(result, SearchResult)
    assert result.searched_for.on_target
    assert result.searched_for.found == pytest.approx(17.0, rel=0.05001)
    assert "skip_connect" not in str(result.architecture)


def test_a_sweep(tmp_path: Path) -> None:
    changes = {"channels": 2, "limit": 64}
    result = search(request(tmp_path / "s", changes=changes, sweep_lambda=(0.0,), method="cell"))
    assert isinstance(result, SweepResult)
    # Its process has the entry points of the distributions that are installed alone.
    with pytest.raises(Exception, match="1 of 1 searches failed"):
        result.check()


def test_stopping_is_bitwise(tmp_path: Path) -> None:
    registry = Registry()
    lpm, _ = registry.load(registry.resolve("formula", SPACE.name))
    data = load_data("digits", 64, 0)
    config = dataclasses.replace(preset("cpu", "cell"), **SMALL)
    run_search(config, SPACE, lpm, "made", data, tmp_path / "a")
    steps: list[object] = []
    with pytest.raises(Interrupted):
        run_search(
            config, SPACE, lpm, "made", data, tmp_path / "b", on_step=steps.append,
            stop=lambda: len(steps) >= 2,
        )  # fmt: skip
    run_search(config, SPACE, lpm, "made", data, tmp_path / "b")
    files = [(tmp_path / name / CHECKPOINT).read_bytes() for name in "ab"]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"method": "darts"}, "the method darts searches darts, not nasbench201"),
        ({"space": "darts", "method": "cell"}, "the method cell searches nasbench201, not darts"),
        ({"space": "fbnet"}, "no supernet can search the space fbnet"),
        ({"space": "nowhere"}, "unknown search space 'nowhere'"),
        ({"changes": {"depth": 3}}, "a search has no value depth"),
    ],
)
def test_requests_that_cannot_work(tmp_path: Path, more: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        search(request(tmp_path / "s", **more))
    assert not (tmp_path / "s").exists()
