"""Supernets by name.

A new one is a subclass of :class:`Supernet`, registered by a line in ``SUPERNETS`` or by an entry
point in the group ``latkit.supernets``.
"""

from latkit.search.supernet.base import (
    SUPERNETS,
    BatchNormMode,
    Supernet,
    default_method,
    get_supernet,
    methods_of,
)

__all__ = [
    "SUPERNETS",
    "BatchNormMode",
    "Supernet",
    "default_method",
    "get_supernet",
    "methods_of",
]
