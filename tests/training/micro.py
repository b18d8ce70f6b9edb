"""Trainings so small that they take a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latkit.training.request import TrainingRequest
from latkit.training.result import TrainingResult
from latkit.training.run import train

MICRO: dict[str, Any] = {
    "data": "digits", "preset": "cpu-small", "cells": 3, "channels": 2, "epochs": 2, "batch": 32,
    "limit": 96,
}  # fmt: skip


def options(**changes: Any) -> list[str]:
    """The options of the command for the request of :func:`micro`."""
    values = {**MICRO, **changes}
    return [text for name, value in values.items() for text in (_option(name), str(value))]


def micro(out: Path, architecture: str = "darts_v2", **changes: Any) -> TrainingResult:
    """Train in this process."""
    result = train(TrainingRequest(architecture, out=out, **{**MICRO, **changes}))
    assert result is not None
    return result


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
