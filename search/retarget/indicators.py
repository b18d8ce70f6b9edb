"""Pareto sets and how good they are, by moocore; all coordinates are minimised."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latkit.lpm.base import FloatArray

# moocore is imported where it is called: importing latkit.search should not load it.


def nondominated(points: FloatArray) -> npt.NDArray[np.bool_]:
    """Which of ``n x d`` points no other one dominates; of equal points the first alone."""
    import moocore

    return np.asarray(moocore.is_nondominated(points), dtype=bool)


def hypervolume(points: FloatArray, reference: FloatArray) -> float:
    """The volume between ``n x d`` points and a reference that is worse in all coordinates."""
    import moocore

    return float(moocore.hypervolume(points, ref=reference))


def igd_plus(points: FloatArray, truth: FloatArray) -> float:
    """How far the points are from reaching each point of the true front, in the mean.

    The modified distance of Ishibuchi et al. (2015), which counts only coordinates that are worse.
    """
    import moocore

    return float(moocore.igd_plus(points, ref=truth))


def gd_plus(points: FloatArray, truth: FloatArray) -> float:
    """How far each of the points is behind the true front, in the mean; distances as above."""
    import moocore

    # The roles exchanged, and with them which of the two should be the larger.
    return float(moocore.igd_plus(truth, ref=points, maximise=True))
