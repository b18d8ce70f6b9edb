"""Supernets by name. A new one is a module here and a line in ``SUPERNETS``."""

from __future__ import annotations

from latkit.core.errors import InputError
from latkit.search.supernet.network import Supernet
from latkit.search.supernet.pc_darts import PCDartsSupernet
from latkit.spaces.darts.space import DartsSpace

SUPERNETS: dict[str, type[Supernet]] = {"darts": Supernet, "pc-darts": PCDartsSupernet}


def build_supernet(
    method: str,
    space: DartsSpace,
    channels: int,
    cells: int,
    classes: int,
    image_channels: int = 3,
) -> Supernet:
    """The supernet of a method, initialised by PyTorch's global generator.

    Raises:
        InputError: there is no such method, or the channels do not fit it.
    """
    if method not in SUPERNETS:
        raise InputError(f"unknown method {method!r}", f"use one of: {', '.join(SUPERNETS)}")
    kind = SUPERNETS[method]
    if channels % kind.partial:
        raise InputError(
            f"channels={channels} does not fit {method}", f"use a multiple of {kind.partial}"
        )
    return kind(space, channels, cells, classes, image_channels)


__all__ = ["SUPERNETS", "Supernet", "build_supernet"]
