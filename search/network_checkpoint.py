"""The state of one network's training as a safetensors file.

Everything random in a step comes from (seed, epoch, step), so that no generator's state is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor, nn

from latkit.core.errors import LatkitError, from_os_error
from latkit.core.files import write_atomically
from latkit.networks.state import save_tensors
from latkit.search.optimizers import Optimizer

CHECKPOINT = "checkpoint.safetensors"
HEADER = "latkit"
FORMAT_VERSION = 1
# What reading a file's tensors and its header raises; a type of tensors may be unknown to PyTorch.
CORRUPT = (safetensors.SafetensorError, AttributeError, KeyError, TypeError, ValueError,
            OverflowError, RecursionError, RuntimeError)  # fmt: skip


@dataclass(frozen=True)
class PartialEpoch:
    """An epoch that was interrupted.

    Attributes:
        step: steps done.
        totals: sums of their losses and of what is counted, float64.
        seconds: time that they took.
    """

    step: int
    totals: Tensor
    seconds: float


def save_checkpoint(
    folder: Path,
    epoch: int,
    network: nn.Module,
    optimizer: Optimizer,
    partial: PartialEpoch | None = None,
) -> None:
    """Write the state after ``epoch`` whole epochs and after the steps of an unfinished one.

    The earlier checkpoint stays until this one is whole. After a whole epoch no times are in it, so
    that an undisturbed training and a resumed one end in the same bytes.

    Raises:
        OSError: the folder cannot be written.
    """
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"sgd/{name}": tensor for name, tensor in optimizer.state_dict().items()}
    header: dict[str, Any] = {"format_version": FORMAT_VERSION, "epoch": epoch}
    if partial is not None:
        tensors["partial/totals"] = partial.totals
        header["partial"] = {"step": partial.step, "seconds": partial.seconds}
    write_tensors(folder / CHECKPOINT, tensors, header)


def load_checkpoint(
    folder: Path, network: nn.Module, optimizer: Optimizer, error_class: type[LatkitError]
) -> tuple[int, PartialEpoch | None]:
    """Restore the state.

    Args:
        folder: of the checkpoint.
        network, optimizer: are given the state.
        error_class: what is raised for a checkpoint that does not fit.

    Returns:
        The number of finished epochs (0 without a checkpoint), and the unfinished epoch after them.

    Raises:
        LatkitError: the checkpoint is corrupt, or of another network or version (``error_class``);
            or it cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return 0, None
    header, tensors = _read(path, error_class)
    try:
        version = header["format_version"]
        if version != FORMAT_VERSION:
            raise error_class(
                f"checkpoint {path} has format version {version}, not {FORMAT_VERSION}",
                "go on with the version of latkit that wrote it, or choose another --out",
            )
        network.load_state_dict(_under("network/", tensors))
        optimizer.load_state_dict(_under("sgd/", tensors))
        partial = None
        if (begun := header.get("partial")) is not None:
            partial = PartialEpoch(begun["step"], tensors["partial/totals"], begun["seconds"])
        return int(header["epoch"]), partial
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise error_class(
            f"checkpoint {path} is of another training ({_first_line(error)})",
            "put back the one of this training, or choose another --out",
        ) from None


def progress_of(folder: Path, error_class: type[LatkitError]) -> tuple[int, int]:
    """Finished epochs of a checkpoint, and steps of the next one; 0 and 0 without a checkpoint.

    Raises:
        LatkitError: it is corrupt (``error_class``), or cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return 0, 0
    header, _ = _read(path, error_class, tensors=False)
    try:
        return int(header["epoch"]), int(header.get("partial", {"step": 0})["step"])
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise _corrupt(path, "its header is no latkit's", error_class) from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors, and a header of JSON.

    Raises:
        OSError: the folder cannot be written.
    """
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {HEADER: json.dumps(header)}
    write_atomically(path, lambda temporary: save_tensors(temporary, content, metadata))


def _read(
    path: Path, error_class: type[LatkitError], tensors: bool = True
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A file's header and its tensors.

    Raises:
        LatkitError: its content is corrupt (``error_class``), or it cannot be read.
    """
    try:
        # Python's own errors have the path and a number, which those of safetensors lack.
        with open(path, "rb"):
            pass
        with safetensors.safe_open(path, framework="pt") as file:
            names = list(file.keys()) if tensors else []
            header = json.loads(file.metadata()[HEADER])
            return header, {name: file.get_tensor(name) for name in names}
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    except CORRUPT as error:
        raise _corrupt(path, _first_line(error), error_class) from None


def _corrupt(path: Path, reason: str, error_class: type[LatkitError]) -> LatkitError:
    return error_class(
        f"checkpoint {path} is corrupt ({reason})",
        "delete it to begin its training again, or choose another --out",
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
