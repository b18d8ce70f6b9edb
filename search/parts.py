"""Where a configuration's words become objects. What each word may be is a table elsewhere:

``SUPERNETS`` (:mod:`latkit.search.supernet`), ``ORDERS`` (:mod:`latkit.search.bilevel`),
``ESTIMATORS`` (:mod:`latkit.search.estimators`) and ``COSTS`` (:mod:`latkit.search.costs`): a new
one is a file there and a line in its table, and the command line knows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from latkit.core.errors import InputError
from latkit.core.quantities import LATENCY
from latkit.lpm.base import LPM
from latkit.lpm.store import LPMCard
from latkit.registry import Entry, Registry
from latkit.search.bilevel import ORDERS, Bilevel
from latkit.search.config import SearchConfig
from latkit.search.costs import COSTS, Cost, CostParts, LPMCost, evaluate
from latkit.search.costs import make_cost as cost_named
from latkit.search.data import ImageData
from latkit.search.decode import Derived, check_target, cost_range, derive_on_target
from latkit.search.distributed import Processes
from latkit.search.penalty import FixedWeight, Multiplier, Penalty, TargetWeight
from latkit.search.supernet import Supernet, build_supernet
from latkit.spaces.darts.genotype import Genotype
from latkit.spaces.darts.space import DartsSpace
from latkit.spaces.darts.zoo import get_genotype

# A cell in print, which others are measured by.
REFERENCE = "darts_v2"


def make_supernet(
    config: SearchConfig,
    space: DartsSpace,
    data: ImageData,
    device: torch.device,
    processes: Processes,
) -> Supernet:
    """The supernet, initialised by the configuration's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        supernet = build_supernet(
            config.method, space, config.channels, config.cells, data.classes, data.images.shape[1]
        )
    supernet.how.world = processes.world
    supernet.max_skips = config.max_skips
    return supernet.to(device)


def weighed_by(config: SearchConfig, entries: Sequence[Entry], registry: Registry) -> list[Entry]:
    """The LPMs that a search's cost is made of: those of its devices, or, of a cost other than the
    latency, the newest ones of the same targets.

    Raises:
        InputError: a target has no LPM of that cost.
    """
    predicts = COSTS[config.cost].predicts
    if predicts == LATENCY:
        return list(entries)
    references = [f"{e.device}/{e.backend}/{e.setting}+{predicts}" for e in entries]
    return [
        registry.resolve(reference, entry.space, predicts)
        for reference, entry in zip(references, entries, strict=True)
    ]


def make_cost(config: SearchConfig, space: DartsSpace, lpms: Sequence[tuple[LPM, LPMCard]]) -> Cost:
    """What α's step weighs beside the loss.

    Args:
        lpms: see :func:`weighed_by`.
    """
    predicted = [LPMCost(lpm, card.cost) for lpm, card in lpms]
    factors = None
    if COSTS[config.cost].relative:
        factors = [reference_cost(space, cost) for cost in predicted]
    parts = CostParts(space, lpms[0][1].target.setting, predicted, factors)
    return cost_named(config.cost, parts)


def cell_cost(space: DartsSpace, cost: Cost, genotype: Genotype) -> float:
    """What the normal cell of a genotype costs, in the cost's unit."""
    return float(evaluate(space, cost, space.from_genotype(genotype))[0])


def reference_cost(space: DartsSpace, cost: Cost) -> float:
    """What the cell in print costs."""
    return cell_cost(space, cost, get_genotype(REFERENCE))


def check_reach(
    targets_ms: Iterable[float | None],
    space: DartsSpace,
    cost: Cost,
    max_skips: int | None = None,
) -> None:
    """Refuse targets that cannot be met by cells within the limit; None is no target, no limit.

    Raises:
        InputError: the cost is not in ms, or a target is outside what architectures cost.
    """
    targets = [target for target in targets_ms if target is not None]
    if not targets:
        return
    if cost.unit != "ms":
        raise InputError(
            f"a target in ms does not fit the cost {cost.name}, which is in {cost.unit}",
            f"use --lambda, per {cost.unit}",
        )
    reach = cost_range(space, cost, max_skips=max_skips)
    for target in targets:
        check_target(target, reach, cost.unit)


def check_weight_is_given(config: SearchConfig, space: DartsSpace, cost: Cost) -> None:
    """Refuse a preset's λ, which is in 1/ms, for a cost of another unit.

    Raises:
        InputError: the cost is not in ms. The example it names makes λ times the cost of the cell
            in print 3, which is what λ = 0.1 per ms makes of the 30 ms of the paper (Table 2).
    """
    if cost.unit != "ms":
        example = COSTS[config.cost].usual_weight
        reference = reference_cost(space, cost)
        if example is None and reference > 0:
            example = f"{3 / reference:.1g}"
        raise InputError(
            f"the preset's lambda is per ms, but the cost {config.cost} is in {cost.unit}",
            f"give --lambda per {cost.unit}" + (f", e.g. --lambda {example}" if example else ""),
        )


def make_penalty(config: SearchConfig, space: DartsSpace, cost: Cost, steps: int) -> Penalty:
    """What the configuration adds to the validation loss.

    Args:
        steps: of α in the whole search.
    """
    multiplier: Multiplier
    if config.target_ms is None:
        assert config.lambda_per_ms is not None
        multiplier = FixedWeight(config.lambda_per_ms)
    else:
        multiplier = TargetWeight(config.target_ms, steps)
    return Penalty(
        space,
        cost,
        multiplier,
        config.estimator,
        config.samples,
        config.edge_sampling,  # type: ignore[arg-type]  # checked by the penalty
        config.lpm_noise,
    )


def make_optimizer(
    config: SearchConfig, supernet: Supernet, penalty: Penalty, processes: Processes
) -> Bilevel:
    """The optimiser of α and the weights."""
    return ORDERS[config.order](
        supernet, config.optimizer, penalty, config.precision, processes.average_gradients
    )


def derive_at(target_ms: float, supernet: Supernet, cost: Cost) -> tuple[Genotype, Derived]:
    """The strongest cells that cost about the target; see ``derive_on_target``."""
    space, free = supernet.space, supernet.derive()
    strength = supernet.edge_strength(reduction=False)
    found = derive_on_target(
        space,
        supernet.alpha_normal.detach().cpu(),
        cost,
        target_ms,
        None if strength is None else strength.detach().cpu(),
        supernet.max_skips,
    )
    return space.genotype(np.asarray(found.row), free), found
