"""One hypernetwork for all devices and preferences, in the manner of MODNAS.

MODNAS (Sukthanker et al. 2025, Multi-objective Differentiable Neural Architecture Search, ICLR,
section 3) trains a hypernetwork from device features and a preference to α, alternately with the
supernet's weights. As there, the features are the latencies of ten cells, the preference is drawn
from a uniform Dirichlet distribution, α's step weighs cross entropy and normalised latency by it
in a network of sampled operations whose gradients are ReinMax's, and at the end each device has a
cell for each of 24 preferences.

Other than there: each step draws one device, instead of combining the gradients of all devices by
their vector of least norm; the hypernetwork is a perceptron, not a mixture of tables, and is not
pretrained; latencies are those of LPMs of ten cells in expectation, not of a predictor
that was meta-learnt from 900 cells of every device; and the scale is smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.front_judge import SPACE, Cells, Numbers
from latkit.search.data import batches, epoch_generator, split_halves
from latkit.search.decode import log_weights, strongest
from latkit.search.distributed import ALONE
from latkit.search.image_source import ImageData
from latkit.search.objectives import Objective, evaluate
from latkit.search.oneshot.config import OneShotConfig
from latkit.search.oneshot.network import OneShotNetwork, PathTrainer
from latkit.search.optimizers import Adam
from latkit.search.penalty import FixedWeight, Penalty

WIDTH = 64
RATE = 1e-3
# MODNAS's, of DARTS.
BETAS, WEIGHT_DECAY = (0.5, 0.999), 1e-3


@dataclass(frozen=True)
class Device:
    """What the hypernetwork is given of a device.

    Attributes:
        features: logarithms of the latencies of its measured cells, standardised over these cells.
        latency: LAT(α) in ms.
        low, high: of what is predicted of all cells, which become 0 and 1.
    """

    features: Tensor
    latency: Penalty
    low: float
    high: float

    @classmethod
    def of(cls, measured_ms: Numbers, objective: Objective) -> Device:
        """A device.

        Args:
            measured_ms: latencies of the same cells on every device.
            objective: what its LPM predicts.
        """
        logs = np.log(measured_ms)
        predicted = evaluate(SPACE, objective, SPACE.unrank(np.arange(SPACE.size)))
        return cls(
            torch.from_numpy((logs - logs.mean()) / logs.std()).float(),
            Penalty(SPACE, objective, FixedWeight(1.0)),
            float(predicted.min()),
            float(predicted.max()),
        )

    def normalised(self, alpha: Tensor, generator: torch.Generator) -> Tensor:
        """LAT(α) between 0 and 1, differentiable."""
        return (self.latency.expected(alpha, None, generator) - self.low) / (self.high - self.low)


class Hypernetwork(nn.Module):
    """From a device's features and the weight of its accuracy to α, ``E x O``.

    Args:
        features: how many numbers describe a device.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        last = nn.Linear(WIDTH, SPACE.num_edges * SPACE.num_operations)
        # All operations are as likely in the beginning.
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(
            nn.Linear(features + 1, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), last
        )

    def forward(self, features: Tensor, preference: float) -> Tensor:
        alpha: Tensor = self.layers(torch.cat([features, torch.tensor([2 * preference - 1])]))
        return alpha.view(SPACE.num_edges, SPACE.num_operations)


def drawn(alpha: Tensor, generator: torch.Generator) -> Tensor:
    """Of each edge an operation as a one-hot row: ``E x O``."""
    index = torch.multinomial(alpha.detach().softmax(-1), 1, generator=generator)
    return torch.zeros_like(alpha).scatter_(1, index, 1.0)


def straight_through(alpha: Tensor, generator: torch.Generator) -> Tensor:
    """:func:`drawn`, with ReinMax's gradient in α (Liu et al. 2023, Algorithm 2)."""
    one_hot = drawn(alpha, generator)
    probabilities = alpha.softmax(-1)
    half = ((one_hot + probabilities) / 2).clamp_min(1e-12).log()
    middle = ((half - alpha).detach() + alpha).softmax(-1)
    slope = 2 * middle - probabilities / 2
    return slope - slope.detach() + one_hot


