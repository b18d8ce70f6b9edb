"""Parameters and MACs: the numbers in print, and torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from latkit.spaces import Setting, get_preset, get_space
from latkit.spaces.architecture import architecture_cost
from latkit.spaces.darts.genotype import Genotype
from latkit.spaces.darts.network import Network
from latkit.spaces.darts.zoo import ZOO

CIFAR = get_preset("cifar").replace(batch=1)
IMAGENET = get_preset("imagenet")


@pytest.mark.parametrize(
    ("name", "setting", "params", "macs"),
    [
        ("darts_v2", CIFAR, 3.349, 528.4),
        ("pc_darts_cifar", CIFAR, 3.635, 556.7),
        ("darts_v2", IMAGENET, 4.719, 529.9),
        ("pc_darts_cifar", IMAGENET, 5.271, 571.1),
        # As others print them (CIFAR-10, 20 cells, C = 36).
        ("darts_v1", CIFAR, 3.169, 501.0),
        ("snas_mild", CIFAR, 2.66, 422),
        ("p_darts_cifar", CIFAR, 3.43, 532),
        ("gdas", CIFAR, 3.37, 519),
        ("pc_darts_imagenet", CIFAR, 3.722, 570.5),
    ],
)
def test_numbers_in_print(name: str, setting: Setting, params: float, macs: float) -> None:
    cost = architecture_cost(ZOO[name], setting)

    def as_printed(value: float, printed: float) -> bool:
        digits = len(str(printed).partition(".")[2]) if isinstance(printed, float) else 0
        return round(value / 1e6, digits) == printed

    assert as_printed(cost.params, params)
    assert as_printed(cost.macs, macs)


def counted(genotype: Genotype, setting: Setting) -> tuple[int, int]:
    """MACs and parameters by torch; on the meta device shapes flow and nothing is computed."""
    with torch.device("meta"):
        network = Network(genotype, setting.network).eval()
        image = torch.empty(1, 3, setting.resolution, setting.resolution)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    flops = counter.get_total_flops()
    assert flops % 2 == 0  # torch counts two per multiply-add
    return flops // 2, sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("setting", [CIFAR, IMAGENET], ids=["cifar", "imagenet"])
@pytest.mark.parametrize("name", sorted(ZOO))
def test_agrees_with_torch_on_the_zoo(name: str, setting: Setting) -> None:
    setting = setting.replace(cells=8)  # the published numbers are of full depth
    cost = architecture_cost(ZOO[name], setting)
    assert (cost.macs, cost.params) == counted(ZOO[name], setting)


def test_agrees_with_torch_on_random_cells_and_settings() -> None:
    space = get_space("darts")
    for index, arch_id in enumerate(space.sample(12, seed=3)):
        setting = [CIFAR, IMAGENET][index % 2].replace(
            cells=3 + index,
            channels=2 * (index + 1),
            resolution=64,
            reduction=["darts_v2", "pc_darts_cifar", "amoebanet_a"][index % 3],
        )
        genotype = space.genotype(space.unrank(arch_id)[0], ZOO[setting.network.reduction])
        cost = architecture_cost(genotype, setting)
        assert (cost.macs, cost.params) == counted(genotype, setting)
