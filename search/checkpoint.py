"""A search's state as one safetensors file: supernet, α, both optimisers, and an unfinished epoch.

An epoch's batches come from generators seeded by (seed, epoch) and need no state. What an
unfinished epoch needs besides is the state of LAT's generator and the sums so far.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from latkit.core.errors import InputError, SearchError, from_os_error
from latkit.core.files import write_atomically
from latkit.networks.state import save_tensors
from latkit.search.bilevel import Bilevel
from latkit.search.network_checkpoint import CORRUPT
from latkit.search.optimizers import Optimizer
from latkit.search.supernet import Supernet

CHECKPOINT = "checkpoint.safetensors"
HEADER = "latkit"
FORMAT_VERSION = 2


@dataclass(frozen=True)
class PartialEpoch:
    """An epoch that was interrupted.

    Attributes:
        step: steps done.
        totals: sums of their losses, costs and correct predictions, float64.
        generator: state of LAT's random numbers, bytes.
        seconds: time that they took.
    """

    step: int
    totals: Tensor
    generator: Tensor
    seconds: float


def save_checkpoint(
    folder: Path,
    epoch: int,
    supernet: Supernet,
    optimizer: Bilevel,
    partial: PartialEpoch | None = None,
) -> None:
    """Write the state after ``epoch`` whole epochs and after the steps of an unfinished one.

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
    if partial is not None:
        tensors |= {"begun/totals": partial.totals, "begun/generator": partial.generator}
        header["begun"] = {"step": partial.step, "seconds": partial.seconds}
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {HEADER: json.dumps(header)}
    write_atomically(
        folder / CHECKPOINT,
        lambda temporary: save_tensors(temporary, content, metadata),
    )


def finished_epochs(folder: Path) -> int:
    """How many epochs a folder's search has finished; 0 without a checkpoint.

    Raises:
        SearchError: the checkpoint is corrupt.
        LatkitError: it cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return 0
    with _opened(path) as file:
        return int(_header(file)["epoch"])


def load_checkpoint(
    folder: Path, supernet: Supernet, optimizer: Bilevel
) -> tuple[int, PartialEpoch | None]:
    """Restore the state.

    Returns:
        The number of finished epochs (0 without a checkpoint), and the unfinished epoch after them.

    Raises:
        SearchError: the checkpoint is corrupt, or of another search or version.
        LatkitError: it cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return 0, None
    partial = None
    with _opened(path) as file:
        header = _header(file)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        version, epoch, penalty = header["format_version"], int(header["epoch"]), header["penalty"]
        if "begun" in header:
            partial = PartialEpoch(
                int(header["begun"]["step"]),
                tensors["begun/totals"],
                tensors["begun/generator"],
                float(header["begun"]["seconds"]),
            )
    _check_version(path, version)
    try:
        _fill(supernet, tensors)
        for prefix, each in _optimizers(optimizer).items():
            each.load_state_dict(_under(prefix, tensors))
        optimizer.penalty.load_state_dict(penalty)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise SearchError(
            f"checkpoint {path} is of another search ({error})",
            "put back the one of this search, or choose another --out",
        ) from None
    return epoch, partial


def digest_of(folder: Path) -> str:
    """The first 16 digits of the SHA-256 of a folder's checkpoint.

    Raises:
        InputError: it has none.
        LatkitError: it cannot be read.
    """
    return hashlib.sha256(_bytes_of(folder / CHECKPOINT)).hexdigest()[:16]


def load_weights(folder: Path, digest: str, supernet: Supernet) -> None:
    """Give a supernet the weights, running statistics and α of another search's checkpoint.

    Args:
        folder: of that search.
        digest: see :func:`digest_of`.
        supernet: what is filled.

    Raises:
        InputError: there is no checkpoint, or it is of another supernet.
        SearchError: it is corrupt, or another one than that of the digest.
        LatkitError: it cannot be read.
    """
    path = folder / CHECKPOINT
    # Read once: a search that still runs may replace the file at any time.
    content = _bytes_of(path)
    if hashlib.sha256(content).hexdigest()[:16] != digest:
        raise SearchError(
            f"checkpoint {path} was replaced meanwhile",
            "let the search in that folder end, then run this command again",
        )
    with _understood(path, "name the folder of another search"):
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        version = json.loads(metadata[HEADER])["format_version"]
    _check_version(path, version)
    try:
        _fill(supernet, tensors)
    except ValueError as error:
        raise InputError(
            f"checkpoint {path} is of another supernet ({error})",
            "name the folder of a search with the same supernet and images of the same size",
        ) from None


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{path.parent} has no {CHECKPOINT} to begin with",
            "name the folder of a search that has finished an epoch",
        ) from None
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None


def _check_version(path: Path, version: object) -> None:
    """Raises: SearchError: a checkpoint's format is another."""
    if version != FORMAT_VERSION:
        raise SearchError(
            f"checkpoint {path} has format version {version}, not {FORMAT_VERSION}",
            "go on with the version of latkit that wrote it, or choose another --out",
        )


def _fill(supernet: Supernet, tensors: dict[str, Tensor]) -> None:
    """Raises: ValueError: the tensors of a checkpoint are of another supernet."""
    saved, expected = _under("supernet", tensors), supernet.state_dict()
    for name in sorted({*saved, *expected}):
        if name not in saved or name not in expected or saved[name].shape != expected[name].shape:
            raise ValueError(f"e.g. {name} is of another shape or missing")
    supernet.load_state_dict(saved)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A checkpoint's file.

    Raises:
        SearchError: its content is corrupt.
        LatkitError: it cannot be read.
    """
    with _understood(path, "delete it to begin the search again, or choose another --out"):
        # Python's own errors have the path and a number, which those of safetensors lack.
        with open(path, "rb"):
            pass
        with safetensors.safe_open(path, framework="pt") as file:
            yield file


@contextlib.contextmanager
def _understood(path: Path, fix: str) -> Iterator[None]:
    """Reading a checkpoint.

    Raises:
        SearchError: its content is corrupt.
        LatkitError: it cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    except CORRUPT as error:
        raise SearchError(f"checkpoint {path} is corrupt ({_first_line(error)})", fix) from None


def _header(file: Any) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(file.metadata()[HEADER])
    return header


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _optimizers(optimizer: Bilevel) -> dict[str, Optimizer]:
    return {"arch": optimizer.arch_optimizer, "weight": optimizer.weight_optimizer}


def _under(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
