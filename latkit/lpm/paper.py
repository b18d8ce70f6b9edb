"""The paper's LPM (section 3.2): four fully connected layers, trained by SGD on squared error."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd
from typing_extensions import Self

from latkit.core.errors import LPMError
from latkit.core.events import SILENT, Listener, Progress
from latkit.lpm.intervals import EmpiricalLPM
from latkit.lpm.kinds import LPM_KINDS
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.store import LPMCard
from latkit.lpm.threads import one_thread

LAYERS = (112, 256, 64, 1)
EPOCHS = 1000
MIN_UPDATES = 10_000
# Above this, in the unit of the quantity, raw targets collapse.
LARGE_TARGETS = 100


@dataclass(frozen=True)
class PaperRecipe:
    """The published hyper-parameters, with two documented departures.

    ``PaperRecipe(epochs=1000, standardize=False)`` is the recipe to the letter.

    Attributes:
        epochs: passes over the data. None for the published 1,000, or as many more as make
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


@LPM_KINDS.register("paper")
class PaperLPM(EmpiricalLPM):
    """Layers of 112, 256, 64 and 1 neurons; sigmoid after each but the last."""

    name = "paper"
    options_class = PaperRecipe
    calibration_fits = 1

    def __init__(self, inputs: int, mean: float = 0.0, scale: float = 1.0) -> None:
        self.hyper_parameters = {"inputs": inputs}
        self._mean = torch.tensor(mean)
        self._scale = torch.tensor(scale)
        self._training_facts: dict[str, Any] = {}
        modules: list[nn.Module] = []
        for width_in, width_out in zip((inputs, *LAYERS), LAYERS, strict=False):
            modules += [nn.Linear(width_in, width_out), nn.Sigmoid()]
        self.network = nn.Sequential(*modules[:-1])

    @classmethod
    @one_thread()
    def fit(cls, rows: Rows, recipe: Recipe, listener: Listener = SILENT) -> Self:
        """Train the network.

        The seed is of the initialisation and of the order of batches. After each epoch the listener
        receives the epoch's number and its mean loss.

        Raises:
            LPMError: training diverged.
        """
        options, seed = recipe.options, recipe.seed
        assert isinstance(options, PaperRecipe)
        x = torch.as_tensor(np.asarray(rows.encodings), dtype=torch.float32)
        mean, scale = 0.0, 1.0
        if options.standardize:
            mean, scale = float(np.mean(rows.values)), float(np.std(rows.values)) or 1.0
        y = torch.as_tensor((np.asarray(rows.values) - mean) / scale, dtype=torch.float32)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            lpm = cls(x.shape[1], mean, scale)
        epochs = options.epochs_for(len(x))
        lpm._training_facts = {**dataclasses.asdict(options), "epochs": epochs}
        parameters: list[Tensor] = [*lpm.network.parameters()]
        momenta: list[Tensor | None] = [torch.zeros_like(p) for p in parameters]
        order = torch.Generator().manual_seed(seed)
        try:
            for epoch in range(1, epochs + 1):
                # One permutation an epoch: a DataLoader would cost more than the step.
                shuffled = torch.randperm(len(x), generator=order)
                total = torch.zeros(())
                for batch in shuffled.split(options.batch):
                    predicted = lpm.network(x[batch]).squeeze(-1)
                    loss = nn.functional.mse_loss(predicted, y[batch])
                    gradients = list(torch.autograd.grad(loss, parameters))
                    with torch.no_grad():
                        # The class would load PyTorch's compiler, a second or two.
                        sgd(
                            parameters, gradients, momenta, foreach=True,
                            lr=options.learning_rate, momentum=options.momentum,
                            weight_decay=options.weight_decay, dampening=0, nesterov=False,
                            maximize=False,
                        )  # fmt: skip
                    total += loss.detach() * len(batch)
                mean_loss = float(total) / len(x)
                if not np.isfinite(mean_loss):
                    raise LPMError(
                        f"training diverged in epoch {epoch}",
                        "train with --standardize, which scales the targets",
                    )
                listener.progress(Progress("epochs", epoch, epochs, 0, f"loss {mean_loss:.4g}"))
        finally:
            listener.end_progress()
        lpm.network.requires_grad_(False)
        return lpm

    def mean(self, encodings: Tensor) -> Tensor:
        scaled: Tensor = self.network(encodings).squeeze(-1)
        return scaled * self._scale + self._mean

    def training_facts(self) -> dict[str, Any]:
        return self._training_facts

    @classmethod
    def warnings(cls, card: LPMCard) -> list[str]:
        quantity = card.quantity
        if card.training["standardize"] or card.dataset[quantity.range_key][1] <= LARGE_TARGETS:
            return []
        return [
            f"raw targets above {LARGE_TARGETS} {quantity.unit}: the paper's recipe needs "
            "--standardize there"
        ]

    def state(self) -> dict[str, Tensor]:
        return {
            "mean_ms": self._mean,
            "scale_ms": self._scale,
            **self.intervals_state(),
            **self.network.state_dict(),
        }

    @classmethod
    def from_state(cls, hyper_parameters: Mapping[str, Any], state: Mapping[str, Tensor]) -> Self:
        weights = dict(state)
        lpm = cls(
            int(hyper_parameters["inputs"]),
            float(weights.pop("mean_ms")),
            float(weights.pop("scale_ms")),
        )
        lpm.restore_intervals({"half_widths_ms": weights.pop("half_widths_ms")})
        lpm.network.load_state_dict(weights)
        lpm.network.requires_grad_(False)
        return lpm
