"""The epochs that train the weights of one network: steps, history, checkpoints, and their ends.

What is trained, and on what, is a subclass's: a network from scratch (``latkit.training``), or all
networks of a space in one (``latkit.search.oneshot``).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import pyarrow as pa
import torch
from torch import Tensor, nn

from latkit.core.errors import Interrupted, LatkitError
from latkit.core.memory import memory_ran_out
from latkit.search.distributed import Processes
from latkit.search.history import read_epochs, write_epochs
from latkit.search.network_checkpoint import (
    CHECKPOINT,
    PartialEpoch,
    load_checkpoint,
    save_checkpoint,
)
from latkit.search.optimizers import Optimizer

GO_ON = "run the same command to go on"


@dataclass(frozen=True)
class StepReport:
    """What the loop reports after each step.

    Attributes:
        epoch: from 1; the one that is running.
        step: of the epoch, from 1.
        train_loss: of this step.
        last: the row of the last finished epoch; None before there is one.
    """

    epoch: int
    step: int
    train_loss: float
    last: Mapping[str, Any] | None


@contextmanager
def memory_errors(
    error_class: type[LatkitError], when: str, options: str = "--batch, --channels or --cells"
) -> Iterator[None]:
    """Turn an error of memory, of whatever class, into one line.

    Args:
        error_class: of that line.
        when: memory ran out, e.g. ``in epoch 2``.
        options: of which a smaller value needs less.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not memory_ran_out(error):
            raise
        raise error_class(
            f"memory ran out {when}",
            f"free some and run the same command again, or use a smaller {options} in another "
            "--out",
        ) from None


