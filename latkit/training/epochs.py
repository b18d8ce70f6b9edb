"""The epochs of one seed's training: steps, tests, history, checkpoints and weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from latkit.core.errors import Interrupted, TrainingError
from latkit.core.memory import memory_ran_out
from latkit.search.data import batches
from latkit.search.distributed import Processes
from latkit.training.checkpoint import (
    BEST,
    CHECKPOINT,
    LAST,
    PartialEpoch,
    load_checkpoint,
    save_checkpoint,
    save_weights,
)
from latkit.training.config import PRESETS
from latkit.training.data import TrainingData, cut_out
from latkit.training.history import HistoryRow, best_row, read_history, write_history
from latkit.training.request import TrainingPlan
from latkit.training.step import Trainer, make_network

_GO_ON = "run the same command to go on"


@dataclass(frozen=True)
class StepReport:
    """What the loop reports after each step.

    Attributes:
        seed: that is trained.
        epoch: from 1; the one that is running.
        step: of the epoch, from 1.
        train_loss: of this step.
        test_error_percent: of the last finished epoch; None before there is one.
    """

    seed: int
    epoch: int
    step: int
    train_loss: float
    test_error_percent: float | None


class SeedTraining:
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

    def __init__(
        self,
        plan: TrainingPlan,
        data: TrainingData,
        seed: int,
        folder: Path,
        device: torch.device,
        processes: Processes,
    ) -> None:
        self.plan, self.data, self.seed, self.folder = plan, data, seed, folder
        self.processes = processes
        config = plan.config
        self.steps = steps_per_epoch(data, plan)
        try:
            network = make_network(plan.space, plan.architecture, plan.network, config, seed)
            self.trainer = Trainer(network.to(device), config, device, processes)
            self.finished, self._partial = load_checkpoint(folder, network, self.trainer.optimizer)
        except (RuntimeError, MemoryError) as error:
            raise _memory_ran_out(error, "while the network was made") from None
        self.history: list[HistoryRow] = read_history(folder, self.finished)
        self._kept = f"epoch {self.finished}" if self.finished else None
        if self._partial is not None:
            self._kept = f"epoch {self.finished + 1}, step {self._partial.step}"
        elif self.finished:
            self._save_weights()  # a crash may have come between them and the checkpoint

    def run(
        self, on_step: Callable[[StepReport], None], stop: Callable[[], bool]
    ) -> Sequence[HistoryRow]:
        """Train to the last epoch.

        Args:
            on_step: called after each step.
            stop: called after each step: whether to write a checkpoint and end there.

        Returns:
            The rows of all epochs.

        Raises:
            TrainingError: a loss is not finite, or memory ran out.
            Interrupted: ``stop`` returned true in one of the processes.
            OSError: the folder cannot be written.
        """
        while self.finished < self.plan.config.epochs:
            self._epoch(on_step, stop)
        return self.history

    def _epoch(self, on_step: Callable[[StepReport], None], stop: Callable[[], bool]) -> None:
        """One epoch, or the rest of one that was begun; its row, checkpoint and weights."""
        config, epoch = self.plan.config, self.finished
        started = time.perf_counter()
        self.trainer.set_epoch(epoch)
        totals, first, seconds = torch.zeros(2, dtype=torch.float64), 0, 0.0
        if self._partial is not None:
            first, seconds = self._partial.step, self._partial.seconds
            totals += self._partial.totals
            self._partial = None
        test_error = self.history[-1]["test_error_percent"] if self.history else None
        passed = batches(
            self.data.train, torch.arange(len(self.data.train.labels)), config.batch,
            (self.data.mean, self.data.std), _generator(self.seed, epoch),
            skip=first, share=self.processes.share,
        )  # fmt: skip
        stopping = False
        for step, (x, labels) in enumerate(passed, start=first + 1):
            values, stopping = self._step(step, x, labels, stop)
            totals += values
            on_step(StepReport(self.seed, epoch + 1, step, values[0].item(), test_error))
            if stopping and step < self.steps:
                seconds += time.perf_counter() - started
                self._save(PartialEpoch(step, totals, seconds))
                self._stop(f"epoch {epoch + 1}, step {step}")
        self._finish_epoch(totals, seconds - started)
        if stopping:
            self._stop(f"epoch {epoch + 1}")

    def _step(
        self, step: int, x: Tensor, labels: Tensor, stop: Callable[[], bool]
    ) -> tuple[Tensor, bool]:
        """One step; loss and wrong predictions over all processes, and whether one is to stop."""
        config, processes = self.plan.config, self.processes
        # Random numbers are each step's own: then nothing needs to be kept of a generator.
        here = (self.seed, self.finished, step)
        if config.cutout:
            centres = torch.randint(
                self.data.resolution, (2, config.batch), generator=_generator(*here)
            )
            # Drawn for the whole batch, whatever part of it is this process's.
            part = config.batch // processes.world
            cut_out(x, centres[:, processes.rank * part :][:, :part], config.cutout)
        where = f"epoch {self.finished + 1}, step {step}"
        try:
            numbers = self.trainer.step(x, labels, _seed_of(*here, 1 + processes.rank))
        except (RuntimeError, MemoryError) as error:
            raise _memory_ran_out(error, f"in {where}; {self._what_is_kept()}") from None
        # Together with the request to stop, so that all processes end after the same step.
        values = processes.average(torch.cat([numbers, numbers.new_tensor([stop()])]))
        if not torch.isfinite(values).all():
            self._refuse(where)
        values[1] *= processes.world
        return values[:2], bool(values[2] > 0)

    def _finish_epoch(self, totals: Tensor, seconds: float) -> None:
        test_loss, test_error = self.trainer.test(self.data)
        # A gradient may have become infinite behind a loss that was not.
        if not all(torch.isfinite(value).all() for value in self.trainer.parameters):
            self._refuse(f"the test of epoch {self.finished + 1}")
        self.finished += 1
        loss, wrong = (totals / self.steps).tolist()
        self.history.append(
            {
                "epoch": self.finished,
                "train_loss": loss,
                "train_error_percent": 100 * wrong / self.plan.config.batch,
                "test_loss": test_loss,
                "test_error_percent": test_error,
                "learning_rate": self.trainer.optimizer.lr,
                "seconds": seconds + time.perf_counter(),
            }
        )
        # In this order a crash in between leaves one row too many, which resuming drops, or
        # weights of an earlier epoch, which resuming writes again.
        if self.processes.is_main:
            write_history(self.folder, self.history)
        self._save(None)
        self._save_weights()

    def _save(self, partial: PartialEpoch | None) -> None:
        if self.processes.is_main:
            network, optimizer = self.trainer.network, self.trainer.optimizer
            save_checkpoint(self.folder, self.finished, network, optimizer, partial)
        self._kept = f"epoch {self.finished}"
        # Nobody leaves before it is written: torchrun ends all processes when one has ended.
        self.processes.wait()

    def _save_weights(self) -> None:
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
        save_weights(self.folder / LAST, self.trainer.network, about)
        if best_row(self.history) is row:
            save_weights(self.folder / BEST, self.trainer.network, about)

    def _refuse(self, where: str) -> NoReturn:
        """Raises: TrainingError: numbers are not finite any more."""
        config = self.plan.config
        usual = PRESETS[self.plan.preset].lr
        options = [f"--lr {usual if config.lr > usual else config.lr / 3:.1g}"]
        if config.warmup_epochs == 0 and config.epochs > 5:
            options.append("--warmup-epochs 5")
        if config.clip == 0:
            options.append("--clip 5")
        if config.precision != "fp32":
            options.append("--precision fp32")
        raise TrainingError(
            f"seed {self.seed}: the loss is not finite in {where}; {self._what_is_kept()}",
            f"train in another --out with {', or '.join(options)}",
        )

    def _what_is_kept(self) -> str:
        if self._kept is None:
            return "nothing is kept yet"
        return f"the checkpoint of {self._kept} is kept in {self.folder / CHECKPOINT}"

    def _stop(self, where: str) -> NoReturn:
        raise Interrupted(
            f"interrupted; everything up to seed {self.seed}, {where} is kept", _GO_ON
        )


def steps_per_epoch(data: TrainingData, plan: TrainingPlan) -> int:
    """Full batches of an epoch; the images that are left over differ from epoch to epoch."""
    return len(data.train.labels) // plan.config.batch


def _seed_of(*numbers: int) -> int:
    """A seed for numbers that name something random, the same after a resume."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed_of(*numbers))


def _memory_ran_out(error: Exception, when: str) -> Exception:
    """What to raise for an error of PyTorch's: itself, if it is another."""
    if not memory_ran_out(error):
        return error
    return TrainingError(
        f"memory ran out {when}",
        "free some and run the same command again, or use a smaller --batch, --channels or "
        "--cells in another --out",
    )
