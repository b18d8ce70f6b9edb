"""Empirical intervals, for kinds that do not model their own error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from latkit.core.errors import LPMError
from latkit.lpm.base import LEVELS, LPM, FloatArray


class EmpiricalLPM(LPM):
    """An LPM whose intervals are quantiles of its errors, the same for every architecture.

    A subclass adds :meth:`intervals_state` to its state and passes the state it is restored from
    to :meth:`restore_intervals`.
    """

    needs_calibration: ClassVar[bool] = True

    _half_widths = torch.full((len(LEVELS),), torch.nan, dtype=torch.float64)

    def calibrate(self, errors: FloatArray) -> None:
        self._half_widths = torch.from_numpy(np.quantile(np.abs(errors), LEVELS))

    def half_width(self, encodings: Tensor, level: float) -> Tensor:
        """See :meth:`latkit.lpm.base.LPM.half_width`.

        Raises:
            LPMError: the LPM is not calibrated.
        """
        if self._half_widths.isnan().any():
            raise LPMError(
                "this LPM is not calibrated: its intervals are not known",
                "fit it by latkit.lpm.training.fit, or give its errors to calibrate()",
            )
        return torch.full_like(encodings[:, 0], float(self._half_widths[LEVELS.index(level)]))

    def intervals_state(self) -> dict[str, Tensor]:
        """The half-widths of the ``LEVELS``' intervals, as a part of the state."""
        # The name in files is older than quantities other than latency.
        return {"half_widths_ms": self._half_widths}

    def restore_intervals(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of :meth:`intervals_state`.

        Raises:
            KeyError: the state has none.
        """
        self._half_widths = state["half_widths_ms"].double()
