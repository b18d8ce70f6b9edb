"""How good predictions are, in the field's measures."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import stats

from latkit.lpm.base import FloatArray

Metrics = dict[str, float | int | None]


def prediction_metrics(predicted_ms: FloatArray, measured_ms: FloatArray) -> Metrics:
    """Errors and rank correlations of predictions on held-out data.

    Returns:
        ``mae_ms`` and ``mape_percent`` (the paper's absolute and relative error, Table 1),
        ``rmse_ms``, ``within_5_percent`` and ``within_10_percent`` (shares of predictions, in
        percent), ``spearman``, ``kendall_tau`` (None for constant predictions) and ``n_test``.
    """
    error = predicted_ms - measured_ms
    relative = np.abs(error) / measured_ms
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant or too few values: the result is None
        spearman = float(stats.spearmanr(predicted_ms, measured_ms).statistic)
        kendall = float(stats.kendalltau(predicted_ms, measured_ms).statistic)
    return {
        "mae_ms": float(np.abs(error).mean()),
        "rmse_ms": float(np.sqrt((error**2).mean())),
        "mape_percent": float(100 * relative.mean()),
        "within_5_percent": float(100 * (relative <= 0.05).mean()),
        "within_10_percent": float(100 * (relative <= 0.10).mean()),
        "spearman": spearman if np.isfinite(spearman) else None,
        "kendall_tau": kendall if np.isfinite(kendall) else None,
        "n_test": len(measured_ms),
    }


def coverage(errors_ms: FloatArray, half_widths_ms: FloatArray) -> float:
    """The share of errors, in percent, that lie within their intervals."""
    return float(100 * (np.abs(errors_ms) <= half_widths_ms).mean())
