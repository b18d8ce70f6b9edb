"""A search's state as one safetensors file: supernet, α and both optimisers.

Random numbers need no state: every epoch draws from generators seeded by (seed, epoch).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from latkit.errors import SearchError
from latkit.files import write_atomically
from latkit.search.bilevel import FirstOrder
from latkit.search.supernet import Supernet

CHECKPOINT = "checkpoint.safetensors"
HEADER = "latkit"


def save_checkpoint(folder: Path, epoch: int, supernet: Supernet, optimizer: FirstOrder) -> None:
    """Write the state after ``epoch`` epochs; the earlier checkpoint stays until this one is whole.

    Raises:
        OSError: the folder cannot be written.
    """
    tensors = {f"supernet/{name}": t for name, t in supernet.state_dict().items()}
    for prefix, each in _optimizers(optimizer).items():
        for index, state in each.state_dict()["state"].items():
            tensors |= {f"{prefix}/{index}/{name}": value for name, value in state.items()}
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {HEADER: json.dumps({"format_version": 1, "epoch": epoch})}
    write_atomically(
        folder / CHECKPOINT,
        lambda temporary: safetensors.torch.save_file(content, temporary, metadata=header),
    )


def load_checkpoint(folder: Path, supernet: Supernet, optimizer: FirstOrder) -> int:
    """Restore the state; returns the number of finished epochs (0 without a checkpoint).

    Raises:
        SearchError: the checkpoint is corrupt or of another supernet.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return 0
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()[HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        supernet.load_state_dict(_under("supernet", tensors))
        for prefix, each in _optimizers(optimizer).items():
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _under(prefix, tensors).items():
                index, _, field = name.partition("/")
                state.setdefault(int(index), {})[field] = tensor
            each.load_state_dict({**each.state_dict(), "state": state})
        return int(header["epoch"])
    except (
        safetensors.SafetensorError,
        OSError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        raise SearchError(
            f"checkpoint {path} is corrupt ({str(error).splitlines()[0]})",
            "delete it to begin the search again, or choose another --out",
        ) from None


def _optimizers(optimizer: FirstOrder) -> dict[str, torch.optim.Optimizer]:
    return {"arch": optimizer.arch_optimizer, "weight": optimizer.weight_optimizer}


def _under(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
