"""The search spaces by name, and the settings by name of all of them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal, overload

from latkit.core.errors import InputError
from latkit.core.plugins import Plugins
from latkit.spaces.analytic import AnalyticTable
from latkit.spaces.base import SearchSpace
from latkit.spaces.setting import NetworkConfig, Setting

if TYPE_CHECKING:
    from latkit.spaces.darts.space import DartsSpace
    from latkit.spaces.nasbench201.space import NasBench201Space

SPACES: Plugins[SearchSpace] = Plugins(
    "search space",
    "latkit.spaces",
    SearchSpace,
    {
        "darts": "latkit.spaces.darts.space",
        "nasbench201": "latkit.spaces.nasbench201.space",
        "fbnet": "latkit.spaces.fbnet.space",
    },
    # What is measured without being an architecture; nothing is sampled or searched in it.
    unlisted={"models": "latkit.spaces.models.space"},
)


@overload
def get_space(name: Literal["darts"]) -> DartsSpace: ...
@overload
def get_space(name: Literal["nasbench201"]) -> NasBench201Space: ...
@overload
def get_space(name: str) -> SearchSpace: ...
def get_space(name: str) -> SearchSpace:
    """The search space of that name.

    Raises:
        InputError: there is no such space.
        PluginError: it is a plug-in that does not load.
    """
    return _make(name)


@cache
def _make(name: str) -> SearchSpace:
    return SPACES.get(name)()  # type: ignore[call-arg]


@cache
def analytic_table(space: str, network: NetworkConfig) -> AnalyticTable:
    """Analytic costs of a space's operations in a network."""
    return get_space(space).analytic_table(network)


def preset_names() -> list[str]:
    """Names of the settings of all spaces."""
    return [preset for name in SPACES.names() for preset in _presets(name)]


def get_preset(name: str) -> Setting:
    """A setting by its name, of whatever space.

    Raises:
        InputError: there is none.
    """
    for space in SPACES.names():
        presets = _presets(space)
        if name in presets:
            return presets[name]
    raise InputError(
        f"unknown setting {name!r}",
        f"start with one of {', '.join(preset_names())}, e.g. imagenet,batch=32",
    )


def _presets(space: str) -> dict[str, Setting]:
    """Of a space; none of a plug-in that does not load."""
    if not SPACES.is_own(space) and space in SPACES.broken():
        return {}
    return dict(SPACES.get(space).presets)


def default_setting(space: str) -> str:
    """The preset that a space is measured in where a user names none.

    Raises:
        InputError: there is no such space, or it has no settings.
    """
    presets = SPACES.get(space).presets
    if not presets:
        raise InputError(f"the space {space} has no settings", "use another space")
    return next(iter(presets))


def parse_setting(text: str) -> Setting:
    """A setting from ``PRESET[,field=value]...``, e.g. ``imagenet,batch=32``.

    Raises:
        InputError: unknown preset or field, or a value that does not fit.
    """
    preset, _, changes = text.partition(",")
    return get_preset(preset.strip()).with_text(changes)
