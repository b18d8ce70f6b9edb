"""What of a dataset an LPM is fitted to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latkit.core.errors import DatasetError
from latkit.core.quantities import LATENCY
from latkit.dataset import LatencyDataset
from latkit.lpm.base import FloatArray
from latkit.spaces import SearchSpace, Setting, get_space


@dataclass(frozen=True)
class Rows:
    """Architectures and what was measured of them: one row each.

    Attributes:
        space: of the architectures.
        setting: of the networks that were measured.
        encodings: ``n x E*O`` zeros and ones.
        values: ``n`` numbers in the unit of the quantity; those of a cost are positive.
        quantity: the name of what was measured.
    """

    space: SearchSpace
    setting: Setting
    encodings: FloatArray
    values: FloatArray
    quantity: str = LATENCY

    @classmethod
    def of(cls, dataset: LatencyDataset, quantity: str = LATENCY) -> Rows:
        """The usable rows: disturbed ones are left out, an architecture's replicates averaged.

        Raises:
            DatasetError: the quantity was not measured.
            SpaceError: a row is not of the space.
        """
        check_measured(dataset, quantity)
        target = dataset.manifest.target
        space = get_space(target.space)
        table = dataset.usable()
        matrix = space.from_file(table["arch_id"].to_numpy(), table["arch"].to_pylist())
        return cls(
            space,
            target.setting,
            space.encode(matrix).astype(np.float64),
            table[quantity].to_numpy(),
            quantity,
        )

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: npt.NDArray[np.int64]) -> Rows:
        """Some of the rows, by number."""
        return dataclasses.replace(self, encodings=self.encodings[rows], values=self.values[rows])


def check_measured(dataset: LatencyDataset, quantity: str) -> None:
    """Raises: DatasetError: the quantity was not measured."""
    if quantity not in dataset.quantities:
        raise DatasetError(
            f"{dataset.path} has no {quantity} (it has: {', '.join(dataset.quantities)})",
            "train for a quantity it has (--cost), or profile or import it again with this one",
        )
