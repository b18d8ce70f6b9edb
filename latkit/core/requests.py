"""What the frozen requests of tasks have in common: their fields may be given in several ways."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latkit.core.errors import InputError

MOST_SEED = 2**32 - 1
# Of any count: what is larger by far does not fit an integer of PyTorch's, rather than a memory.
MOST_COUNT = 10**9


def set_paths(request: Any, *names: str) -> None:
    """Make paths of fields that are texts; for ``__post_init__`` of a frozen class."""
    for name in names:
        value = getattr(request, name)
        if value is not None and not isinstance(value, Path):
            object.__setattr__(request, name, Path(os.fspath(value)))


def set_tuples(request: Any, *names: str) -> None:
    """Make tuples of fields that are one text or another sequence of texts."""
    for name in names:
        value = getattr(request, name)
        object.__setattr__(request, name, several(value))


def several(value: str | Sequence[str]) -> tuple[str, ...]:
    """One text or several, as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def check_seed(seed: int) -> None:
    """Raises: InputError: no generator takes this seed."""
    if not 0 <= seed <= MOST_SEED:
        raise InputError(f"seed={seed} is out of range", f"use 0 to {MOST_SEED}")
