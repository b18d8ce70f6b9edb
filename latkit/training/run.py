"""A whole training: from a request to test errors and weights."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import torch

from latkit.backends import BACKENDS
from latkit.core.cpu import cpu_name
from latkit.core.errors import Interrupted, TrainingError
from latkit.core.events import SILENT, Listener, Progress
from latkit.core.files import write_json_atomically
from latkit.search.claim import claimed
from latkit.search.distributed import Processes, joined, processes_here, rank_zero_output
from latkit.search.network_checkpoint import progress_of
from latkit.search.network_training import StepReport
from latkit.search.session import check_same_everywhere
from latkit.search.signals import stop_on_signals
from latkit.training.data import TrainingData, load
from latkit.training.epochs import SeedTraining, steps_per_epoch
from latkit.training.history import read_history
from latkit.training.request import TrainingPlan, TrainingRequest
from latkit.training.result import TRAINING, SeedResult, TrainingResult, seed_folder
from latkit.training.session import identity


def train(request: TrainingRequest, *, listener: Listener = SILENT) -> TrainingResult | None:
    """Train an architecture from scratch, from one seed or several, and test it after each epoch.

    Each epoch is checkpointed, and so is the step at which SIGINT or SIGTERM ends the training: the
    same request goes on, on a CPU to the same bits. Under torchrun the processes train one network
    together, and rank 0 alone writes and reports.

    Args:
        request: what is trained, on what, and where.
        listener: receives notes, warnings and progress.

    Returns:
        The result, which is also in ``training.json``; None on other ranks than 0.

    Raises:
        InputError: a value of the request cannot work, or does not fit the others or the data.
        SpaceError: the architecture is not of the space.
        TrainingError: the folder holds another training or is corrupt, or a loss is no longer
            finite.
        SearchError: another process of this training has ended.
        Interrupted: by a signal; the same request goes on.
        LatkitError: a file cannot be read or written.
        SystemExit: an interruption on other ranks than 0, which report nothing.
    """
    processes = processes_here()
    # The backend's own probe: torch alone calls a GPU available that it has no code for.
    probe = BACKENDS.get("torch-cuda").probe()
    where = "cuda" if probe.usable else "cpu"
    with joined(processes, where), rank_zero_output(processes):
        if not processes.is_main:
            listener = SILENT
        plan = request.plan()
        processes.check_batch(plan.config.batch)
        with processes.main_first():
            data = _load(plan, request, listener)
        network = dataclasses.replace(
            plan.network, classes=data.train.classes, resolution=data.resolution
        )
        plan = dataclasses.replace(plan, network=network)
        listener.note(f"training on {where} (torch-cuda is {probe.status}: {probe.reason})")
        out = request.out or Path("trainings", _slug(str(request.architecture)))
        seeds = range(request.seed, request.seed + request.seeds)
        return _Training(plan, data, out, where, processes, listener).run(seeds)


@dataclasses.dataclass(frozen=True)
class _Training:
    """What the seeds of one request share."""

    plan: TrainingPlan
    data: TrainingData
    out: Path
    where: str
    processes: Processes
    listener: Listener

    def run(self, seeds: range) -> TrainingResult | None:
        content = identity(self.plan, self.data)
        check_same_everywhere(content, self.processes)
        with claimed(self.out, content, self.processes, "training", TrainingError):
            on_step = self._reporter(seeds)
            result = None
            try:
                with stop_on_signals() as stop:
                    for seed in seeds:
                        self._seed(seed, on_step, stop)
                        # After each: what is finished is a result even if the next one fails.
                        result = self._write()
            except KeyboardInterrupt:
                raise Interrupted(
                    f"interrupted; the last checkpoint in {self.out}, if there is one, is kept",
                    "run the same command to go on",
                ) from None
            finally:
                self.listener.end_progress()
        return result

    def _seed(
        self, seed: int, on_step: Callable[[int, StepReport], None], stop: Callable[[], bool]
    ) -> None:
        folder = seed_folder(self.out, seed)
        folder.mkdir(exist_ok=True)
        device = self.processes.place(self.where)
        training = SeedTraining(self.plan, self.data, seed, folder, device, self.processes)
        training.run(lambda now: on_step(seed, now), stop)

    def _write(self) -> TrainingResult | None:
        """The result of every finished seed of the folder, of earlier requests too."""
        if not self.processes.is_main:
            return None
        seeds = []
        for seed in sorted(int(path.name.removeprefix("seed-")) for path in _folders(self.out)):
            folder, epochs = seed_folder(self.out, seed), self.plan.config.epochs
            if progress_of(folder, TrainingError)[0] == epochs:
                seeds.append(SeedResult(seed, read_history(folder, epochs)))
        on = torch.cuda.get_device_name() if self.where == "cuda" else cpu_name()
        result = TrainingResult.of(self.plan, self.data.to_dict(), on, seeds, self.out)
        write_json_atomically(self.out / TRAINING, result.to_dict())
        return result

    def _reporter(self, seeds: range) -> Callable[[int, StepReport], None]:
        """What turns the steps of all seeds into one progress."""
        epochs, steps = self.plan.config.epochs, steps_per_epoch(self.data, self.plan)
        before = {}
        for seed in seeds:
            epoch, step = progress_of(seed_folder(self.out, seed), TrainingError)
            before[seed] = epoch * steps + step
        done_before = sum(before.values())
        if done_before:
            self.listener.note(
                f"going on after {done_before} of {len(seeds) * epochs * steps} steps"
            )
        done = dict(before)

        def report(seed: int, now: StepReport) -> None:
            done[seed] = (now.epoch - 1) * steps + now.step
            tested = ""
            if now.last is not None:
                tested = f", test error {now.last['test_error_percent']:.2f} %"
            self.listener.progress(
                Progress(
                    "steps", sum(done.values()), len(seeds) * epochs * steps, done_before,
                    f"seed {seed}, epoch {now.epoch} of {epochs}, loss {now.train_loss:.3f}"
                    f"{tested}",
                )
            )  # fmt: skip

        return report


def _folders(out: Path) -> list[Path]:
    """Of the seeds that were begun."""
    return [path for path in out.glob("seed-*") if re.fullmatch(r"seed-\d+", path.name)]


def _load(plan: TrainingPlan, request: TrainingRequest, listener: Listener) -> TrainingData:
    """The images, with progress, what they are, and warnings about what was left out."""
    listener.note(f"reading images of {request.data}")

    def report(done: int, total: int) -> None:
        if done < total:  # the note below stands for the last one
            listener.progress(Progress("images", done, total))

    try:
        data = load(plan, request.data, request.data_options, report)
    finally:
        listener.end_progress()
    for remark in dict.fromkeys((*data.train.remarks, *data.test.remarks)):
        listener.warn(remark)
    listener.note(
        f"{len(data.train.labels)} training images of {data.train.name} and "
        f"{len(data.test.labels)} test images of {data.test.name}: {data.train.classes} classes, "
        f"{data.resolution}x{data.resolution} pixels"
    )
    return data


def _slug(architecture: str) -> str:
    """A folder's name of what a user calls an architecture."""
    slug = re.sub(r"[^a-z0-9]+", "-", Path(architecture).stem.lower()).strip("-")
    return slug[:40].strip("-") or "network"
