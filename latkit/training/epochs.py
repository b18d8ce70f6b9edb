"""The epochs of one seed's training: steps, tests and weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latkit.core.errors import TrainingError
from latkit.search.data import batches
from latkit.search.distributed import Processes
from latkit.search.network_training import NetworkTraining, memory_errors
from latkit.training.config import PRESETS
from latkit.training.data import TrainingData, cut_out
from latkit.training.history import SCHEMA, best_row
from latkit.training.request import TrainingPlan
from latkit.training.step import Trainer, make_network
from latkit.training.weights import BEST, LAST, save_weights


class SeedTraining(NetworkTraining):
    """One seed's state and the steps that move it.

    Args:
        plan: what is trained, and how; its network has the data's classes and resolution.
        data: the images.
        seed: of the initial weights, the order of images and all else that is random.
        folder: of this seed.
        device: where the network is trained.
        processes: this process among those that train together.

    Raises:
        InputError: the network cannot have what the configuration asks for.
        TrainingError: the checkpoint or the history is corrupt, or memory ran out.
    """

    schema = SCHEMA
    error_class = TrainingError

    def __init__(
        self,
        plan: TrainingPlan,
        data: TrainingData,
        seed: int,
        folder: Path,
        device: torch.device,
        processes: Processes,
    ) -> None:
        self.plan, self.data, self.seed = plan, data, seed
        config = plan.config
        with memory_errors(TrainingError, "while the network was made"):
            network = make_network(plan.space, plan.architecture, plan.network, config, seed)
            self.trainer = Trainer(network.to(device), config, device, processes)
        super().__init__(
            network, self.trainer.optimizer, folder, config.epochs, steps_per_epoch(data, plan),
            config.batch, processes, f"seed {seed}",
        )  # fmt: skip
        if self.finished and not self.steps_done % self.steps:
            self.keep()  # a crash may have come between the weights and the checkpoint

    def set_epoch(self, epoch: int) -> None:
        self.trainer.set_epoch(epoch)

    def batches(self, epoch: int, skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        images = torch.arange(len(self.data.train.labels))
        return batches(
            self.data.train, images, self.plan.config.batch, (self.data.mean, self.data.std),
            _generator(self.seed, epoch), skip=skip, share=self.processes.share,
        )  # fmt: skip

    def step(self, epoch: int, step: int, x: Tensor, labels: Tensor) -> Tensor:
        config, processes = self.plan.config, self.processes
        # Random numbers are each step's own: then nothing needs to be kept of a generator.
        here = (self.seed, epoch, step)
        if config.cutout:
            centres = torch.randint(
                self.data.resolution, (2, config.batch), generator=_generator(*here)
            )
            # Drawn for the whole batch, whatever part of it is this process's.
            part = config.batch // processes.world
            cut_out(x, centres[:, processes.rank * part :][:, :part], config.cutout)
        return self.trainer.step(x, labels, _seed_of(*here, 1 + processes.rank))

    def row(self, loss: float, counted: float) -> dict[str, Any]:
        test_loss, test_error = self.trainer.test(self.data)
        return {
            "train_loss": loss,
            "train_error_percent": 100 * counted,
            "test_loss": test_loss,
            "test_error_percent": test_error,
            "learning_rate": self.optimizer.lr,
        }

    def keep(self) -> None:
        """The weights of the last epoch, and of the best one where that is the last."""
        if not self.processes.is_main:
            return
        row = self.history[-1]
        about = {
            "genotype": str(self.plan.architecture),
            "network": self.plan.network.to_dict(),
            "seed": self.seed,
            "epoch": row["epoch"],
            "test_error_percent": row["test_error_percent"],
        }
        save_weights(self.folder / LAST, self.network, about)
        if best_row(self.history) is row:
            save_weights(self.folder / BEST, self.network, about)

    def calmer(self) -> str:
        config = self.plan.config
        usual = PRESETS[self.plan.preset].lr
        options = [f"--lr {usual if config.lr > usual else config.lr / 3:.1g}"]
        if config.warmup_epochs == 0 and config.epochs > 5:
            options.append("--warmup-epochs 5")
        if config.clip == 0:
            options.append("--clip 5")
        if config.precision != "fp32":
            options.append("--precision fp32")
        return ", or ".join(options)


def steps_per_epoch(data: TrainingData, plan: TrainingPlan) -> int:
    """Full batches of an epoch; the images that are left over differ from epoch to epoch."""
    return len(data.train.labels) // plan.config.batch


def _seed_of(*numbers: int) -> int:
    """A seed for numbers that name something random, the same after a resume."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed_of(*numbers))
