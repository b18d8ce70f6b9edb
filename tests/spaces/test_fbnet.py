"""Networks of FBNet against print, torch's counter, a plain rewriting, and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from latkit.core.errors import InputError, SpaceError
from latkit.networks.onnx_model import build_onnx
from latkit.spaces import RunConfig, Setting, get_preset, get_space, parse_setting
from latkit.spaces.architecture import architecture_cost, get_architecture
from latkit.spaces.build import build_network, random_input, random_network
from latkit.spaces.fbnet.config import FbnetConfig, LayerPlace
from latkit.spaces.fbnet.layers import BLOCKS, OPERATIONS, FbnetLayers
from latkit.spaces.fbnet.network import FbnetNetwork, build_layer, head, stem
from latkit.spaces.fbnet.zoo import ZOO
from tests.networks.test_onnx_model import logits, relative_error

SPACE = get_space("fbnet")
FULL, CPU = get_preset("fbnet"), get_preset("fbnet-cpu")
SMALL = Setting(
    FbnetConfig(macro="fbnet-cifar", channels=4, resolution=16, classes=10), RunConfig(batch=2)
)


def random_layers(n: int) -> list[FbnetLayers]:
    rows = SPACE.unrank(SPACE.sample(n, 5))
    return [FbnetLayers(SPACE.operations_of(row)) for row in rows]


def counted(architecture: FbnetLayers, setting: Setting) -> tuple[int, int, nn.Module]:
    """MACs and parameters by torch, of which nothing is computed, and what was counted."""
    with torch.device("meta"):
        network = build_network(architecture, setting).eval()
        image = torch.empty(1, 3, setting.resolution, setting.resolution)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    params = sum(p.numel() for p in network.parameters())
    return counter.get_total_flops() // 2, params, network


class TestNumbersInPrint:
    """The networks that others publish differ from ours in four known ways, each counted here."""

    @pytest.mark.parametrize(
        ("name", "macs", "params"),
        [
            ("fbnet_a", 258_680_888, 4_971_384),
            ("fbnet_b", 306_210_888, 4_863_288),
            # PyTorch Image Models have 5.57 M of it: the very network of ours.
            ("fbnet_c", 384_960_160, 5_572_200),
        ],
    )
    def test_ours(self, name: str, macs: int, params: int) -> None:
        assert counted(ZOO[name], FULL)[:2] == (macs, params)

    @pytest.mark.parametrize(
        ("name", "macs", "params", "head_channels"),
        [
            ("fbnet_a", "244.52636", "4.27029", 1504),
            ("fbnet_b", "291.10164", "4.76667", 1984),
            ("fbnet_c", "378.23344", "5.52542", 1984),
        ],
    )
    def test_the_authors(self, name: str, macs: str, params: str, head_channels: int) -> None:
        """All digits of the authors' published models (Mobile Vision's list of models).

        There, a block of expansion 1 has no first convolution; the head of FBNet-A is narrower; of
        the parameters those of norms and biases are not counted; pooling is counted.
        """
        found_macs, found_params, network = counted(ZOO[name], FULL)
        config = FULL.network
        for operation, place in zip(ZOO[name].operations, config.walk(), strict=True):
            if operation in BLOCKS and BLOCKS[operation].expansion == 1:
                weights = place.c_in**2 // BLOCKS[operation].groups
                found_macs -= weights * place.side**2
                found_params -= weights
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                found_params -= 2 * part.num_features
        found_params -= config.classes
        narrower = config.head_channels - head_channels
        found_macs -= narrower * (352 * 7**2 + config.classes)
        found_params -= narrower * (352 + config.classes)
        found_macs += head_channels * 7**2
        assert (f"{found_macs / 1e6:.5f}", f"{found_params / 1e6:.5f}") == (macs, params)

    def test_fbnet_a_has_every_operation(self) -> None:
        """That is why the anchor network is made of it."""
        assert set(SPACE.find("fbnet_a").operations) == set(OPERATIONS)  # type: ignore[union-attr]
        assert SPACE.reference == "fbnet_a"


def test_costs_agree_with_torch_on_random_layers_and_settings() -> None:
    used = set()
    for index, architecture in enumerate(random_layers(6)):
        used |= set(architecture.operations)
        macro, step = [("fbnet", 32), ("fbnet-cifar", 8)][index % 2]
        setting = SMALL.replace(
            macro=macro, channels=4 * (1 + index), resolution=step * (1 + index), classes=3 + index
        )
        cost = architecture_cost(architecture, setting)
        assert (cost.macs, cost.params) == counted(architecture, setting)[:2]
    assert used == set(OPERATIONS)


def plain_forward(network: FbnetNetwork, architecture: FbnetLayers, x: Tensor) -> Tensor:
    """The network once more, from its weights and the paper's description alone."""
    weights = iter(list(network.state_dict().values()))

    def conv(x: Tensor, stride: int = 1, relu: bool = True) -> Tensor:
        weight, gamma, beta, mean, var, _ = (next(weights) for _ in range(6))
        groups = x.shape[1] // weight.shape[1]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
        x = F.batch_norm(x, mean, var, gamma, beta)
        return x.relu() if relu else x

    x = conv(x)  # the stem of fbnet-cifar keeps the resolution
    # Of the first of each stage's layers: 1 and 4 of stages 24, 32, 64, 112, 184, and 1.
    reduced, wider = {5, 9, 17}, {1, 5, 9, 13, 17, 21}
    for index, name in enumerate(architecture.operations):
        stride = 2 if index in reduced else 1
        if name == "skip":
            x = conv(x, stride) if index in wider else x
            continue
        y = conv(x)
        if name.endswith("g2"):
            even, odd = y.chunk(2, dim=1)
            y = torch.stack([even, odd], dim=2).reshape(y.shape)
        y = conv(conv(y, stride), relu=False)
        x = y if index in wider else x + y
    x = conv(x).mean(dim=(2, 3))
    return F.linear(x, next(weights), next(weights))


