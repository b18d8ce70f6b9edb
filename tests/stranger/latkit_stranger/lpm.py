"""A kind of LPM: ridge regression on the encodings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import Tensor
from typing_extensions import Self

from latkit.core.events import SILENT, Listener
from latkit.lpm.intervals import EmpiricalLPM
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows


@dataclass(frozen=True)
class RidgeOptions:
    strength: float = 1e-3


class RidgeLPM(EmpiricalLPM):
    """A constant and a number for each operation on each edge, kept small."""

    name = "ridge"
    options_class = RidgeOptions

    def __init__(self, constant: float, entries: Tensor) -> None:
        self.hyper_parameters = {}
        self._constant, self._entries = constant, entries

    @classmethod
    def fit(cls, rows: Rows, recipe: Recipe, listener: Listener = SILENT) -> Self:
        fitted = Ridge(recipe.options.strength).fit(rows.encodings, rows.values)
        return cls(float(fitted.intercept_), torch.from_numpy(np.asarray(fitted.coef_)))

    def mean(self, encodings: Tensor) -> Tensor:
        return self._constant + encodings @ self._entries.to(encodings.dtype)

    def coefficients(self) -> tuple[Tensor, float]:
        return self._entries, self._constant

    def state(self) -> dict[str, Tensor]:
        constant = torch.tensor(self._constant, dtype=torch.float64)
        return {"constant": constant, "entries": self._entries, **self.intervals_state()}

    @classmethod
    def from_state(cls, hyper_parameters: Mapping[str, Any], state: Mapping[str, Tensor]) -> Self:
        lpm = cls(float(state["constant"]), state["entries"])
        lpm.restore_intervals(state)
        return lpm
