"""Steps of bi-level optimisation as functions of fixed tensors, which CUDA graphs can be made of.

What a step reads is copied into tensors that stay where they are, and what it leaves is copied out
of such tensors. LAT(α) is estimated on the host meanwhile. Where functions are launched by a call,
on a CPU, a step is to the bit that of :class:`~latkit.search.bilevel.Bilevel`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latkit.search.bilevel import Batch, Bilevel, StepLosses
from latkit.search.cuda_graphs import Launch

# What a step leaves on the device.
TRAIN_LOSS, TRAIN_CORRECT, VAL_LOSS, VAL_CORRECT = range(4)


class CapturedSteps:
    """Takes the steps of a :class:`~latkit.search.bilevel.Bilevel` of one process.

    All batches must be of the first one's shape.

    Args:
        bilevel: whose steps are taken.
        launch: runs their functions.
    """

    def __init__(self, bilevel: Bilevel, launch: Launch) -> None:
        self._bilevel, self._launch = bilevel, launch
        alphas = bilevel.supernet.architecture_parameters()
        self._gradients = [torch.empty_like(alpha, requires_grad=False) for alpha in alphas]
        self._numbers = alphas[0].new_zeros(4, dtype=torch.float64)
        self._train: Batch | None = None
        self._val: Batch | None = None
        self._costs: list[Tensor | None] = []
        self._costs_by_use: dict[str, list[Tensor | None]] = {}

    def step(
        self, train: Batch | None, val: Batch, generator: torch.Generator, arch: bool = True
    ) -> StepLosses:
        """See :meth:`Bilevel.step`; batches may be on the CPU."""
        if train is not None:
            self._train = self._put(train, self._train)
        expected = None
        if arch:
            self._val = self._put(val, self._val)
            encoded = self._bilevel.read_encoded()  # waits for the step before, not for this one
            self._launch("gradients of alpha", self._arch_gradients)
            expected, costs = self._bilevel.costs(encoded, generator)
            self._launch(f"step of alpha {self._take(costs)}", self._arch_update)
        if train is not None:
            self._launch("step of the weights", self._weight_update)
        numbers = self._numbers.clone().unbind()  # the next step has other ones
        return StepLosses(
            None if train is None else numbers[TRAIN_LOSS],
            None if train is None else numbers[TRAIN_CORRECT],
            numbers[VAL_LOSS] if arch else None,
            numbers[VAL_CORRECT] if arch else None,
            expected,
        )

    # --- what is captured ------------------------------------------------------------------------

    def _arch_gradients(self) -> None:
        assert self._val is not None
        loss, correct, gradients = self._bilevel.arch_gradients(self._train, self._val)
        self._leave(VAL_LOSS, loss, correct)
        for gradient, found in zip(self._gradients, gradients, strict=True):
            gradient.copy_(found)

    def _arch_update(self) -> None:
        self._bilevel.arch_update(self._gradients, self._costs)

    def _weight_update(self) -> None:
        assert self._train is not None
        self._leave(TRAIN_LOSS, *self._bilevel.weight_update(self._train))

    def _leave(self, place: int, loss: Tensor, correct: Tensor) -> None:
        self._numbers[place].copy_(loss)
        self._numbers[place + 1].copy_(correct)

    # --- what is copied --------------------------------------------------------------------------

    def _put(self, batch: Batch, place: Batch | None) -> Batch:
        """Copy a batch to where batches are."""
        if place is None:
            device = self._numbers.device
            images, labels = (torch.empty_like(tensor, device=device) for tensor in batch)
            place = images, labels
        for fixed, tensor in zip(place, batch, strict=True):
            _copy(fixed, tensor)
        return place

    def _take(self, costs: Sequence[Tensor | None]) -> str:
        """Copy gradients of LAT(α) to where those are that there are as many of; which ones."""
        use = "".join("-" if cost is None else "+" for cost in costs)
        if use not in self._costs_by_use:
            like = self._gradients[0]
            self._costs_by_use[use] = [
                None if c is None else like.new_empty(c.shape) for c in costs
            ]
        self._costs = self._costs_by_use[use]
        for fixed, cost in zip(self._costs, costs, strict=True):
            if fixed is not None and cost is not None:
                _copy(fixed, cost)
        return use


def _copy(fixed: Tensor, tensor: Tensor) -> None:
    """Copy into a tensor, from the host without waiting for what the device has still to do."""
    if fixed.is_cuda and not tensor.is_cuda:
        tensor = tensor.pin_memory()
    fixed.copy_(tensor, non_blocking=True)
