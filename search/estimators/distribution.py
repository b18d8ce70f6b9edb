"""S(α): the distribution of the sub-networks that LAT(α) is the expected cost of (paper, Eq. 2).

Of each group of edges a set is kept, drawn independently of the others; on each kept edge stands
an operation drawn from the softmax of α over the operations that may stand there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latkit.core.errors import InputError
from latkit.spaces import SearchSpace

# ``n x E*O`` encodings to ``n`` costs.
CostFunction = Callable[[Tensor], Tensor]
# A weaker edge counts as this strong, so that its logarithm and its gradient stay finite.
WEAKEST = 1e-12


@dataclass(frozen=True)
class Tables:
    """A space's sets of edges as tensors, padded to the S of the group that has most.

    Attributes:
        members: ``G x S x E`` zeros and ones: the edges of each set.
        counts: ``G``, sets of each group.
        pairs: ``T x 2``, the (group, set) pairs of the groups that have a choice of sets.
        free: number of those groups.
        outside: ``G x E`` zeros and ones: the edges that are not of the group.
    """

    members: Tensor
    counts: Tensor
    pairs: Tensor
    free: int
    outside: Tensor


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # what is made in inference mode could not be used for gradients later
def tables(space: SearchSpace) -> Tables:
    """The tables of a space; they take longer to make than an estimate does."""
    sets = [torch.from_numpy(each) for each in space.kept_combinations]
    counts = torch.tensor([len(each) for each in sets])
    members = torch.zeros(len(sets), int(counts.max()), space.num_edges)
    outside = torch.ones(len(sets), space.num_edges)
    for g, (group, each) in enumerate(zip(space.groups, sets, strict=True)):
        members[g, : len(each)].scatter_(1, each, 1.0)
        outside[g, list(group.edges)] = 0
    pairs = [(g, s) for g, n in enumerate(counts.tolist()) if n > 1 for s in range(n)]
    free = int((counts > 1).sum())
    return Tables(members, counts, torch.tensor(pairs, dtype=torch.long).view(-1, 2), free, outside)


@dataclass(frozen=True)
class Distribution:
    """S(α), differentiable.

    Attributes:
        operations: ``E x C`` probabilities of the operations in ``space.choices``.
        sets: ``G x S`` probabilities of each group's sets; zero where a group has fewer.
    """

    space: SearchSpace
    operations: Tensor
    sets: Tensor

    @classmethod
    def of(cls, space: SearchSpace, alpha: Tensor, edge_strength: Tensor | None) -> Distribution:
        """The distribution of ``E x O`` parameters and, if edges are not drawn uniformly, ``E``
        positive strengths: a set is then drawn in proportion to the product of its edges'."""
        table = tables(space)
        there = torch.arange(table.members.shape[1]) < table.counts[:, None]
        if edge_strength is None:
            sets = there.to(alpha.dtype) / table.counts[:, None]
        else:
            logs = edge_strength.to(alpha.dtype).clamp_min(WEAKEST).log()
            sums = table.members.to(alpha.dtype) @ logs
            sets = sums.masked_fill(~there, -torch.inf).softmax(1)
        return cls(space, alpha[:, list(space.choices)].softmax(1), sets)

    def inclusion(self) -> Tensor:
        """The probability that an edge is kept, of each of ``E``."""
        return torch.einsum("gs,gse->e", self.sets, tables(self.space).members.to(self.sets))

    def draw(self, samples: int, generator: torch.Generator, stratified: bool = False) -> Drawn:
        """``M`` sub-networks.

        Stratified, the samples are no longer independent of one another, but each still is a draw
        from S(α): of every edge, each operation is drawn as often as its probability times M,
        rounded up or down, and so is each set of every group.
        """
        table = tables(self.space)
        edges, groups = len(self.operations), len(self.sets)
        uniform = _uniform(edges + groups, samples, generator, stratified)
        operations = _invert(self.operations, uniform[:edges], len(self.space.choices) - 1)
        sets = _invert(self.sets, uniform[edges:], (table.counts - 1)[:, None])
        kept = table.members[torch.arange(groups), sets.T].sum(1)
        return Drawn(operations.T, sets.T, kept.to(self.operations.dtype))


@dataclass(frozen=True)
class Drawn:
    """Sub-networks drawn from S(α).

    Attributes:
        operations: ``M x E`` positions in ``space.choices``, of edges that are not kept as well.
        sets: ``M x G`` positions in ``space.kept_combinations``.
        kept: ``M x E`` zeros and ones.
    """

    operations: Tensor
    sets: Tensor
    kept: Tensor

    def one_hot(self, space: SearchSpace) -> Tensor:
        """``M x E x O``: the operation of each edge, whether it is kept or not."""
        columns = torch.tensor(space.choices)[self.operations]
        return torch.nn.functional.one_hot(columns, space.num_operations).to(self.kept.dtype)


def strength_of(space: SearchSpace, alpha: Tensor) -> Tensor:
    """How strong DARTS takes an edge to be: its largest softmax weight without ``none``.

    Args:
        space: the space.
        alpha: ``E x O``.

    Returns:
        ``E`` numbers, differentiable.
    """
    return alpha.softmax(1)[:, list(space.choices)].amax(1)


def check_samples(samples: int) -> None:
    """Raises: InputError: ``samples`` is no number of samples."""
    if samples < 1:
        raise InputError(f"{samples} samples cannot estimate a cost", "use 1 or more, e.g. 20")


def _uniform(rows: int, samples: int, generator: torch.Generator, stratified: bool) -> Tensor:
    """``rows x M`` uniform numbers; stratified, each row has one in every M-th of [0, 1)."""
    if not stratified:
        return torch.rand(rows, samples, generator=generator, dtype=torch.float64)
    order = torch.rand(rows, samples, generator=generator).argsort(1)
    shift = torch.rand(rows, 1, generator=generator, dtype=torch.float64)
    return (order + shift) / samples


def _invert(probabilities: Tensor, uniform: Tensor, last: Tensor | int) -> Tensor:
    """Row by row, what the uniform numbers draw: ``rows x M`` positions."""
    cumulative = probabilities.detach().double().cumsum(1)
    positions = torch.searchsorted(cumulative, uniform.contiguous(), right=True)
    return torch.minimum(positions, torch.as_tensor(last))  # a sum may round to just below one
