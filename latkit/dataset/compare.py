"""Two datasets beside each other, paired by architecture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa

from latkit.core.device import differences
from latkit.core.errors import DatasetError
from latkit.dataset.latency import LatencyDataset
from latkit.dataset.statistics import median_absolute_deviation

# The median absolute deviation of a normal distribution, in standard deviations.
NORMAL_MAD = 0.6745


def compare_datasets(first: LatencyDataset, second: LatencyDataset) -> dict[str, Any]:
    """How two datasets of one space agree.

    Returns:
        ``architectures`` in both; ``spearman`` and ``kendall_tau`` of their latencies;
        ``ratio``, the median of second over first; ``deviation_percent``, the median absolute
        deviation of the ratios from it; ``expected_deviation_percent``, what the two retest
        errors alone would give (None if one is unknown); the same ratio for the ``panel`` (None
        if one has none); and what differs in ``target``, ``protocol`` and ``fingerprint``.

    Raises:
        DatasetError: other spaces, or nothing in common.
    """
    ours, theirs = first.manifest, second.manifest
    if ours.target.space != theirs.target.space:
        raise DatasetError(
            f"{first.path} is of the space {ours.target.space}, {second.path} of "
            f"{theirs.target.space}",
            "compare datasets of one space",
        )
    listed = _pair(_latencies(first.usable()), _latencies(second.usable()))
    panel = _pair(_panel(first), _panel(second))
    if len(listed) < 2 and len(panel) < 2:
        raise DatasetError(
            f"{first.path} and {second.path} have no usable architectures in common",
            "profile both with the same --seed",
        )
    main = listed if len(listed) >= 2 else panel
    return {
        "architectures": len(listed),
        "judged_by": "list" if main is listed else "panel",
        **_agreement(main),
        "expected_deviation_percent": _expected_deviation(first, second),
        "panel": None if len(panel) < 2 else {"architectures": len(panel), **_agreement(panel)},
        "differences": {
            "target": differences(ours.target.flat(), theirs.target.flat()),
            "protocol": differences(ours.protocol, theirs.protocol),
            "fingerprint": differences(ours.fingerprint, theirs.fingerprint),
        },
    }


def _latencies(table: pa.Table) -> dict[int, float]:
    return dict(zip(table["arch_id"].to_pylist(), table["latency_ms"].to_pylist(), strict=True))


def _panel(dataset: LatencyDataset) -> dict[int, float]:
    """Mean undisturbed latency of each architecture of the panel."""
    rows = dataset.table.filter(pa.array(dataset.in_panel & ~dataset.flagged))
    means = rows.group_by("arch_id", use_threads=False).aggregate([("latency_ms", "mean")])
    return _latencies(means.rename_columns(["arch_id", "latency_ms"]))


def _pair(first: dict[int, float], second: dict[int, float]) -> list[tuple[float, float]]:
    return [(latency, second[a]) for a, latency in first.items() if a in second]


def _agreement(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    from scipy.stats import kendalltau, spearmanr

    values = np.asarray(pairs)
    logs = np.log(values[:, 1] / values[:, 0])
    constant = np.ptp(values, axis=0).min() == 0
    return {
        "spearman": None if constant else float(spearmanr(*values.T).statistic),
        "kendall_tau": None if constant else float(kendalltau(*values.T).statistic),
        "ratio": float(np.exp(np.median(logs))),
        "deviation_percent": 100 * median_absolute_deviation(logs),
    }


def _expected_deviation(first: LatencyDataset, second: LatencyDataset) -> float | None:
    """Of one visit of each; more visits would deviate less."""
    ours, theirs = first.retest().sd, second.retest().sd
    if ours is None or theirs is None:
        return None
    return 100 * NORMAL_MAD * math.hypot(ours, theirs)
