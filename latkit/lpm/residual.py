"""The residual of a linear model, learnt by a few small networks, as far as it can be learnt.

Each member is trained without one fold of the rows and judged on that fold; a gate scales the mean
of their predictions, and is zero where they do not help: on engines whose latency is additive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.optim.adamw import adamw

from latkit.lpm.bayes import Array
from latkit.lpm.threads import one_thread

MEMBERS = 4
HIDDEN = 64
STEPS = 1200
BATCH = 256
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2
# With fewer rows, one fold of them does not represent the others.
MIN_ROWS = 200


class ResidualEnsemble:
    """The mean of some networks of one hidden layer, scaled by a gate.

    Args:
        weights: of all members, by name (see :meth:`state`).
        gate: between 0 (no correction) and 1.
    """

    def __init__(self, weights: Mapping[str, Tensor], gate: float) -> None:
        self._weights = dict(weights)
        self.gate = gate

    def __call__(self, encodings: Tensor) -> Tensor:
        """The correction of each of ``b`` encodings."""
        w = {name: tensor.to(encodings) for name, tensor in self._weights.items()}
        return self.gate * _forward(w, encodings.expand(MEMBERS, -1, -1)).mean(0)

    def state(self) -> dict[str, Tensor]:
        """The weights, float32, by name."""
        return {name: tensor.float() for name, tensor in self._weights.items()}


@one_thread()
def fit_residual(
    encodings: Tensor, residual: Array, seed: int
) -> tuple[ResidualEnsemble, Array] | None:
    """Learn the residual.

    Args:
        encodings: ``n x E*O``.
        residual: ``n`` values of spread about one, each not fitted to its own row.
        seed: of the folds, the initial weights and the batches.

    Returns:
        The ensemble, and each row's out-of-fold prediction (of the member that was trained without
        it), times the gate; None where there are too few rows or nothing was learnt.
    """
    n = len(residual)
    if n < MIN_ROWS:
        return None
    generator = torch.Generator().manual_seed(seed)
    fold = torch.arange(n)[torch.randperm(n, generator=generator)] % MEMBERS
    # Outliers would dominate the squared error.
    target = torch.from_numpy(np.clip(residual, -4, 4)).float()
    x = encodings.float()
    weights = _train(x, target, fold, generator)
    with torch.inference_mode():
        predicted = _forward(weights, x.expand(MEMBERS, -1, -1))
    out_of_fold = predicted[fold, torch.arange(n)].double().numpy()
    gate = _gate(out_of_fold, np.clip(residual, -4, 4))
    return (ResidualEnsemble(weights, gate), gate * out_of_fold) if gate > 0 else None


def _gate(out_of_fold: Array, residual: Array) -> float:
    """The factor that scales the predictions best, or 0 where they do not clearly help."""
    strength = out_of_fold @ out_of_fold
    if strength == 0:
        return 0.0
    factor = min(1.0, float(out_of_fold @ residual / strength))
    if factor <= 0:
        return 0.0
    gain = residual**2 - (residual - factor * out_of_fold) ** 2
    return factor if gain.mean() > 3 * gain.std() / np.sqrt(len(gain)) else 0.0


def _forward(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """``M x b`` from ``M x b x i``, by all members at once."""
    hidden = torch.baddbmm(weights["hidden_bias"], x, weights["hidden"])
    out = torch.baddbmm(weights["out_bias"], torch.nn.functional.gelu(hidden), weights["out"])
    return out.squeeze(2)


def _train(
    x: Tensor, target: Tensor, fold: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    inputs = x.shape[1]

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    weights = {
        "hidden": draw(MEMBERS, inputs, HIDDEN) / inputs**0.5,
        "hidden_bias": draw(MEMBERS, 1, HIDDEN) * 0.1,
        "out": draw(MEMBERS, HIDDEN, 1) / HIDDEN,
        "out_bias": torch.zeros(MEMBERS, 1, 1),
    }
    for tensor in weights.values():
        tensor.requires_grad_()
    parameters = list(weights.values())
    means, squares = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    counts = [torch.zeros(()) for _ in parameters]
    in_training = [torch.nonzero(fold != member).squeeze(1) for member in range(MEMBERS)]
    size = min(BATCH, min(len(rows) for rows in in_training))
    for step in range(STEPS):
        rows = torch.stack(
            [r[torch.randint(len(r), (size,), generator=generator)] for r in in_training]
        )
        loss = (_forward(weights, x[rows]) - target[rows]).square().mean(1).sum()
        rate = LEARNING_RATE * (1 + math.cos(math.pi * step / STEPS)) / 2
        gradients = list(torch.autograd.grad(loss, parameters))
        with torch.no_grad():
            # The function, because the class would load PyTorch's compiler, a second or two.
            adamw(
                parameters, gradients, means, squares, [], counts, foreach=True, amsgrad=False,
                beta1=0.9, beta2=0.999, lr=rate, weight_decay=WEIGHT_DECAY, eps=1e-8,
                maximize=False,
            )  # fmt: skip
    return {name: tensor.detach() for name, tensor in weights.items()}