class NetworkTraining(ABC):
    """A network's state in a folder, and the steps that move it.

    Everything random in a step comes from (seed, epoch, step): a training that was interrupted ends
    on a CPU in the same bytes as an undisturbed one.

    Args:
        network: is trained, and given the state of the folder's checkpoint.
        optimizer: of its parameters, likewise.
        folder: known to be this training's.
        epochs: how many there will be.
        steps: of an epoch.
        batch: images of a step, over all processes.
        processes: this process among those that train together.
        name: of the training, for messages about one of several; empty: there is one.

    Attributes:
        schema: of the rows of the history, with ``epoch`` and ``seconds`` among them.
        error_class: of what goes wrong.
        finished: epochs done.
        history: their rows.

    Raises:
        LatkitError: the checkpoint or the history is corrupt (``error_class``), or cannot be read.
    """

    schema: ClassVar[pa.Schema]
    error_class: ClassVar[type[LatkitError]]

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        folder: Path,
        epochs: int,
        steps: int,
        batch: int,
        processes: Processes,
        name: str = "",
    ) -> None:
        self.network, self.optimizer, self.folder = network, optimizer, folder
        self.epochs, self.steps, self.batch, self.processes = epochs, steps, batch, processes
        self._prefix = f"{name}: " if name else ""
        self._place = f"{name}, " if name else ""
        with memory_errors(self.error_class, "while the checkpoint was read"):
            self.finished, self._partial = load_checkpoint(
                folder, network, optimizer, self.error_class
            )
        self.history = read_epochs(folder, self.finished, self.schema, self.error_class)
        # What the checkpoint is of, for messages.
        self._kept = f"epoch {self.finished}" if self.finished else None
        if self._partial is not None:
            self._kept = f"epoch {self.finished + 1}, step {self._partial.step}"

    @property
    def steps_done(self) -> int:
        """Of all epochs, those that the checkpoint has."""
        return self.finished * self.steps + (self._partial.step if self._partial else 0)

    def run(self, on_step: Callable[[StepReport], None], stop: Callable[[], bool]) -> None:
        """Train to the last epoch.

        Args:
            on_step: called after each step.
            stop: called after each step: whether to write a checkpoint and end there.

        Raises:
            LatkitError: a loss is not finite, or memory ran out (``error_class``).
            Interrupted: ``stop`` returned true in one of the processes.
            OSError: the folder cannot be written.
        """
        while self.finished < self.epochs:
            self._epoch(on_step, stop)

    # --- a subclass's -------------------------------------------------------------------------

    @abstractmethod
    def set_epoch(self, epoch: int) -> None:
        """Set the rates of an epoch, which are counted from 0."""

    @abstractmethod
    def batches(self, epoch: int, skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's part of an epoch's batches and labels, without the first ``skip``."""

    @abstractmethod
    def step(self, epoch: int, step: int, x: Tensor, labels: Tensor) -> Tensor:
        """Take a step.

        Args:
            epoch: counted from 0.
            step: counted from 1.
            x, labels: as :meth:`batches` gave them.

        Returns:
            The mean loss of this process's part of the batch, and a number of its images that is
            counted: 2 float64 on the CPU.
        """

    @abstractmethod
    def row(self, loss: float, counted: float) -> dict[str, Any]:
        """The row of an epoch that is done, without ``epoch`` and ``seconds``.

        Args:
            loss: mean over its steps.
            counted: share of its images that were counted.
        """

    @abstractmethod
    def calmer(self) -> str:
        """Options with which a loss is less likely to grow without bounds."""

    def keep(self) -> None:  # noqa: B027
        """Write what else there is to write when an epoch's checkpoint is written: nothing."""

    # --- epochs -------------------------------------------------------------------------------

    def _epoch(self, on_step: Callable[[StepReport], None], stop: Callable[[], bool]) -> None:
        """One epoch, or the rest of one that was begun; its row and its checkpoint."""
        epoch, started = self.finished, time.perf_counter()
        self.set_epoch(epoch)
        totals, first, seconds = torch.zeros(2, dtype=torch.float64), 0, 0.0
        if self._partial is not None:
            first, seconds = self._partial.step, self._partial.seconds
            totals += self._partial.totals
            self._partial = None
        last = self.history[-1] if self.history else None
        stopping = False
        for step, (x, labels) in enumerate(self.batches(epoch, first), start=first + 1):
            values, stopping = self._step(step, x, labels, stop)
            totals += values
            on_step(StepReport(epoch + 1, step, values[0].item(), last))
            if stopping and step < self.steps:
                seconds += time.perf_counter() - started
                self._save(PartialEpoch(step, totals, seconds))
                self._stop(f"epoch {epoch + 1}, step {step}")
        self._finish_epoch(totals / self.steps, seconds - started)
        if stopping:
            self._stop(f"epoch {epoch + 1}")

    def _step(
        self, step: int, x: Tensor, labels: Tensor, stop: Callable[[], bool]
    ) -> tuple[Tensor, bool]:
        """One step; its numbers over all processes, and whether any of them is to stop."""
        where = f"epoch {self.finished + 1}, step {step}"
        with memory_errors(self.error_class, f"in {where}; {self._what_is_kept()}"):
            numbers = self.step(self.finished, step, x, labels)
        # Together with the request to stop, so that all processes end after the same step.
        values = self.processes.average(torch.cat([numbers, numbers.new_tensor([stop()])]))
        if not torch.isfinite(values).all():
            self._refuse(where)
        values[1] *= self.processes.world
        return values[:2], bool(values[2] > 0)

    def _finish_epoch(self, means: Tensor, seconds: float) -> None:
        loss, counted = means.tolist()
        where = f"the test of epoch {self.finished + 1}"
        with memory_errors(self.error_class, f"in {where}; {self._what_is_kept()}"):
            row = self.row(loss, counted / self.batch)
        # A gradient may have become infinite behind a loss that was not.
        if not all(torch.isfinite(value).all() for value in self.optimizer.parameters):
            self._refuse(where)
        self.finished += 1
        seconds += time.perf_counter()
        self.history.append({"epoch": self.finished, **row, "seconds": seconds})
        # In this order a crash in between leaves one row too many, which resuming drops.
        if self.processes.is_main:
            write_epochs(self.folder, self.history, self.schema)
        self._save(None)
        self.keep()

    def _save(self, partial: PartialEpoch | None) -> None:
        if self.processes.is_main:
            save_checkpoint(self.folder, self.finished, self.network, self.optimizer, partial)
        self._kept = f"epoch {self.finished}"
        # Nobody leaves before it is written: torchrun ends all processes when one has ended.
        self.processes.wait()

    def _refuse(self, where: str) -> NoReturn:
        """Raises: LatkitError: numbers are not finite any more."""
        raise self.error_class(
            f"{self._prefix}the loss is not finite in {where}; {self._what_is_kept()}",
            f"train in another --out with {self.calmer()}",
        )

    def _what_is_kept(self) -> str:
        if self._kept is None:
            return "nothing is kept yet"
        return f"the checkpoint of {self._kept} is kept in {self.folder / CHECKPOINT}"

    def _stop(self, where: str) -> NoReturn:
        raise Interrupted(f"interrupted; everything up to {self._place}{where} is kept", GO_ON)
