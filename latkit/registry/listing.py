"""What is in a registry, and LPMs beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latkit.core.errors import LatkitError
from latkit.core.events import SILENT, Listener
from latkit.core.requests import several
from latkit.lpm.store import LPMCard
from latkit.registry.entries import Entry, with_built_in
from latkit.registry.loading import load_lpm
from latkit.registry.registry import Registry
from latkit.spaces import get_space

# Random architectures that LPMs are compared by.
COMPARED = 1000


@dataclass(frozen=True)
class ListedLPM:
    """A version in a registry, or the one that comes with latkit."""

    entry: Entry
    card: LPMCard

    def to_dict(self) -> dict[str, Any]:
        return {
            "reference": self.entry.reference,
            "space": self.entry.space,
            "cost": self.entry.cost,
            "metrics": self.card.metrics,
        }


@dataclass(frozen=True)
class ComparedLPM:
    """An LPM beside others of its space.

    Attributes:
        reference: of the version.
        card: what is known about it.
        median_predicted: over the compared architectures, in the unit of its quantity.
        spearman_with_first: rank correlation of its predictions with those of the first LPM; None:
            an LPM predicts the same of all.
    """

    reference: str
    card: LPMCard
    median_predicted: float
    spearman_with_first: float | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "reference": self.reference,
            "kind": self.card.kind,
            "cost": self.card.cost,
            "metrics": self.card.metrics,
            f"median_predicted_{self.card.quantity.suffix}": self.median_predicted,
            "spearman_with_first": self.spearman_with_first,
        }


def list_lpms(
    registry: Registry | None = None, listener: Listener = SILENT
) -> tuple[ListedLPM, ...]:
    """Every published LPM, then those that come with latkit.

    Args:
        registry: what is listed; None for the default one.
        listener: receives a warning for each version that cannot be read; it is left out.

    Raises:
        LatkitError: the registry cannot be read.
    """
    listed = []
    registry = registry or Registry()
    for entry in with_built_in(registry.entries()):
        try:
            listed.append(ListedLPM(entry, registry.card(entry)))
        except LatkitError as error:
            listener.warn(str(error))
    return tuple(listed)


def compare_lpms(
    references: str | Sequence[str],
    space: str = "darts",
    registry: Registry | None = None,
    listener: Listener = SILENT,
) -> tuple[ComparedLPM, ...]:
    """LPMs of a space beside each other, by their predictions for random architectures.

    Args:
        references: of the LPMs.
        space: of all of them.
        registry: where they are; None for the default one.
        listener: receives the LPMs' warnings.

    Raises:
        InputError: there is no such space or LPM.
        LPMError: an LPM cannot be read.
    """
    from scipy import stats  # takes long to import

    searched = get_space(space)
    ids = searched.sample(min(COMPARED, searched.size), 0)
    encodings = searched.encode(searched.unrank(ids))
    compared: list[ComparedLPM] = []
    first = None
    for reference in several(references):
        lpm = load_lpm(reference, space, registry)
        for warning in lpm.warnings:
            listener.warn(warning)
        predicted = lpm.predict_encodings(encodings)
        first = predicted if first is None else first
        constant = np.ptp(first) == 0 or np.ptp(predicted) == 0
        spearman = None if constant else float(stats.spearmanr(first, predicted).statistic)
        compared.append(ComparedLPM(lpm.reference, lpm.card, float(np.median(predicted)), spearman))
    return tuple(compared)
