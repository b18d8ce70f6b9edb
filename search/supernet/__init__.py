"""Supernets by name, and the methods that they belong to.

A new one is a subclass of :class:`Supernet`, registered by a line in ``SUPERNETS`` or by an entry
point in the group ``latkit.supernets``. Its name is its method's, or begins with that and a dot.
"""

from latkit.search.supernet.base import (
    SUPERNETS,
    BatchNormMode,
    Supernet,
    default_method,
    get_supernet,
    method_names,
    methods_of,
)

__all__ = [
    "SUPERNETS",
    "BatchNormMode",
    "Supernet",
    "default_method",
    "get_supernet",
    "method_names",
    "methods_of",
]
