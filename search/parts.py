"""Where a configuration's words become objects: the registries of what can be chosen.

A new supernet, order of optimisation, estimator or way to weigh latency is one line in a table
here; the configuration, the command line and their error messages read the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from latkit.lpm.base import LPM
from latkit.search import bilevel
from latkit.search.bilevel import StepLosses
from latkit.search.latency import straight_through_latency
from latkit.search.supernet import Supernet, derive_genotype
from latkit.spaces import DartsSpace, Genotype, SearchSpace

if TYPE_CHECKING:
    from latkit.search.config import SearchConfig
    from latkit.search.data import ImageData

Average = Callable[[Sequence[Tensor]], None]


class Penalty(Protocol):
    """What is added to the validation loss: a weight times an expected cost."""

    weight: float

    def expected(
        self, alpha: Tensor, edge_strength: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """LAT(α) in ms, a scalar with a gradient in ``alpha`` (``E x O``)."""

    def after_step(self, expected: float) -> None:
        """Told the estimate of each step that moved α."""

    def after_epoch(self, derived_cost: float) -> None:
        """Told the predicted cost of the cell derived after an epoch, in ms."""

    def state_dict(self) -> dict[str, Any]:
        """Numbers for JSON, from which :meth:`load_state_dict` goes on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""


class FixedPenalty:
    """λ·LAT(α) with a constant λ (Eq. 3)."""

    def __init__(self, config: SearchConfig, space: SearchSpace, lpm: LPM) -> None:
        assert config.lambda_per_ms is not None
        self.weight = config.lambda_per_ms
        self._space, self._lpm, self._samples = space, lpm, config.samples
        self._estimate = ESTIMATORS[config.estimator]

    def expected(
        self, alpha: Tensor, edge_strength: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        # Milliseconds keep single precision, whatever the supernet is computed in.
        with torch.autocast("cpu", enabled=False):
            return self._estimate(
                self._space, alpha.cpu(), self._lpm.latency_ms, self._samples, generator
            )

    def after_step(self, expected: float) -> None:
        """λ does not move."""

    def after_epoch(self, derived_cost: float) -> None:
        """λ does not move."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is none."""


class FirstOrder(bilevel.FirstOrder):
    """First order with a penalty, a warm-up and gradients averaged over processes.

    Args:
        supernet: whose parameters are optimised.
        config: both optimisers.
        penalty: the latency term of the α-step.
        average: replaces gradients by their mean over processes.
    """

    def __init__(
        self,
        supernet: Supernet,
        config: bilevel.OptimizerConfig,
        penalty: Penalty,
        average: Average = lambda tensors: None,
    ) -> None:
        super().__init__(
            supernet,
            config,
            lambda alpha, generator: penalty.expected(alpha, None, generator),
            penalty.weight,
        )
        self.penalty = penalty
        self._average = average

    def step(
        self,
        train: tuple[Tensor, Tensor],
        val: tuple[Tensor, Tensor],
        generator: torch.Generator,
        arch: bool = True,
    ) -> StepLosses:
        """One α-step on ``val``, then one weight step on ``train``; without ``arch`` only that."""
        zero = torch.zeros((), device=train[0].device)
        val_loss, lat_ms, val_correct = zero, zero, zero
        if arch:
            logits = self.supernet(val[0])
            val_loss = nn.functional.cross_entropy(logits, val[1])
            lat_ms = self.latency(self.supernet.alpha_normal, generator).to(val_loss.device)
            val_correct = (logits.argmax(1) == val[1]).sum()
            self._set_gradients(val_loss + self.penalty.weight * lat_ms, self._alphas)
            self.arch_optimizer.step()
        logits = self.supernet(train[0])
        train_loss = nn.functional.cross_entropy(logits, train[1])
        self._set_gradients(train_loss, self._weights)
        # After averaging: the norm is that of the whole batch's gradient.
        nn.utils.clip_grad_norm_(self._weights, self.config.gradient_clip)
        self.weight_optimizer.step()
        train_correct = (logits.argmax(1) == train[1]).sum()
        return StepLosses(
            train_loss.detach(), val_loss.detach(), lat_ms.detach(), train_correct, val_correct
        )

    def _set_gradients(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        gradients = torch.autograd.grad(loss, parameters)
        self._average(gradients)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient


SUPERNETS = {"darts": Supernet}
ORDERS = {1: FirstOrder}
ESTIMATORS = {"straight-through": straight_through_latency}
EDGE_SAMPLINGS = ("uniform",)
PENALTIES = {"lambda": FixedPenalty}


def build_supernet(config: SearchConfig, space: DartsSpace, data: ImageData) -> Supernet:
    """The supernet, initialised by the configuration's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return SUPERNETS[config.method](
            space, config.channels, config.cells, data.classes, data.images.shape[1]
        )


def build_penalty(config: SearchConfig, space: DartsSpace, lpm: LPM) -> Penalty:
    """What the configuration adds to the validation loss."""
    return PENALTIES[config.penalty](config, space, lpm)


def build_optimizer(
    config: SearchConfig, supernet: Supernet, penalty: Penalty, average: Average
) -> FirstOrder:
    """The optimiser of α and the weights."""
    return ORDERS[config.order](supernet, config.optimizer, penalty, average)


def derive(supernet: Supernet) -> Genotype:
    """The discrete cells of the supernet's present architecture parameters."""
    return derive_genotype(supernet.space, supernet.alpha_normal, supernet.alpha_reduce)
