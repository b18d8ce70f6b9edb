"""In what two searches differ, named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latkit.search.images import listed

# Characters of a value that a message has room for.
_MOST_CHARACTERS = 100


def named_differences(now: Mapping[str, Any], then: Mapping[str, Any]) -> list[str]:
    """Values in which two nested mappings of JSON's types differ, as ``data.flip: now / then``.

    Of lists what only one of them has is named.
    """
    ours, theirs = _flat(now), _flat(then)
    return [
        f"{name}: {_difference(ours.get(name), theirs.get(name))}"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _difference(now: Any, then: Any) -> str:
    if isinstance(now, list) and isinstance(then, list) and len(str(now)) > _MOST_CHARACTERS:
        sides = [
            f"only {when} {listed(only)}"
            for when, only in (
                ("now", [str(item) for item in now if item not in then]),
                ("then", [str(item) for item in then if item not in now]),
            )
            if only
        ]
        return " / ".join(sides) or "in another order"
    return " / ".join(_short(value) for value in (now, then))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
