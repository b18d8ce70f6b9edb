"""The kinds of LPMs by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from latkit.core.errors import InputError, LPMError
from latkit.core.plugins import Plugins
from latkit.core.requests import check_types
from latkit.lpm.base import LPM

LPM_KINDS: Plugins[LPM] = Plugins(
    "kind of LPM",
    "latkit.lpm_kinds",
    LPM,  # type: ignore[type-abstract]
    {
        "default": "latkit.lpm.default",
        "paper": "latkit.lpm.paper",
        "macs-only": "latkit.lpm.linear",
        "op-count": "latkit.lpm.linear",
        "lookup-table": "latkit.lpm.linear",
        "gradient-boosting": "latkit.lpm.boosting",
    },
    LPMError,
)
# In files of earlier versions, one name for all kinds whose predictions are such a table.
_EARLIER_NAMES = {"linear": "lookup-table"}


def kind_in_file(name: str) -> type[LPM] | None:
    """The class that reads an LPM whose card has this kind; None: there is none here.

    Raises:
        LPMError: it is a plug-in that does not load.
    """
    name = _EARLIER_NAMES.get(name, name)
    return LPM_KINDS.get(name) if name in LPM_KINDS.names() else None


def make_options(kind: str, given: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """The options of a kind from values by name, and the names of those that it does not have.

    None keeps an option's default.

    Raises:
        InputError: there is no such kind, or a value is of another type than its option.
        LPMError: it is a plug-in that does not load.
    """
    options_class = LPM_KINDS.get(kind).options_class
    fields = {field.name for field in dataclasses.fields(options_class)}
    values = {name: value for name, value in given.items() if value is not None}
    known = {name: value for name, value in values.items() if name in fields}
    check_types(options_class, known)
    return options_class(**known), tuple(sorted(values.keys() - fields))


def check_learns_from_other_devices(kind: str) -> None:
    """Refuse a kind that has no use for a transfer prior.

    Raises:
        InputError: it has none, or there is no such kind.
        LPMError: it is a plug-in that does not load.
    """
    if not LPM_KINDS.get(kind).learns_from_other_devices:
        raise InputError(f"the kind {kind} learns nothing from other devices", "use --kind default")
