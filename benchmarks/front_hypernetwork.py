"""One hypernetwork for all devices and preferences, in the manner of MODNAS.

MODNAS (Sukthanker et al. 2025, Multi-objective Differentiable Neural Architecture Search, ICLR,
section 3) trains a hypernetwork from device features and a preference between the losses to α,
alternately with the supernet's weights. As there, the features are the latencies of ten cells; the
hypernetwork has banks of tables, each with an α for every preference, and mixes the banks by the
attention of the features to their keys; and in the end each device has a cell for each of 24
preferences.

Other than there: supernet, losses and range of preferences are those of the sweep that it is
compared with (mixtures instead of sampled operations; LAT(α) of LPMs of ten cells instead of a
predictor that was meta-learnt from 900 cells of every device; weights of the latency that are
spread evenly in their logarithm, as with even preferences all cells became the fastest ones); each
step draws one device instead of combining the gradients of all by their vector of least norm; the
hypernetwork is not pretrained; and the scale is smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.front_costs import Passes
from benchmarks.front_judge import SPACE, Cells, Numbers
from latkit.search.bilevel import Batch
from latkit.search.config import SearchConfig
from latkit.search.data import batches, epoch_generator, split_halves
from latkit.search.decode import log_weights, strongest
from latkit.search.distributed import ALONE
from latkit.search.image_source import ImageData
from latkit.search.objectives import Objective
from latkit.search.optimizers import SGD, Adam, clip_gradients
from latkit.search.parts import make_supernet
from latkit.search.penalty import FixedWeight, Penalty
from latkit.search.supernet.base import ALPHA_INIT_SCALE
from latkit.search.supernet.mixture import MixtureSupernet


@dataclass(frozen=True)
class Device:
    """What the hypernetwork is given of a device.

    Attributes:
        features: logarithms of the latencies of its measured cells, standardised over these cells.
        latency: LAT(α) in ms.
        mean_ms: of the measured cells.
    """

    features: Tensor
    latency: Penalty
    mean_ms: float

    @classmethod
    def of(cls, measured_ms: Numbers, objective: Objective) -> Device:
        """A device.

        Args:
            measured_ms: latencies of the same cells on every device.
            objective: what its LPM predicts.
        """
        logs = np.log(measured_ms)
        features = torch.from_numpy((logs - logs.mean()) / logs.std()).float()
        penalty = Penalty(SPACE, objective, FixedWeight(1.0))
        return cls(features, penalty, float(measured_ms.mean()))


class Hypernetwork(nn.Module):
    """From a device's features and the number of a preference to α, ``E x O``.

    Args:
        banks: how many there are.
        features: how many numbers describe a device.
        preferences: how many there are.
    """

    def __init__(self, banks: int, features: int, preferences: int) -> None:
        super().__init__()
        shape = (banks, preferences, SPACE.num_edges, SPACE.num_operations)
        self.keys = nn.Parameter(torch.randn(banks, features))
        self.tables = nn.Parameter(ALPHA_INIT_SCALE * torch.randn(shape))

    def forward(self, features: Tensor, preference: int) -> Tensor:
        attention = (self.keys @ features / math.sqrt(len(features))).softmax(0)
        return torch.tensordot(attention, self.tables[:, preference], 1)


class Training:
    """The hypernetwork and the supernet's weights, stepped in turn.

    Args:
        devices: by name; there are as many banks.
        weights: of the latency, one a preference; see ``front_searches.py``.
        config: as of a search by LA-DARTS of first order without a warm-up.
        data: half of the images train the weights, half the hypernetwork.

    Attributes:
        passes: over images so far.
    """

    def __init__(
        self,
        devices: Mapping[str, Device],
        weights: Sequence[float],
        config: SearchConfig,
        data: ImageData,
    ) -> None:
        self._devices, self._weights = dict(devices), tuple(weights)
        self._config, self._data = config, data
        features = len(next(iter(devices.values())).features)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._hypernetwork = Hypernetwork(len(devices), features, len(weights))
        supernet = make_supernet(config, SPACE, data, torch.device("cpu"), ALONE)
        assert isinstance(supernet, MixtureSupernet)
        self._network, rates = supernet.network, config.optimizer
        self._of_supernet = list(self._network.parameters())
        self._of_hypernetwork = list(self._hypernetwork.parameters())
        self._sgd = SGD(self._of_supernet, rates.weight_lr, rates.momentum, rates.weight_decay)
        self._adam = Adam(
            self._of_hypernetwork, rates.arch_lr, rates.arch_betas, rates.arch_weight_decay
        )
        self.passes = Passes()

    def run(self, on_epoch: Callable[[int, float], None] = lambda epoch, loss: None) -> None:
        """All epochs.

        Args:
            on_epoch: called after each with its number and the mean loss of the weights' steps.
        """
        config, rate = self._config, self._config.optimizer.weight_lr
        halves = split_halves(self._data, config.seed)
        normalisation = self._data.normalisation()
        for epoch in range(config.epochs):
            self._sgd.lr = 0.5 * rate * (1 + math.cos(math.pi * epoch / config.epochs))
            # As in a search: of the weights' batches, of the others, of what is drawn.
            streams = [epoch_generator(config.seed, epoch, stream) for stream in range(3)]
            train, held_out = (
                batches(self._data, half, config.batch, normalisation, stream)
                for half, stream in zip(halves, streams[:2], strict=True)
            )
            losses = []
            for batch, other in zip(train, held_out, strict=False):
                self._hypernetwork_step(other, streams[2])
                losses.append(self._weights_step(batch, streams[2]))
            on_epoch(epoch + 1, float(np.mean(losses)))

    def cells(self, device: str) -> Cells:
        """The strongest cell of each preference."""
        features = self._devices[device].features
        with torch.no_grad():
            alphas = [self._hypernetwork(features, i) for i in range(len(self._weights))]
        rows = [strongest(SPACE, log_weights(SPACE, alpha)) for alpha in alphas]
        return SPACE.rank(np.stack(rows))

    def _draw_alpha(self, generator: torch.Generator) -> tuple[Tensor, float, Device]:
        """α of a random device and preference, and these."""
        names = list(self._devices)
        name = names[int(torch.randint(len(names), (), generator=generator))]
        index = int(torch.randint(len(self._weights), (), generator=generator))
        device = self._devices[name]
        return self._hypernetwork(device.features, index), self._weights[index], device

    def _loss(self, batch: Batch, alpha: Tensor) -> Tensor:
        images, labels = batch
        channels_last = images.contiguous(memory_format=torch.channels_last)
        logits = self._network(channels_last, alpha.softmax(-1).unbind())
        self.passes += Passes(1, 0, len(labels))
        loss = nn.functional.cross_entropy(logits, labels)
        if not math.isfinite(loss.item()):
            raise SystemExit("the loss of the supernet is not finite")
        return loss

    def _weights_step(self, batch: Batch, generator: torch.Generator) -> float:
        with torch.no_grad():
            alpha = self._draw_alpha(generator)[0]
        loss = self._loss(batch, alpha)
        gradients = torch.autograd.grad(loss, self._of_supernet)
        clip_gradients(gradients, self._config.optimizer.gradient_clip)
        self._sgd.step(gradients)
        return loss.item()

    def _hypernetwork_step(self, batch: Batch, generator: torch.Generator) -> None:
        alpha, weight, device = self._draw_alpha(generator)
        latency = device.latency.expected(alpha, None, generator) / device.mean_ms
        # A preference (r, 1 - r) for accuracy and latency has the weight (1 - r) / r.
        loss = (self._loss(batch, alpha) + weight * latency) / (1 + weight)
        self._adam.step(torch.autograd.grad(loss, self._of_hypernetwork))
