"""What ranks sub-networks, and what their accuracy LPM is fitted to."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from latkit.search.oneshot.ranking import in_order, mean_score, signs_of
from latkit.spaces import get_space
from latkit.spaces.nasbench201.config import NasBench201Config


def test_scores_by_hand() -> None:
    """By order alone; equal values have the mean rank."""
    scores = special.ndtri(np.array([1, 3, 5]) / 6)
    assert mean_score([np.array([-5.0, 0.1, 99.0])]) == pytest.approx(scores)
    tied = special.ndtri(np.array([2, 2, 5]) / 6)
    both = mean_score([np.array([1.0, 2, 3]), np.array([7.0, 7, 8])])
    assert both == pytest.approx((scores + tied) / 2)
    # What one has above the other has the other above it.
    assert mean_score([np.arange(4.0), -np.arange(4.0)]) == pytest.approx(np.zeros(4))


def test_values_are_dealt_out_by_the_order() -> None:
    dealt = in_order(np.array([10.0, 40, 20, 30]), np.array([0.5, -1, 9, 3]))
    assert dealt.tolist() == [20, 10, 40, 30]
    assert in_order(np.array([10.0, 20]), np.array([1.0, 1])).tolist() == [15, 15]


def test_more_is_better_in_all_signs() -> None:
    space = get_space("nasbench201")
    matrix = space.unrank([0, space.size - 1])
    evaluated = [
        {"arch_id": 0, "arch": "a", "accuracy_percent": 10.0, "loss": 2.0},
        {"arch_id": 1, "arch": "b", "accuracy_percent": 30.0, "loss": 1.0},
    ]
    initial = [{"arch_id": 0, "arch": "a", "naswot": 5.0}, {"arch_id": 1, "arch": "b", "naswot": 6}]
    network = NasBench201Config(cells=3, channels=4, resolution=8)
    signs = signs_of("nasbench201", network, matrix, evaluated, initial)
    assert set(signs) == {"accuracy_percent", "loss", "naswot", "macs"}
    assert signs["loss"].tolist() == [-2, -1]
    assert signs["accuracy_percent"].tolist() == [10, 30]
    assert signs["naswot"].tolist() == [5, 6]
    assert (signs["macs"] > 0).all()
