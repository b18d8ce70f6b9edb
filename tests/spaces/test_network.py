"""Networks: shapes, auxiliary heads, drop-path, and weights fit to be timed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from latkit.core.errors import InputError
from latkit.networks.operations import FactorizedReduce, build_operation, drop_path
from latkit.spaces import Setting, get_preset, get_space
from latkit.spaces.build import random_input, random_network
from latkit.spaces.darts.config import DartsConfig
from latkit.spaces.darts.network import AuxiliaryHead, Network
from latkit.spaces.darts.zoo import ZOO

SMALL = {
    "cifar": Setting(DartsConfig(macro="cifar", cells=6, channels=8, resolution=32, classes=7)),
    "imagenet": Setting(
        DartsConfig(macro="imagenet", cells=6, channels=8, resolution=224, classes=7)
    ),
}


@pytest.mark.parametrize("macro", sorted(SMALL))
@pytest.mark.parametrize("name", sorted(ZOO))
def test_logits(name: str, macro: str) -> None:
    network = Network(ZOO[name], SMALL[macro].network).eval()
    side = SMALL[macro].resolution
    with torch.no_grad():
        logits = network(torch.randn(2, 3, side, side))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "name",
    ["max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5",
     "sep_conv_7x7", "dil_conv_3x3", "dil_conv_5x5", "conv_7x1_1x7"],
)  # fmt: skip
def test_operations_keep_channels_and_divide_the_side(name: str, stride: int) -> None:
    operation = build_operation(name, 6, stride)
    assert operation(torch.randn(2, 6, 8, 8)).shape == (2, 6, 8 // stride, 8 // stride)


def test_average_pool_ignores_padding() -> None:
    pooled = build_operation("avg_pool_3x3", 1, 1)(torch.ones(1, 1, 4, 4))
    assert torch.equal(pooled, torch.ones(1, 1, 4, 4))


def test_factorized_reduce_sees_every_second_pixel_of_both_diagonals() -> None:
    reduce = FactorizedReduce(1, 2, affine=False).eval()
    for conv in (reduce.conv_1, reduce.conv_2):
        nn.init.ones_(conv.weight)
    out = reduce(torch.arange(16.0).view(1, 1, 4, 4))
    expected = torch.tensor([[[0, 2], [8, 10]], [[5, 7], [13, 15.0]]])
    torch.testing.assert_close(out[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("macro", sorted(SMALL))
def test_auxiliary_head_only_while_training(macro: str) -> None:
    network = Network(ZOO["darts_v2"], SMALL[macro].network, auxiliary=True)
    x = torch.randn(2, 3, SMALL[macro].resolution, SMALL[macro].resolution)
    out = network.train()(x)
    assert isinstance(out, tuple)
    assert [t.shape for t in out] == [(2, 7), (2, 7)]
    assert isinstance(network.eval()(x), Tensor)


def test_auxiliary_head_in_print() -> None:
    # DARTS: ReLU, pool, 1x1 to 128, 2x2 to 768, linear; the ImageNet head lacks one batch norm.
    cifar = sum(p.numel() for p in AuxiliaryHead(get_preset("cifar").network, 576, 8).parameters())
    imagenet = sum(
        p.numel() for p in AuxiliaryHead(get_preset("imagenet").network, 768, 7).parameters()
    )
    assert cifar == 576 * 128 + 256 + 128 * 768 * 4 + 1536 + 769 * 10
    assert imagenet == 768 * 128 + 256 + 128 * 768 * 4 + 769 * 1000


def test_auxiliary_head_refuses_other_resolutions() -> None:
    setting = get_preset("cifar").replace(resolution=64)
    with pytest.raises(InputError, match="16x16 feature map"):
        Network(ZOO["darts_v2"], setting.network, auxiliary=True)


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(4000, 2, 1, 1), 0.2)
    values = dropped[:, :, 0, 0]
    assert set(values.unique().tolist()) <= {0.0, 1.25}
    assert torch.equal(values[:, 0], values[:, 1])
    assert abs(values.mean().item() - 1) < 0.03


def test_drop_path_is_off_in_evaluation() -> None:
    torch.manual_seed(0)
    network = Network(ZOO["darts_v2"], SMALL["cifar"].network, drop_path_probability=0.9)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network.eval()(x), network(x))
        network.train()
        assert not torch.equal(network(x), network(x))


class TestRandomWeights:
    def test_depend_on_the_seed_alone(self, micro: Setting) -> None:
        x = random_input(micro, 0)
        with torch.no_grad():
            first = random_network(ZOO["gdas"], micro, 1)(x)
            assert torch.equal(first, random_network(ZOO["gdas"], micro, 1)(x))
            assert not torch.equal(first, random_network(ZOO["gdas"], micro, 2)(x))

    @pytest.mark.parametrize("memory_format", ["channels_last", "nchw"])
    def test_memory_format(self, micro: Setting, memory_format: str) -> None:
        setting = micro.replace(memory_format=memory_format, batch=2)
        wanted = (
            torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
        )
        network = random_network(ZOO["darts_v2"], setting, 0)
        weight = next(
            m.weight
            for m in network.modules()
            if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)
        )
        assert random_input(setting, 0).is_contiguous(memory_format=wanted)
        assert weight.is_contiguous(memory_format=wanted)

    def test_activations_are_ordinary_numbers_at_full_depth(self) -> None:
        """Denormals would make a CPU's time depend on nothing a trained network has."""
        setting = get_preset("imagenet").replace(resolution=32, channels=16)
        space = get_space("darts")
        tiny = torch.finfo(torch.float32).tiny
        deepest = "+".join(
            f"|sep_conv_3x3~{max(0, node - 2)}|sep_conv_3x3~{node - 1}|" for node in range(2, 6)
        )
        rows = [*space.unrank(space.sample(6, seed=0)), space.parse(deepest)[0]]
        for row in rows:
            network = random_network(space.genotype(row, ZOO["darts_v2"]), setting, 0)
            seen: list[Tensor] = []
            for cell in network.cells:
                cell.register_forward_hook(lambda m, i, out, seen=seen: seen.append(out))
            with torch.no_grad():
                network(random_input(setting, 0))
            assert len(seen) == setting.network.cells
            for activations in seen:
                nonzero = activations[activations != 0].abs()
                assert activations.isfinite().all()
                assert nonzero.numel() > 0
                assert (nonzero < tiny).float().mean() < 1e-3
