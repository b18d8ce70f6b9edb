"""From an architecture and a setting to its network, whatever the space."""

from __future__ import annotations

from typing import TypeAlias

from latkit.errors import InputError
from latkit.networks.nasbench201 import NasBench201Network
from latkit.networks.network import Make, Network, construct
from latkit.networks.setting import Setting, default_setting
from latkit.spaces import Architecture, Genotype

AnyNetwork: TypeAlias = Network | NasBench201Network


def build_network(
    architecture: Architecture, setting: Setting, make: Make = construct
) -> AnyNetwork:
    """The network of an architecture, in training mode.

    Args:
        architecture: of the space that the setting's macro is for.
        setting: macro, depth, width and classes.
        make: how parts are made; the default constructs them.

    Raises:
        InputError: the macro is for architectures of another space.
    """
    if architecture.space != setting.space:
        raise InputError(
            f"the macro {setting.macro} takes no architecture of {architecture.space}",
            f"use --setting {default_setting(architecture.space)}",
        )
    if isinstance(architecture, Genotype):
        return Network(architecture, setting, make=make)
    return NasBench201Network(architecture, setting, make)
