"""Sweeps: plan, Pareto front and file; tests/cli/test_search.py runs whole ones."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from latkit.core.errors import InputError, SearchError
from latkit.dataset import Target
from latkit.search.config import preset
from latkit.search.epochs import SearchOutcome
from latkit.search.result import NetworkResult, SearchedFor, SearchResult, pareto_front
from latkit.search.sweep import Search, plan_sweep, write_sweep
from latkit.spaces.darts.zoo import ZOO
from tests.support.synthetic import MICRO

CPU = preset("cpu", "darts")


def test_plan() -> None:
    searches = plan_sweep(CPU, "lambda", (0.0, 0.1, 1e-7))
    assert [search.name for search in searches] == ["lambda-0", "lambda-0.1", "lambda-1e-07"]
    assert [search.config.lambda_per_ms for search in searches] == [0.0, 0.1, 1e-7]
    assert {search.config.epochs for search in searches} == {4}


def test_values_that_differ_in_the_last_digit_have_folders_of_their_own() -> None:
    near = (0.1, float(np.nextafter(0.1, 1)), 0.1 + 1e-14, 1e300, 20.0)
    for parameter in ("lambda", "target"):
        names = [search.name for search in plan_sweep(CPU, parameter, near)]
        assert len(set(names)) == len(near)
        assert [float(name.removeprefix(f"{parameter}-")) for name in names] == list(near)
        assert names[-1] == f"{parameter}-20"
    assert [search.name for search in plan_sweep(CPU, "lambda", (-0.0,))] == ["lambda-0"]


@pytest.mark.parametrize(
    ("values", "says"), [((0.1, 0.10), "is there twice"), ((0.1, -1.0), "lambda=-1.0")]
)
def test_plans_that_cannot_work(values: tuple[float, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        plan_sweep(CPU, "lambda", values)


def test_pareto_front() -> None:
    # Faster and better; slower and best; dominated; equal to the first.
    rows = [(1.0, 0.5), (2.0, 0.9), (2.0, 0.8), (1.0, 0.5)]
    assert pareto_front(rows) == [True, True, False, True]
    assert pareto_front([]) == []


def test_the_front_by_another_definition() -> None:
    """Walking from the fastest on, a point is on the front if it is better than all before it."""
    draw = random.Random(0)
    for _ in range(50):
        rows = [(draw.randrange(6), draw.randrange(6)) for _ in range(8)]
        front = set()
        for cost, gain in sorted(set(rows), key=lambda row: (row[0], -row[1])):
            if all(gain > better for _, better in front):
                front.add((cost, gain))
        assert pareto_front(rows) == [row in front for row in rows]


def result(
    search: Search, predicted_ms: float, accuracies: list[float], epoch: int
) -> SearchResult:
    genotype = ZOO["gdas"]
    network = NetworkResult(str(genotype), None, None, None, 1, 2, predicted_ms, 0.1)
    history = [{"val_accuracy": accuracy} for accuracy in accuracies]
    return SearchResult(
        architecture=genotype, arch="", arch_id=0, drawing="", found=network, reference=network,
        reference_name="darts_v2", whole=NetworkResult(str(genotype), None, None, None, 3, 4),
        searched_for=SearchedFor("energy", "energy_mj", "mJ", 100 - predicted_ms, 1.0, None, None,
                                 ()),
        measuring=None, skip_reason="no backend", target=Target("darts", "d", "b", MICRO),
        outcome=SearchOutcome(genotype, epoch, predicted_ms, 100 - predicted_ms, None, None,
                              history, False, 1.0),
        lpm="d/b/s@1", lpm_metrics={}, lpms=(), data="made", searched_on="cpu",
        config=search.config, out=Path("s"),
    )  # fmt: skip


def test_the_file(tmp_path: Path) -> None:
    """A search that failed is in it with its reason, and is on no front."""
    searches = plan_sweep(CPU, "lambda", (0.0, 0.1, 0.2))
    results = [result(searches[0], 9.0, [0.7, 0.8], 2), SearchError("it died", "go on"),
               result(searches[2], 8.0, [0.9, 0.1], 1)]  # fmt: skip
    written = write_sweep(searches, results, tmp_path)
    with pytest.raises(SearchError, match=r"1 of 3 searches failed \(lambda-0\.1\)"):
        written.check()
    sweep = written.to_dict()
    assert sweep == json.loads((tmp_path / "sweep.json").read_text())
    first, failed, last = sweep["searches"]
    # Of the cost that was searched for, here an energy, the first one has less.
    assert (first["val_accuracy"], first["pareto"]) == (0.8, True)
    assert failed == {"name": "lambda-0.1", "lambda_per_ms": 0.1, "target_ms": None,
                      "error": "it died. Fix: go on"}  # fmt: skip
    assert (last["val_accuracy"], last["pareto"]) == (0.9, True)
    # The found normal cell in the LPM's network, and both found cells.
    assert (last["macs"], last["params"]) == (1, 2)
    assert (last["genotype_macs"], last["genotype_params"]) == (3, 4)
