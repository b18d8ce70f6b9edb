"""Steps of the search as CUDA graphs against the same steps launched kernel by kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_parts.part import Context
from benchmarks.gpu_parts.steps import SMALL, Case, batches, build
from benchmarks.supernet import penalty
from latkit.search.bilevel import ORDERS, Bilevel, OptimizerConfig
from latkit.search.captured import CapturedSteps
from latkit.search.cuda_graphs import WARM_UP_CALLS, CudaGraphs, Launch, call

# Relative to the largest number of a tensor, in double precision: some of CUDA's kernels add in an
# order of the moment, and Adam divides by small numbers.
TOLERANCE = 1e-6
STEPS = WARM_UP_CALLS + 4
# Of the functions that a step is made of.
FUNCTIONS = 3


def captured(context: Context) -> None:
    """All cases: losses and the whole state after steps, of both ways."""
    device, told = torch.device(context.device), []
    cases = dict(list(SMALL.items())[:1]) if context.quick else SMALL  # one shows the logic
    for name, case in cases.items():
        warnings: list[str] = []
        launch = CudaGraphs(device, warnings.append) if context.cuda else call
        errors = difference(case, device, launch)
        worst = max(errors.values())
        context.check(f"{name}: captured steps are plain steps", worst <= TOLERANCE, f"{worst:.1e}")
        if isinstance(launch, CudaGraphs):
            graphs = sorted(launch.captured)
            context.check(
                f"{name}: every function is a graph", len(graphs) == FUNCTIONS, "; ".join(warnings)
            )
            context.record(**{f"{name} graphs": graphs})
        context.record(**{f"{name} relative errors": errors})
        told.append(f"{name} {worst:.0e}")
    context.figure(", ".join(told))


def difference(case: Case, device: torch.device, launch: Launch) -> dict[str, float]:
    """Largest relative differences between steps that are launched and plain ones.

    Args:
        case: what is trained, in double precision.
        device: where.
        launch: of the steps' functions.
    """
    plain_losses, plain = _walk(case, device, lambda bilevel: bilevel.step)
    losses, state = _walk(case, device, lambda bilevel: CapturedSteps(bilevel, launch).step)
    return {
        "losses": _relative(plain_losses, losses),
        "state": max(_relative(tensor, state[name]) for name, tensor in plain.items()),
    }


def _walk(
    case: Case, device: torch.device, step_of: Callable[[Bilevel], Callable[..., Any]]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Losses and state of steps with other rates, batches and weights of LAT(α) each time."""
    supernet, _ = build(case, torch.float64)
    supernet.to(device)
    bilevel = ORDERS[case.order](supernet, OptimizerConfig(), penalty(supernet.space))
    step, generator, losses = step_of(bilevel), torch.Generator().manual_seed(0), []
    pairs = [batches(case, device, torch.float64, seed) for seed in range(STEPS)]
    for number, (train, val) in enumerate(pairs):
        bilevel.set_epoch(number, STEPS)
        found = step(train, val, generator, True)
        losses.append(torch.stack([_float(value) for value in found]))
    return torch.stack(losses), {
        name: tensor.detach().cpu()
        for name, tensor in supernet.state_dict().items()
        if tensor.is_floating_point()
    }


def _float(value: Tensor) -> Tensor:
    return value.detach().double().cpu()


def _relative(tensor: Tensor, other: Tensor) -> float:
    return float((tensor - other).abs().max() / tensor.abs().max().clamp_min(1e-12))
