"""Which search spaces there are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from latkit.core.errors import LatkitError
from latkit.spaces.registry import SPACES, get_space


@dataclass(frozen=True)
class SpaceInfo:
    """A search space.

    Attributes:
        name: of the space.
        size: number of architectures; None: the plug-in does not load.
        operations: what an edge may carry.
        settings: names of the networks around an architecture; the first is used where none is
            named.
        broken: why the plug-in does not load; None: it does.
    """

    name: str
    size: int | None
    operations: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    broken: str | None = None

    def to_dict(self) -> dict[str, Any]:
        content = dataclasses.asdict(self)
        return {**content, "operations": list(self.operations), "settings": list(self.settings)}


def spaces() -> tuple[SpaceInfo, ...]:
    """The search spaces, latkit's own and those of plug-ins."""
    found = []
    for name in SPACES.names():
        try:
            space = get_space(name)
        except LatkitError as error:
            found.append(SpaceInfo(name, None, broken=str(error)))
        else:
            found.append(SpaceInfo(name, space.size, space.operations, tuple(space.presets)))
    return tuple(found)
