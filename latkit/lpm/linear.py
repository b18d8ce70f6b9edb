"""Baselines that any LPM must beat: straight lines in MACs, operation counts and table entries."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from latkit.core.events import SILENT, Listener
from latkit.lpm.base import FloatArray
from latkit.lpm.intervals import EmpiricalLPM
from latkit.lpm.kinds import LPM_KINDS
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.threads import one_thread
from latkit.spaces import SearchSpace, Setting
from latkit.spaces.analytic import COLUMNS
from latkit.spaces.registry import analytic_table


class LinearLPM(EmpiricalLPM):
    """A constant and a number for each operation on each edge.

    Args:
        constant: what all architectures share, in the unit of the quantity.
        entries: an ``E*O``-dim tensor, in the same unit.
    """

    def __init__(self, constant: float, entries: Tensor) -> None:
        self.hyper_parameters = {}
        self._constant, self._entries = constant, entries

    @classmethod
    @one_thread()
    def fit(cls, rows: Rows, recipe: Recipe, listener: Listener = SILENT) -> Self:
        """Least squares; of several best fits the one with the smallest coefficients."""
        values = rows.values
        basis = cls.basis(rows.space, rows.setting)
        design = np.asarray(rows.encodings) @ basis
        mean, mean_value = design.mean(0), float(np.mean(values))
        scale = design.std(0)
        scale[scale == 0] = np.inf  # a column that is constant has the coefficient zero
        slopes = np.linalg.lstsq((design - mean) / scale, values - mean_value, rcond=1e-10)[0]
        slopes = slopes / scale
        return cls(mean_value - float(mean @ slopes), torch.from_numpy(basis @ slopes))

    @classmethod
    @abstractmethod
    def basis(cls, space: SearchSpace, setting: Setting) -> FloatArray:
        """What each of ``k`` coefficients multiplies: ``E*O x k``."""

    def mean(self, encodings: Tensor) -> Tensor:
        return self._constant + encodings @ self._entries.to(encodings.dtype)

    def coefficients(self) -> tuple[Tensor, float]:
        return self._entries, self._constant

    def state(self) -> dict[str, Tensor]:
        constant = torch.tensor(self._constant, dtype=torch.float64)
        return {"constant_ms": constant, "entries_ms": self._entries, **self.intervals_state()}

    @classmethod
    def from_state(cls, hyper_parameters: Mapping[str, Any], state: Mapping[str, Tensor]) -> Self:
        lpm = cls(float(state["constant_ms"]), state["entries_ms"])
        lpm.restore_intervals(state)
        return lpm


@LPM_KINDS.register("macs-only")
class MacsLPM(LinearLPM):
    """A straight line in MACs: a + b * MACs."""

    name = "macs-only"

    @classmethod
    def basis(cls, space: SearchSpace, setting: Setting) -> FloatArray:
        table = analytic_table(space.name, setting.network).operations[:, :, COLUMNS.index("macs")]
        return np.asarray(table.reshape(-1, 1) / max(1.0, table.max()))


@LPM_KINDS.register("op-count")
class OperationCountLPM(LinearLPM):
    """A number for each kind of operation, wherever it stands."""

    name = "op-count"

    @classmethod
    def basis(cls, space: SearchSpace, setting: Setting) -> FloatArray:
        return np.tile(np.eye(space.num_operations), (space.num_edges, 1))


@LPM_KINDS.register("lookup-table")
class LookupTableLPM(LinearLPM):
    """A number for each operation on each edge, as FBNet and ProxylessNAS tabulate latency."""

    name = "lookup-table"

    @classmethod
    def basis(cls, space: SearchSpace, setting: Setting) -> FloatArray:
        return np.eye(space.encoding_size, dtype=np.float64)
