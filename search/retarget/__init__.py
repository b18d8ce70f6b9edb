"""From a predicted accuracy and predicted costs to architectures for any device, untrained.

:func:`pareto_front` gives the best trade-offs, :func:`most_accurate` the one architecture under
hard limits or near a target. Both enumerate a small space and search a large one.
"""

from latkit.search.retarget.choice import Choice, most_accurate
from latkit.search.retarget.conditions import Condition, Limit, Target
from latkit.search.retarget.front import Front, pareto_front

__all__ = [
    "Choice",
    "Condition",
    "Front",
    "Limit",
    "Target",
    "most_accurate",
    "pareto_front",
]
