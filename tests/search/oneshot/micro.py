"""One-shot searches so small that they take a second."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from latkit.search.data import load_data
from latkit.search.distributed import ALONE
from latkit.search.image_source import ImageData
from latkit.search.oneshot.config import OneShotConfig, preset
from latkit.search.oneshot.network import OneShotNetwork
from latkit.search.oneshot.result import OneShotResult
from latkit.search.oneshot.training import OneShotTraining
from latkit.search.request import SearchRequest
from latkit.search.run import search
from latkit.spaces import get_space

# By names of a request's changes, and of options.
VALUES = {"channels": 2, "epochs": 2, "batch": 16, "limit": 64, "subnets": 20, "eval_batch": 16}
CPU = torch.device("cpu")


def options(**changes: Any) -> list[str]:
    """The options of the command for the values."""
    given = {**VALUES, **changes}
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in given.items()]
    return [text for pair in pairs for text in pair]


def config_of(space: str = "nasbench201", **changes: Any) -> OneShotConfig:
    return dataclasses.replace(preset("cpu", space), **{**VALUES, **changes})


def digits() -> ImageData:
    return load_data("digits", VALUES["limit"], 0)


def training(folder: Path, config: OneShotConfig, space: str = "nasbench201") -> OneShotTraining:
    """In this process; the folder is made."""
    folder.mkdir(exist_ok=True)
    return OneShotTraining(config, get_space(space), digits(), folder, CPU, ALONE)


def network(space: str, **changes: Any) -> OneShotNetwork:
    return OneShotNetwork.build(config_of(space, **changes), get_space(space), digits(), CPU)


def whole(out: Path, space: str = "nasbench201", **changes: Any) -> OneShotResult:
    """A search from its request to its result."""
    request = SearchRequest(
        space=space, method="one-shot", preset="cpu", out=out, changes={**VALUES, **changes}
    )
    result = search(request)
    assert isinstance(result, OneShotResult)
    return result
