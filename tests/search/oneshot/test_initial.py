"""Training-free measures: by hand where that can be done, and of what they depend on."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latkit.search.oneshot import initial
from latkit.search.oneshot.config import preset
from latkit.search.oneshot.initial import (
    INITIAL,
    TINY,
    InitialNetwork,
    pattern_log_determinant,
    spectral_entropy,
    synflow,
    trainability,
)
from latkit.search.oneshot.paths import FairPaths
from latkit.search.supernet.mixture import Mixture
from latkit.spaces import get_space
from tests.search.oneshot.micro import CPU, digits

SPACES = ("darts", "nasbench201", "fbnet")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of another size than they have in use, where that does not matter."""
    monkeypatch.setattr(
        initial, "preset", lambda _, space: dataclasses.replace(preset("cpu", space), channels=4)
    )


def made(space: str, seed: int = 0) -> InitialNetwork:
    return InitialNetwork(get_space(space), digits(), seed, CPU)


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_entropy_of_known_spectra() -> None:
    """Channels that vary alike have log C, one that varies alone 0, shares in between their own."""
    patterns = torch.tensor([[1.0, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
    features = patterns[1:].view(1, 3, 2, 2)  # mean 0, orthogonal
    assert spectral_entropy(features).item() == pytest.approx(math.log(3))
    one = torch.cat([features[:, :1], torch.full((1, 2, 2, 2), 5.0)], dim=1)
    assert spectral_entropy(one).item() == pytest.approx(0, abs=1e-6)
    scaled = features * torch.tensor([3.0, 1, 0]).view(1, 3, 1, 1)
    expected = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert spectral_entropy(scaled).item() == pytest.approx(expected)
    assert spectral_entropy(torch.zeros(2, 3, 2, 2)).item() == 0


def signs_of(shape: torch.Size, seed: int) -> Tensor:
    """As they are drawn there, ``BHW x C``."""
    signs = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return signs.double().permute(0, 2, 3, 1).reshape(-1, shape[1])


def test_trainability_by_hand() -> None:
    """A product of channels passes W^T S back; a pooling half of it, spread over its pixels."""
    given, weight = numbers(0, 2, 3, 4, 4).requires_grad_(), numbers(1, 5, 3)
    output = torch.einsum("oc,bchw->bohw", weight, given)
    pooled_input = numbers(2, 2, 3, 4, 4).requires_grad_()
    pooled = nn.functional.avg_pool2d(pooled_input, 2)
    signs, after_pooling = signs_of(output.shape, 7), signs_of(pooled.shape, 7)
    largest = [
        np.linalg.norm(weight.numpy().T @ (signs.T @ signs).numpy() / len(signs), 2),
        np.linalg.norm((after_pooling.T @ after_pooling).numpy() / len(after_pooling) / 2, 2),
    ]
    expected = [2 - s - 1 / (s + TINY) for s in largest]
    assert trainability([(given, output)], 7).item() == pytest.approx(expected[0])
    assert trainability([(pooled_input, pooled)], 7).item() == pytest.approx(expected[1])
    nothing = (given, torch.zeros_like(given))
    assert trainability([nothing], 7).item() == pytest.approx(2 - 1 / TINY)
    kept, grown, shrunk = (trainability([(given, given * k)], 7) for k in (1, 3, 1 / 3))
    assert kept > max(grown, shrunk)


def test_kernel_of_patterns_by_hand() -> None:
    """Two images, 5 units, of which 3 are alike: 25 - 9."""
    first = torch.tensor([[True, False], [True, True]])
    second = torch.tensor([[True, False, True], [True, True, True]])
    found = pattern_log_determinant([first, second], first).item()
    assert found == pytest.approx(math.log(25 - 9), abs=1e-5)
    alike = pattern_log_determinant([first[:1].repeat(2, 1)], first).item()
    assert math.log(TINY) < alike < found
    assert pattern_log_determinant([], first).item() == pytest.approx(2 * math.log(TINY))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("space", SPACES)
def test_synflow_is_how_the_output_grows_with_all_weights(space: str) -> None:
    """The sum of weight times gradient is the derivative by a common factor."""
    network = made(space)
    row = get_space(space).unrank(get_space(space).sample(1, 3))[0]
    linear, ones = network._linear, network._ones
    found, step = synflow(linear, network._weights, ones, row).item(), 1e-6
    totals = []
    for factor in (1 + step, (1 - step) / (1 + step)):
        with torch.no_grad():
            for parameter in linear.parameters():
                parameter *= factor
        totals.append(linear(ones, row.tolist()).sum().item())
    assert found == pytest.approx(math.log((totals[0] - totals[1]) / (2 * step)), abs=1e-5)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("space", SPACES)
def test_what_the_measures_depend_on(space: str) -> None:
    """On the seed and the sub-network; not on what was before it, nor on other operations."""
    known, network = get_space(space), made(space)
    rows = [FairPaths(known, 1).row(number) for number in range(3)]
    found = [network(row) for row in rows]
    assert all(len(values) == len(INITIAL.columns) for values in found)
    assert (torch.stack(found).std(0) > 0).all()
    again = made(space)
    for row, values in zip(reversed(rows), reversed(found), strict=True):
        assert torch.equal(again(row), values)
    assert (made(space, 1)(rows[0]) != found[0]).all()
    edges, kept = 0, len(rows[0])
    for part in (network._network, network._linear):
        for module in (m for m in part.modules() if isinstance(m, Mixture)):
            pick = rows[0][edges % kept]
            edges += 1
            for name, operation in module.operations.items():
                if pick < 0 or name != known.operations[pick]:
                    for parameter in operation.parameters():
                        parameter.data.fill_(math.nan)
    assert edges > 2 * kept or space == "fbnet"
    assert torch.equal(network(rows[0]), found[0])


def test_a_cell_of_nothing() -> None:
    """Zeros from the first cell on: finite, and less than of any that passes something."""
    space, network = get_space("nasbench201"), made("nasbench201")
    assert len(network._network.blocks) == 15 + 2  # as deep as published, on 64 images
    assert network.images == 64
    none, skips = (
        np.full(space.num_edges, space.operations.index(name)) for name in ("none", "skip_connect")
    )
    nothing, something = network(none), network(skips)
    assert torch.isfinite(nothing).all()
    found = zip(INITIAL.columns, nothing.tolist(), something.tolist(), strict=True)
    assert [name for name, a, b in found if a >= b] == ["progressivity"]  # there is none to lose


@pytest.mark.usefixtures("small")
def test_features_that_are_not_finite() -> None:
    """They cannot be decomposed: the measures say so, and the search stops in one line."""
    network = made("nasbench201")
    for parameter in network._network.parameters():
        parameter.data.fill_(math.inf)
    row = FairPaths(get_space("nasbench201"), 1).row(0)
    assert not torch.isfinite(network(row)).all()
