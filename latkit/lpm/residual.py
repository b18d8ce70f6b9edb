"""What a linear model leaves over, learnt by a few small networks, as far as it can be learnt.

Each member is trained without a part of the rows and judged on that part; a gate scales what they
say together, and is zero where they do not help: on engines whose latency is additive.
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
# With fewer rows, a part of them says nothing of the rest.
MIN_ROWS = 200


class ResidualEnsemble:
    """The mean of some networks of one hidden layer, scaled by a gate.

    Args:
        weights: of all members, by name (see :meth:`state`).
        gate: between 0 (silent) and 1.
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
    """Learn what is left over.

    Args:
        encodings: ``n x E*O``.
        residual: ``n`` values of spread about one, each not fitted to its own row.
        seed: of the parts, the initial weights and the batches.

    Returns:
        The ensemble, and of each row what the member that never saw it says, times the gate; None
        where there are too few rows or nothing was learnt.
    """
    n = len(residual)
    if n < MIN_ROWS:
        return None
    generator = torch.Generator().manual_seed(seed)
    part = torch.arange(n)[torch.randperm(n, generator=generator)] % MEMBERS
    # Wild rows teach nothing.
    target = torch.from_numpy(np.clip(residual, -4, 4)).float()
    x = encodings.float()
    weights = _train(x, target, part, generator)
    with torch.inference_mode():
        each = _forward(weights, x.expand(MEMBERS, -1, -1))
    said = each[part, torch.arange(n)].double().numpy()
    gate = _gate(said, np.clip(residual, -4, 4))
    return (ResidualEnsemble(weights, gate), gate * said) if gate > 0 else None


def _gate(said: Array, residual: Array) -> float:
    """The factor that makes ``said`` the best forecast, or 0 where it does not clearly help."""
    strength = said @ said
    if strength == 0:
        return 0.0
    factor = min(1.0, float(said @ residual / strength))
    if factor <= 0:
        return 0.0
    gain = residual**2 - (residual - factor * said) ** 2
    return factor if gain.mean() > 3 * gain.std() / np.sqrt(len(gain)) else 0.0


def _forward(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """``M x b`` from ``M x b x i``, by all members at once."""
    hidden = torch.baddbmm(weights["hidden_bias"], x, weights["hidden"])
    out = torch.baddbmm(weights["out_bias"], torch.nn.functional.gelu(hidden), weights["out"])
    return out.squeeze(2)


def _train(
    x: Tensor, target: Tensor, part: Tensor, generator: torch.Generator
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
    own = [torch.nonzero(part != member).squeeze(1) for member in range(MEMBERS)]
    size = min(BATCH, min(len(rows) for rows in own))
    for step in range(STEPS):
        rows = torch.stack([r[torch.randint(len(r), (size,), generator=generator)] for r in own])
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
