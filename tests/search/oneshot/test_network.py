"""The networks of the space DARTS within one, and steps on paths of any space."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latkit.core.errors import InputError
from latkit.networks.make import construct
from latkit.search.distributed import ALONE
from latkit.search.oneshot.config import PRESETS, preset
from latkit.search.oneshot.darts import DartsMixture, MixtureCell
from latkit.search.oneshot.network import PathTrainer
from latkit.search.oneshot.paths import FairPaths
from latkit.search.supernet.mixture import MIXTURES, Mixture
from latkit.spaces import get_space
from latkit.spaces.analytic import ABSENT
from latkit.spaces.darts.space import DartsSpace
from tests.search.oneshot.micro import CPU, config_of, digits, network

SPACES = ("darts", "nasbench201", "fbnet")
SMALL = {"fbnet": {"channels": 4}}


def made_mixture() -> DartsMixture:
    """In double precision, with norms that leave nothing at its neutral value."""
    torch.manual_seed(0)
    space = get_space("darts")
    mixture = DartsMixture(space, DartsMixture.config_of(4, 2, 8, 5))
    for module in mixture.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.normal_(module.weight, 1, 0.1)
            nn.init.normal_(module.bias, 0, 0.1)
    return mixture.double()


def images(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((4, 3, 8, 8), dtype=torch.float64, generator=generator)


def discrete_twin(mixture: DartsMixture, row: np.ndarray) -> nn.Module:
    """The network that the space builds of an architecture, with the mixture's weights."""
    space, config = mixture.space, mixture.config
    assert isinstance(space, DartsSpace)
    built = space.build(space.architecture(row, config), config, construct).double()
    kept = [(edge, space.operations[row[edge]]) for edge in np.flatnonzero(row != ABSENT).tolist()]
    own = mixture.state_dict()
    for name, tensor in built.state_dict().items():
        source = re.sub(r"^stem0\.", "stem.", name)
        cell = re.match(r"cells\.(\d+)\.operations\.(\d+)\.", name)
        if cell and isinstance(mixture.cells[int(cell[1])], MixtureCell):
            edge, operation = kept[int(cell[2])]
            there = f"cells.{cell[1]}.edges.{edge}.operations.{operation}."
            source = there + name[cell.end() :]
            if source not in own:  # affine parameters of norms, which paths do not have
                assert torch.equal(tensor, torch.full_like(tensor, name.endswith("weight"))), name
                continue
        tensor.copy_(own[source])
    return built


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
def test_the_networks_of_the_space_are_in_it(training: bool) -> None:
    mixture = made_mixture()
    fair, x = FairPaths(mixture.space, 0), images(1)
    rows = [fair.row(number) for number in range(7)]  # with every operation
    for number, row in enumerate(rows):
        twin = discrete_twin(mixture, row).train(training)
        expected = twin(x)
        assert expected.std() > 1e-2
        logits = mixture.train(training)(x, row.tolist())
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
        if number:
            continue
        # The running statistics of what was computed moved as PyTorch moves them.
        for name, tensor in discrete_twin(mixture, row).state_dict().items():
            torch.testing.assert_close(tensor, twin.state_dict()[name], msg=name)


