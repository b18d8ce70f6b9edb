"""One step of bi-level optimisation: α on one batch, then the weights on another.

First order holds the weights fixed in the α-step. Second order differentiates through one step of
the weights (DARTS, Eq. 6 to 8), whose second derivative along a vector is a finite difference.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from latkit.search.optimizers import SGD, Adam, OptimizerConfig, clip_gradients, laid_out
from latkit.search.supernet import Supernet

Batch = tuple[Tensor, Tensor]
Average = Callable[[Sequence[Tensor]], None]

# The radius of DARTS's finite difference, over the norm of the vector.
RADIUS = 0.01


class Penalty(Protocol):
    """What the α-step adds to the loss (Eq. 3): ``weight`` times an expected cost."""

    @property
    def weight(self) -> float: ...

    def expected(
        self, alpha: Tensor, edge_strength: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """LAT(α) of the α that LPMs encode, a scalar, differentiable in both tensors."""
        ...

    def state_dict(self) -> dict[str, float]: ...

    def load_state_dict(self, state: Mapping[str, float]) -> None: ...


class StepLosses(NamedTuple):
    """What one step saw, as scalar tensors; without an α-step, ``val_loss`` and on are None.

    Attributes:
        train_loss: None without a step of the weights, as ``train_correct`` is.
        expected_cost: LAT(α), in the unit of the cost.
        train_correct, val_correct: correct predictions.
    """

    train_loss: Tensor | None
    train_correct: Tensor | None
    val_loss: Tensor | None = None
    val_correct: Tensor | None = None
    expected_cost: Tensor | None = None


class Bilevel(ABC):
    """Alternating gradient steps.

    A step has a part on the host, :meth:`costs`, and three where the supernet is, which read and
    write tensors there and nothing else, so that :mod:`latkit.search.captured` can capture them as
    CUDA graphs: :meth:`arch_gradients`, :meth:`arch_update` and :meth:`weight_update`.

    Args:
        supernet: whose parameters are optimised.
        config: both optimisers.
        penalty: the expected cost and its weight.
        precision: ``fp32``, or ``bf16`` for autocast.
        average: replaces gradients by their mean over all processes.
    """

    def __init__(
        self,
        supernet: Supernet,
        config: OptimizerConfig,
        penalty: Penalty,
        precision: str = "fp32",
        average: Average = lambda gradients: None,
    ) -> None:
        self.supernet = supernet
        self.config = config
        self.penalty = penalty
        self.precision = precision
        self.average = average
        self._alphas = supernet.architecture_parameters()
        self._weights = supernet.weight_parameters()
        self.arch_optimizer = Adam(
            self._alphas, config.arch_lr, config.arch_betas, config.arch_weight_decay
        )
        self.weight_optimizer = SGD(
            self._weights, config.weight_lr, config.momentum, config.weight_decay
        )

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Set the weights' learning rate for an epoch counted from 0."""
        self.weight_optimizer.lr = (
            0.5 * self.config.weight_lr * (1 + math.cos(math.pi * epoch / epochs))
        )

    def step(
        self, train: Batch | None, val: Batch, generator: torch.Generator, arch: bool = True
    ) -> StepLosses:
        """One α-step on ``val`` (L_val + λ LAT), then one weight step on ``train``.

        Args:
            train: None: the weights are frozen, and what is first order takes the α-step alone.
            generator: of the samples that LAT(α) is estimated from.
            arch: whether to take the α-step.
        """
        arch_losses = self._arch_step(train, val, generator) if arch else ()
        if train is None:
            return StepLosses(None, None, *arch_losses)
        loss, correct = self.weight_update(train)
        return StepLosses(loss, correct, *arch_losses)

    def _arch_step(
        self, train: Batch | None, val: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        loss, correct, gradients = self.arch_gradients(train, val)
        expected, costs = self.costs(self.read_encoded(), generator)
        self.arch_update(gradients, [None if c is None else c.to(self._alphas[0]) for c in costs])
        return loss, correct, expected

    def read_encoded(self) -> list[Tensor]:
        """What LAT(α) depends on, on the CPU: the α that LPMs encode and, if there are any, the
        strengths of edges."""
        return [tensor.detach().cpu() for tensor in self._encoded()]

    def costs(
        self, encoded: Sequence[Tensor], generator: torch.Generator
    ) -> tuple[Tensor, list[Tensor | None]]:
        """LAT(α), and λ times its gradients, all of it on the CPU.

        Args:
            encoded: see :meth:`read_encoded`.
            generator: of the samples that LAT(α) is estimated from.

        Returns:
            LAT(α), a scalar, and the gradient in each of ``encoded``; None: LAT(α) does not depend
            on that one.
        """
        read = [tensor.requires_grad_() for tensor in encoded]
        strength = read[1] if len(read) > 1 else None
        expected = self.penalty.expected(read[0], strength, generator)
        gradients = torch.autograd.grad(expected, read, allow_unused=True)
        weight = self.penalty.weight
        return expected.detach(), [None if g is None else weight * g for g in gradients]

    def _encoded(self) -> list[Tensor]:
        net = self.supernet
        strength = net.edge_strength(net.encoded)
        return [net.alphas[net.encoded], *([] if strength is None else [strength])]

    def arch_update(self, gradients: list[Tensor], costs: Sequence[Tensor | None]) -> None:
        """Step α along its gradients, which change, and λ times those of LAT(α).

        Args:
            gradients: of L_val.
            costs: see :meth:`costs`, where α is.
        """
        pairs = [
            (output, cost)
            for output, cost in zip(self._encoded(), costs, strict=True)
            if cost is not None
        ]
        outputs, given = zip(*pairs, strict=True)
        added = torch.autograd.grad(outputs, self._alphas, given, allow_unused=True)
        for gradient, cost in zip(gradients, added, strict=True):
            if cost is not None:
                gradient.add_(cost)
        self.average(gradients)
        self.arch_optimizer.step(gradients)

    def weight_update(self, train: Batch) -> tuple[Tensor, Tensor]:
        """Step the weights on a batch; the loss before, and the number of correct predictions."""
        with self.supernet.only(self._weights, track=True):
            loss, correct = self._loss(train)
            gradients = torch.autograd.grad(loss, self._weights)
        self.average(gradients)
        clip_gradients(gradients, self.config.gradient_clip)
        self.weight_optimizer.step(gradients)
        return loss.detach(), correct

    @abstractmethod
    def arch_gradients(
        self, train: Batch | None, val: Batch
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """L_val, correct predictions, and the gradients of α, in tensors of their own."""

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy, and the number of correct predictions."""
        images, labels = batch
        # No cache of cast weights: a step changes weights between its passes.
        half = self.precision == "bf16"
        with torch.autocast(images.device.type, torch.bfloat16, half, cache_enabled=False):
            logits = self.supernet(images)
        if half:
            logits = logits.float()
        loss = nn.functional.cross_entropy(logits, labels)
        return loss, (logits.detach().argmax(1) == labels).sum()


class FirstOrder(Bilevel):
    """The weights are held fixed in the α-step."""

    def arch_gradients(
        self, train: Batch | None, val: Batch
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        with self.supernet.only(self._alphas, track=False):
            loss, correct = self._loss(val)
            return loss.detach(), correct, list(torch.autograd.grad(loss, self._alphas))


class SecondOrder(Bilevel):
    """The α-step looks ahead by one step of the weights, w' = w - ξ (momentum + gradient + decay).

    Its gradient is ∇α L_val(w', α) - ξ (∇α L_train(w+, α) - ∇α L_train(w-, α)) / 2ε with
    w± = w ± ε ∇w' L_val(w', α). Weights change in place and are put back from a copy, to the bit;
    running statistics of batch norms are not touched.
    """

    def arch_gradients(
        self, train: Batch | None, val: Batch
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        assert train is not None  # a configuration of frozen weights is of first order
        with self.supernet.only(self._weights, track=False):
            loss, _ = self._loss(train)
            gradients = laid_out(torch.autograd.grad(loss, self._weights), self._weights)
        self.average(gradients)
        kept = [w.detach().clone() for w in self._weights]
        try:
            self._look_ahead(gradients)
            with self.supernet.only([*self._alphas, *self._weights], track=False):
                loss, correct = self._loss(val)
                both = torch.autograd.grad(loss, [*self._alphas, *self._weights])
            ours = both[: len(self._alphas)]
            vector = laid_out(both[len(self._alphas) :], self._weights)
            self.average(vector)
            norm = torch.stack(list(torch._foreach_norm(vector))).norm()
            radius = RADIUS / norm.clamp_min(torch.finfo(norm.dtype).tiny)
            sides = []
            for sign in (1, -1):
                self._set(kept, vector, sign * radius)
                with self.supernet.only(self._alphas, track=False):
                    sides.append(torch.autograd.grad(self._loss(train)[0], self._alphas))
        finally:
            self._set(kept)
        curvature = self.weight_optimizer.rate / (2 * radius)
        return (
            loss.detach(),
            correct,
            [d - curvature * (p - n) for d, p, n in zip(ours, *sides, strict=True)],
        )

    @torch.no_grad()
    def _look_ahead(self, gradients: list[Tensor]) -> None:
        """Take the step that SGD would take."""
        optimizer = self.weight_optimizer
        weights: list[Tensor] = [*self._weights]
        torch._foreach_add_(gradients, weights, alpha=optimizer.weight_decay)
        if optimizer.state:
            buffers = [state["momentum_buffer"] for state in optimizer.state]
            torch._foreach_add_(gradients, buffers, alpha=optimizer.momentum)
        torch._foreach_add_(weights, list(torch._foreach_mul(gradients, -optimizer.rate)))

    @torch.no_grad()
    def _set(
        self, kept: list[Tensor], vector: list[Tensor] | None = None, by: Tensor | None = None
    ) -> None:
        """Weights to what was kept, or away from it along a vector."""
        weights: list[Tensor] = [*self._weights]
        torch._foreach_copy_(weights, kept)
        if vector is not None and by is not None:
            torch._foreach_add_(weights, list(torch._foreach_mul(vector, by)))


ORDERS: dict[int, type[Bilevel]] = {1: FirstOrder, 2: SecondOrder}
