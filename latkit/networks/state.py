"""Trained weights from files, be they of a network as it is or of one that was wrapped."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from latkit.core.errors import InputError, from_os_error

# What PyTorch's wrappers put into the names of a network's tensors, and what an average adds.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
AVERAGED_COUNT = "n_averaged"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    try:
        safetensors.torch.save_file(dict(tensors), path, metadata=metadata)
    except safetensors.SafetensorError as error:  # of a full disk, too, whose number is in the text
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise OSError(str(error)) from None
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path)) from None


def load_state(network: nn.Module, path: Path) -> None:
    """Load a state dict, be it of a wrapped network (DataParallel, torch.compile, an average).

    The auxiliary head, which is for training only, may be in it.

    Raises:
        InputError: it cannot be read, or is of another network.
    """
    try:
        # Python's own errors have the path and a number, which those of safetensors lack.
        with open(path, "rb"):
            pass
        tensors = safetensors.torch.load_file(path)
    except OSError as error:
        fix = from_os_error(error, f"read {path}", "nothing was written").fix
        cause = f"cannot read the weights in {path} ({error.strerror or error})"
        raise InputError(cause, fix) from None
    except (safetensors.SafetensorError, AttributeError, KeyError, ValueError) as error:
        # All but the first are of types of tensors that this PyTorch does not know.
        raise InputError(
            f"cannot read the weights in {path} ({error})",
            "save them with safetensors.torch.save_file(network.state_dict(), ...)",
        ) from None
    kept = {}
    for given, tensor in tensors.items():
        name = ".".join(part for part in given.split(".") if part not in WRAPPERS)
        if name in kept:
            raise InputError(f"{path} has {name} twice, as {given} too", "save one state_dict")
        if not name.startswith("auxiliary_head.") and name != AVERAGED_COUNT:
            kept[name] = tensor
    wanted = network.state_dict()
    wrong = [
        name
        for name in sorted({*wanted, *kept})
        if name not in kept or name not in wanted or kept[name].shape != wanted[name].shape
    ]
    if wrong:
        raise InputError(
            f"the weights in {path} are of another network ({len(wrong)} tensors differ, the first "
            f"is {wrong[0]})",
            "use the --setting and genotype they were trained with",
        )
    network.load_state_dict(kept)
