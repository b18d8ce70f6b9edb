"""Networks of NAS-Bench-201 against print, torch's counter, a plain rewriting, and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from latkit.networks.onnx_model import build_onnx
from latkit.spaces import RunConfig, Setting, get_preset, get_space
from latkit.spaces.architecture import architecture_cost
from latkit.spaces.build import build_network, random_input, random_network
from latkit.spaces.nasbench201.config import NasBench201Config
from latkit.spaces.nasbench201.network import NasBench201Network
from latkit.spaces.nasbench201.space import NasBench201Cell
from tests.networks.test_onnx_model import logits, relative_error

SPACE = get_space("nasbench201")
FULL = get_preset("nasbench201")
SMALL = Setting(NasBench201Config(cells=6, channels=6, resolution=16), RunConfig(batch=2))


def cell(text: str) -> NasBench201Cell:
    return SPACE.cell(SPACE.parse(text)[0])


def random_cells(n: int) -> list[NasBench201Cell]:
    return [SPACE.cell(row) for row in SPACE.unrank(SPACE.sample(n, 5))]


def counted(architecture: NasBench201Cell, setting: Setting) -> tuple[int, int]:
    """MACs and parameters by torch, of which nothing is computed."""
    with torch.device("meta"):
        network = build_network(architecture, setting).eval()
        image = torch.empty(1, 3, setting.resolution, setting.resolution)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return counter.get_total_flops() // 2, sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("text", "params", "macs"),
    [
        (
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|"
            "+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|",
            0.802426,
            113.95,
        ),
        (
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
            "+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|",
            1.073466,
            153.27,
        ),
    ],
)
def test_numbers_in_print(text: str, params: float, macs: float) -> None:
    made = counted(cell(text), FULL)
    assert made[1] == round(params * 1e6)
    assert round(made[0] / 1e6, 2) == macs


def test_costs_agree_with_torch_on_random_cells_and_settings() -> None:
    for index, architecture in enumerate(random_cells(16)):
        setting = FULL.replace(
            cells=3 * (1 + index % 4), channels=2 * (index + 1), resolution=4 * (index + 1)
        )
        cost = architecture_cost(architecture, setting)
        assert (cost.macs, cost.params) == counted(architecture, setting)


def plain_forward(network: NasBench201Network, architecture: NasBench201Cell, x: Tensor) -> Tensor:
    """The network once more, from its weights and the benchmark's description alone."""
    weights = iter(list(network.state_dict().values()))

    def conv(x: Tensor, stride: int = 1) -> Tensor:
        weight = next(weights)
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(x: Tensor) -> Tensor:
        weight, bias, mean, var, _ = (next(weights) for _ in range(5))
        return F.batch_norm(x, mean, var, weight, bias)

    def edge(name: str, x: Tensor) -> Tensor:
        if name == "avg_pool_3x3":
            ones = torch.ones_like(x)
            kernel = torch.ones(x.shape[1], 1, 3, 3)
            sums, counts = (F.conv2d(t, kernel, padding=1, groups=x.shape[1]) for t in (x, ones))
            return sums / counts
        if name.startswith("nor_conv"):
            return norm(conv(x.relu()))
        return x if name == "skip_connect" else torch.zeros_like(x)

    x = norm(conv(x))
    for stage in range(3):
        if stage:
            inner = norm(conv(norm(conv(x.relu(), 2)).relu()))
            x = inner + conv(F.avg_pool2d(x, 2))
        for _ in range(len(network.cells) // 3):  # two residual blocks stand among the cells
            op01, op02, op12, op03, op13, op23 = architecture.operations
            node1 = edge(op01, x)
            node2 = edge(op02, x) + edge(op12, node1)
            x = edge(op03, x) + edge(op13, node1) + edge(op23, node2)
    x = norm(x).relu().mean(dim=(2, 3))
    return F.linear(x, next(weights), next(weights))


def trained(architecture: NasBench201Cell, setting: Setting, seed: int = 0) -> nn.Module:
    """A network whose batch norms have statistics and parameters of their own."""
    torch.manual_seed(seed)
    network = build_network(architecture, setting)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for _ in range(3):
        out: Any = network(torch.randn(8, 3, setting.resolution, setting.resolution) * 2 + 1)
        optimizer.zero_grad()
        nn.functional.cross_entropy(out, torch.randint(setting.classes, (8,))).backward()
        optimizer.step()
    return network.eval()


def test_forward_is_the_benchmarks() -> None:
    used = set()
    images = random_input(SMALL, 1)
    for architecture in random_cells(8):
        used |= set(architecture.operations)
        network = trained(architecture, SMALL)
        assert isinstance(network, NasBench201Network)
        with torch.inference_mode():
            wanted = plain_forward(network, architecture, images)
            torch.testing.assert_close(network(images), wanted, rtol=1e-4, atol=1e-5)
    assert used == set(SPACE.operations)


def test_onnx_models_compute_the_same() -> None:
    used = set()
    images = random_input(SMALL, 1)
    for seed, architecture in enumerate(random_cells(20)):
        used |= set(architecture.operations)
        network = (
            random_network(architecture, SMALL, seed) if seed else trained(architecture, SMALL)
        )
        model = build_onnx(network, SMALL.batch, SMALL.resolution, SMALL.classes)
        onnx.checker.check_model(model.embedded(), full_check=True)
        with torch.inference_mode():
            wanted = network(images).numpy()
        got = logits(model, images.numpy())
        if wanted.any():
            assert relative_error(got, wanted) < 1e-5
        else:  # no path from the cell's input to its output, and all batch norms neutral
            assert not got.any()
    assert used == set(SPACE.operations)


def test_none_is_computed() -> None:
    """Where a runtime drops it, that is the runtime's own doing."""
    architecture = cell("|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_1x1~2|")
    for precision in ("fp32", "fp16"):
        network = random_network(architecture, SMALL, 0)
        model = build_onnx(network, 2, SMALL.resolution, SMALL.classes, precision=precision)
        operators = [node.op_type for node in model.model.graph.node]
        assert operators.count("Mul") == 5 * SMALL.network.cells
        onnx.checker.check_model(model.embedded(), full_check=True)
        assert logits(model, random_input(SMALL, 0).numpy()).shape == (2, 10)


class TestRandomWeights:
    def test_are_each_layers_own_and_follow_the_seed(self) -> None:
        architecture = cell(
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|"
            "+|nor_conv_1x1~0|avg_pool_3x3~1|skip_connect~2|"
        )
        first, again, other = (random_network(architecture, SMALL, seed) for seed in (1, 1, 2))
        plain = build_network(architecture, SMALL)
        assert list(first.state_dict()) == list(plain.state_dict())
        weights = [p for p in first.parameters() if p.dim() > 1]
        assert len({w.data_ptr() for w in weights}) == len(weights)
        assert not any(m.training for m in first.modules() if not isinstance(m, nn.ModuleList))
        images = random_input(SMALL, 0)
        with torch.inference_mode():
            assert torch.equal(first(images), again(images))
            assert not torch.allclose(first(images), other(images))

    def test_activations_are_ordinary_numbers_at_full_depth(self) -> None:
        setting = FULL.replace(channels=8)
        tiny = torch.finfo(torch.float32).tiny
        extremes = (
            "|skip_connect~0|+|skip_connect~0|skip_connect~1|"
            "+|skip_connect~0|skip_connect~1|skip_connect~2|",
            "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_3x3~2|",
            "|avg_pool_3x3~0|+|none~0|avg_pool_3x3~1|+|none~0|none~1|avg_pool_3x3~2|",
        )
        for architecture in (*random_cells(4), *map(cell, extremes)):
            network = random_network(architecture, setting, 0)
            seen: list[Tensor] = []
            for part in network.cells:
                part.register_forward_hook(lambda m, i, out, seen=seen: seen.append(out))
            with torch.no_grad():
                network(random_input(setting, 0))
            assert len(seen) == setting.network.cells + 2
            for activations in seen:
                assert activations.isfinite().all()
                small = (activations != 0) & (activations.abs() < tiny)
                assert small.float().mean() < 1e-3
