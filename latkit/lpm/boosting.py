"""Gradient-boosted trees of scikit-learn: a baseline to compare with, not to search with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from latkit.core.errors import LPMError
from latkit.core.events import SILENT, Listener
from latkit.lpm.intervals import EmpiricalLPM
from latkit.lpm.kinds import LPM_KINDS
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.threads import one_thread

_NOT_KEPT = (
    "gradient boosting has no file format without pickle",
    "publish an LPM of another kind, e.g. default",
)


@LPM_KINDS.register("gradient-boosting")
class BoostingLPM(EmpiricalLPM):
    """scikit-learn's histogram gradient boosting with its own settings, in memory only."""

    name = "gradient-boosting"
    supports_gradient = False
    can_be_published = False

    def __init__(self, model: Any) -> None:
        self.hyper_parameters = {}
        self._model = model

    @classmethod
    def fit(cls, rows: Rows, recipe: Recipe, listener: Listener = SILENT) -> Self:
        from sklearn.ensemble import HistGradientBoostingRegressor

        # Leaves of 20 rows, the default, could not split a small dataset at all.
        leaf = int(np.clip(len(rows) // 10, 1, 20))
        model = HistGradientBoostingRegressor(min_samples_leaf=leaf, random_state=recipe.seed)
        with one_thread():  # from here on: scikit-learn has brought its own OpenMP
            model.fit(np.asarray(rows.encodings, dtype=np.float32), rows.values)
        return cls(model)

    def mean(self, encodings: Tensor) -> Tensor:
        predicted = self._model.predict(encodings.detach().numpy())
        return torch.from_numpy(predicted).to(encodings.dtype)

    def state(self) -> dict[str, Tensor]:
        raise LPMError(*_NOT_KEPT)

    @classmethod
    def from_state(cls, hyper_parameters: Mapping[str, Any], state: Mapping[str, Tensor]) -> Self:
        raise LPMError(*_NOT_KEPT)
