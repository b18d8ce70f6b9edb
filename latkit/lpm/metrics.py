"""How good predictions are, in the field's measures."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import stats

from latkit.core.quantities import COSTS, LATENCY
from latkit.lpm.base import FloatArray

Metrics = dict[str, float | int | None]


def prediction_metrics(predicted: FloatArray, measured: FloatArray, cost: str = LATENCY) -> Metrics:
    """Errors and rank correlations of predictions on held-out data.

    Args:
        predicted: ``n`` numbers.
        measured: as many.
        cost: what was predicted, a name in ``latkit.core.quantities``; it decides the endings of
            the names of ``mae_ms`` and ``rmse_ms``: ``mae_mj`` of an energy in mJ.

    Returns:
        ``mae_ms`` and ``mape_percent`` (the paper's absolute and relative error, Table 1),
        ``rmse_ms``, ``within_5_percent`` and ``within_10_percent`` (shares of predictions, in
        percent), ``spearman``, ``kendall_tau`` (None for constant predictions) and ``n_test``.
    """
    error = predicted - measured
    relative = np.abs(error) / measured
    unit = COSTS[cost].suffix
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant or too few values: the result is None
        spearman = float(stats.spearmanr(predicted, measured).statistic)
        kendall = float(stats.kendalltau(predicted, measured).statistic)
    return {
        f"mae_{unit}": float(np.abs(error).mean()),
        f"rmse_{unit}": float(np.sqrt((error**2).mean())),
        "mape_percent": float(100 * relative.mean()),
        "within_5_percent": float(100 * (relative <= 0.05).mean()),
        "within_10_percent": float(100 * (relative <= 0.10).mean()),
        "spearman": spearman if np.isfinite(spearman) else None,
        "kendall_tau": kendall if np.isfinite(kendall) else None,
        "n_test": len(measured),
    }


def coverage(errors: FloatArray, half_widths: FloatArray) -> float:
    """The share of errors, in percent, that lie within their intervals."""
    return float(100 * (np.abs(errors) <= half_widths).mean())
