"""Where a configuration's words become objects. What each word may be is a table elsewhere:

``SUPERNETS`` (:mod:`latkit.search.supernet`), ``ORDERS`` (:mod:`latkit.search.bilevel`),
``ESTIMATORS`` (:mod:`latkit.search.estimators`) and ``COSTS`` (:mod:`latkit.search.costs`): a new
one is a file there and a line in its table, and the command line knows it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist

from latkit.lpm.base import LPM
from latkit.lpm.store import LPMCard
from latkit.networks.zoo import get_genotype
from latkit.search.bilevel import ORDERS, Bilevel
from latkit.search.config import SearchConfig
from latkit.search.costs import Cost, CostParts, LPMCost, evaluate
from latkit.search.costs import make_cost as cost_named
from latkit.search.data import ImageData
from latkit.search.decode import Derived, check_target, cost_range, derive_on_target
from latkit.search.distributed import Processes
from latkit.search.penalty import FixedWeight, Multiplier, Penalty, TargetWeight
from latkit.search.supernet import Supernet, build_supernet
from latkit.spaces import DartsSpace, Genotype

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
    if processes.world > 1:
        supernet.how.group = dist.group.WORLD
    return supernet.to(device)


def make_cost(config: SearchConfig, space: DartsSpace, lpms: Sequence[tuple[LPM, LPMCard]]) -> Cost:
    """What α's step weighs beside the loss.

    Args:
        lpms: of the search's device, then of the further ones.
    """
    predicted = [LPMCost(lpm, card.cost) for lpm, card in lpms]
    factors = None
    if config.cost == "worst-case":
        reference = space.from_genotype(get_genotype(REFERENCE))
        factors = [float(evaluate(space, cost, reference)[0]) for cost in predicted]
    parts = CostParts(space, lpms[0][1].target.setting, predicted, factors)
    return cost_named(config.cost, parts)


def check_reach(config: SearchConfig, space: DartsSpace, cost: Cost) -> None:
    """Raises: InputError: the target is outside what the space's architectures cost."""
    if config.target_ms is not None:
        check_target(config.target_ms, cost_range(space, cost), cost.unit)


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
    )
    return space.genotype(np.asarray(found.row), free), found
