"""Plug-ins that a test has added must not outlive it."""

from __future__ import annotations

import sys

from latkit.core.plugins import Plugins

# Where latkit's kinds of plug-ins are named.
_PLACES = {
    "latkit.spaces.registry": "SPACES",
    "latkit.backends.registry": "BACKENDS",
    "latkit.lpm.kinds": "LPM_KINDS",
    "latkit.search.objectives": "OBJECTIVES",
    "latkit.search.estimators.base": "ESTIMATORS",
    "latkit.search.supernet.base": "SUPERNETS",
    "latkit.search.image_source": "IMAGE_SOURCES",
}


def forget_plug_ins() -> None:
    """Let every kind find those that are installed, where it was loaded at all."""
    for module, name in _PLACES.items():
        if module in sys.modules:
            plugins: Plugins[object] = getattr(sys.modules[module], name)
            plugins.refresh()
