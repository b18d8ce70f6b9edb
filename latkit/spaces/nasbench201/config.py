"""The networks of NAS-Bench-201 (Dong and Yang 2020, section 2.1): three stages of cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from latkit.core.errors import InputError
from latkit.spaces.setting import NetworkConfig, Setting, check_at_least

STAGES = 3


@dataclass(frozen=True)
class Stage:
    """Cells of one width; before each stage but the first stands a residual block of stride 2.

    Attributes:
        channels: of its cells.
        side: pixels of a side.
        cells: how many there are.
    """

    channels: int
    side: int
    cells: int


@dataclass(frozen=True, kw_only=True)
class NasBench201Config(NetworkConfig):
    """A network of equal cells.

    Attributes:
        cells: number of cells, a third of them in each stage.
        channels: initial number of channels C.
    """

    cells: int
    channels: int
    classes: int = 10

    space: ClassVar[str] = "nasbench201"
    constants: ClassVar = {"macro": "nasbench201", "reduction": "none"}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("channels", self.channels, 2)
        if self.cells < STAGES or self.cells % STAGES:
            raise InputError(
                f"cells={self.cells} does not fill the three stages of nasbench201",
                "use a multiple of 3, e.g. cells=15",
            )
        self.check_stride(1 << (STAGES - 1))

    def walk(self) -> Iterator[Stage]:
        """The stages from the stem to the classifier."""
        for stage in range(STAGES):
            channels, side = self.channels << stage, self.resolution >> stage
            yield Stage(channels, side, self.cells // STAGES)

    def slug(self, batch: int) -> str:
        return (
            f"nasbench201-l{self.cells}-c{self.channels}-r{self.resolution}-b{batch}"
            f"-k{self.classes}-none"
        )


PRESETS = {
    # The network of the benchmark with one image a run.
    "nasbench201": Setting(NasBench201Config(cells=15, channels=16, resolution=32)),
}
# Networks to train in: the benchmark's, and one for minutes on a CPU.
TRAINED_IN = {
    "cifar": PRESETS["nasbench201"].network,
    "cpu-small": NasBench201Config(cells=3, channels=8, resolution=32),
}
