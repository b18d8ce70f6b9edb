"""Where a configuration's words become objects.

What each word may be is a table elsewhere: ``SUPERNETS`` (:mod:`latkit.search.supernet`),
``ORDERS`` (:mod:`latkit.search.bilevel`), ``ESTIMATORS`` (:mod:`latkit.search.estimators`) and
``OBJECTIVES`` (:mod:`latkit.search.objectives`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from latkit.core.errors import InputError
from latkit.core.quantities import LATENCY
from latkit.lpm.base import LPM
from latkit.lpm.store import LPMCard
from latkit.registry import Entry, Registry
from latkit.search.bilevel import ORDERS, Batch, Bilevel, StepLosses
from latkit.search.captured import CapturedSteps
from latkit.search.config import SearchConfig
from latkit.search.cuda_graphs import CudaGraphs
from latkit.search.decode import Derived, check_target, cost_range, derive_on_target
from latkit.search.distributed import Processes
from latkit.search.image_source import ImageData
from latkit.search.objectives import (
    OBJECTIVES,
    Objective,
    ObjectiveParts,
    PredictedObjective,
    evaluate,
    make_objective,
)
from latkit.search.penalty import FixedWeight, Multiplier, Penalty, TargetWeight
from latkit.search.supernet import Supernet, get_supernet
from latkit.spaces import Architecture, ChoiceMatrix, SearchSpace
from latkit.spaces.reader import parse_row


def make_supernet(
    config: SearchConfig,
    space: SearchSpace,
    data: ImageData,
    device: torch.device,
    processes: Processes,
) -> Supernet:
    """The supernet, initialised by the configuration's seed alone."""
    channels, resolution = data.images.shape[1:3]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        supernet = get_supernet(config.method, space.name).build(
            space, config, data.classes, channels, resolution
        )
    supernet.bn_mode.world = processes.world
    supernet.max_skips = config.max_skips
    return supernet.to(device)


def weighed_by(config: SearchConfig, entries: Sequence[Entry], registry: Registry) -> list[Entry]:
    """The LPMs that a search's objective is made of: those of its devices, or, of another quantity
    than the latency, the newest ones of the same targets.

    Raises:
        InputError: a target has no LPM of that quantity.
    """
    predicts = OBJECTIVES.get(config.cost).predicts
    if predicts == LATENCY:
        return list(entries)
    references = [f"{e.device}/{e.backend}/{e.setting}+{predicts}" for e in entries]
    return [
        registry.resolve(reference, entry.space, predicts)
        for reference, entry in zip(references, entries, strict=True)
    ]


def objective_of(
    config: SearchConfig, space: SearchSpace, lpms: Sequence[tuple[LPM, LPMCard]]
) -> Objective:
    """What α's step weighs beside the loss.

    Args:
        lpms: see :func:`weighed_by`.
    """
    predicted = [PredictedObjective(lpm, card.cost) for lpm, card in lpms]
    factors = None
    if OBJECTIVES.get(config.cost).relative:
        factors = [reference_value(space, objective) for objective in predicted]
    parts = ObjectiveParts(space, lpms[0][1].target.setting, predicted, factors)
    return make_objective(config.cost, parts)


def value_of(space: SearchSpace, objective: Objective, architecture: Architecture) -> float:
    """The objective of one architecture, in the objective's unit."""
    return float(evaluate(space, objective, space.row_of(architecture))[0])


def reference_row(space: SearchSpace) -> ChoiceMatrix:
    """The space's well-known architecture, which others are measured by: ``1 x E``."""
    return parse_row(space.reference, space)


def reference_value(space: SearchSpace, objective: Objective) -> float:
    """The objective of the space's reference."""
    return float(evaluate(space, objective, reference_row(space))[0])


def check_reach(
    targets_ms: Iterable[float | None],
    space: SearchSpace,
    objective: Objective,
    max_skips: int | None = None,
) -> None:
    """Refuse targets that no architecture within the limit meets; None is no target, no limit.

    Raises:
        InputError: the objective is not in ms, or a target is outside what architectures cost.
    """
    targets = [target for target in targets_ms if target is not None]
    if not targets:
        return
    if objective.unit != "ms":
        raise InputError(
            f"a target in ms does not fit the cost {objective.quantity}, which is in "
            f"{objective.unit}",
            f"use --lambda, per {objective.unit}",
        )
    reach = cost_range(space, objective, max_skips=max_skips)
    for target in targets:
        check_target(target, reach, objective.unit)


def check_weight_is_given(config: SearchConfig, space: SearchSpace, objective: Objective) -> None:
    """Refuse a preset's λ, whose unit is 1/ms, for an objective of another unit.

    Raises:
        InputError: the objective is not in ms. The example it names makes λ times the objective of
            the space's reference 3, which is what λ = 0.1 per ms makes of the 30 ms of the paper
            (Table 2).
    """
    if objective.unit != "ms":
        example = OBJECTIVES.get(config.cost).usual_weight
        reference = reference_value(space, objective)
        if example is None and reference > 0:
            example = f"{3 / reference:.1g}"
        raise InputError(
            f"the preset's lambda is per ms, but the cost {config.cost} is in {objective.unit}",
            f"give --lambda per {objective.unit}"
            + (f", e.g. --lambda {example}" if example else ""),
        )


def make_penalty(
    config: SearchConfig, space: SearchSpace, objective: Objective, steps: int
) -> Penalty:
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
        objective,
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


Step = Callable[[Batch | None, Batch, torch.Generator, bool], StepLosses]


def are_captured(device: torch.device, processes: Processes) -> bool:
    """Whether steps are captured as CUDA graphs: those of one process on a GPU.

    (Several reduce their gradients within a step.)
    """
    return device.type == "cuda" and processes.world == 1


def make_step(
    optimizer: Bilevel, device: torch.device, processes: Processes, warn: Callable[[str], None]
) -> Step:
    """What takes a step on batches that are on the CPU.

    Args:
        warn: receives a line if steps cannot be captured.
    """
    if are_captured(device, processes):
        return CapturedSteps(optimizer, CudaGraphs(device, warn)).step

    def step(train: Batch | None, val: Batch, generator: torch.Generator, arch: bool) -> StepLosses:
        here = None if train is None else _placed(train, device)
        return optimizer.step(here, _placed(val, device), generator, arch)

    return step


def _placed(batch: Batch, device: torch.device) -> Batch:
    images, labels = (tensor.to(device, non_blocking=True) for tensor in batch)
    return images, labels


def derive_at(
    target_ms: float, supernet: Supernet, objective: Objective
) -> tuple[Architecture, Derived]:
    """The strongest architecture that costs about the target; see ``derive_on_target``."""
    strength = supernet.edge_strength(supernet.encoded)
    derived = derive_on_target(
        supernet.space,
        supernet.alphas[supernet.encoded].detach().cpu(),
        objective,
        target_ms,
        None if strength is None else strength.detach().cpu(),
        supernet.max_skips,
    )
    return supernet.derive(derived.row), derived
