"""Mixtures of a space's operations: the discrete networks within them, and their gradients."""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
from collections.abc import Callable
from operator import add
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from latkit.core.errors import InputError
from latkit.networks.make import construct
from latkit.search.bilevel import FirstOrder, OptimizerConfig, SecondOrder
from latkit.search.config import SearchConfig, preset
from latkit.search.supernet.base import BatchNormMode, get_supernet
from latkit.search.supernet.fbnet import FbnetMixture
from latkit.search.supernet.mixture import Mixture, MixtureSupernet
from latkit.search.supernet.norms import ModedNorm, obey
from latkit.spaces import get_space

# As small as they get: channels, and cells where they can be chosen.
SMALL = {"nasbench201": {"channels": 2, "cells": 3}, "fbnet": {"channels": 4}}
# From the names of a discrete network's tensors to those of the supernet's network.
OF_OPERATION = {
    "nasbench201": re.compile(r"(?P<edge>cells\.\d+\.)layers(?P<index>\.\d+\.)"),
    "fbnet": re.compile(r"(?P<edge>)layers(?P<index>\.\d+\.)"),
}
MODULES = {"nasbench201": "edges", "fbnet": "layers"}
RESOLUTION = 8

spaces = pytest.mark.parametrize("space", list(SMALL))


class AlphaItself:
    """A penalty whose gradient is its weight."""

    weight = 0.1

    def expected(self, alpha: Tensor, strength: Tensor | None, generator: object) -> Tensor:
        return alpha.sum()


def config_of(space: str) -> SearchConfig:
    return dataclasses.replace(preset("cpu", "darts", space), **SMALL[space])


def made_supernet(space: str, image_channels: int = 3) -> MixtureSupernet:
    """In double precision, with a state that leaves nothing at its neutral value.

    The same one each time, put back into that state.
    """
    supernet, state = _made_once(space, image_channels)
    supernet.double().train().load_state_dict(state)
    return supernet


@functools.cache
def _made_once(space: str, image_channels: int) -> tuple[MixtureSupernet, dict[str, Tensor]]:
    torch.manual_seed(0)
    supernet = get_supernet("darts", space).build(
        get_space(space), config_of(space), 5, image_channels, RESOLUTION
    )
    assert isinstance(supernet, MixtureSupernet)
    with torch.no_grad():
        for module in supernet.modules():
            if isinstance(module, nn.BatchNorm2d) and module.affine:
                module.weight.normal_(1, 0.1)
                module.bias.normal_(0, 0.1)
        supernet.alpha.normal_()
        supernet.double()
        supernet(images(0, image_channels)[0])  # moves the running statistics
    return supernet, {name: tensor.clone() for name, tensor in supernet.state_dict().items()}


def images(seed: int, channels: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (6, channels, RESOLUTION, RESOLUTION)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    return x, torch.randint(5, (6,), generator=generator)


def architectures(space: str) -> np.ndarray:
    """Rows that have every operation among them; of 22 layers one is enough."""
    count, seed = {"nasbench201": (3, 1), "fbnet": (1, 3)}[space]
    rows = get_space(space).unrank(get_space(space).sample(count, seed))
    assert len(np.unique(rows)) == get_space(space).num_operations
    return rows


def discrete_twin(supernet: MixtureSupernet, row: np.ndarray) -> nn.Module:
    """The network that the space builds of an architecture, with the supernet's weights."""
    space, config = supernet.space, supernet.config
    network = space.build(space.architecture(row, config), config, construct).double()
    chosen, own = supernet.space.operations_of(row), supernet.network.state_dict()

    def there(match: re.Match[str]) -> str:
        index = match["index"]
        name = chosen[int(index.strip("."))]
        return f"{match['edge']}{MODULES[space.name]}{index}operations.{name}."

    neutral = {}
    for name, tensor in network.state_dict().items():
        source = OF_OPERATION[space.name].sub(there, name)
        if source in own:
            tensor.copy_(own[source])
        else:
            neutral[name] = tensor
    # What the supernet lacks are the affine parameters of norms in operations.
    for name, tensor in neutral.items():
        assert torch.equal(tensor, torch.full_like(tensor, float(name.endswith("weight")))), name
    return network


@spaces
@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
def test_the_networks_of_the_space_are_in_it(space: str, training: bool) -> None:
    """By an α that leaves one operation an edge its weight, and by picking an architecture."""
    x, _ = images(9)
    for row in architectures(space):
        supernet = made_supernet(space)
        network = discrete_twin(supernet, row).train(training)
        expected = network(x)
        assert expected.std() > 1e-3
        for picked in (True, False):
            made_supernet(space).train(training)
            with torch.no_grad():
                supernet.alpha.fill_(0)
                supernet.alpha[range(len(row)), row.tolist()] = 1e4
                logits = supernet(x, row) if picked else supernet(x)
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)
            # The running statistics of what was computed moved as PyTorch moves them.
            theirs = network.state_dict()
            for name, tensor in discrete_twin(supernet, row).state_dict().items():
                if "running" in name:
                    torch.testing.assert_close(tensor, theirs[name], msg=name)
        assert str(supernet.derive()) == str(supernet.space.architecture(row, supernet.config))


