"""From an architecture and a setting to its network, whatever the space."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latkit.networks.inputs import TensorSpec, random_arrays
from latkit.networks.make import Make, construct
from latkit.networks.weights import RandomParts
from latkit.spaces.architecture import check_space
from latkit.spaces.base import Architecture
from latkit.spaces.registry import get_space
from latkit.spaces.setting import Setting


def build_network(
    architecture: Architecture, setting: Setting, make: Make = construct
) -> nn.Module:
    """The network of an architecture, in training mode.

    Args:
        architecture: of the setting's space.
        setting: whose network is built.
        make: how parts are made; the default constructs them.

    Raises:
        InputError: the setting is for architectures of another space, or latkit builds no networks
            of the space.
    """
    check_space(architecture, setting)
    return get_space(setting.space).build(architecture, setting.network, make)


def random_network(architecture: Architecture, setting: Setting, seed: int) -> nn.Module:
    """The network in eval mode, in the setting's memory format, on the CPU, with random weights.

    The network is for running only: its parts share their tables of hooks with other networks. Only
    where skips of a NAS-Bench-201 cell add up activations grow, by a factor of up to 4 a cell: far
    from the limits of fp32, but one network in ten leaves the range of fp16 at full depth.

    Raises:
        InputError: see :func:`build_network`.
    """
    parts = RandomParts(seed, _memory_format(setting))
    network = build_network(architecture, setting, make=parts)
    _stop_training(network)
    return network


def random_input(setting: Setting, seed: int) -> Tensor:
    """A batch of standard-normal images: ``B x 3 x R x R`` in the setting's memory format."""
    (images,) = random_arrays([input_spec(setting)], seed).values()
    return torch.from_numpy(images).contiguous(memory_format=_memory_format(setting))


def input_spec(setting: Setting) -> TensorSpec:
    """The input of a setting's networks."""
    return TensorSpec("images", (setting.batch, 3, setting.resolution, setting.resolution))


def _stop_training(module: nn.Module) -> None:
    """As ``eval()``, which would visit all parts: those that are copied are in eval mode."""
    if module.training:
        module.training = False
        for child in module._modules.values():
            if child is not None:
                _stop_training(child)


def _memory_format(setting: Setting) -> torch.memory_format:
    if setting.memory_format == "channels_last":
        return torch.channels_last
    return torch.contiguous_format