class Training:
    """The hypernetwork and the supernet's weights, stepped in turn.

    Args:
        devices: by name.
        config: of the supernet and of its weights' optimiser, as in a one-shot search.
        data: half of the images train the weights, half the hypernetwork.

    Attributes:
        steps: taken so far; each has a pass of the weights and a pass of the hypernetwork.
    """

    def __init__(
        self, devices: Mapping[str, Device], config: OneShotConfig, data: ImageData
    ) -> None:
        self._devices, self._config, self._data = dict(devices), config, data
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._hypernetwork = Hypernetwork(len(next(iter(devices.values())).features))
        cpu = torch.device("cpu")
        self._net = OneShotNetwork.build(config, SPACE, data, cpu)
        self._weights = PathTrainer(self._net, config, cpu, ALONE)
        self._parameters = list(self._hypernetwork.parameters())
        self._optimizer = Adam(self._parameters, RATE, BETAS, WEIGHT_DECAY)
        self.steps = 0

    def run(self, on_epoch: Callable[[int, float], None] = lambda epoch, loss: None) -> None:
        """All epochs.

        Args:
            on_epoch: called after each with its number and the mean loss of the weights' steps.
        """
        config = self._config
        halves = split_halves(self._data, config.seed)
        normalisation = self._data.normalisation()
        for epoch in range(config.epochs):
            self._weights.optimizer.lr = config.learning_rate(epoch)
            streams = [epoch_generator(config.seed, epoch, stream) for stream in range(3)]
            losses = []
            train, val = (
                batches(self._data, half, config.batch, normalisation, stream)
                for half, stream in zip(halves, streams[:2], strict=True)
            )
            for (images, labels), held_out in zip(train, val, strict=False):
                self._hypernetwork_step(held_out, streams[2])
                with torch.no_grad():
                    alpha = self._draw_alpha(streams[2])[0]
                path = drawn(alpha, streams[2]).argmax(1).numpy()
                losses.append(float(self._weights.step(images, labels, [path])[0]))
                self.steps += 1
            on_epoch(epoch + 1, float(np.mean(losses)))

    def cells(self, device: str, preferences: Sequence[float]) -> Cells:
        """The strongest cell of each preference, the weight of the accuracy from 0 to 1."""
        features = self._devices[device].features
        with torch.no_grad():
            alphas = [self._hypernetwork(features, weight) for weight in preferences]
        rows = [strongest(SPACE, log_weights(SPACE, alpha, None), None) for alpha in alphas]
        return SPACE.rank(np.stack(rows))

    def _draw_alpha(self, generator: torch.Generator) -> tuple[Tensor, float, Device]:
        """α of a random device and preference, and these; the Dirichlet distribution is uniform."""
        names = list(self._devices)
        index = int(torch.randint(len(names), (), generator=generator))
        preference = float(torch.rand((), generator=generator))
        device = self._devices[names[index]]
        return self._hypernetwork(device.features, preference), preference, device

    def _hypernetwork_step(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> None:
        images, labels = batch
        alpha, preference, device = self._draw_alpha(generator)
        picks = straight_through(alpha, generator).unbind()
        channels_last = images.contiguous(memory_format=torch.channels_last)
        logits = self._net.mixture(channels_last, picks)
        accuracy_loss = nn.functional.cross_entropy(logits, labels)
        latency_loss = device.normalised(alpha, generator)
        loss = preference * accuracy_loss + (1 - preference) * latency_loss
        if not math.isfinite(loss.item()):
            raise SystemExit("the loss of the hypernetwork is not finite")
        self._optimizer.step(torch.autograd.grad(loss, self._parameters))
