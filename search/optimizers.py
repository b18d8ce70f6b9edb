"""Gradient descent by the functions of torch.optim, not its classes.

The first of those classes to be made loads PyTorch's compiler, which a search has no use for: over
a second, and some 150 MB that stay. State has the names that the classes give it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

ADAM_EPS = 1e-8


@dataclass(frozen=True)
class OptimizerConfig:
    """Hyper-parameters of both optimisers; the defaults are the paper's for DARTS (section 4.1).

    Attributes:
        arch_lr: learning rate of Adam on α.
        weight_lr: initial learning rate of SGD on the weights, annealed to 0 by a cosine.
        gradient_clip: largest norm of the weights' gradient in their own step. The step that
            second order looks ahead by is not clipped, as in the reference code.
    """

    arch_lr: float = 3e-4
    arch_betas: tuple[float, float] = (0.5, 0.999)
    arch_weight_decay: float = 1e-3
    weight_lr: float = 0.025
    momentum: float = 0.9
    weight_decay: float = 3e-4
    gradient_clip: float = 5.0


class Optimizer(ABC):
    """Changes parameters in place.

    Attributes:
        lr: learning rate, free to be changed between steps.
        state: of each parameter by name; empty before the first step.
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float, weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.lr = lr
        self.weight_decay = weight_decay
        self.state: list[dict[str, Tensor]] = []

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """Step along gradients, one of each parameter; without one, it and its state stay."""
        if not self.state:
            self.state = [self._fresh(parameter) for parameter in self.parameters]
        moving = [
            (parameter, state, gradient)
            for parameter, state, gradient in zip(
                self.parameters, self.state, gradients, strict=True
            )
            if gradient is not None
        ]
        if moving:
            parameters, states, given = map(list, zip(*moving, strict=True))
            with torch.no_grad():
                self._step(parameters, states, given)

    def state_dict(self) -> dict[str, Tensor]:
        """State by ``index/name``, not copied."""
        return {
            f"{index}/{name}": tensor
            for index, state in enumerate(self.state)
            for name, tensor in state.items()
        }

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            ValueError: it is of other parameters.
        """
        fresh = [self._fresh(parameter) for parameter in self.parameters] if tensors else []
        expected = {
            f"{index}/{name}": tensor
            for index, state in enumerate(fresh)
            for name, tensor in state.items()
        }
        if {n: t.shape for n, t in expected.items()} != {n: t.shape for n, t in tensors.items()}:
            raise ValueError("the state of an optimiser is of other parameters")
        for name, tensor in expected.items():
            tensor.copy_(tensors[name])
        self.state = fresh

    @abstractmethod
    def _fresh(self, parameter: Tensor) -> dict[str, Tensor]:
        """The state of a parameter before its first step."""

    @abstractmethod
    def _step(
        self, parameters: list[Tensor], states: list[dict[str, Tensor]], gradients: list[Tensor]
    ) -> None:
        """Move some of the parameters, and their states."""


class SGD(Optimizer):
    """With momentum and weight decay."""

    def __init__(
        self, parameters: Sequence[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.momentum = momentum

    def _fresh(self, parameter: Tensor) -> dict[str, Tensor]:
        return {"momentum_buffer": torch.zeros_like(parameter, requires_grad=False)}

    def _step(
        self, parameters: list[Tensor], states: list[dict[str, Tensor]], gradients: list[Tensor]
    ) -> None:
        sgd(
            parameters, gradients, [*_each(states, "momentum_buffer")],
            foreach=True, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay,
            dampening=0, nesterov=False, maximize=False,
        )  # fmt: skip


class Adam(Optimizer):
    """With weight decay that is a part of the gradient."""

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.betas = betas

    def _fresh(self, parameter: Tensor) -> dict[str, Tensor]:
        mean, square = (torch.zeros_like(parameter, requires_grad=False) for _ in range(2))
        return {"step": torch.zeros(()), "exp_avg": mean, "exp_avg_sq": square}

    def _step(
        self, parameters: list[Tensor], states: list[dict[str, Tensor]], gradients: list[Tensor]
    ) -> None:
        adam(
            parameters, gradients, _each(states, "exp_avg"), _each(states, "exp_avg_sq"), [],
            _each(states, "step"), amsgrad=False, beta1=self.betas[0], beta2=self.betas[1],
            lr=self.lr, weight_decay=self.weight_decay, eps=ADAM_EPS, maximize=False,
        )  # fmt: skip


def clip_gradients(gradients: Sequence[Tensor], largest: float) -> None:
    """Shorten gradients in place to the largest norm, as ``nn.utils.clip_grad_norm_`` does."""
    norm = nn.utils.get_total_norm(gradients, foreach=True)
    torch._foreach_mul_([*gradients], (largest / (norm + 1e-6)).clamp_max(1))


def _each(states: Sequence[Mapping[str, Tensor]], name: str) -> list[Tensor]:
    return [state[name] for state in states]
