"""The networks of the DARTS space: what can be chosen of them, and the walk through their cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from latkit.core.errors import InputError
from latkit.spaces.darts.zoo import ZOO
from latkit.spaces.setting import NetworkConfig, RunConfig, Setting, check_at_least, check_one_of

MACROS = ("imagenet", "cifar")
# With fewer, every cell is a reduction cell and the normal cell, which is what is chosen, absent.
MIN_CELLS = 3


@dataclass(frozen=True)
class CellPlace:
    """Where a cell stands in a network.

    Attributes:
        reduction: whether it is a reduction cell.
        after_reduction: whether the previous cell (or the ImageNet stem) halved the resolution,
            so that the first input is twice as large as the second.
        channels: of each node.
        c_prev_prev, c_prev: channels of the two inputs.
        side_in: pixels of a side of the second input.
        side: pixels of a side of the cell's own output.
    """

    reduction: bool
    after_reduction: bool
    channels: int
    c_prev_prev: int
    c_prev: int
    side_in: int
    side: int


@dataclass(frozen=True, kw_only=True)
class DartsConfig(NetworkConfig):
    """A network of stacked cells; those at one and two thirds of the depth are reduction cells.

    Attributes:
        macro: ``imagenet`` (three stride-2 convolutions before the cells, paper section 4.2) or
            ``cifar`` (one convolution of stride 1, section 4.1).
        cells: number of cells.
        channels: initial number of channels C.
        reduction: zoo name of the genotype whose reduction cell completes a normal cell.
    """

    macro: str
    cells: int
    channels: int
    classes: int = 1000
    reduction: str = "darts_v2"

    space: ClassVar[str] = "darts"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("macro", self.macro, MACROS)
        check_one_of("reduction", self.reduction, tuple(ZOO))
        check_at_least("channels", self.channels, 2)
        if self.cells < MIN_CELLS:
            raise InputError(
                f"cells={self.cells} leaves no normal cell: the cells at one and two thirds of the "
                "depth are reduction cells",
                f"use at least {MIN_CELLS} cells",
            )
        if self.channels % 2:
            raise InputError(
                f"channels={self.channels} is odd",
                "use an even number: a factorized reduction splits the channels in two halves",
            )
        self.check_stride(self.stem_stride << len(self.reduction_indices))

    @property
    def has_imagenet_stem(self) -> bool:
        """Whether the stem halves the resolution three times."""
        return self.macro == "imagenet"

    @property
    def stem_stride(self) -> int:
        """Factor by which the stem reduces the resolution."""
        return 8 if self.has_imagenet_stem else 1

    @property
    def stem_channels(self) -> int:
        """Channels that the stem gives to the first cell."""
        return self.channels if self.has_imagenet_stem else 3 * self.channels

    @property
    def reduction_indices(self) -> tuple[int, ...]:
        """Positions of the reduction cells, at one and two thirds of the depth."""
        return tuple(sorted({self.cells // 3, 2 * self.cells // 3}))

    def walk(self, normal_width: int = 4, reduce_width: int = 4) -> Iterator[CellPlace]:
        """The cells from the stem to the classifier.

        Args:
            normal_width: how many nodes a normal cell concatenates.
            reduce_width: the same of a reduction cell.
        """
        c, side = self.channels, self.resolution // self.stem_stride
        c_prev_prev = c_prev = self.stem_channels
        after_reduction = self.has_imagenet_stem
        for index in range(self.cells):
            reduction = index in self.reduction_indices
            side_in = side
            if reduction:
                c, side = 2 * c, side // 2
            yield CellPlace(reduction, after_reduction, c, c_prev_prev, c_prev, side_in, side)
            width = reduce_width if reduction else normal_width
            c_prev_prev, c_prev = c_prev, width * c
            after_reduction = reduction

    def classifier_channels(self, normal_width: int = 4, reduce_width: int = 4) -> int:
        """Channels that the last cell gives to the classifier; for the arguments see ``walk``."""
        *_, last = self.walk(normal_width, reduce_width)
        return (reduce_width if last.reduction else normal_width) * last.channels

    def slug(self, batch: int) -> str:
        return (
            f"{self.macro}-l{self.cells}-c{self.channels}-r{self.resolution}-b{batch}"
            f"-k{self.classes}-{self.reduction}"
        )


def _cifar(cells: int, channels: int) -> DartsConfig:
    return DartsConfig(macro="cifar", cells=cells, channels=channels, resolution=32, classes=10)


_IMAGENET = DartsConfig(macro="imagenet", cells=14, channels=48, resolution=224)
PRESETS = {
    # The paper's ImageNet network (section 4.2) with one image a run.
    "imagenet": Setting(_IMAGENET),
    # The paper's CIFAR-10 network (section 4.1) as Table 2 measures it.
    "cifar": Setting(_cifar(20, 36), RunConfig(batch=32)),
    # As Table 5 measures it: eager PyTorch's own layout, 32 images a run.
    "paper": Setting(_IMAGENET, RunConfig(batch=32, memory_format="nchw")),
    # A few milliseconds a run on one CPU core; for demonstrations and tests.
    "tiny": Setting(_cifar(5, 16)),
}
# Networks to train in: the paper's (sections 4.1 and 4.2), and one for minutes on a CPU.
TRAINED_IN = {"cifar": _cifar(20, 36), "imagenet": _IMAGENET, "cpu-small": _cifar(5, 8)}
