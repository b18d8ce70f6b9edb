"""Training-free measures: what a sub-network's initial weights say of it, without an image.

They cost a fraction of an evaluation, and rank what shared weights do not rank (docs/search.md has
how much each adds).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latkit.search.image_source import ImageData
from latkit.search.oneshot.config import preset
from latkit.search.oneshot.subnets import Finding
from latkit.search.supernet.mixture import MIXTURES, MixtureNetwork
from latkit.spaces import ChoiceMatrix, SearchSpace

INITIAL = Finding(
    file="initial.parquet",
    columns=("expressivity", "progressivity", "trainability", "naswot", "synflow"),
    kept="sub-networks' training-free measures",
    doing="while initial weights were looked at",
    smaller="--resolution",
    not_finite=(
        "a training-free measure of a sub-network is not finite",
        "report it with the space and the seed; another --seed may do",
    ),
)
# Noise images of a batch; of large ones fewer, but not too few to tell apart.
MOST_IMAGES, LEAST_IMAGES, PIXELS = 64, 8, 64 * 32 * 32
# Added to what may be zero before it is divided by, or its logarithm taken.
TINY = 1e-6


class InitialNetwork:
    """All networks of a space in one, of the size of the preset ``paper``, at initialisation.

    (Networks as shallow as those of small searches say less of architectures.) Weights and input
    follow from the seed, and sub-networks have them in common.

    Args:
        space: of the sub-networks.
        data: the images, of which only sizes and the number of classes are used.
        seed: of the weights and of the noise.
        device: where it is computed.

    Attributes:
        images: noise images of a batch.

    Raises:
        InputError: the images do not fit the space's networks.
        PluginError: the space's network is a plug-in that does not load.
    """

    def __init__(
        self, space: SearchSpace, data: ImageData, seed: int, device: torch.device
    ) -> None:
        kind, size = MIXTURES.get(space.name), preset("paper", space.name)
        channels, height, width = data.images.shape[1:]
        self.images = min(MOST_IMAGES, max(LEAST_IMAGES, PIXELS // (height * width)))
        config = kind.config_of(size.cells, size.channels, height, data.classes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = kind(space, config, channels)
            for module in network.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight)
            noise = torch.randn(self.images, channels, height, width)
        linear = _linear(network)
        # Gradients are of the blocks' inputs alone.
        network.requires_grad_(False)
        self._network = network.to(memory_format=torch.channels_last).to(device)
        self._linear = linear.to(device)
        self._weights = list(self._linear.parameters())
        self._noise = noise.contiguous(memory_format=torch.channels_last).to(device)
        self._ones = torch.ones_like(noise[:1], dtype=torch.float64, device=device)
        self._seed, self._recorded = seed, _Recorded(self._network)

    def __call__(self, row: ChoiceMatrix) -> Tensor:
        """The measures of a sub-network, by the columns of ``INITIAL``: float64 on the CPU.

        More is better in all of them.

        - *expressivity*: the entropy of the spectrum of the channels' covariance, summed over
          blocks; *progressivity*: its least gain from a block to the next; *trainability*: how
          close to 1 the blocks' Jacobians keep a gradient (Lee and Ham 2024, AZ-NAS, section 3).
        - *naswot*: the log determinant of the kernel of the images' ReLU patterns (Mellor et al.
          2021, section 3).
        - *synflow*: the logarithm of the sum of weight times gradient over absolute weights, for
          an image of ones (Tanaka et al. 2020, section 5; as a measure of architectures
          Abdelfattah et al. 2021).

        Args:
            row: the sub-network, of a choice matrix.

        Returns:
            ``M``, not all finite where features are not.
        """
        try:
            return self._measures(row)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            # What decomposes features that are not finite stops; the other measures would be NaN.
            return torch.full((len(INITIAL.columns),), math.nan, dtype=torch.float64)

    def _measures(self, row: ChoiceMatrix) -> Tensor:
        with self._recorded:
            self._network(self._noise, row.tolist())
            blocks, patterns = self._recorded.blocks, self._recorded.patterns
            entropies = torch.stack([spectral_entropy(output) for _, output in blocks])
            values = torch.stack(
                [
                    entropies.sum(),
                    entropies.diff().min(),
                    trainability(blocks, self._seed),
                    pattern_log_determinant(patterns, self._noise),
                    synflow(self._linear, self._weights, self._ones, row),
                ]
            )
        return values.cpu()


class _Recorded:
    """While entered: inputs and outputs of a network's blocks, and which of its ReLUs are on.

    Blocks' inputs are detached, so that a gradient ends there.
    """

    def __init__(self, network: MixtureNetwork) -> None:
        self.blocks: list[tuple[Tensor, Tensor]] = []
        self.patterns: list[Tensor] = []
        self._input: Tensor
        for block in network.blocks:
            block.register_forward_pre_hook(self._before)
            block.register_forward_hook(self._after)
        for module in network.modules():
            if isinstance(module, nn.ReLU | nn.ReLU6):
                module.register_forward_hook(self._on)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self.blocks, self.patterns = [], []

    def _before(self, _: nn.Module, given: tuple[object, ...]) -> tuple[object, ...]:
        # Of a cell with two inputs the later one, which is nearer.
        place = max(i for i, value in enumerate(given) if isinstance(value, Tensor))
        value = given[place]
        assert isinstance(value, Tensor)
        self._input = value.detach().requires_grad_()
        return (*given[:place], self._input, *given[place + 1 :])

    def _after(self, _: nn.Module, __: object, output: Tensor) -> None:
        self.blocks.append((self._input, output))

    def _on(self, _: nn.Module, __: object, output: Tensor) -> None:
        self.patterns.append((output > 0).flatten(1))


def _linear(network: MixtureNetwork) -> MixtureNetwork:
    """A twin in double precision without norms, whose weights are absolute."""
    twin = copy.deepcopy(network).double()
    for parent in list(twin.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.abs_()
    return twin


def _rows(features: Tensor) -> Tensor:
    """Of ``B x C x H x W`` the ``BHW x C`` channels of all places."""
    return features.movedim(1, -1).flatten(0, -2)


def spectral_entropy(features: Tensor) -> Tensor:
    """Of the eigenvalues of the channels' covariance, as shares of their sum; in nats, float64."""
    spectrum = torch.linalg.eigvalsh(_rows(features.detach()).double().T.cov(correction=0))
    shares = spectrum.clamp_min(0)
    shares = shares / (shares.sum() + 1e-12)
    return -torch.xlogy(shares, shares).sum()


