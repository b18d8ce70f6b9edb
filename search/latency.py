"""LAT(α): the expected latency of a sub-network drawn from the supernet (paper, Eq. 2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from latkit.spaces import SearchSpace

CostFunction = Callable[[Tensor], Tensor]


def sample_edges(space: SearchSpace, samples: int, generator: torch.Generator) -> Tensor:
    """Uniformly drawn kept edges: an ``M x E`` tensor of zeros and ones."""
    kept = torch.zeros(samples, space.num_edges)
    for sets in space.kept_combinations:
        drawn = torch.randint(len(sets), (samples,), generator=generator)
        kept.scatter_(1, torch.from_numpy(sets)[drawn], 1.0)
    return kept


def straight_through_latency(
    space: SearchSpace,
    alpha: Tensor,
    cost: CostFunction,
    samples: int,
    generator: torch.Generator,
) -> Tensor:
    """The paper's estimate of LAT(α) and, by back-propagation, of its gradient (section 3.3).

    Draws M sub-networks: edges uniformly, the operation on each edge from the softmax of α
    without ``none``. The forward value is the mean predicted latency of these discrete
    networks; backwards, the one-hot code passes its gradient straight to the probabilities it
    was drawn from.

    Args:
        space: the search space.
        alpha: an ``E x O`` tensor on the CPU, where a few thousand numbers are best handled.
        cost: maps ``M x E*O`` encodings to ``M`` costs, differentiable.
        samples: M.
        generator: source of randomness.

    Returns:
        A scalar in the unit of ``cost``.
    """
    choices = list(space.choices)
    kept = sample_edges(space, samples, generator)
    probabilities = torch.zeros_like(alpha)
    probabilities[:, choices] = alpha[:, choices].softmax(-1)
    drawn = torch.multinomial(
        probabilities.detach(), samples, replacement=True, generator=generator
    )
    hard = torch.nn.functional.one_hot(drawn.T, space.num_operations).to(alpha.dtype)
    # Value of `hard`, gradient of `probabilities`.
    code = hard + (probabilities - probabilities.detach())
    encodings = (kept[:, :, None] * code).flatten(1)
    return cost(encodings).mean()