def trained(architecture: FbnetLayers, setting: Setting) -> nn.Module:
    """A network whose batch norms have statistics and parameters of their own."""
    torch.manual_seed(0)
    network = build_network(architecture, setting)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for _ in range(3):
        out: Any = network(torch.randn(8, 3, setting.resolution, setting.resolution) * 2 + 1)
        optimizer.zero_grad()
        F.cross_entropy(out, torch.randint(setting.classes, (8,))).backward()
        optimizer.step()
    return network.eval()


def test_forward_is_the_papers() -> None:
    images = random_input(SMALL, 1)
    for architecture in (ZOO["fbnet_a"], *random_layers(3)):
        network = trained(architecture, SMALL)
        assert isinstance(network, FbnetNetwork)
        with torch.inference_mode():
            wanted = plain_forward(network, architecture, images)
            torch.testing.assert_close(network(images), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dynamic", [False, True])
def test_onnx_models_compute_the_same(dynamic: bool) -> None:
    macros = {"fbnet": 32, "fbnet-cifar": 16}
    for seed, architecture in enumerate((*ZOO.values(), *random_layers(3))):
        macro = [*macros][seed % 2]
        setting = SMALL.replace(macro=macro, resolution=macros[macro])
        network = (
            random_network(architecture, setting, seed) if seed else trained(architecture, setting)
        )
        model = build_onnx(network, setting.batch, setting.resolution, setting.classes, dynamic)
        onnx.checker.check_model(model.embedded(), full_check=True)
        images = random_input(setting.replace(batch=5) if dynamic else setting, 1)
        with torch.inference_mode():
            wanted = network(images).numpy()
        assert relative_error(logits(model, images.numpy()), wanted) < 1e-5


def test_half_precision_stays_close() -> None:
    network = random_network(ZOO["fbnet_a"], SMALL, 0)
    model = build_onnx(network, 2, SMALL.resolution, SMALL.classes, precision="fp16")
    onnx.checker.check_model(model.embedded(), full_check=True)
    images = random_input(SMALL, 0)
    with torch.inference_mode():
        wanted = network(images).numpy()
    assert relative_error(logits(model, images.numpy()), wanted) < 1e-2


def test_activations_are_ordinary_numbers_at_full_depth() -> None:
    """With random weights, which are what is measured: neither denormal nor beyond fp16."""
    tiny = torch.finfo(torch.float32).tiny
    chains = [FbnetLayers((name,) * 22) for name in ("k3_e1", "k5_e6", "skip")]
    for architecture in (*random_layers(2), *chains):
        network = random_network(architecture, CPU, 0)
        assert isinstance(network, FbnetNetwork)
        with torch.inference_mode():
            activations = network.stem(random_input(CPU, 0))
            for layer in network.layers:
                activations = layer(activations)
                assert activations.abs().max() < 1e4
                small = (activations != 0) & (activations.abs() < tiny)
                assert small.float().mean() < 1e-3


class TestLayers:
    def test_shapes(self) -> None:
        config = SMALL.network
        x = torch.randn(2, 3, 16, 16)
        inputs = stem(config)(x)
        for place in config.walk():
            assert inputs.shape == (2, place.c_in, place.side, place.side)
            for name in OPERATIONS:
                output = build_layer(name, place)(inputs)
                side = place.side // place.stride
                assert output.shape == (2, place.c_out, side, side)
            inputs = output
        assert head(config)(inputs).shape == (2, 10)

    def test_a_skip_is_free_where_it_can_be(self) -> None:
        assert isinstance(build_layer("skip", LayerPlace(4, 4, 8, 1)), nn.Identity)
        for place in (LayerPlace(4, 4, 8, 2), LayerPlace(4, 6, 8, 1)):
            changing = build_layer("skip", place)
            assert [type(part) for part in changing] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]  # type: ignore[arg-type]

    def test_an_operation_that_is_not_there(self) -> None:
        with pytest.raises(InputError, match="k7_e6"):
            build_layer("k7_e6", LayerPlace(4, 4, 8, 1))


