"""How good predictions are, in the field's measures."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from latkit.core.quantities import LATENCY, get_quantity
from latkit.lpm.base import FloatArray


@dataclass(frozen=True)
class Metrics:
    """Errors and rank correlations of predictions on held-out data.

    Attributes:
        quantity: its name; ``mae`` and ``rmse`` are in its unit.
        mae, mape_percent: mean absolute and relative error (the paper's Table 1); relative errors
            are of measured values other than 0, which an accuracy may be.
        rmse: root of the mean squared error.
        within_5_percent, within_10_percent: shares of predictions, in percent.
        spearman, kendall_tau: rank correlations; None for constant predictions.
        n_test: how many predictions.
        coverage_50, coverage_90: shares of measurements, in percent, that lie within their 50 % and
            90 % intervals; None where the intervals were not judged.
    """

    quantity: str
    mae: float
    rmse: float
    mape_percent: float
    within_5_percent: float
    within_10_percent: float
    spearman: float | None
    kendall_tau: float | None
    n_test: int
    coverage_50: float | None = None
    coverage_90: float | None = None

    def to_dict(self) -> dict[str, float | int | None]:
        """The metrics as on a card: ``mae`` and ``rmse`` end in the unit, as in ``mae_ms``."""
        suffix = get_quantity(self.quantity).suffix
        content: dict[str, float | int | None] = {
            f"mae_{suffix}": self.mae,
            f"rmse_{suffix}": self.rmse,
            "mape_percent": self.mape_percent,
            "within_5_percent": self.within_5_percent,
            "within_10_percent": self.within_10_percent,
            "spearman": self.spearman,
            "kendall_tau": self.kendall_tau,
            "n_test": self.n_test,
        }
        if self.coverage_50 is not None:
            content["coverage_50"] = self.coverage_50
        if self.coverage_90 is not None:
            content["coverage_90"] = self.coverage_90
        return content


def prediction_metrics(
    predicted: FloatArray, measured: FloatArray, quantity: str = LATENCY
) -> Metrics:
    """Metrics of predictions, without those of their intervals.

    Args:
        predicted: ``n`` numbers.
        measured: as many.
        quantity: a name in ``latkit.core.quantities``.

    Raises:
        InputError: there is no such quantity.
    """
    from scipy import stats  # takes as long to import as a search's other parts together

    error = predicted - measured
    positive = measured > 0
    relative = np.abs(error)[positive] / measured[positive] if positive.any() else np.zeros(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant or too few values: the result is None
        spearman = float(stats.spearmanr(predicted, measured).statistic)
        kendall = float(stats.kendalltau(predicted, measured).statistic)
    return Metrics(
        quantity=get_quantity(quantity).name,
        mae=float(np.abs(error).mean()),
        rmse=float(np.sqrt((error**2).mean())),
        mape_percent=float(100 * relative.mean()),
        within_5_percent=float(100 * (relative <= 0.05).mean()),
        within_10_percent=float(100 * (relative <= 0.10).mean()),
        spearman=spearman if np.isfinite(spearman) else None,
        kendall_tau=kendall if np.isfinite(kendall) else None,
        n_test=len(measured),
    )


def coverage(errors: FloatArray, half_widths: FloatArray) -> float:
    """The share of errors, in percent, that lie within their intervals."""
    return float(100 * (np.abs(errors) <= half_widths).mean())