@spaces
def test_a_picked_architecture_computes_nothing_else(space: str) -> None:
    supernet = made_supernet(space)
    row = architectures(space)[0]
    called: list[nn.Module] = []
    hooks = []
    mixtures = [module for module in supernet.modules() if isinstance(module, Mixture)]
    for mixture in mixtures:
        for operation in mixture.operations.values():
            hook = operation.register_forward_hook(lambda module, *_: called.append(module))
            hooks.append(hook)
    supernet(images(9)[0], row)
    for hook in hooks:
        hook.remove()
    edges = supernet.space.num_edges
    assert len(mixtures) % edges == 0
    expected = []
    for index, mixture in enumerate(mixtures):
        name = supernet.space.operations[row[index % edges]]
        expected += [mixture.operations[name]] if name != "none" else []
    assert [id(module) for module in called] == [id(module) for module in expected]


class Textbook(nn.Module):
    """The sum of an edge's operations, each times its weight, by autograd."""

    def __init__(self, mixture: Mixture, operations: tuple[str, ...]) -> None:
        super().__init__()
        self.operations, self.names = mixture.operations, operations

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        outputs = [
            0 * x if name == "none" else self.operations[name](x)  # type: ignore[operator]
            for name in self.names
        ]
        return functools.reduce(
            add, (w * output for w, output in zip(weights, outputs, strict=True))
        )


def textbook(supernet: MixtureSupernet) -> nn.Module:
    """The same network of PyTorch's own norms and of textbook sums."""
    network = copy.deepcopy(supernet.network)

    def replace(kind: type[nn.Module], make: Callable[[Any], nn.Module]) -> None:
        for parent in list(network.modules()):
            for name, child in parent.named_children():
                if isinstance(child, kind):
                    setattr(parent, name, make(child))

    def plain(norm: ModedNorm) -> nn.Module:
        made = nn.BatchNorm2d(norm.num_features, affine=norm.affine).double()
        made.load_state_dict(norm.state_dict())
        return made

    replace(ModedNorm, plain)
    replace(Mixture, lambda mixture: Textbook(mixture, supernet.space.operations))
    return network


@pytest.mark.parametrize(("space", "image_channels"), [("nasbench201", 1), ("fbnet", 3)])
def test_every_gradient_is_the_textbooks(space: str, image_channels: int) -> None:
    supernet = made_supernet(space, image_channels)
    network = textbook(supernet)
    x, y = images(9, image_channels)
    for training in (True, False):
        loss = cross_entropy(supernet.train(training)(x), y)
        weights = supernet.weight_parameters()
        ours = torch.autograd.grad(loss, [supernet.alpha, *weights])
        alpha = supernet.alpha.detach().requires_grad_()
        expected_loss = cross_entropy(network.train(training)(x, alpha.softmax(-1).unbind()), y)
        theirs = torch.autograd.grad(expected_loss, [alpha, *network.parameters()])
        torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-12)
        assert theirs[0].abs().max() > 1e-4
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


