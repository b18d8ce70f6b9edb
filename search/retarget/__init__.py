"""From a predicted accuracy and predicted costs to architectures for any device, untrained.

:func:`pareto_front` gives the best trade-offs, :func:`most_accurate` the one architecture under
hard limits or near a target. Both enumerate a small space and search a large one.
"""

from latkit.search.retarget.choice import Choice, most_accurate
from latkit.search.retarget.conditions import Condition, Known, Limit, Near
from latkit.search.retarget.front import Front, pareto_front

__all__ = [
    "Choice",
    "Condition",
    "Front",
    "Known",
    "Limit",
    "Near",
    "most_accurate",
    "pareto_front",
]
