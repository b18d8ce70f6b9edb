"""From a request for a search to the configuration of a one-shot search."""

from __future__ import annotations

import dataclasses

from latkit.core.errors import InputError
from latkit.core.requests import check_types
from latkit.search.oneshot.config import OneShotConfig, preset
from latkit.search.request import SearchRequest
from latkit.spaces import SPACES

# What options are called whose names are not their fields'.
_OPTIONS = {"also": "--also-device", "lambda_per_ms": "--lambda", "start_from": "--from"}
# Of a request, what only a search for a device has.
_FOR_A_DEVICE = (
    "device", "also", "start_from", "sweep_lambda", "sweep_target_ms", "jobs", "tensorboard",
    "registry",
)  # fmt: skip


def plan(request: SearchRequest) -> OneShotConfig:
    """The configuration that a request asks for.

    Raises:
        InputError: an option means nothing to a one-shot search, or a value cannot work.
        PluginError: a plug-in does not load.
    """
    SPACES.check(request.space)
    known = [field.name for field in dataclasses.fields(OneShotConfig)]
    # A flag that is not set is as good as not given.
    changes = {name: value for name, value in request.changes.items() if value is not False}
    foreign = [name for name in _FOR_A_DEVICE if getattr(request, name)]
    for name in (*foreign, *(name for name in changes if name not in known)):
        option = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
        raise InputError(
            f"a one-shot search, which is for no device, has no {option}",
            f"leave it out; its own values are {', '.join(known)}",
        )
    check_types(OneShotConfig, changes)
    config = dataclasses.replace(preset(request.preset, request.space), **changes)
    config.check(request.space)
    return config