def trainability(blocks: list[tuple[Tensor, Tensor]], seed: int) -> Tensor:
    """The mean over blocks of ``2 - s - 1/s``, which is 0 where a gradient keeps its size.

    s is the largest singular value of what maps gradients of a block's output, signs drawn from the
    seed, to those of its input.

    Args:
        blocks: inputs and outputs, ``B x C x H x W``.
        seed: of the signs.
    """
    generator, values = torch.Generator().manual_seed(seed), []
    for given, output in blocks:
        signs = torch.randint(0, 2, output.shape, generator=generator).to(output) * 2 - 1
        gradient = torch.zeros_like(given)
        if output.requires_grad:  # else there are only zeros between them
            (gradient,) = torch.autograd.grad(output, given, signs, materialize_grads=True)
        # What a block with a stride passes on is spread over the pixels of its input.
        stride = gradient.shape[-1] / signs.shape[-1]
        gradient = stride * F.adaptive_avg_pool2d(gradient, (signs.shape[-2], signs.shape[-1]))
        jacobian = _rows(gradient).double().T @ _rows(signs).double() / len(_rows(signs))
        largest = torch.linalg.matrix_norm(jacobian, 2)
        values.append(2 - largest - 1 / (largest + TINY))
    return torch.stack(values).mean()


def pattern_log_determinant(patterns: list[Tensor], images: Tensor) -> Tensor:
    """Of the kernel that counts the units that two images have both on or both off; float64.

    Args:
        patterns: of each ReLU which of its units are on, ``B x units``.
        images: the ``B`` images.
    """
    # Images that no unit tells apart, or that pass no ReLU, would make it minus infinity.
    kernel = TINY * torch.eye(len(images), dtype=torch.float64, device=images.device)
    for pattern in patterns:
        signs = pattern.float() * 2 - 1  # their product: equal units less unequal ones
        kernel += (signs @ signs.T + pattern.shape[1]).double() / 2
    log_determinant: Tensor = torch.linalg.slogdet(kernel).logabsdet
    return log_determinant


def synflow(
    linear: MixtureNetwork, parameters: Sequence[Tensor], ones: Tensor, row: ChoiceMatrix
) -> Tensor:
    """The logarithm of the sum of weight times gradient, over a sub-network's weights.

    Args:
        linear: without norms and with weights of at least 0.
        parameters: of it.
        ones: an image of ones.
        row: the sub-network, of a choice matrix.
    """
    total = linear(ones, row.tolist()).sum()
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    flows = [(p * g).sum() for p, g in zip(parameters, gradients, strict=True) if g is not None]
    return torch.stack(flows).sum().detach().clamp_min(torch.finfo(torch.float64).tiny).log()
