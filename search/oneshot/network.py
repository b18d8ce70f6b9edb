"""The network of a one-shot search: all operations of a space, of which a path is computed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latkit.search.distributed import Processes
from latkit.search.image_source import ImageData
from latkit.search.oneshot.config import OneShotConfig
from latkit.search.optimizers import SGD, clip_gradients
from latkit.search.supernet.base import BatchNormMode
from latkit.search.supernet.mixture import MIXTURES, MixtureNetwork
from latkit.search.supernet.norms import obey
from latkit.spaces import ChoiceMatrix, SearchSpace


class OneShotNetwork:
    """All networks of a space in one, which share their weights.

    Batch norms normalise by the statistics of the batch, in training and evaluation alike: running
    ones would be those of all paths, which are no path's (Guo et al. 2020, section 3.2).

    Attributes:
        mixture: the modules.
        bn_mode: how their batch norms are computed.
    """

    def __init__(self, mixture: MixtureNetwork) -> None:
        self.mixture, self.bn_mode = mixture, BatchNormMode(track=False)
        obey(mixture, self.bn_mode)

    @classmethod
    def build(
        cls, config: OneShotConfig, space: SearchSpace, data: ImageData, device: torch.device
    ) -> OneShotNetwork:
        """The network of a configuration, initialised by its seed alone.

        Raises:
            InputError: the images do not fit the space's networks.
        """
        kind = MIXTURES.get(space.name)
        channels, resolution = data.images.shape[1:3]
        network = kind.config_of(config.cells, config.channels, resolution, data.classes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            mixture = kind(space, network, channels)
        return cls(mixture.to(memory_format=torch.channels_last).to(device))

    def logits(self, x: Tensor, row: ChoiceMatrix) -> Tensor:
        """Of ``B x image_channels x H x W`` images, by one sub-network.

        Args:
            x: the images.
            row: the sub-network, of a choice matrix.
        """
        logits: Tensor = self.mixture(x.contiguous(memory_format=torch.channels_last), row.tolist())
        return logits


class PathTrainer:
    """Takes steps of the weights on the paths that it is given.

    Args:
        network: is trained in place.
        config: how.
        device: where the network is.
        processes: this process among those that train together.
    """

    def __init__(
        self,
        network: OneShotNetwork,
        config: OneShotConfig,
        device: torch.device,
        processes: Processes,
    ) -> None:
        self.network, self.config = network, config
        self.device, self.processes = device, processes
        self.parameters = list(network.mixture.parameters())
        self.optimizer = SGD(
            self.parameters, config.weight_lr, config.momentum, config.weight_decay
        )

    def step(self, x: Tensor, labels: Tensor, paths: Sequence[ChoiceMatrix]) -> Tensor:
        """One step along the gradient of the mean loss of some paths on one batch.

        What is on none of the paths stays as it is, its momentum too.

        Args:
            x: this process's part of the images, ``B x image_channels x H x W``.
            labels: ``B``.
            paths: rows of a choice matrix.

        Returns:
            The mean loss and the number of correct predictions, both means over the paths: 2
            float64 on the CPU.
        """
        x, labels = x.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
        self.network.bn_mode.world = self.processes.world
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        gradients: list[Tensor | None] = [None] * len(self.parameters)
        for path in paths:
            logits = self.network.logits(x, path)
            loss = nn.functional.cross_entropy(logits, labels)
            totals += torch.stack([loss.detach(), (logits.detach().argmax(1) == labels).sum()])
            found = torch.autograd.grad(loss / len(paths), self.parameters, allow_unused=True)
            for index, gradient in enumerate(found):
                if gradient is not None:
                    so_far = gradients[index]
                    gradients[index] = gradient if so_far is None else so_far + gradient
        # All processes have the same paths, and so the same gradients.
        there = [gradient for gradient in gradients if gradient is not None]
        self.processes.average_gradients(there)
        clip_gradients(there, self.config.gradient_clip)
        self.optimizer.step(gradients)
        return totals.cpu() / len(paths)
