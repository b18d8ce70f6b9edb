"""For predictors that do not know their error: errors seen on networks they were not fitted to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from latkit.core.errors import LPMError
from latkit.lpm.base import LEVELS, FloatArray


class SeenErrors:
    """Half-widths of intervals that are the same for every architecture."""

    def __init__(self) -> None:
        self._half_widths = torch.full((len(LEVELS),), torch.nan, dtype=torch.float64)

    def see_errors(self, errors: FloatArray) -> None:
        """Take the intervals' widths from errors on held-out architectures."""
        self._half_widths = torch.from_numpy(np.quantile(np.abs(errors), LEVELS))

    def half_width(self, encodings: Tensor, level: float) -> Tensor:
        """See :meth:`latkit.lpm.base.LPM.half_width`.

        Raises:
            LPMError: no errors were seen yet.
        """
        if self._half_widths.isnan().any():
            raise LPMError(
                "this LPM was judged on no architectures, so that its intervals are not known",
                "train it with latkit.lpm.training.fit, or judge it there",
            )
        return torch.full_like(encodings[:, 0], float(self._half_widths[LEVELS.index(level)]))

    def errors_state(self) -> dict[str, Tensor]:
        # The name in files is older than costs other than latency.
        return {"half_widths_ms": self._half_widths}

    def set_errors_state(self, state: Mapping[str, Tensor]) -> None:
        """Raises KeyError where the state has none."""
        self._half_widths = state["half_widths_ms"].double()
