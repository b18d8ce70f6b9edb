"""Several processes that train one supernet (torchrun): who is who, and averages over them.

Every process draws the same global batches and takes its own part of each, so that gradients
averaged over processes are those of the whole batch. Only the main process writes and prints.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from latkit.core.errors import InputError, Interrupted, LatkitError, SearchError

# How long a process waits with what another one may report: rank 0 the same error, any one why it
# has ended. When one has reported and ended, torchrun ends all of them.
GRACE_PERIOD_SECONDS = 5.0


@dataclass(frozen=True)
class Processes:
    """This process among those that search together.

    Attributes:
        rank: number of this process; 0 is the main one.
        world: how many there are.
        local_rank: number of this process on its machine, and of its GPU.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """(rank, processes), as :func:`latkit.search.data.batches` takes it."""
        return self.rank, self.world

    def check_batch(self, batch: int) -> None:
        """Raises: InputError: a batch has no equal parts, or parts too small for batch norm."""
        if batch % self.world:
            raise InputError(
                f"a batch of {batch} cannot be shared by {self.world} processes equally",
                f"use --batch {max(2, batch // self.world) * self.world}, or other processes",
            )
        if batch < 2 * self.world:
            raise InputError(
                f"a batch of {batch} leaves one image to each of {self.world} processes",
                f"use --batch {2 * self.world} or more",
            )

    def place(self, device: str) -> torch.device:
        """Where this process computes: on a machine with several GPUs each has its own."""
        if device == "cuda" and self.world > 1:
            if self.local_rank >= torch.cuda.device_count():
                raise InputError(
                    f"process {self.local_rank} has no GPU of its own "
                    f"(there are {torch.cuda.device_count()})",
                    "start as many processes as there are GPUs",
                )
            return torch.device("cuda", self.local_rank)
        return torch.device(device)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.world > 1:
            # A reduction rather than a barrier, which NCCL ties to a device it has to guess.
            self.average(torch.zeros(1))

    def average_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one reduction."""
        if self.world == 1:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process does this alone, and then the others: it may have to download."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()

    def average(self, values: Tensor) -> Tensor:
        """The mean over the processes of a tensor on the CPU."""
        if self.world == 1:
            return values
        placed = values.cuda(self.local_rank) if dist.get_backend() == "nccl" else values.clone()
        dist.all_reduce(placed)
        return placed.cpu() / self.world


ALONE = Processes()


def connection_lost(error: Exception) -> SearchError | None:
    """What to raise where an error of PyTorch's means that another process has ended; else None."""
    # Gloo's are RuntimeErrors, known by their text alone.
    signs = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
    text = str(error)
    if not isinstance(error, dist.DistError) and not ("gloo" in text and any(
        sign in text for sign in signs
    )):  # fmt: skip
        return None
    return SearchError(
        "another of the processes that train together has ended",
        "see its error; then run the same command to go on",
    )


def processes_here() -> Processes:
    """This process's place by torchrun's environment; alone without torchrun.

    Raises:
        InputError: the environment is half set or malformed.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return ALONE
    try:
        rank, world, local_rank = (
            int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        )
    except (KeyError, ValueError):
        raise InputError(
            "RANK, WORLD_SIZE and LOCAL_RANK are not what torchrun sets",
            "start with torchrun --nproc-per-node N -m latkit ..., or unset them",
        ) from None
    return Processes(rank, world, local_rank)


@contextmanager
def rank_zero_output(processes: Processes) -> Iterator[None]:
    """Silence all processes but the main one, but for errors that it does not have.

    Raises:
        SearchError: another process has ended.
        SystemExit: an interruption of another process than the main one.
    """
    with contextlib.ExitStack() as stack:
        if not processes.is_main:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        try:
            yield
        except Interrupted as error:
            # All processes end after the same step.
            if processes.is_main:
                raise
            raise SystemExit(error.exit_code) from None
        except (LatkitError, RuntimeError) as error:
            report = error if isinstance(error, LatkitError) else connection_lost(error)
            if report is None:
                raise
            if not (report is error and processes.is_main):
                time.sleep(GRACE_PERIOD_SECONDS)
            if processes.is_main:
                raise report from None
            rank = f"process {processes.rank} of {processes.world}"
            raise type(report)(f"{rank}: {report.cause}", report.fix) from None


@contextmanager
def joined(processes: Processes, device: str) -> Iterator[Processes]:
    """Connect the processes, by NCCL on GPUs and by gloo on CPUs, for as long as this lasts.

    Raises:
        SearchError: the others cannot be reached.
    """
    if processes.world == 1:
        yield processes
        return
    try:
        if device == "cuda":
            torch.cuda.set_device(processes.place(device))
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise SearchError(
            f"the {processes.world} processes cannot connect ({str(error).splitlines()[0]})",
            "start them by torchrun, and check MASTER_ADDR and MASTER_PORT",
        ) from None
    try:
        yield processes
    finally:
        dist.destroy_process_group()
