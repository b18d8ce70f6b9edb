"""The numbers that weights are made of, which every machine draws alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from latkit.networks.pool import POOL_SIZE, DrawnWeight, uniform_pool

# The first words of the reference Mersenne twister with its usual seed.
FIRST_WORDS = (3499211612, 581869302, 3890346734)


def test_the_words_are_those_of_the_mersenne_twister() -> None:
    width = 2 * np.float64(np.float32(math.sqrt(3)))
    wanted = [np.float32((word % 2**24) / 2**24 * width - width / 2) for word in FIRST_WORDS]
    assert uniform_pool(5489)[:3].tolist() == wanted


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_they_are_pytorchs_up_to_its_rounding(seed: int) -> None:
    """PyTorch rounds once or twice, depending on the CPU."""
    generator, end = torch.Generator().manual_seed(seed), math.sqrt(3)
    theirs = torch.empty(POOL_SIZE).uniform_(-end, end, generator=generator).numpy()
    ours = uniform_pool(seed)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-7)
    assert ours.std() == pytest.approx(1, abs=1e-3)


def test_weights_are_scaled_parts() -> None:
    pool = uniform_pool(0)
    weight = DrawnWeight((4, 2, 3, 3), 7, 0.5).draw(pool)
    wanted = pool[7 : 7 + 72] * np.float32(1 / math.sqrt(18)) * np.float32(0.5)
    assert weight.shape == (4, 2, 3, 3)
    assert weight.ravel().tobytes() == wanted.tobytes()
    assert not np.shares_memory(weight, pool)
    assert DrawnWeight((3,), None, -0.25).draw(pool).tolist() == [-0.25] * 3
    # A larger weight than the pool has its numbers repeatedly.
    large = DrawnWeight((POOL_SIZE // 4 + 1, 4), 0, 1.0).draw(pool)
    assert large[-1].tolist() == large[0].tolist() == (pool[:4] / 2).tolist()


def test_as_json() -> None:
    for weight in (
        DrawnWeight((2, 3), 5, 0.999995), DrawnWeight((8,), None, 0.0),
        DrawnWeight((2, 3), 5, 0.5, "int8"), DrawnWeight((8,), None, -3, "int32"),
    ):  # fmt: skip
        assert DrawnWeight.from_list(weight.to_list()) == weight
