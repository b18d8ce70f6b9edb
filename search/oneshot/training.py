"""The epochs of a one-shot search: steps on fair paths, and a look at a few sub-networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from latkit.core.errors import SearchError
from latkit.search.data import batches, epoch_generator, split_halves
from latkit.search.distributed import Processes
from latkit.search.image_source import ImageData
from latkit.search.network_training import NetworkTraining, memory_errors
from latkit.search.oneshot.config import OneShotConfig, preset
from latkit.search.oneshot.evaluation import Evaluator, HeldOut
from latkit.search.oneshot.network import OneShotNetwork, PathTrainer
from latkit.search.oneshot.paths import FairPaths
from latkit.search.oneshot.subnets import one_each
from latkit.spaces import SearchSpace

SCHEMA = pa.schema(
    [
        ("epoch", pa.int64()),
        *(
            (name, pa.float64())
            for name in (
                "train_loss", "train_accuracy_percent", "held_out_loss",
                "held_out_accuracy_percent", "weight_lr", "seconds",
            )
        ),
    ]
)  # fmt: skip
# After each epoch a few sub-networks are evaluated on some of the held-out images.
WATCHED, WATCHED_IMAGES = 4, 1024


class OneShotTraining(NetworkTraining):
    """The one-shot network's state and the steps that move it.

    Args:
        config: the search.
        space: what is searched.
        data: the images.
        folder: known to be this search's.
        device: where the network is trained.
        processes: this process among those that train together.

    Attributes:
        net: the network.

    Raises:
        InputError: the images do not fit the space's networks.
        SearchError: the checkpoint or the history is corrupt, or memory ran out.
    """

    schema = SCHEMA
    error_class = SearchError

    def __init__(
        self,
        config: OneShotConfig,
        space: SearchSpace,
        data: ImageData,
        folder: Path,
        device: torch.device,
        processes: Processes,
    ) -> None:
        self.config, self.space, self.data, self.device = config, space, data, device
        self._train, self._held_out = split_halves(data, config.seed)
        self._normalisation = data.normalisation()
        self._paths = FairPaths(space, config.seed)
        with memory_errors(SearchError, "while the network was made"):
            self.net = OneShotNetwork.build(config, space, data, device)
            self._trainer = PathTrainer(self.net, config, device, processes)
        super().__init__(
            self.net.mixture, self._trainer.optimizer, folder, config.epochs,
            len(self._train) // config.batch, config.batch, processes,
        )  # fmt: skip
        self._watched = space.unrank(space.sample(WATCHED, config.seed))
        self._watch = self.evaluator(WATCHED_IMAGES)

    def held_out(self, images: int | None) -> HeldOut:
        """Images that sub-networks are evaluated on, as many; None for all."""
        return HeldOut.of(self.data, self._held_out, images, self.config.eval_batch)

    def evaluator(self, images: int | None) -> Evaluator:
        """What evaluates sub-networks of the network as it then is, on held-out images."""
        return Evaluator(self.net, self.held_out(images), self.device)

    def set_epoch(self, epoch: int) -> None:
        self.optimizer.lr = self.config.learning_rate(epoch)

    def batches(self, epoch: int, skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        return batches(
            self.data, self._train, self.config.batch, self._normalisation,
            epoch_generator(self.config.seed, epoch), skip=skip, share=self.processes.share,
        )  # fmt: skip

    def step(self, epoch: int, step: int, x: Tensor, labels: Tensor) -> Tensor:
        count = self.config.paths
        first = (epoch * self.steps + step - 1) * count
        rows = [self._paths.row(number) for number in range(first, first + count)]
        return self._trainer.step(x, labels, rows)

    def row(self, loss: float, counted: float) -> dict[str, Any]:
        world = self.processes.world
        parts = [
            one_each(self._watched[i : i + world], self._watch, 2, self.processes)
            for i in range(0, WATCHED, world)
        ]
        accuracy, held_out_loss = torch.cat(parts).mean(0).tolist()
        return {
            "train_loss": loss,
            "train_accuracy_percent": 100 * counted,
            "held_out_loss": held_out_loss,
            "held_out_accuracy_percent": accuracy,
            "weight_lr": self.optimizer.lr,
        }

    def calmer(self) -> str:
        usual, rate = preset("paper", self.space.name).weight_lr, self.config.weight_lr
        smaller = usual if rate > usual else rate / 3
        return f"a smaller learning rate (--weight-lr {smaller:.2g}), or a larger --batch"
