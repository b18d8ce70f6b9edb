"""What the default kind assumes of a quantity before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from latkit.core.quantities import get_quantity
from latkit.lpm.bayes import USUAL_NOISE, GroupPrior
from latkit.lpm.features import StructuralFeatures
from latkit.lpm.transfer import TransferPrior

# With a transfer prior, the source devices' mixture takes the part of the constant and the analytic
# columns.
SOURCES_SCALE = 0.3


@dataclass(frozen=True)
class QuantityPrior:
    """What is assumed of values that are scaled to be about one (costs), or of normal scores.

    Attributes:
        constant: mean and usual standard deviation of the constant.
        groups: the same of a column's weight, by group of features.
        path: the same of the longest path's weight.
        noise: usual standard deviation of an observation.
        proportional: whether that is relative to the value, rather than the same for all values.
        view_odds: how likely it is, of each view of the features, that its operations count.
    """

    constant: tuple[float, float]
    groups: Mapping[str, tuple[float, float]]
    path: tuple[float, float]
    noise: float
    proportional: bool
    view_odds: Mapping[str, float]

    def columns(
        self, features: StructuralFeatures, transfer: TransferPrior | None
    ) -> dict[str, GroupPrior]:
        """The prior of all columns: constant, features, longest path and source devices."""
        end = features.size + 2
        priors = {"constant": GroupPrior(slice(0, 1), *self.constant)}
        priors |= {
            group: GroupPrior(slice(where.start + 1, where.stop + 1), *self.groups[group])
            for group, where in features.groups.items()
        }
        priors["path"] = GroupPrior(slice(end - 1, end), *self.path)
        if transfer is not None:
            count = len(transfer.lpms)
            for group in ("constant", "roofline"):
                priors[group] = replace(priors[group], mean=0.0)
            scale = SOURCES_SCALE / count**0.5
            priors["sources"] = GroupPrior(slice(end, end + count), 1 / count, scale)
        return priors


# Of costs scaled to a median of one. The analytic columns have mean one, so that about a third is
# the frame's and the rest is shared by kernels, convolutions, MACs and bytes; everything else is
# how an engine departs from that. Most engines execute every operation.
COST = QuantityPrior(
    constant=(0.3, 0.05),
    groups={
        "roofline": (0.15, 0.3),
        "operation roofline": (0.0, 0.1),
        "count": (0.0, 0.022),
        "edge": (0.0, 0.003),
        "polynomial": (0.0, 0.006),
        "fan-out": (0.0, 0.001),
        "same source": (0.0, 0.001),
        "same target": (0.0, 0.001),
        "chain": (0.0, 0.001),
    },
    path=(0.0, 0.02),
    noise=USUAL_NOISE,
    proportional=True,
    view_odds={"all": 0.7, "reaching": 0.15, "live": 0.15},
)
# Of accuracies' normal scores: nothing is known of what makes them, only that no part is larger
# than the whole. Dead operations probably do not count.
ACCURACY = QuantityPrior(
    constant=(0.0, 0.5),
    groups=dict.fromkeys(COST.groups, (0.0, 0.5)),
    path=(0.0, 0.5),
    noise=0.3,
    proportional=False,
    view_odds={"all": 0.2, "reaching": 0.2, "live": 0.6},
)


def prior_for(quantity: str) -> QuantityPrior:
    """The prior for a quantity.

    Raises:
        InputError: there is no such quantity.
    """
    return COST if get_quantity(quantity).is_cost else ACCURACY
