"""What measures, and how: what the requests of several tasks choose alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from latkit.backends import BACKENDS, Backend, default_backend_name
from latkit.core.device import suggest_device_name
from latkit.core.errors import InputError
from latkit.core.events import Listener
from latkit.dataset.statistics import MAX_REPLICATES
from latkit.profiling.protocol import PRESETS, Protocol
from latkit.spaces import Setting, parse_setting


def check_effort(replicates: int, target_error: float | None) -> None:
    """Refuse replicates and relative errors that no plan has.

    Raises:
        InputError: one is out of its range.
    """
    if not 1 <= replicates <= MAX_REPLICATES:
        raise InputError(f"cannot plan {replicates} replicates", f"use 1 to {MAX_REPLICATES}")
    if target_error is not None and not 0 < target_error < 1:
        raise InputError(
            f"{target_error} is no relative error", "use one between 0 and 1, e.g. 0.015"
        )


def choose_protocol(given: Protocol | str, threads: int, **changes: Any) -> Protocol:
    """A protocol, or the preset of a name, with those of the changes that are not None.

    Raises:
        InputError: there is no preset of that name, or a value does not fit.
    """
    if isinstance(given, str):
        if given not in PRESETS:
            raise InputError(f"unknown protocol {given!r}", f"use one of: {', '.join(PRESETS)}")
        given = PRESETS[given]
    named = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(given, threads=threads, **named)


def choose_setting(given: Setting | str, backend_class: type[Backend]) -> Setting:
    """A setting, or that of a text, which leaves the memory format to the backend.

    Raises:
        InputError: the text is not one.
    """
    if isinstance(given, Setting):
        return given
    setting, formats = parse_setting(given), backend_class.memory_formats
    if setting.memory_format not in formats and "memory_format=" not in given:
        setting = setting.replace(memory_format=formats[0])
    return setting


def choose_backend(
    name: str | None, listener: Listener, provider_library: Path | None = None
) -> type[Backend]:
    """The backend of a name, or this machine's default one.

    Args:
        name: the backend's, if one was named.
        listener: receives the reason for the default.
        provider_library: the shared library of the backend's execution provider, where it is not
            an installed package's.

    Raises:
        InputError: there is none of that name, or it loads no such library.
    """
    if name is None:
        name, reason = default_backend_name()
        listener.note(reason)
    backend_class = BACKENDS.get(name)
    return (
        backend_class if provider_library is None else backend_class.with_library(provider_library)
    )


def choose_device(name: str | None, backend: Backend, listener: Listener) -> str:
    """The user's name for the hardware, or one made of the hardware's own."""
    if name is None:
        hardware = backend.hardware_name()
        name = suggest_device_name(hardware)
        listener.note(f"device name: {name} (from {hardware!r}; --device changes it)")
    return name
