"""Metrics against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from latkit.lpm.metrics import coverage, prediction_metrics


def test_by_hand() -> None:
    measured = np.array([10.0, 20.0, 40.0, 50.0])
    predicted = np.array([10.4, 18.0, 44.0, 43.0])  # 4 %, 10 %, 10 %, 14 % off
    metrics = prediction_metrics(predicted, measured)
    assert metrics.mae == pytest.approx((0.4 + 2 + 4 + 7) / 4)
    assert metrics.rmse == pytest.approx(((0.16 + 4 + 16 + 49) / 4) ** 0.5)
    assert metrics.mape_percent == pytest.approx((4 + 10 + 10 + 14) / 4)
    assert metrics.within_5_percent == 25
    assert metrics.within_10_percent == 75
    # Ranks 1 2 4 3 against 1 2 3 4: rho = 1 - 6*2/(4*15), one of six pairs is discordant.
    assert metrics.spearman == pytest.approx(0.8)
    assert metrics.kendall_tau == pytest.approx(4 / 6)
    assert metrics.n_test == 4


def test_constant_predictions_have_no_rank_correlation() -> None:
    metrics = prediction_metrics(np.full(5, 3.0), np.arange(1.0, 6.0))
    assert metrics.spearman is None
    assert metrics.kendall_tau is None


def test_coverage_is_the_share_within() -> None:
    assert coverage(np.array([-1.0, 0.5, 2.0, -3.0]), np.array([1.0, 1.0, 1.0, 1.0])) == 50.0
