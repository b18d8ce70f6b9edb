"""Gradient descent with the formulas and the names of state of torch.optim, without its classes.

The first of those classes to be made loads PyTorch's compiler, which a search has no use for: over
a second, and some 150 MB that stay. Its functions read a rate or a count of steps that is a tensor
back to the host; here both stay where the parameters are, so that a step can be captured as a part
of a CUDA graph.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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

    Args:
        parameters: one or more, of one type and on one device, where they stay.

    Attributes:
        lr: learning rate, free to be changed between steps.
        rate: the same as a tensor of the parameters' type and on their device, which steps read.
        state: of each parameter by name; empty before the first step.
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float, weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.rate = self.parameters[0].new_zeros(())
        self.lr = lr
        self.weight_decay = weight_decay
        self.state: list[dict[str, Tensor]] = []

    @property
    def lr(self) -> float:
        return self._lr

    @lr.setter
    def lr(self, lr: float) -> None:
        self._lr = lr
        self.rate.fill_(lr)

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
                self._step(parameters, states, laid_out(given, parameters))

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
        if not (fresh and self.state):
            self.state = fresh
        # In place, for what was captured has the addresses of what there is.
        for name, tensor in self.state_dict().items():
            tensor.copy_(tensors[name])

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
        buffers = [state["momentum_buffer"] for state in states]
        decayed = torch._foreach_add(gradients, parameters, alpha=self.weight_decay)
        torch._foreach_mul_(buffers, self.momentum)
        torch._foreach_add_(buffers, decayed)
        torch._foreach_add_(parameters, torch._foreach_mul(buffers, -self.rate))


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
        step = torch.zeros((), device=parameter.device)
        return {"step": step, "exp_avg": mean, "exp_avg_sq": square}

    def _step(
        self, parameters: list[Tensor], states: list[dict[str, Tensor]], gradients: list[Tensor]
    ) -> None:
        for parameter, state, gradient in zip(parameters, states, gradients, strict=True):
            step, mean, square = state["step"], state["exp_avg"], state["exp_avg_sq"]
            step.add_(1)
            decayed = gradient.add(parameter, alpha=self.weight_decay)
            mean.lerp_(decayed, 1 - self.betas[0])
            square.mul_(self.betas[1]).addcmul_(decayed, decayed, value=1 - self.betas[1])
            # In double precision: 1 - 0.999 has four digits in single.
            of_mean, of_square = (1 - torch.pow(beta, step.double()) for beta in self.betas)
            root = square.sqrt().div_(of_square.sqrt()).add_(ADAM_EPS)
            parameter.add_(mean / root * (-self.rate / of_mean))


def clip_gradients(gradients: Sequence[Tensor], largest: float) -> None:
    """Shorten gradients in place to the largest norm, as ``nn.utils.clip_grad_norm_`` does."""
    norm = nn.utils.get_total_norm(gradients, foreach=True)
    torch._foreach_mul_([*gradients], (largest / (norm + 1e-6)).clamp_max(1))


def laid_out(gradients: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Gradients with the strides of their parameters: one tensor of others makes a GPU take a whole
    list of them one after the other."""
    return [
        gradient
        if gradient.stride() == parameter.stride()
        else gradient.reshape(-1).view(parameter.shape)
        for gradient, parameter in zip(gradients, parameters, strict=True)
    ]
