"""The epochs of a search: steps, history, checkpoints, and the ways in which they end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from latkit.core.errors import Interrupted, SearchError
from latkit.core.memory import memory_ran_out
from latkit.lpm.base import LPM
from latkit.search.bilevel import Batch, StepLosses
from latkit.search.checkpoint import CHECKPOINT, PartialEpoch, load_checkpoint, save_checkpoint
from latkit.search.collapse import (
    alpha_entropy,
    last_good_epoch,
    parameter_free_share,
    skip_share,
)
from latkit.search.config import SearchConfig, preset
from latkit.search.data import batches, epoch_generator, split_halves
from latkit.search.decode import is_on_target
from latkit.search.distributed import Processes
from latkit.search.history import HistoryRow, read_history, write_history
from latkit.search.image_source import ImageData
from latkit.search.objectives import Objective
from latkit.search.parts import (
    derive_at,
    make_optimizer,
    make_penalty,
    make_step,
    make_supernet,
    value_of,
)
from latkit.spaces import Architecture, SearchSpace

_GO_ON = "run the same command to go on"


@dataclass(frozen=True)
class SearchProgress:
    """What the loop reports after each step.

    Attributes:
        epoch: from 1; the one that is running.
        step: of the epoch, from 1.
        steps_per_epoch: how many there are.
        epochs: how many there will be.
        done_before: steps that an earlier run of this search did.
        train_loss: of this step; None while the weights are frozen.
        val_loss: of this step; None while α is frozen.
        expected_cost: LAT(α) in this step, in the unit of the search's objective; None while α
            is frozen.
        unit: of the expected cost.
    """

    epoch: int
    step: int
    steps_per_epoch: int
    epochs: int
    done_before: int
    train_loss: float | None
    val_loss: float | None
    expected_cost: float | None
    unit: str


@dataclass(frozen=True)
class SearchOutcome:
    """What a search found, before anything is measured.

    Attributes:
        architecture: the derived one; of DARTS both cells.
        epoch: after which it was derived.
        predicted_ms: its latency by the search's LPM.
        cost: its objective, in the objective's unit.
        on_target: whether that is within 5 % of the target; None without a target.
        unconstrained_cost: the objective of α's strongest architecture, where it was too far from
            the target and the strongest one near the target was taken; else None.
        history: a row an epoch.
        collapsed: whether the search was ended by skip connections taking over.
        seconds: training time of all epochs.
    """

    architecture: Architecture
    epoch: int
    predicted_ms: float
    cost: float
    on_target: bool | None
    unconstrained_cost: float | None
    history: Sequence[HistoryRow]
    collapsed: bool
    seconds: float


class EpochLoop:
    """A search's state and the steps that move it.

    Args:
        config: the search.
        space: what is searched.
        lpm: predicts latencies in it.
        objective: what α's step weighs beside the loss.
        data: the images.
        out: the search's folder, which is known to be this search's.
        device: where the supernet is trained.
        processes: this process among those that search together.
        warn: receives a line of what goes slower than it should.

    Raises:
        InputError: the checkpoint that the search begins with is gone, or of another supernet.
        SearchError: the checkpoint or the history is corrupt, or memory ran out.
    """

    def __init__(
        self,
        config: SearchConfig,
        space: SearchSpace,
        lpm: LPM,
        objective: Objective,
        data: ImageData,
        out: Path,
        device: torch.device,
        processes: Processes,
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.config, self.space, self.lpm, self.data = config, space, lpm, data
        self.objective = objective
        self.out, self.processes = out, processes
        self._halves = split_halves(data, config.seed)
        self.steps = len(self._halves[0]) // config.batch
        arch_steps = (config.epochs - config.warmup_epochs) * self.steps
        self.penalty = make_penalty(config, space, objective, arch_steps)
        try:
            self.supernet = make_supernet(config, space, data, device, processes)
            if config.start is not None and not (out / CHECKPOINT).exists():
                config.start.load(self.supernet)
            self.optimizer = make_optimizer(config, self.supernet, self.penalty, processes)
            self.finished, self._partial = load_checkpoint(out, self.supernet, self.optimizer)
            self._take_step = make_step(self.optimizer, device, processes, warn)
        except (RuntimeError, MemoryError) as error:
            raise _memory_ran_out(error, "while the supernet was made") from None
        # What the checkpoint is of, for messages.
        self._kept = f"epoch {self.finished}" if self.finished else None
        if self._partial is not None:
            self._kept = f"epoch {self.finished + 1}, step {self._partial.step}"
        self.history = read_history(out, self.finished, self.supernet.alpha_names)
        self._normalisation = data.normalisation()
        self._done_before = self.finished * self.steps
        if self._partial is not None:
            self._done_before += self._partial.step

    def run(
        self,
        on_step: Callable[[SearchProgress], None],
        on_epoch: Callable[[dict[str, Any]], None],
        stop: Callable[[], bool],
    ) -> SearchOutcome:
        """Train to the end, or to where the search stops; see ``run_search``."""
        self.supernet.train()
        while self.finished < self.config.epochs and self._good_epoch() is None:
            self._epoch(on_step, stop)
            on_epoch(self.history[-1])
        if stop():
            raise Interrupted("interrupted; every epoch is done and kept", _GO_ON)
        good = self._good_epoch()
        chosen = self.history[(good or self.finished) - 1]
        architecture = self.supernet.read(chosen["genotype"])
        predicted_ms, cost = chosen["derived_predicted_ms"], self._cost(architecture)
        target_ms, unconstrained_cost = self.config.target_ms, None
        # The α of an earlier epoch is gone: its cell is taken as it is, on target or not.
        if target_ms is not None and good is None:
            architecture, derived = derive_at(target_ms, self.supernet, self.objective)
            if derived.changed:
                unconstrained_cost, cost = cost, derived.cost
                predicted_ms = self._predict(architecture)
        return SearchOutcome(
            architecture=architecture,
            epoch=chosen["epoch"],
            predicted_ms=predicted_ms,
            cost=cost,
            on_target=None if target_ms is None else is_on_target(cost, target_ms),
            unconstrained_cost=unconstrained_cost,
            history=self.history,
            collapsed=good is not None,
            seconds=sum(row["seconds"] for row in self.history),
        )

    def _good_epoch(self) -> int | None:
        """The epoch to go back to, where the search is to stop on collapse and has collapsed."""
        if not self.config.stop_on_collapse:
            return None
        return last_good_epoch(
            self.history, self.config.warmup_epochs, self.space, self.supernet.most_skips
        )

    def _epoch(self, on_step: Callable[[SearchProgress], None], stop: Callable[[], bool]) -> None:
        """One epoch, or the rest of one that was begun; its row and its checkpoint."""
        config, epoch = self.config, self.finished
        started = time.perf_counter()
        self.optimizer.set_epoch(epoch, config.epochs)
        # One stream for the weights' batches, one for α's, one for LAT's samples.
        streams = [epoch_generator(config.seed, epoch, stream) for stream in range(3)]
        totals = torch.zeros(5, dtype=torch.float64)
        first, seconds = 0, 0.0
        if self._partial is not None:
            first, seconds = self._partial.step, self._partial.seconds
            totals += self._partial.totals
            streams[2].set_state(self._partial.generator)
            self._partial = None
        arch = epoch >= config.warmup_epochs
        pairs = self._pairs(streams, first)
        pair = next(pairs, None)
        for step in range(first + 1, self.steps + 1):
            assert pair is not None  # there are as many as there are steps
            losses = self._launch(step, *pair, streams[2], arch)
            # Meanwhile a GPU computes.
            pair = next(pairs, None)
            values, stopping = self._read(step, losses, stop)
            totals += values
            numbers = values.tolist()
            if arch:
                self.penalty.after_step(numbers[2], lambda: self._cost(self.supernet.derive()))
            train_loss = None if config.frozen else numbers[0]
            val_loss, expected = (numbers[1], numbers[2]) if arch else (None, None)
            on_step(
                SearchProgress(
                    epoch + 1, step, self.steps, config.epochs, self._done_before,
                    train_loss, val_loss, expected, self.objective.unit,
                )
            )  # fmt: skip
            if stopping and step < self.steps:
                seconds += time.perf_counter() - started
                self._save(PartialEpoch(step, totals, streams[2].get_state(), seconds))
                _stop(f"epoch {epoch + 1}, step {step}")
        self._finish_epoch(totals, arch, seconds + time.perf_counter() - started)
        if stopping:
            _stop(f"epoch {epoch + 1}")

    def _pairs(
        self, streams: Sequence[torch.Generator], skip: int
    ) -> Iterator[tuple[Batch | None, Batch]]:
        """An epoch's batches of the weights, None where these are frozen, and of α."""
        ours, theirs = (
            batches(
                self.data, half, self.config.batch, self._normalisation, stream,
                skip=skip, share=self.processes.share,
            )
            for half, stream in zip(self._halves, streams[:2], strict=True)
        )  # fmt: skip
        train: Iterable[Batch | None] = ours
        if self.config.frozen:
            train = itertools.repeat(None, self.steps - skip)
        return zip(train, theirs, strict=False)

    def _launch(
        self, step: int, train: Batch | None, val: Batch, generator: torch.Generator, arch: bool
    ) -> StepLosses:
        """One step, which on a GPU may not have ended."""
        try:
            return self._take_step(train, val, generator, arch)
        except (RuntimeError, MemoryError) as error:
            raise _memory_ran_out(error, f"in {self._where(step)}") from None

    def _read(self, step: int, losses: StepLosses, stop: Callable[[], bool]) -> tuple[Tensor, bool]:
        """A step's numbers over all processes, and whether any of them is to stop."""
        try:
            numbers = _numbers(losses)
        except RuntimeError as error:
            raise _memory_ran_out(error, f"in {self._where(step)}") from None
        # Together with the request to stop, so that all processes end after the same step.
        values = self.processes.average(torch.cat([numbers, numbers.new_tensor([stop()])]))
        if not torch.isfinite(values).all():
            raise SearchError(
                f"the loss is not finite in {self._where(step)}",
                f"search in another --out with {_calmer(self.config, self.space)}",
            )
        values[3:5] *= self.processes.world
        return values[:5], bool(values[5] > 0)

    def _where(self, step: int) -> str:
        """A step, and what is kept of the search, for a message."""
        return f"epoch {self.finished + 1}, step {step}; {self._what_is_kept()}"

    def _finish_epoch(self, totals: Tensor, arch: bool, seconds: float) -> None:
        architecture = self.supernet.derive()
        predicted_ms = self._predict(architecture)
        train_loss, val_loss, expected, train_correct, val_correct = totals.tolist()
        images, frozen = self.steps * self.config.batch, self.config.frozen
        self.finished += 1
        self.history.append(
            {
                "epoch": self.finished,
                "train_loss": None if frozen else train_loss / self.steps,
                "val_loss": val_loss / self.steps if arch else None,
                "expected_cost": expected / self.steps if arch else None,
                "train_accuracy": None if frozen else train_correct / images,
                "val_accuracy": val_correct / images if arch else None,
                "penalty_weight": self.penalty.weight,
                "weight_lr": self.optimizer.weight_optimizer.lr,
                **self._alpha_columns(architecture),
                "derived_predicted_ms": predicted_ms,
                "genotype": str(architecture),
                "seconds": seconds,
            }
        )
        # History first: a crash in between leaves one row too many, which resuming drops.
        if self.processes.is_main:
            write_history(self.out, self.history, self.supernet.alpha_names)
        self._save(None)

    def _alpha_columns(self, architecture: Architecture) -> dict[str, float | None]:
        """Of each α its entropy, and the shares of operations of what was derived from it."""
        net, space = self.supernet, self.space
        operations = net.operations_of(architecture)
        return {
            **{
                f"alpha_entropy_{name}": alpha_entropy(net.alphas[name]) for name in net.alpha_names
            },
            **{
                f"{column}_{name}": share(space, operations[name]) if name in operations else None
                for column, share in (
                    ("skip_share", skip_share),
                    ("parameter_free_share", parameter_free_share),
                )
                for name in net.alpha_names
            },
        }

    def _predict(self, architecture: Architecture) -> float:
        encoding = self.space.encode(self.space.row_of(architecture))
        return float(self.lpm.predict(encoding)[0])

    def _cost(self, architecture: Architecture) -> float:
        return value_of(self.space, self.objective, architecture)

    def _what_is_kept(self) -> str:
        if self._kept is None:
            return "nothing is kept yet"
        return f"the checkpoint of {self._kept} is kept in {self.out / CHECKPOINT}"

    def _save(self, partial: PartialEpoch | None) -> None:
        if self.processes.is_main:
            save_checkpoint(self.out, self.finished, self.supernet, self.optimizer, partial)
        self._kept = f"epoch {self.finished}"
        # Nobody leaves before it is written: torchrun ends all processes when one has ended.
        self.processes.wait()


