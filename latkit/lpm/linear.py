"""Baselines that any LPM must beat: straight lines in MACs, operation counts and table entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from latkit.lpm.base import LPM, FloatArray
from latkit.lpm.seen_errors import SeenErrors
from latkit.lpm.threads import one_thread
from latkit.spaces import SearchSpace, Setting
from latkit.spaces.analytic import COLUMNS
from latkit.spaces.registry import analytic_table

LinearKind = Literal["macs-only", "op-count", "lookup-table"]


class LinearLPM(SeenErrors, LPM):
    """A constant and a number for each operation on each edge."""

    kind = "linear"

    def __init__(self, constant: float, entries: Tensor) -> None:
        super().__init__()
        self.hyper_parameters = {}
        self._constant, self._entries = constant, entries

    def mean(self, encodings: Tensor) -> Tensor:
        return self._constant + encodings @ self._entries.to(encodings.dtype)

    def state(self) -> dict[str, Tensor]:
        constant = torch.tensor(self._constant, dtype=torch.float64)
        return {"constant_ms": constant, "entries_ms": self._entries, **self.errors_state()}

    @classmethod
    def from_state(
        cls, hyper_parameters: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> LinearLPM:
        lpm = cls(float(state["constant_ms"]), state["entries_ms"])
        lpm.set_errors_state(state)
        return lpm


@one_thread()
def fit_linear(
    kind: LinearKind,
    space: SearchSpace,
    setting: Setting,
    encodings: FloatArray,
    values: FloatArray,
) -> LinearLPM:
    """Least squares; of several best fits the one with the smallest coefficients.

    Args:
        kind: ``macs-only``: cost = a + b * MACs; ``op-count``: a number for each kind of
            operation, wherever it stands; ``lookup-table``: one for each operation on each edge, as
            FBNet and ProxylessNAS tabulate latency.
        space: the space.
        setting: of the networks, which gives the MACs.
        encodings: ``n x E*O``.
        values: ``n`` costs.
    """
    basis = _basis(kind, space, setting)
    design = np.asarray(encodings) @ basis
    mean, mean_value = design.mean(0), float(np.mean(values))
    scale = design.std(0)
    scale[scale == 0] = np.inf  # a column that does not move says nothing
    slopes = np.linalg.lstsq((design - mean) / scale, values - mean_value, rcond=1e-10)[0] / scale
    return LinearLPM(mean_value - float(mean @ slopes), torch.from_numpy(basis @ slopes))


def _basis(kind: LinearKind, space: SearchSpace, setting: Setting) -> FloatArray:
    """What a coefficient multiplies: ``E*O x k``."""
    if kind == "macs-only":
        table = analytic_table(space.name, setting.network).operations[:, :, COLUMNS.index("macs")]
        return np.asarray(table.reshape(-1, 1) / max(1.0, table.max()))
    if kind == "op-count":
        return np.tile(np.eye(space.num_operations), (space.num_edges, 1))
    return np.eye(space.encoding_size, dtype=np.float64)
