"""The choices of a layer, and an architecture: 22 of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from latkit.core.errors import SpaceError
from latkit.spaces.fbnet.config import LAYERS


class Block(NamedTuple):
    """An inverted residual.

    Attributes:
        kernel: of its depthwise convolution.
        expansion: channels of that over those of its input.
        groups: of its 1x1 convolutions.
    """

    kernel: int
    expansion: int
    groups: int = 1


# By names of kernel, expansion and groups, in the order of the published tables. With an expansion
# of 1 there are two 1x1 convolutions all the same: so have it the paper (figure 3), its authors'
# first code and that of the public tables; their later code leaves the first of them out.
BLOCKS = {
    "k3_e1": Block(3, 1),
    "k3_e1_g2": Block(3, 1, 2),
    "k3_e3": Block(3, 3),
    "k3_e6": Block(3, 6),
    "k5_e1": Block(5, 1),
    "k5_e1_g2": Block(5, 1, 2),
    "k5_e3": Block(5, 3),
    "k5_e6": Block(5, 6),
}
SKIP = "skip"
OPERATIONS = (*BLOCKS, SKIP)


@dataclass(frozen=True)
class FbnetLayers:
    """One architecture; its text is that of the published tables, a number from 0 to 8 a layer.

    Attributes:
        operations: of each layer, from the stem on.
    """

    operations: tuple[str, ...]
    space: ClassVar[str] = "fbnet"

    def __post_init__(self) -> None:
        if len(self.operations) != LAYERS or not set(self.operations) <= set(OPERATIONS):
            raise SpaceError(
                f"{self.operations} are not the layers of an architecture of fbnet",
                f"name {LAYERS} of {', '.join(OPERATIONS)}",
            )

    def __str__(self) -> str:
        return " ".join(str(OPERATIONS.index(name)) for name in self.operations)
