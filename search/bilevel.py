"""One step of bi-level optimisation, first order: α on one batch, then weights on another."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from latkit.search.supernet import Supernet


@dataclass(frozen=True)
class OptimizerConfig:
    """Hyper-parameters of both optimisers; the defaults are the paper's for DARTS (section 4.1).

    Attributes:
        arch_lr: learning rate of Adam on α.
        weight_lr: initial learning rate of SGD on the weights, annealed to 0 by a cosine.
    """

    arch_lr: float = 3e-4
    arch_betas: tuple[float, float] = (0.5, 0.999)
    arch_weight_decay: float = 1e-3
    weight_lr: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 3e-4
    gradient_clip: float = 5.0


class StepLosses(NamedTuple):
    """What one step saw, as scalar tensors: losses, LAT(α), correct predictions."""

    train_loss: Tensor
    val_loss: Tensor
    lat_ms: Tensor
    train_correct: Tensor
    val_correct: Tensor


class FirstOrder:
    """Alternating gradient steps: the weights are held fixed in the α-step and vice versa.

    Args:
        supernet: whose parameters are optimised.
        config: both optimisers.
        latency: LAT(α) of the normal cell's α, in ms.
        lambda_per_ms: the balancing coefficient λ of Eq. 3, in 1/ms.
    """

    def __init__(
        self,
        supernet: Supernet,
        config: OptimizerConfig,
        latency: Callable[[Tensor, torch.Generator], Tensor],
        lambda_per_ms: float,
    ) -> None:
        self.supernet = supernet
        self.config = config
        self.latency = latency
        self.lambda_per_ms = lambda_per_ms
        self._alphas = supernet.architecture_parameters()
        self._weights = supernet.weight_parameters()
        self.arch_optimizer = torch.optim.Adam(
            self._alphas,
            lr=config.arch_lr,
            betas=config.arch_betas,
            weight_decay=config.arch_weight_decay,
        )
        self.weight_optimizer = torch.optim.SGD(
            self._weights,
            lr=config.weight_lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            foreach=True,
        )

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Set the weights' learning rate for an epoch counted from 0."""
        rate = 0.5 * self.config.weight_lr * (1 + math.cos(math.pi * epoch / epochs))
        for group in self.weight_optimizer.param_groups:
            group["lr"] = rate

    def step(
        self,
        train: tuple[Tensor, Tensor],
        val: tuple[Tensor, Tensor],
        generator: torch.Generator,
    ) -> StepLosses:
        """One α-step on ``val`` (L_val + λ LAT), then one weight step on ``train``."""
        val_logits = self.supernet(val[0])
        val_loss = nn.functional.cross_entropy(val_logits, val[1])
        lat_ms = self.latency(self.supernet.alpha_normal, generator).to(val_loss.device)
        total = val_loss + self.lambda_per_ms * lat_ms
        # Gradients of α only: those of the weights would be computed to be thrown away.
        for alpha, gradient in zip(
            self._alphas, torch.autograd.grad(total, self._alphas), strict=True
        ):
            alpha.grad = gradient
        self.arch_optimizer.step()

        train_logits = self.supernet(train[0])
        train_loss = nn.functional.cross_entropy(train_logits, train[1])
        gradients = torch.autograd.grad(train_loss, self._weights)
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = gradient
        nn.utils.clip_grad_norm_(self._weights, self.config.gradient_clip)
        self.weight_optimizer.step()
        return StepLosses(
            train_loss.detach(),
            val_loss.detach(),
            lat_ms.detach(),
            (train_logits.argmax(1) == train[1]).sum(),
            (val_logits.argmax(1) == val[1]).sum(),
        )