def test_a_mixture_of_all_edges() -> None:
    """Weights of operations, as DARTS has them, work in the same modules."""
    mixture = made_mixture()
    row = FairPaths(mixture.space, 0).row(0)
    picks = [torch.zeros(8, dtype=torch.float64) for _ in row]
    for edge, operation in enumerate(row.tolist()):
        if operation != ABSENT:
            picks[edge][operation] = 1
    logits, expected = mixture(images(1), picks), mixture(images(1), row.tolist())
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("space", SPACES)
def test_what_is_on_no_path_is_left_alone(space: str) -> None:
    """Neither computed, nor moved, nor its momentum; what is on one moves."""
    one = network(space, **SMALL.get(space, {}))
    config = config_of(space, **SMALL.get(space, {}))
    trainer = PathTrainer(one, config, CPU, ALONE)
    data, fair = digits(), FairPaths(get_space(space), 0)
    x, labels = data.images[:16].float() / 16, data.labels[:16]
    trainer.step(x, labels, [fair.row(0)])
    before = [value.detach().clone() for value in trainer.parameters]
    state = {name: tensor.clone() for name, tensor in trainer.optimizer.state_dict().items()}
    computed: set[int] = set()
    for module in one.mixture.modules():
        if isinstance(module, Mixture):
            for operation in module.operations.values():
                operation.register_forward_hook(
                    lambda module, *_: computed.update(id(p) for p in module.parameters())
                )
    mixed = {
        id(p)
        for module in one.mixture.modules()
        if isinstance(module, Mixture)
        for p in module.parameters()
    }
    trainer.step(x, labels, [fair.row(1)])
    moved = {
        id(value)
        for value, earlier in zip(trainer.parameters, before, strict=True)
        if not torch.equal(value, earlier)
    }
    assert moved & mixed
    assert moved & mixed <= computed < mixed
    assert moved - mixed
    for index, value in enumerate(trainer.parameters):
        if id(value) not in moved:
            name = f"{index}/momentum_buffer"
            assert torch.equal(trainer.optimizer.state_dict()[name], state[name])


def test_a_step_is_along_the_mean_of_its_paths() -> None:
    config = config_of(weight_decay=0.0, momentum=0.0, gradient_clip=1e9, weight_lr=0.5)
    one, other = network("nasbench201"), network("nasbench201")
    fair, data = FairPaths(get_space("nasbench201"), 0), digits()
    rows = [fair.row(number) for number in range(5)]
    x, labels = data.images[:16].float() / 16, data.labels[:16]
    trainer = PathTrainer(one, config, CPU, ALONE)
    loss, correct = trainer.step(x, labels, rows).tolist()
    logits = [other.logits(x, row) for row in rows]
    losses = torch.stack([nn.functional.cross_entropy(each, labels) for each in logits])
    assert loss == pytest.approx(losses.mean().item(), rel=1e-5)
    assert correct == sum((each.argmax(1) == labels).sum().item() for each in logits) / 5
    losses.mean().backward()
    for ours, theirs in zip(trainer.parameters, other.mixture.parameters(), strict=True):
        # Each of the five operations is on one of the five paths.
        assert theirs.grad is not None
        torch.testing.assert_close(ours, theirs - 0.5 * theirs.grad, rtol=1e-4, atol=1e-6)


def test_norms_are_of_the_batch() -> None:
    """Whatever the module's mode, and nothing is kept of a batch."""
    one = network("nasbench201")
    x, row = digits().images[:16].float(), FairPaths(get_space("nasbench201"), 0).row(0)
    before = {name: tensor.clone() for name, tensor in one.mixture.state_dict().items()}
    logits = one.logits(x, row)
    one.mixture.eval()
    torch.testing.assert_close(one.logits(x, row), logits)
    assert not torch.allclose(one.logits(x[:8], row), logits[:8])
    assert all(torch.equal(before[name], t) for name, t in one.mixture.state_dict().items())


@pytest.mark.parametrize(
    ("space", "changes"),
    [
        ("darts", {"cells": 2}), ("darts", {"channels": 3}), ("nasbench201", {"cells": 4}),
        ("fbnet", {"cells": 8}), ("fbnet", {"channels": 6}), ("darts", {"subnets": 19}),
        ("nasbench201", {"subnets": 15_626}), ("darts", {"paths": 0}), ("darts", {"batch": 1}),
        ("darts", {"weight_lr": 0.0}), ("darts", {"momentum": 1.0}), ("darts", {"seed": -1}),
        ("darts", {"eval_images": 1}), ("models", {}),
    ],
)  # fmt: skip
def test_what_cannot_be(space: str, changes: dict[str, int | float]) -> None:
    with pytest.raises(InputError):
        dataclasses.replace(config_of("nasbench201", cells=3), **changes).check(space)


def test_presets_fit_their_spaces() -> None:
    assert MIXTURES.names() == list(SPACES)
    for space in SPACES:
        for name in PRESETS:
            preset(name, space).check(space)
