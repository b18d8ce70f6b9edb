"""Two datasets beside each other, paired by architecture."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from latkit.core.device import differences
from latkit.core.errors import DatasetError
from latkit.dataset.latency import LatencyDataset
from latkit.dataset.statistics import median_absolute_deviation

# The median absolute deviation of a normal distribution, in standard deviations.
NORMAL_MAD = 0.6745


@dataclass(frozen=True)
class Agreement:
    """How the latencies of two datasets agree, paired by architecture.

    Attributes:
        architectures: how many are in both.
        spearman, kendall_tau: rank correlations; None where one dataset's are constant.
        ratio: the median of second over first.
        deviation_percent: the median absolute deviation of the ratios from it.
    """

    architectures: int
    spearman: float | None
    kendall_tau: float | None
    ratio: float
    deviation_percent: float


@dataclass(frozen=True)
class DatasetComparison:
    """Two datasets of one space beside each other.

    Attributes:
        architectures: of the lists, usable in both.
        judged_by: what ``agreement`` is of: the ``list``, or the ``panel`` where the lists have
            fewer than two architectures in common.
        agreement: of these.
        expected_deviation_percent: the deviation that the two retest errors alone would give; None:
            one is unknown.
        panel: the panels' agreement; None: they have fewer than two architectures in common.
        target_differences, protocol_differences, fingerprint_differences: first / second.
    """

    architectures: int
    judged_by: Literal["list", "panel"]
    agreement: Agreement
    expected_deviation_percent: float | None
    panel: Agreement | None
    target_differences: tuple[str, ...]
    protocol_differences: tuple[str, ...]
    fingerprint_differences: tuple[str, ...]

    @property
    def differences(self) -> dict[str, list[str]]:
        """What differs, by kind."""
        return {
            "target": list(self.target_differences),
            "protocol": list(self.protocol_differences),
            "fingerprint": list(self.fingerprint_differences),
        }

    def to_dict(self) -> dict[str, Any]:
        content = {"architectures": 0, "judged_by": self.judged_by}
        content |= dataclasses.asdict(self.agreement)
        return {
            **content,
            "architectures": self.architectures,
            "expected_deviation_percent": self.expected_deviation_percent,
            "panel": None if self.panel is None else dataclasses.asdict(self.panel),
            "differences": self.differences,
        }


def compare_datasets(first: LatencyDataset, second: LatencyDataset) -> DatasetComparison:
    """How two datasets of one space agree.

    Raises:
        DatasetError: other spaces, or nothing in common.
    """
    target, other_target = first.manifest.target, second.manifest.target
    if target.space != other_target.space:
        raise DatasetError(
            f"{first.path} is of the space {target.space}, {second.path} of {other_target.space}",
            "compare datasets of one space",
        )
    listed = _pair(_latencies(first.usable()), _latencies(second.usable()))
    panel = _pair(_panel(first), _panel(second))
    if len(listed) < 2 and len(panel) < 2:
        raise DatasetError(
            f"{first.path} and {second.path} have no usable architectures in common",
            "profile both with the same --seed",
        )
    by_list = len(listed) >= 2
    return DatasetComparison(
        architectures=len(listed),
        judged_by="list" if by_list else "panel",
        agreement=_agreement(listed if by_list else panel),
        expected_deviation_percent=_expected_deviation(first, second),
        panel=None if len(panel) < 2 else _agreement(panel),
        target_differences=tuple(differences(target.flat(), other_target.flat())),
        protocol_differences=tuple(differences(first.manifest.protocol, second.manifest.protocol)),
        fingerprint_differences=tuple(
            differences(first.manifest.fingerprint, second.manifest.fingerprint)
        ),
    )


def _latencies(table: pa.Table) -> dict[int, float]:
    return dict(zip(table["arch_id"].to_pylist(), table["latency_ms"].to_pylist(), strict=True))


def _panel(dataset: LatencyDataset) -> dict[int, float]:
    """Mean undisturbed latency of each architecture of the panel."""
    rows = dataset.table.filter(pa.array(dataset.in_panel & ~dataset.flagged))
    means = rows.group_by("arch_id", use_threads=False).aggregate([("latency_ms", "mean")])
    return _latencies(means.rename_columns(["arch_id", "latency_ms"]))


def _pair(first: dict[int, float], second: dict[int, float]) -> list[tuple[float, float]]:
    return [(latency, second[a]) for a, latency in first.items() if a in second]


def _agreement(pairs: list[tuple[float, float]]) -> Agreement:
    from scipy.stats import kendalltau, spearmanr

    values = np.asarray(pairs)
    logs = np.log(values[:, 1] / values[:, 0])
    constant = np.ptp(values, axis=0).min() == 0
    return Agreement(
        architectures=len(pairs),
        spearman=None if constant else float(spearmanr(*values.T).statistic),
        kendall_tau=None if constant else float(kendalltau(*values.T).statistic),
        ratio=float(np.exp(np.median(logs))),
        deviation_percent=100 * median_absolute_deviation(logs),
    )


def _expected_deviation(first: LatencyDataset, second: LatencyDataset) -> float | None:
    """Of one measurement of each; the mean of several would deviate less."""
    sd, other_sd = first.retest().sd, second.retest().sd
    if sd is None or other_sd is None:
        return None
    return 100 * NORMAL_MAD * math.hypot(sd, other_sd)