class TestConfig:
    def test_as_published(self) -> None:
        walk = [*FULL.network.walk()]
        assert [place.side for place in walk[::4]] == [112, 56, 28, 14, 14, 7]
        assert [place.c_out for place in walk[::4]] == [16, 24, 32, 64, 112, 184]
        assert (walk[-1].c_out, FULL.network.head_channels) == (352, 1984)

    def test_for_a_cpu(self) -> None:
        walk = [*CPU.network.walk()]
        assert [place.side for place in walk[1::4]] == [32, 32, 16, 8, 8, 4]
        assert [place.c_out for place in walk] == [
            place.c_out // 2 for place in FULL.network.walk()
        ]
        assert CPU.network.head_channels == 992

    @pytest.mark.parametrize(
        "text",
        ["fbnet,resolution=48", "fbnet,channels=6", "fbnet,channels=0", "fbnet-cpu,resolution=4",
         "fbnet-cpu,macro=cifar", "fbnet,cells=20"],
    )  # fmt: skip
    def test_what_cannot_be(self, text: str) -> None:
        with pytest.raises(InputError):
            parse_setting(text)

    def test_the_order_of_the_fields_is_kept(self) -> None:
        """Digests of datasets depend on it."""
        assert [*FULL.network.to_dict()] == [
            "macro", "cells", "channels", "reduction", "resolution", "classes",
        ]  # fmt: skip

    def test_the_anchor_costs_about_a_third(self) -> None:
        rows = SPACE.unrank(SPACE.sample(50, 0))
        for setting, low, high in ((FULL, 0.3, 0.4), (CPU, 0.2, 0.4)):
            network, change = SPACE.anchor(setting.network)
            assert change == f"resolution={network.resolution}"
            anchor = architecture_cost(ZOO["fbnet_a"], Setting(network)).macs
            costs = [c.macs for c in SPACE.analytic_table(setting.network).costs(rows)]
            assert low < anchor / np.mean(costs) < high
        assert SPACE.anchor(SMALL.replace(resolution=8).network)[0].resolution == 8


class TestNames:
    @pytest.mark.parametrize("name", ["fbnet_c", "FBNet-C", " fbnet_c "])
    def test_are_read(self, name: str) -> None:
        assert get_architecture(name, CPU) == ZOO["fbnet_c"]

    def test_rows_texts_and_layers(self) -> None:
        for layers in (*ZOO.values(), *random_layers(3)):
            row = SPACE.row_of(layers)
            assert SPACE.format(row) == str(layers)
            assert SPACE.architecture(row, FULL.network) == layers
            assert get_architecture(str(layers), FULL) == layers
            assert SPACE.graphs(layers) == SPACE.graphs(row)

    def test_a_name_that_is_not_there(self) -> None:
        with pytest.raises(SpaceError) as error:
            get_architecture("fbnet_d", FULL)
        assert "fbnet_c" in error.value.fix

    @pytest.mark.parametrize("operations", [("skip",) * 21, ("skip",) * 21 + ("k7_e6",)])
    def test_what_is_no_architecture(self, operations: tuple[str, ...]) -> None:
        with pytest.raises(SpaceError, match="fbnet"):
            FbnetLayers(operations)
