"""The paper's LPM (section 3.2): four fully connected layers, trained by SGD on squared error."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from latkit.core.errors import LPMError
from latkit.lpm.base import LPM, FloatArray
from latkit.lpm.seen_errors import SeenErrors
from latkit.lpm.threads import one_thread

LAYERS = (112, 256, 64, 1)
EPOCHS = 1000
MIN_UPDATES = 10_000


@dataclass(frozen=True)
class PaperRecipe:
    """Hyper-parameters in print, with two documented departures.

    ``PaperRecipe(epochs=1000, standardize=False)`` is the recipe to the letter.

    Attributes:
        epochs: passes over the data. None for the printed 1,000, or as many more as make
            ``MIN_UPDATES`` steps: the paper's 80,000 architectures give 400 steps an epoch, but
            240 give two, and 2,000 steps end before the sigmoids leave their plateau.
        standardize: train on (target - mean) / standard deviation instead of raw milliseconds.
            The paper trains on raw milliseconds around 20; at hundreds of milliseconds that
            recipe collapses to a constant.
    """

    epochs: int | None = None
    batch: int = 200
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-5
    standardize: bool = True

    def epochs_for(self, n: int) -> int:
        """Passes over ``n`` training architectures."""
        if self.epochs is not None:
            return self.epochs
        return max(EPOCHS, math.ceil(MIN_UPDATES / max(1, math.ceil(n / self.batch))))


class PaperLPM(SeenErrors, LPM):
    """Layers of 112, 256, 64 and 1 neurons; sigmoid after each but the last."""

    kind = "paper"

    def __init__(self, inputs: int, mean: float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.hyper_parameters = {"inputs": inputs}
        self._mean = torch.tensor(mean)
        self._scale = torch.tensor(scale)
        modules: list[nn.Module] = []
        for width_in, width_out in zip((inputs, *LAYERS), LAYERS, strict=False):
            modules += [nn.Linear(width_in, width_out), nn.Sigmoid()]
        self.network = nn.Sequential(*modules[:-1])

    def mean(self, encodings: Tensor) -> Tensor:
        scaled: Tensor = self.network(encodings).squeeze(-1)
        return scaled * self._scale + self._mean

    def state(self) -> dict[str, Tensor]:
        return {
            "mean_ms": self._mean,
            "scale_ms": self._scale,
            **self.errors_state(),
            **self.network.state_dict(),
        }

    @classmethod
    def from_state(
        cls, hyper_parameters: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> PaperLPM:
        weights = dict(state)
        lpm = cls(
            int(hyper_parameters["inputs"]),
            float(weights.pop("mean_ms")),
            float(weights.pop("scale_ms")),
        )
        lpm.set_errors_state({"half_widths_ms": weights.pop("half_widths_ms")})
        lpm.network.load_state_dict(weights)
        lpm.network.requires_grad_(False)
        return lpm


@one_thread()
def train_paper_lpm(
    encodings: FloatArray,
    values: FloatArray,
    recipe: PaperRecipe,
    seed: int,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> PaperLPM:
    """Fit the paper's LPM.

    Args:
        encodings: an ``n x E*O`` array of zeros and ones.
        values: ``n`` costs.
        recipe: hyper-parameters.
        seed: of the initialisation and of the order of batches.
        on_epoch: called after each epoch with its number from 1 and its mean loss.

    Raises:
        LPMError: training diverged.
    """
    x = torch.as_tensor(np.asarray(encodings), dtype=torch.float32)
    mean, scale = 0.0, 1.0
    if recipe.standardize:
        mean, scale = float(np.mean(values)), float(np.std(values)) or 1.0
    y = torch.as_tensor((np.asarray(values) - mean) / scale, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lpm = PaperLPM(x.shape[1], mean, scale)
    parameters: list[Tensor] = [*lpm.network.parameters()]
    momenta: list[Tensor | None] = [torch.zeros_like(p) for p in parameters]
    order = torch.Generator().manual_seed(seed)
    for epoch in range(1, recipe.epochs_for(len(x)) + 1):
        # Whole tensors and one permutation an epoch: a DataLoader would cost more than the step.
        shuffled = torch.randperm(len(x), generator=order)
        total = torch.zeros(())
        for batch in shuffled.split(recipe.batch):
            loss = nn.functional.mse_loss(lpm.network(x[batch]).squeeze(-1), y[batch])
            gradients = list(torch.autograd.grad(loss, parameters))
            with torch.no_grad():
                # The function, because the class would load PyTorch's compiler, a second or two.
                sgd(
                    parameters, gradients, momenta, foreach=True, lr=recipe.learning_rate,
                    momentum=recipe.momentum, weight_decay=recipe.weight_decay, dampening=0,
                    nesterov=False, maximize=False,
                )  # fmt: skip
            total += loss.detach() * len(batch)
        mean_loss = float(total) / len(x)
        if not np.isfinite(mean_loss):
            raise LPMError(
                f"training diverged in epoch {epoch}",
                "train with --standardize, which scales the targets",
            )
        on_epoch(epoch, mean_loss)
    lpm.network.requires_grad_(False)
    return lpm
