"""The anchor network of a setting, which every candidate is timed in alternation with."""

from __future__ import annotations

from latkit.spaces import Architecture, Setting, get_space
from latkit.spaces.architecture import get_architecture


def anchor_setting(setting: Setting) -> Setting:
    """The setting of the anchor network, which costs about a third of its candidates."""
    network, _ = get_space(setting.space).anchor(setting.network)
    return Setting(network, setting.run)


def anchor_architecture(setting: Setting) -> Architecture:
    """What the anchor network of a setting is made of, in :func:`anchor_setting`."""
    return get_architecture(get_space(setting.space).reference, setting)


def anchor_name(setting: Setting) -> str:
    """The anchor network as datasets name it, e.g. ``darts_v2,cells=4``."""
    space = get_space(setting.space)
    _, changes = space.anchor(setting.network)
    return f"{space.reference},{changes}" if changes else space.reference
