"""Gradient-boosted trees of scikit-learn: a baseline to compare with, not to search with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latkit.core.errors import LPMError
from latkit.lpm.base import LPM, FloatArray
from latkit.lpm.seen_errors import SeenErrors
from latkit.lpm.threads import one_thread

_NOT_KEPT = (
    "gradient boosting has no gradient to search with, and no file format without pickle",
    "train it with --no-publish, to compare; publish --kind default",
)


class BoostingLPM(SeenErrors, LPM):
    """What was fitted, in memory only."""

    kind = "gradient-boosting"

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.hyper_parameters = {}
        self._model = model

    def mean(self, encodings: Tensor) -> Tensor:
        """Not differentiable."""
        predicted = self._model.predict(encodings.detach().numpy())
        return torch.from_numpy(predicted).to(encodings.dtype)

    def state(self) -> dict[str, Tensor]:
        raise LPMError(*_NOT_KEPT)

    @classmethod
    def from_state(
        cls, hyper_parameters: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> BoostingLPM:
        raise LPMError(*_NOT_KEPT)


def fit_boosting(encodings: FloatArray, values: FloatArray, seed: int) -> BoostingLPM:
    """Fit scikit-learn's histogram gradient boosting with its own settings."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    # Leaves of 20 rows, the default, could not split a small dataset at all.
    leaf = int(np.clip(len(values) // 10, 1, 20))
    model = HistGradientBoostingRegressor(min_samples_leaf=leaf, random_state=seed)
    with one_thread():  # from here on: scikit-learn has brought its own OpenMP
        model.fit(np.asarray(encodings, dtype=np.float32), values)
    return BoostingLPM(model)
