"""The paper's LPM: its shape, its recipe, and that it learns."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from latkit.core.errors import DatasetError, LPMError
from latkit.lpm.paper import PaperLPM, PaperRecipe
from latkit.lpm.recipe import Recipe
from latkit.lpm.rows import Rows
from latkit.lpm.training import train_lpm, warnings_of
from tests.support.synthetic import MICRO, SPACE, formula_ms, made_dataset


def paper(recipe: PaperRecipe, seed: int) -> Recipe:
    return Recipe("paper", seed=seed, options=recipe)


def test_published_shape() -> None:
    lpm = PaperLPM(112)
    layers = [m for m in lpm.network if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [
        (112, 112), (112, 256), (256, 64), (64, 1),
    ]  # fmt: skip
    assert isinstance(lpm.network[-1], torch.nn.Linear)
    assert sum(isinstance(m, torch.nn.Sigmoid) for m in lpm.network) == 3


def test_published_recipe() -> None:
    recipe = PaperRecipe()
    assert (recipe.learning_rate, recipe.momentum, recipe.weight_decay) == (0.01, 0.9, 1e-5)
    assert recipe.batch == 200
    assert recipe.epochs_for(80_000) == 1000
    assert recipe.epochs_for(240) == 5000  # 2 steps an epoch, 10,000 in all
    assert PaperRecipe(epochs=1000).epochs_for(240) == 1000


def test_one_step_is_sgd_with_momentum_and_weight_decay_by_hand() -> None:
    """Two epochs of one batch, recomputed from the definition of the update."""
    ids = SPACE.sample(50, 0)
    x, y = SPACE.encode(SPACE.unrank(ids)).astype(np.float64), formula_ms(ids)
    recipe = PaperRecipe(epochs=2, standardize=False)
    rows = Rows(SPACE, MICRO, x, y)
    still = dataclasses.replace(recipe, epochs=1, learning_rate=0.0)
    start = PaperLPM.fit(rows, paper(still, 0))
    reference = PaperLPM.from_state(start.hyper_parameters, start.state()).network
    reference.requires_grad_(True)
    velocity = [torch.zeros_like(p) for p in reference.parameters()]
    inputs, targets = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    for _ in range(2):
        loss = ((reference(inputs).squeeze(1) - targets) ** 2).mean()
        gradients = torch.autograd.grad(loss, list(reference.parameters()))
        with torch.no_grad():
            for p, v, g in zip(reference.parameters(), velocity, gradients, strict=True):
                v.mul_(0.9).add_(g + 1e-5 * p)
                p.sub_(0.01 * v)
    trained = PaperLPM.fit(rows, paper(recipe, 0))
    for ours, theirs in zip(trained.network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-4, atol=1e-5)


def test_learns_an_additive_latency_and_beats_macs(tmp_path: Path) -> None:
    trained = train_lpm(made_dataset(tmp_path / "d", 480), paper(PaperRecipe(epochs=2000), 0))
    metrics, baseline = trained.card.metrics, trained.card.baselines["macs_only"]
    assert metrics["n_train"] == 384
    assert metrics["n_test"] == 96
    assert metrics["mape_percent"] < 2
    assert metrics["spearman"] > 0.98
    assert metrics["mape_percent"] < baseline["mape_percent"]
    (std_ms,) = trained.lpm.predict_std(SPACE.encode(SPACE.unrank(1)))
    assert 0 < std_ms < 2 * metrics["rmse_ms"]
    assert warnings_of(trained.card) == []


def test_raw_targets_collapse_at_hundreds_of_ms_and_the_card_says_so(tmp_path: Path) -> None:
    dataset = made_dataset(tmp_path / "d", 300, scale=10)
    raw = train_lpm(dataset, paper(PaperRecipe(epochs=200, standardize=False), 0))
    assert raw.card.metrics["mape_percent"] > 5
    assert any("--standardize" in line for line in warnings_of(raw.card))
    standardized = train_lpm(dataset, paper(PaperRecipe(epochs=1500), 0))
    assert standardized.card.metrics["mape_percent"] < raw.card.metrics["mape_percent"] / 2


def test_training_is_deterministic_and_leaves_the_random_state(tmp_path: Path) -> None:
    dataset = made_dataset(tmp_path / "d", 60)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = (train_lpm(dataset, paper(PaperRecipe(epochs=20), 3)) for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    for name, tensor in first.lpm.state().items():
        assert torch.equal(tensor, second.lpm.state()[name])
    other = train_lpm(dataset, paper(PaperRecipe(epochs=20), 4))
    assert not torch.equal(other.lpm.state()["0.weight"], first.lpm.state()["0.weight"])


def test_prediction_is_differentiable_in_the_encoding(tmp_path: Path) -> None:
    lpm = train_lpm(made_dataset(tmp_path / "d", 200), paper(PaperRecipe(epochs=2000), 0)).lpm
    row = torch.tensor(SPACE.encode(SPACE.unrank(12345)), requires_grad=True)
    lpm.mean(row).sum().backward()
    assert row.grad is not None
    # sep_conv_5x5 costs 3 ms, skip_connect 0.1: the gradient knows which is dearer.
    per_edge = row.grad.view(14, 8)
    assert per_edge[:, 5].mean() > per_edge[:, 3].mean() + 0.5


def test_too_few_architectures(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"19 usable .* needs 20.*--n 20"):
        train_lpm(made_dataset(tmp_path / "d", 19), paper(PaperRecipe(epochs=1), 0))


def test_divergence_is_named() -> None:
    ids = SPACE.sample(20, 0)
    encodings = SPACE.encode(SPACE.unrank(ids)).astype(np.float64)
    rows = Rows(SPACE, MICRO, encodings, formula_ms(ids, 1e20))
    recipe = paper(PaperRecipe(epochs=50, standardize=False), 0)
    with pytest.raises(LPMError, match="diverged in epoch"):
        PaperLPM.fit(rows, recipe)
