"""What is remembered was made in whatever mode PyTorch was in; gradients are taken later."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from latkit.lpm.base import LPM
from latkit.networks.weights import _template, random_pool
from latkit.registry import Registry
from latkit.registry.entries import load_built_in
from latkit.search.estimators.distribution import tables
from latkit.search.objectives import PredictedObjective
from latkit.search.penalty import FixedWeight, Penalty
from latkit.search.supernet.products import _shares
from latkit.spaces import Setting
from latkit.spaces.build import random_network
from latkit.spaces.darts.zoo import ZOO
from tests.search.micro import DARTS as SPACE
from tests.search.supernets import build_supernet

IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def supernet_of(method: str) -> Callable[[], torch.Tensor]:
    supernet = build_supernet(method, SPACE, 4, 3, 10)
    return lambda: supernet(IMAGES).sum()


def estimate_of(lpm: LPM | None, edges: str) -> Callable[[], torch.Tensor]:
    alpha = torch.zeros(SPACE.num_edges, SPACE.num_operations, requires_grad=True)

    def estimate() -> torch.Tensor:
        known = lpm or Registry().load(Registry().resolve("p100", "darts"))[0]
        penalty = Penalty(
            SPACE, PredictedObjective(known), FixedWeight(0.1), edges=edges, noise=0.1
        )  # type: ignore[arg-type]
        return penalty.expected(alpha, None, torch.Generator().manual_seed(0))

    return estimate


def network_of(micro: Setting) -> Callable[[], torch.Tensor]:
    def compute() -> torch.Tensor:
        network = random_network(ZOO["darts_v2"], micro, 0).requires_grad_()
        logits = network(IMAGES)
        assert isinstance(logits, torch.Tensor)
        return logits.sum()

    return compute


@pytest.mark.parametrize(
    "name", ["darts", "pc-darts", "uniform", "strength", "built-in LPM", "random network"]
)
def test_gradients_after_inference(name: str, darts_lpm: LPM, micro: Setting) -> None:
    if name in ("darts", "pc-darts"):
        compute = supernet_of(name)
    elif name in ("uniform", "strength"):
        compute = estimate_of(darts_lpm, name)
    elif name == "built-in LPM":
        compute = estimate_of(None, "uniform")
    else:
        compute = network_of(micro)
    for cache in (_shares, tables, load_built_in, _template, random_pool):
        cache.cache_clear()  # type: ignore[attr-defined]
    with torch.inference_mode():
        compute()
    compute().backward()  # type: ignore[no-untyped-call]
