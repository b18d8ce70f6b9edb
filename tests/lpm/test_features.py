"""Structural features: exact on architectures, differentiable between them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latkit.lpm.features import StructuralFeatures
from latkit.spaces import SPACES, default_setting, get_preset, get_space
from latkit.spaces.registry import analytic_table


def _features(name: str) -> StructuralFeatures:
    return StructuralFeatures.of(get_space(name), get_preset(default_setting(name)))


def _encodings(name: str, n: int = 40) -> torch.Tensor:
    space = get_space(name)
    return torch.from_numpy(space.encode(space.unrank(space.sample(n, 1)))).double()


@pytest.mark.parametrize("name", SPACES.names())
class TestEverySpace:
    def test_groups_cover_the_columns(self, name: str) -> None:
        features = _features(name)
        covered = [i for where in features.groups.values() for i in range(where.start, where.stop)]
        assert covered == list(range(features.size))
        for view in features.views:
            assert features(_encodings(name), view).shape == (40, features.size)

    def test_the_state_makes_the_same_features(self, name: str) -> None:
        features, x = _features(name), _encodings(name)
        shuffled = dict(sorted(features.state().items()))
        again = StructuralFeatures.from_state(features.space, features.views, shuffled)
        for view in features.views:
            assert torch.equal(features(x, view), again(x, view))

    def test_roofline_columns_are_the_tables_sums(self, name: str) -> None:
        space = get_space(name)
        setting = get_preset(default_setting(name))
        matrix = space.unrank(space.sample(40, 1))
        table = analytic_table(name, setting.network)
        wanted = (table.rows(matrix) - table.frame)[:, :4]
        features = _features(name)
        got = features(_encodings(name), "all")[:, features.groups["roofline"]].numpy()
        # Proportional, with a mean of about one over the space.
        factor = got.sum(0) / wanted.sum(0)
        assert np.allclose(got, wanted * factor, rtol=1e-9)
        assert np.allclose(got.mean(0), 1, atol=0.3)

    def test_per_edge_costs_are_what_the_linear_part_adds(self, name: str) -> None:
        features, x = _features(name), _encodings(name)
        rng = np.random.default_rng(0)
        weights = torch.zeros(features.size, dtype=torch.float64)
        for group in ("roofline", "count", "edge"):
            where = features.groups[group]
            weights[where] = torch.from_numpy(rng.normal(size=where.stop - where.start))
        costs = features.per_edge_costs(weights).flatten()
        linear, summed = features(x, "all") @ weights, x @ costs
        assert torch.allclose(linear - linear.mean(), summed - summed.mean())

    def test_gradients_exist(self, name: str) -> None:
        features = _features(name)
        x = _encodings(name).mul(0.8).add(0.02).requires_grad_()
        for view in features.views:
            (gradient,) = torch.autograd.grad(features(x, view).sum(), x)
            assert torch.isfinite(gradient).all()
            assert gradient.abs().max() > 0


def test_views_where_operations_can_be_dead() -> None:
    assert _features("darts").views == ("all",)
    assert _features("fbnet").views == ("all",)
    assert _features("nasbench201").views == ("all", "reaching", "live")


def test_dead_operations_are_found_one_by_one() -> None:
    space, features = get_space("nasbench201"), _features("nasbench201")
    # Node 1 has no input, and node 2 feeds nothing.
    text = "|none~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"
    x = torch.from_numpy(space.encode(space.parse(text))).double()
    from_input, to_output = features.reach(x)
    assert from_input[0].tolist() == [1, 1, 0, 1, 0, 1]
    assert to_output[0].tolist() == [1, 0, 0, 1, 1, 1]


def test_the_longest_path_against_enumeration() -> None:
    space, features = get_space("darts"), _features("darts")
    rng = np.random.default_rng(0)
    costs = rng.uniform(0.1, 2, (space.num_edges, space.num_operations))
    for row in space.unrank(space.sample(30, 2)):
        arrival = {0: 0.0, 1: 0.0}
        for index, edge in enumerate(space.edges):
            if row[index] >= 0:
                way = arrival[edge.source] + costs[index, row[index]]
                arrival[edge.target] = max(arrival.get(edge.target, 0.0), way)
        x = torch.from_numpy(space.encode(row)).double()
        (got,) = features.longest_path(x, torch.from_numpy(costs), "all").tolist()
        assert got == pytest.approx(max(arrival.values()), abs=0.1)
        assert got >= max(arrival.values()) - 1e-9