# Second order calls what first order calls.
@pytest.mark.parametrize(
    ("space", "order"),
    [("nasbench201", FirstOrder), ("nasbench201", SecondOrder), ("fbnet", SecondOrder)],
)
def test_steps_move_what_they_are_to_move(
    space: str, order: type[FirstOrder] | type[SecondOrder]
) -> None:
    supernet = made_supernet(space).float()
    rates = OptimizerConfig(arch_lr=0.01, weight_lr=0.01)
    optimizer = order(supernet, rates, AlphaItself())  # type: ignore[arg-type]
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    # A look ahead leaves no trace in weights or statistics.
    (x1, y1), (x2, y2) = images(1), images(2)
    train, val = (x1.float(), y1), (x2.float(), y2)
    optimizer.arch_gradients(train, val)
    assert all(torch.equal(before[name], t) for name, t in supernet.state_dict().items())
    optimizer.step(train, val, torch.Generator())
    after = supernet.state_dict()
    still = [name for name, tensor in after.items() if torch.equal(before[name], tensor)]
    assert all(name.endswith("num_batches_tracked") for name in still), still


def test_norms_obey_a_mode_rather_than_their_module() -> None:
    """As evaluation by the statistics of batches needs it."""
    torch.manual_seed(0)
    mode = BatchNormMode()
    layer = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4, affine=False)))
    plain = copy.deepcopy(layer)
    obey(layer, mode)
    x = images(0)[0].float()
    for _ in range(2):
        torch.testing.assert_close(layer(x), plain(x))
    layer.eval()
    mode.track = False
    batch = layer(x)
    torch.testing.assert_close(batch, plain(x))
    mode.training = False
    assert not torch.allclose(layer(x), batch)
    assert set(layer.state_dict()) == set(plain.state_dict())
    with pytest.raises(ValueError, match="eps"):
        obey(nn.Sequential(nn.BatchNorm2d(4, eps=1e-3)), mode)


def test_bf16_stays_close() -> None:
    supernet = made_supernet("nasbench201").float()
    x, y = torch.randn(6, 3, 16, 16), torch.arange(6) % 5
    expected = supernet(x)
    with torch.autocast("cpu", torch.bfloat16):
        logits = supernet(x)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, rtol=0.1, atol=0.1)
    cross_entropy(logits.float(), y).backward()
    assert supernet.alpha.grad is not None
    assert bool(supernet.alpha.grad.isfinite().all())


@pytest.mark.parametrize(
    ("resolution", "macro", "next_resolution"),
    [(8, "fbnet-cifar", 32), (124, "fbnet-cifar", 128), (132, "fbnet", 160), (224, "fbnet", 224)],
)
def test_fbnets_strides_fit_the_images(resolution: int, macro: str, next_resolution: int) -> None:
    network = FbnetMixture.config_of(22, 4, resolution, 10)
    assert (network.macro, network.resolution) == (macro, next_resolution)


def test_fbnet_takes_images_of_any_size() -> None:
    assert made_supernet("fbnet").float()(torch.randn(2, 3, 12, 12)).shape == (2, 5)


@pytest.mark.parametrize(
    ("space", "changes"),
    [
        ("nasbench201", {"cells": 4}),
        ("nasbench201", {"channels": 1}),
        ("nasbench201", {"method": "pc-darts"}),
        ("fbnet", {"cells": 8}),
        ("fbnet", {"channels": 6}),
        ("fbnet", {"method": "pc-darts"}),
        ("fbnet", {"stop_on_collapse": True}),
    ],
)
def test_what_a_space_cannot_have(space: str, changes: dict[str, Any]) -> None:
    config = preset("paper", "darts", space)
    config.check(space)
    with pytest.raises(InputError):
        dataclasses.replace(config, **changes).check(space)


def test_presets() -> None:
    sizes = {
        (name, space): (config.cells, config.channels)
        for name in ("paper", "cpu")
        for space in ("darts", "nasbench201", "fbnet")
        for config in [preset(name, "darts", space)]
    }
    assert sizes == {
        ("paper", "darts"): (8, 16), ("cpu", "darts"): (5, 8),
        ("paper", "nasbench201"): (15, 16), ("cpu", "nasbench201"): (3, 8),
        ("paper", "fbnet"): (22, 16), ("cpu", "fbnet"): (22, 8),
    }  # fmt: skip
