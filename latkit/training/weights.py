"""Weights to use, as safetensors files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from latkit.search.network_checkpoint import write_tensors

LAST, BEST = "last.safetensors", "best.safetensors"
# Of names of tensors that belong to training alone.
AUXILIARY = "auxiliary_head."


def save_weights(path: Path, network: nn.Module, about: Mapping[str, Any]) -> None:
    """Write a network's tensors, without those of training alone.

    Args:
        path: of the file.
        network: in whatever mode.
        about: what the file's header has of them.

    Raises:
        OSError: the folder cannot be written.
    """
    state = network.state_dict()
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(AUXILIARY)}
    write_tensors(path, kept, about)
