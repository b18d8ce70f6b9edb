"""Estimators of LAT(α), the expected cost of a sub-network (paper, Eq. 2), by name.

A new one is a subclass of :class:`Estimator`, registered by a line in ``ESTIMATORS`` or by an entry
point in the group ``latkit.estimators``.
"""

from latkit.search.estimators.base import (
    DEFAULT_ESTIMATOR,
    ESTIMATORS,
    Estimator,
    get_estimator,
)
from latkit.search.estimators.distribution import CostFunction, Distribution, strength_of

__all__ = [
    "DEFAULT_ESTIMATOR",
    "ESTIMATORS",
    "CostFunction",
    "Distribution",
    "Estimator",
    "get_estimator",
    "strength_of",
]
