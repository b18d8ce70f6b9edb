"""What the fields of an LPM's card are: who writes to a registry can write anything into one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latkit.core.quantities import Quantity

_OBJECTS = ("fingerprint", "dataset", "metrics", "baselines", "training", "hyper_parameters")
_METRICS = ("mape_percent", "spearman")


def check_fields(content: Mapping[str, Any], quantity: Quantity) -> None:
    """Refuse fields of other types than their readers need; further ones may be anything.

    Args:
        content: the card.
        quantity: that the LPM predicts.

    Raises:
        KeyError: a field is missing.
        TypeError: a field is of another type.
    """
    for name in ("kind", "latkit_version", "created_at"):
        _check(content, name, str)
    for name in _OBJECTS:
        _check(content, name, Mapping)
    for name in content["baselines"]:
        _check(content["baselines"], name, Mapping)
    metrics, line = content["metrics"], content["baselines"]["macs_only"]
    for name in ("n_train", "n_test"):
        _check_number(metrics, name)
    for name in _METRICS:
        _check_number(metrics, name, optional=True)
        _check_number(line, name, optional=True)
    for scores in (metrics, *content["baselines"].values()):
        for name in {*scores} & {f"mae_{quantity.suffix}", "kendall_tau", "coverage_90"}:
            _check_number(scores, name, optional=True)
    dataset, training = content["dataset"], content["training"]
    _check(dataset, "digest", str)
    _check_number(dataset, "retest_sd_percent", optional=True)
    _check_number(dataset, "anchor_median_ms", optional=True)
    _check(dataset, "protocol", Mapping)
    ends = dataset[quantity.range_key]
    if not isinstance(ends, list) or len(ends) != 2:
        raise TypeError(f"{quantity.range_key} is no pair")
    for end in ends:
        _check_number({quantity.range_key: end}, quantity.range_key)
    _check(training, "kind", str)
    if "warning" in training:
        _check(training, "warning", str)
    if "seed" in training:
        _check_number(training, "seed")


def _check(values: Mapping[str, Any], name: str, kind: type[Any]) -> None:
    if not isinstance(values[name], kind):
        raise TypeError(f"{name} is no {'text' if kind is str else 'object'}")


def _check_number(values: Mapping[str, Any], name: str, optional: bool = False) -> None:
    value = values[name]
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
        raise TypeError(f"{name} is no number")
