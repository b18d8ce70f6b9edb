"""Networks with random weights, ready to be measured.

The scale matters: with untrained batch norm, default initialisation lets activations sink
into denormal numbers in deep cells, and CPUs are many times slower on those than on anything
a trained network computes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latkit.networks.network import Network
from latkit.networks.setting import Setting
from latkit.spaces.genotype import Genotype


def random_network(genotype: Genotype, setting: Setting, seed: int) -> Network:
    """The network in eval mode, in the setting's memory format, on the CPU.

    Convolution and classifier weights are uniform with standard deviation 1/sqrt(fan-in), which
    keeps activations within a few orders of magnitude of the input; batch norms are neutral.
    """
    with torch.device("meta"):  # skip the default initialisation, a third of the build time
        network = Network(genotype, setting)
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                bound = math.sqrt(3 / module.weight[0].numel())
                module.weight.uniform_(-bound, bound, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
    return network.eval().requires_grad_(False).to(memory_format=_memory_format(setting))


def random_input(setting: Setting, seed: int) -> Tensor:
    """A batch of standard-normal images: ``B x 3 x R x R`` in the setting's memory format."""
    generator = torch.Generator().manual_seed(seed)
    shape = (setting.batch, 3, setting.resolution, setting.resolution)
    return torch.randn(shape, generator=generator).contiguous(memory_format=_memory_format(setting))


def _memory_format(setting: Setting) -> torch.memory_format:
    if setting.memory_format == "channels_last":
        return torch.channels_last
    return torch.contiguous_format
