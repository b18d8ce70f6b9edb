"""A search's state as one safetensors file: supernet, α, both optimisers, and the epoch begun.

An epoch's batches come from generators seeded by (seed, epoch) and need no state. What an
unfinished epoch needs besides is the state of LAT's generator and the sums so far.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from latkit.errors import SearchError
from latkit.files import write_atomically
from latkit.search.bilevel import Bilevel
from latkit.search.optimizers import Optimizer
from latkit.search.supernet import Supernet

CHECKPOINT = "checkpoint.safetensors"
HEADER = "latkit"
FORMAT_VERSION = 2


@dataclass(frozen=True)
class Begun:
    """An epoch that was interrupted.

    Attributes:
        step: steps done.
        totals: sums of what they saw, float64.
        generator: state of LAT's random numbers, bytes.
        seconds: time that they took.
    """

    step: int
    totals: Tensor
    generator: Tensor
    seconds: float


def save_checkpoint(
    folder: Path, epoch: int, supernet: Supernet, optimizer: Bilevel, begun: Begun | None = None
) -> None:
    """Write the state after ``epoch`` whole epochs and, if one was begun, after its steps so far.

    The earlier checkpoint stays until this one is whole. Of an undisturbed search and a resumed
    one the bytes after a whole epoch are the same: no times are in it.

    Raises:
        OSError: the folder cannot be written.
    """
    tensors = {f"supernet/{name}": t for name, t in supernet.state_dict().items()}
    for prefix, each in _optimizers(optimizer).items():
        tensors |= {f"{prefix}/{name}": tensor for name, tensor in each.state_dict().items()}
    header: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "epoch": epoch,
        "penalty": optimizer.penalty.state_dict(),
    }
    if begun is not None:
        tensors |= {"begun/totals": begun.totals, "begun/generator": begun.generator}
        header["begun"] = {"step": begun.step, "seconds": begun.seconds}
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {HEADER: json.dumps(header)}
    write_atomically(
        folder / CHECKPOINT,
        lambda temporary: safetensors.torch.save_file(content, temporary, metadata=metadata),
    )


def finished_epochs(folder: Path) -> int:
    """How many epochs a folder's search has finished; 0 without a checkpoint.

    Raises:
        SearchError: the checkpoint is corrupt.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return 0
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return int(json.loads(file.metadata()[HEADER])["epoch"])
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _corrupt(path, error) from None


def load_checkpoint(
    folder: Path, supernet: Supernet, optimizer: Bilevel
) -> tuple[int, Begun | None]:
    """Restore the state.

    Returns:
        The number of finished epochs (0 without a checkpoint), and the epoch begun after them.

    Raises:
        SearchError: the checkpoint is corrupt or of another supernet.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return 0, None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()[HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {header['format_version']}, not {FORMAT_VERSION}")
        supernet.load_state_dict(_under("supernet", tensors))
        for prefix, each in _optimizers(optimizer).items():
            each.load_state_dict(_under(prefix, tensors))
        optimizer.penalty.load_state_dict(header["penalty"])
        begun = None
        if "begun" in header:
            begun = Begun(
                int(header["begun"]["step"]),
                tensors["begun/totals"],
                tensors["begun/generator"],
                float(header["begun"]["seconds"]),
            )
        return int(header["epoch"]), begun
    except (
        safetensors.SafetensorError,
        OSError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        raise _corrupt(path, error) from None


def _corrupt(path: Path, error: Exception) -> SearchError:
    return SearchError(
        f"checkpoint {path} is corrupt ({str(error).splitlines()[0]})",
        "delete it to begin the search again, or choose another --out",
    )


def _optimizers(optimizer: Bilevel) -> dict[str, Optimizer]:
    return {"arch": optimizer.arch_optimizer, "weight": optimizer.weight_optimizer}


def _under(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