def _numbers(losses: StepLosses) -> Tensor:
    """Train loss, validation loss, expected cost, correct predictions of both; 0 where none."""
    numbers = (
        losses.train_loss, losses.val_loss, losses.expected_cost, losses.train_correct,
        losses.val_correct,
    )  # fmt: skip
    values = [torch.zeros(()) if number is None else number for number in numbers]
    here = [value.double() for value in values if value.device.type != "cpu"]
    there = iter(torch.stack(here).cpu() if here else ())  # one copy, which waits for the step
    return torch.stack(
        [value.double() if value.device.type == "cpu" else next(there) for value in values]
    )


def _stop(where: str) -> NoReturn:
    raise Interrupted(f"interrupted; everything up to {where} is kept", _GO_ON)


def _memory_ran_out(error: Exception, when: str) -> Exception:
    """What to raise for an error of PyTorch's: itself, if it is another."""
    if not memory_ran_out(error):
        return error
    return SearchError(
        f"memory ran out {when}",
        "free some and run the same command again, or use a smaller --batch, --channels or "
        "--cells in another --out",
    )


def _calmer(config: SearchConfig, space: SearchSpace) -> str:
    """Options that make a loss less likely to grow without bounds."""
    options = ["a larger --batch"]
    if config.lambda_per_ms:
        options.insert(0, "a smaller --lambda")
    if config.precision != "fp32":
        options.append("--precision fp32")
    paper = preset("paper", config.method, space.name).optimizer
    if config.optimizer.weight_lr > paper.weight_lr or config.optimizer.arch_lr > paper.arch_lr:
        options.append(
            f"smaller learning rates (--weight-lr {paper.weight_lr:g} --arch-lr {paper.arch_lr:g})"
        )
    return ", or ".join(options)
