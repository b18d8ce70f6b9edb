"""Graphs put together of recorded parts: those of the networks' modules, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from latkit.networks import onnx_parts, pool, weights
from latkit.networks.onnx_model import ELEMENT_TYPES, OnnxGraph, build_onnx
from latkit.networks.onnx_parts import OnnxParts
from latkit.networks.operations import ReLUConvBN, SepConv
from latkit.networks.pool import uniform_pool
from latkit.networks.weights import RandomParts
from latkit.spaces import Setting, build, get_space, parse_setting
from latkit.spaces.build import build_network, random_network, random_onnx
from latkit.spaces.darts.network import Network
from latkit.spaces.darts.zoo import ZOO
from tests.support.commands import MICRO_TEXT

SETTINGS = (
    f"{MICRO_TEXT},memory_format=nchw",
    "imagenet,cells=3,channels=8,resolution=64,classes=10,precision=fp16,memory_format=nchw",
    "nasbench201,cells=3,channels=4,resolution=8,memory_format=nchw",
    "fbnet,resolution=32,classes=10,memory_format=nchw",
)


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("text", SETTINGS)
def test_they_are_those_of_the_modules(text: str, merged: bool) -> None:
    """And are made of parts, but for the first one, by which that is judged."""
    setting = parse_setting(text)
    space = get_space(setting.space)
    numbers = uniform_pool(1)
    for row in space.unrank(space.sample(8, 5)):
        architecture = space.architecture(row, setting.network)
        network = random_network(architecture, setting, 1)
        size = setting.batch, setting.resolution, setting.classes
        wanted = build_onnx(network, *size, precision=setting.precision, merged=merged)
        found = random_onnx(architecture, setting, 1, merged)
        assert found.content == wanted.content
        assert list(found.weights) == list(wanted.weights) == list(found.drawn)
        for name, weight in wanted.weights.items():
            assert found.weights[name].tobytes() == weight.tobytes()
            drawn = found.drawn[name].draw(numbers).astype(weight.dtype)
            assert drawn.tobytes() == weight.tobytes()
    assert build._OF_PARTS[setting]


def test_parts_have_no_modules_in_them() -> None:
    """That is what they are cheap by; a part that is one module is made itself."""
    parts = OnnxParts(0, "fp32")
    part = parts(SepConv, 8, 3, 1)
    assert isinstance(part, SepConv)
    assert not list(part.children())
    assert list(parts(nn.Conv2d, 3, 8, 1).parameters())


class Unusual(nn.Sequential):
    """A norm whose channels are scaled differently: no one number scales the weight."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))
        with torch.no_grad():
            self[1].weight.copy_(torch.arange(channels) + 1.0)


class Opaque(nn.Module):
    """Computes what has no ONNX form here."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Tanh()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.inv(self.inner(x))


def test_parts_that_cannot_be_recorded_are_made_themselves() -> None:
    parts = OnnxParts(0, "fp32")
    assert list(parts(Unusual, 4).children())
    assert list(parts(Opaque).children())


def test_the_same_numbers_where_the_pool_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places in it are given to parts of both kinds alike, also where they begin again."""
    small = torch.from_numpy(uniform_pool(0)[:700].copy())
    for module in (weights, pool):
        monkeypatch.setattr(module, "POOL_SIZE", len(small))
    plain, recorded = RandomParts(0, torch.contiguous_format), OnnxParts(0, "fp32")
    for parts in (plain, recorded):
        parts._pool = small
    onnx_parts._recorded.cache_clear()
    graphs = []
    for parts in (plain, recorded):
        graph, x = OnnxGraph(ELEMENT_TYPES["fp32"]), "images"
        for width in (8, 8, 16, 24, 8, 30):  # the last is larger than the pool
            x = graph.module(parts(ReLUConvBN, 8 if width < 30 else 30, width), x)
        graphs.append(graph)
    onnx_parts._recorded.cache_clear()
    assert graphs[0].nodes == graphs[1].nodes
    assert graphs[0].initializers == graphs[1].initializers
    for name, weight in graphs[0].weights.items():
        assert np.array_equal(graphs[1].weights[name], weight), name


class TestSpacesOfOthers:
    def test_parts_that_are_changed_after_they_were_made(
        self, micro: Setting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def changed(network: Network, *arguments: object, **named: object) -> None:
            made(network, *arguments, **named)
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.constant_(module.weight, 0.5)

        made = Network.__init__
        monkeypatch.setattr(Network, "__init__", changed)
        self.check(micro.replace(classes=8))

    def test_parts_that_are_looked_into(
        self, micro: Setting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def looked(network: Network, *arguments: object, **named: object) -> None:
            made(network, *arguments, **named)
            assert network.stem0[0].weight.dim() == 4

        made = Network.__init__
        monkeypatch.setattr(Network, "__init__", looked)
        self.check(micro.replace(classes=9))

    def check(self, setting: Setting) -> None:
        for name in ("darts_v2", "gdas"):
            network = build_network(
                ZOO[name], setting, make=RandomParts(0, torch.contiguous_format)
            ).eval()
            wanted = build_onnx(network, setting.batch, setting.resolution, setting.classes)
            found = random_onnx(ZOO[name], setting, 0)
            assert found.content == wanted.content
            for key, weight in wanted.weights.items():
                assert np.array_equal(found.weights[key], weight)
        assert not build._OF_PARTS[setting]
