"""One step of training, and the test: a network, its optimiser, and sums over processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latkit.search.distributed import Processes
from latkit.search.optimizers import SGD, clip_gradients
from latkit.spaces.base import Architecture, SearchSpace
from latkit.spaces.setting import NetworkConfig
from latkit.training.config import TrainingConfig
from latkit.training.data import TrainingData


def make_network(
    space: SearchSpace,
    architecture: Architecture,
    network: NetworkConfig,
    config: TrainingConfig,
    seed: int,
) -> nn.Module:
    """The network to be trained, initialised by the seed alone, on the CPU.

    Raises:
        InputError: it cannot have what the configuration asks for.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = space.build_for_training(architecture, network, config.auxiliary_weight > 0)
    return made.to(memory_format=torch.channels_last)


class Trainer:
    """Takes steps, and tests.

    Args:
        network: is trained in place.
        config: how.
        device: where the network is.
        processes: this process among those that train together.
    """

    def __init__(
        self, network: nn.Module, config: TrainingConfig, device: torch.device, processes: Processes
    ) -> None:
        self.network, self.config, self.device, self.processes = network, config, device, processes
        self.parameters = list(network.parameters())
        self.optimizer = SGD(self.parameters, config.lr, config.momentum, config.weight_decay)

    def set_epoch(self, epoch: int) -> None:
        """Set the rates of an epoch, which are counted from 0."""
        self.network.train()
        self.optimizer.lr = self.config.learning_rate(epoch)
        if hasattr(self.network, "drop_path_probability"):
            probability = self.config.drop_path_probability(epoch)
            self.network.drop_path_probability = probability  # type: ignore[assignment]

    def step(self, x: Tensor, labels: Tensor, seed: int) -> Tensor:
        """One step along the gradient of this process's part of a batch, averaged over them all.

        Args:
            x: images, ``B x 3 x R x R``.
            labels: ``B``.
            seed: of the drop-path masks.

        Returns:
            The mean loss without the auxiliary head's, and the number of wrong predictions, of this
            process's part: 2 float64 on the CPU.
        """
        x, labels = x.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
        gpus = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(gpus):
            torch.manual_seed(seed)
            with torch.autocast(
                self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"
            ):
                output = self.network(x)
        logits, auxiliary = output if isinstance(output, tuple) else (output, None)
        loss = total = self._loss(logits, labels)
        if auxiliary is not None:
            total = loss + self.config.auxiliary_weight * self._loss(auxiliary, labels)
        # What an architecture does not use, e.g. behind `none`, has no gradient.
        gradients = [
            torch.zeros_like(parameter) if gradient is None else gradient
            for parameter, gradient in zip(
                self.parameters,
                torch.autograd.grad(total, self.parameters, allow_unused=True),
                strict=True,
            )
        ]
        self.processes.average_gradients(gradients)
        if self.config.clip:
            clip_gradients(gradients, self.config.clip)
        self.optimizer.step(gradients)
        return torch.stack([loss.detach().double(), _wrong(logits, labels)]).cpu()

    def test(self, data: TrainingData) -> tuple[float, float]:
        """Mean loss, without smoothing, and error in percent of all test images, in fp32."""
        self._average_buffers()
        self.network.eval()
        totals = torch.zeros(2, dtype=torch.float64)
        with torch.inference_mode():
            for x, labels in data.test_batches(*self.processes.share):
                y = labels.to(self.device)
                logits = self.network(x.to(self.device))
                loss = nn.functional.cross_entropy(logits, y, reduction="sum")
                totals += torch.stack([loss.double(), _wrong(logits, y)]).cpu()
        loss, wrong = (self.processes.average(totals) * self.processes.world).tolist()
        images = len(data.test.labels)
        return loss / images, 100 * wrong / images

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(
            logits.float(), labels, label_smoothing=self.config.label_smoothing
        )

    def _average_buffers(self) -> None:
        """Make batch norms' statistics, which each process has of its own images, those of all."""
        buffers = [buffer for buffer in self.network.buffers() if buffer.is_floating_point()]
        self.processes.average_gradients(buffers)


def _wrong(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.detach().argmax(1) != labels).sum().double()
