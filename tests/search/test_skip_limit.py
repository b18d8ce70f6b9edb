"""A largest number of skip connections: derivation and range of costs against enumeration."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from latkit.core.errors import InputError
from latkit.lpm.base import LPM
from latkit.search import collapse
from latkit.search.config import SearchConfig
from latkit.search.data import ImageData
from latkit.search.decode import (
    TOLERANCE,
    cost_range,
    derive_on_target,
    log_weights,
    strongest,
)
from latkit.search.objectives import Objective, evaluate
from latkit.search.parts import check_reach
from latkit.search.skip_limit import within_limit
from latkit.spaces import SearchSpace
from latkit.spaces.darts.genotype import Connections, Genotype, parse_genotype
from tests.search.made_objectives import SMALL, CurvedObjective, everything, linear_objective
from tests.search.micro import DARTS as SPACE
from tests.search.micro import MICRO, run_darts
from tests.search.supernets import build_supernet, derive_cell
from tests.search.test_decode import scores


# Of its five kept edges every one may carry a skip connection.
class Skipping(SearchSpace):
    skip = "skip_connect"


SKIPPING = Skipping(
    "skipping", ["none", "a", "b", "skip_connect"], SMALL.choices, SMALL.edges, SMALL.groups
)
SKIP = 3


def skips(cell: Connections) -> int:
    return collapse.skips(SPACE, [operation for operation, _ in cell])


def alpha_of(seed: int, fond_of_skips: float = 2.0) -> torch.Tensor:
    alpha = torch.randn(SKIPPING.num_edges, 4, generator=torch.Generator().manual_seed(seed))
    alpha[:, SKIP] += fond_of_skips
    return alpha


@pytest.mark.parametrize("max_skips", [0, 1, 2, 3, 5, None])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_strongest_within_the_limit(max_skips: int | None, weighted: bool) -> None:
    matrix = everything(SKIPPING)
    count = (matrix == SKIP).sum(1)
    allowed = matrix[count <= (5 if max_skips is None else max_skips)]
    assert within_limit(SKIPPING, matrix, max_skips).sum() == len(allowed)
    weights = torch.linspace(0.1, 1.0, SKIPPING.num_edges) if weighted else None
    for seed in range(20):
        logs = log_weights(SKIPPING, alpha_of(seed), weights)
        row = strongest(SKIPPING, logs, max_skips)
        assert (row == allowed[scores(logs, allowed).argmax()]).all()


def test_a_limit_that_does_not_bind_changes_nothing() -> None:
    for seed in range(20):
        alpha = torch.randn(14, 8, generator=torch.Generator().manual_seed(seed))
        free = derive_cell(SPACE, alpha)
        assert derive_cell(SPACE, alpha, max_skips=skips(free)) == free
        for most in range(skips(free)):
            assert skips(derive_cell(SPACE, alpha, max_skips=most)) == most


def test_a_space_without_skip_connections() -> None:
    logs = log_weights(SMALL, alpha_of(0))
    assert (strongest(SMALL, logs, 0) == strongest(SMALL, logs)).all()


@pytest.mark.parametrize("max_skips", [0, 1, 3])
@pytest.mark.parametrize("cost", [linear_objective(3, SKIPPING), CurvedObjective(3, SKIPPING)])
def test_the_range_of_costs(cost: Objective, max_skips: int) -> None:
    matrix = everything(SKIPPING)
    costs = evaluate(SKIPPING, cost, matrix[within_limit(SKIPPING, matrix, max_skips)])
    reach = cost_range(SKIPPING, cost, max_skips=max_skips)
    np.testing.assert_allclose([reach.low, reach.high], [costs.min(), costs.max()], rtol=1e-6)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("cost", [linear_objective(3, SKIPPING), CurvedObjective(3, SKIPPING)])
@pytest.mark.parametrize("max_skips", [0, 1, 3])
def test_the_strongest_on_target(share: float, cost: Objective, max_skips: int) -> None:
    matrix = everything(SKIPPING)
    matrix = matrix[within_limit(SKIPPING, matrix, max_skips)]
    costs = evaluate(SKIPPING, cost, matrix)
    target = float(costs.min() + share * (costs.max() - costs.min()))
    for seed in range(4):
        found = derive_on_target(SKIPPING, alpha_of(seed), cost, target, max_skips=max_skips)
        logs = log_weights(SKIPPING, alpha_of(seed))
        feasible = matrix[np.abs(costs / target - 1) <= TOLERANCE]
        assert found.within
        assert (found.row == feasible[scores(logs, feasible).argmax()]).all()
        free = strongest(SKIPPING, logs, max_skips)
        assert found.changed == bool((found.row != free).any())


def test_the_supernets_normal_cell_alone_is_limited() -> None:
    supernet = build_supernet("pc-darts", SPACE, 4, 3, 10)
    skip = SPACE.operations.index("skip_connect")
    with torch.no_grad():
        for alpha in (supernet.alpha_normal, supernet.alpha_reduce):
            alpha[:, skip] += 5
    assert skips(supernet.derive().normal) == 8
    supernet.max_skips = 2
    found = supernet.derive()
    assert isinstance(found, Genotype)
    assert (skips(found.normal), skips(found.reduce)) == (2, 8)


@pytest.mark.parametrize("target", [False, True])
def test_a_search(tmp_path: Path, darts_lpm: LPM, data: ImageData, target: bool) -> None:
    """Of every epoch and at the end; by λ alone this one is full of skip connections."""
    config = dataclasses.replace(MICRO, lambda_per_ms=3.0)
    config = dataclasses.replace(
        config, optimizer=dataclasses.replace(config.optimizer, arch_lr=0.3)
    )
    if target:
        config = dataclasses.replace(config, lambda_per_ms=None, target_ms=14.0)
    limited = dataclasses.replace(config, max_skips=1)
    outcome = run_darts(tmp_path / "limited", darts_lpm, data, limited)
    cells = [outcome.architecture, *(parse_genotype(row["genotype"]) for row in outcome.history)]
    assert max(skips(cell.normal) for cell in cells) == 1
    if not target:
        free = run_darts(tmp_path / "free", darts_lpm, data, config)
        assert skips(free.architecture.normal) > 1


def test_a_target_that_only_skip_connections_reach(darts_lpm: LPM) -> None:
    from latkit.search.objectives import PredictedObjective

    cost = PredictedObjective(darts_lpm)
    free, limited = (cost_range(SPACE, cost, max_skips=most) for most in (None, 0))
    assert free.low < limited.low
    check_reach([1.01 * free.low], SPACE, cost)
    with pytest.raises(InputError):
        check_reach([1.01 * free.low], SPACE, cost, 0)


@pytest.mark.parametrize("changes", [
    {"max_skips": -1}, {"max_skips": 2, "stop_on_collapse": True},
])  # fmt: skip
def test_limits_that_cannot_work(changes: dict[str, int]) -> None:
    with pytest.raises(InputError):
        dataclasses.replace(SearchConfig(), **changes).check()  # type: ignore[arg-type]
    dataclasses.replace(SearchConfig(), max_skips=3, stop_on_collapse=True).check()
