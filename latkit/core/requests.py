"""What the frozen requests of tasks have in common: their fields may be given in several ways."""

from __future__ import annotations

import numbers
import os
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

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
    """Make tuples of fields that are one text or number, or another sequence of them."""
    for name in names:
        value = getattr(request, name)
        if value is not None:
            object.__setattr__(request, name, several(value))


def several(value: Any) -> tuple[Any, ...]:
    """One text or number, or several, as a tuple."""
    return (value,) if isinstance(value, (str, numbers.Number)) else tuple(value)


def check_seed(seed: int) -> None:
    """Raises: InputError: no generator takes this seed."""
    if not 0 <= seed <= MOST_SEED:
        raise InputError(f"seed={seed} is out of range", f"use 0 to {MOST_SEED}")


def check_types(cls: type, values: Mapping[str, Any]) -> None:
    """Refuse a number, a text or a truth value where a field's annotation allows another.

    Args:
        cls: the class of the fields.
        values: by the fields' names, as a caller gave them: a text may stand for a path, and a text
            or a number for a sequence of one.

    Raises:
        InputError: a value is of no type that its field takes.
    """
    hints = get_type_hints(cls)
    for name, value in values.items():
        members = _members(hints[name])
        if not any(_fits(value, member) for member in members):
            wanted = " or ".join(dict.fromkeys(map(_name, members)))
            raise InputError(f"{name}={value!r} is not {wanted}", f"give {name} as {wanted}")


_NAMES: dict[Any, str] = {
    int: "a whole number", float: "a number", str: "a text", bool: "True or False",
    Path: "a path", type(None): "None",
}  # fmt: skip


def _name(hint: Any) -> str:
    kind = get_origin(hint) or hint
    return _NAMES.get(hint, "a text" if kind is Literal else f"a {kind.__name__}")


def _members(hint: Any) -> tuple[Any, ...]:
    """Types of which a value may be one."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        hint = str
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        number = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool)
    if hint is Path:
        return isinstance(value, (str, os.PathLike))
    if hint in (str, type(None)):
        return isinstance(value, hint)
    if get_origin(hint) in (tuple, list, Sequence) and isinstance(value, (str, numbers.Number)):
        return any(_fits(value, member) for member in _members(get_args(hint)[0]))
    # What is richer than that is checked where it is used; a plain value is none of it.
    return hint is Any or not isinstance(value, (str, numbers.Number, type(None)))
