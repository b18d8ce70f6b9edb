"""The supernet against a discrete network, and the derivation of genotypes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from latkit.networks import ZOO, Setting
from latkit.networks.network import Network
from latkit.search.bilevel import FirstOrder, OptimizerConfig
from latkit.search.supernet import MixedOperation, Supernet, derive_genotype
from latkit.spaces import Genotype, get_space

SPACE = get_space("darts")


def alpha_of(genotype: Genotype, reduce: bool) -> torch.Tensor:
    """α under which all weight is on a genotype's connections."""
    alpha = torch.full((14, 8), 0.0)
    alpha[:, 0] = 50.0  # none everywhere else
    cell = genotype.reduce if reduce else genotype.normal
    for index, (operation, source) in enumerate(cell):
        node = index // 2 + 2
        edge = next(i for i, e in enumerate(SPACE.edges) if (e.source, e.target) == (source, node))
        alpha[edge] = 0.0
        alpha[edge, SPACE.operations.index(operation)] = 50.0
    return alpha


@pytest.mark.parametrize("name", ["darts_v2", "pc_darts_cifar", "gdas"])
def test_one_hot_alpha_gives_the_discrete_network(name: str) -> None:
    """With α at a vertex and the weights copied, the supernet computes that network's logits."""
    torch.manual_seed(0)
    genotype = ZOO[name]
    supernet = Supernet(SPACE, channels=4, cells=3, classes=5).double().eval()
    setting = Setting("cifar", cells=3, channels=4, resolution=16, classes=5)
    network = Network(genotype, setting).double().eval()
    with torch.no_grad():
        supernet.alpha_normal.copy_(alpha_of(genotype, reduce=False))
        supernet.alpha_reduce.copy_(alpha_of(genotype, reduce=True))
        network.stem0.load_state_dict(supernet.stem.state_dict())
        network.classifier.load_state_dict(supernet.classifier.state_dict())
        for cell, search_cell in zip(network.cells, supernet.cells, strict=True):
            copy(search_cell.preprocess0, cell.preprocess0)
            copy(search_cell.preprocess1, cell.preprocess1)
            connections = genotype.reduce if search_cell.reduction else genotype.normal
            for index, (operation, source) in enumerate(connections):
                edge = next(
                    i
                    for i, e in enumerate(SPACE.edges)
                    if (e.source, e.target) == (source, index // 2 + 2)
                )
                mixed = search_cell.edges[edge]
                column = SPACE.choices.index(SPACE.operations.index(operation))
                if "pool" not in operation:
                    copy(mixed.operations[column], cell.operations[index])
        x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
        # The supernet normalises pools; undo it, as these statistics are those of a new module.
        expected, got = network(x), supernet(x)
    pools = sum("pool" in op for op, _ in (*genotype.normal, *genotype.reduce))
    rtol = 1e-9 if pools == 0 else 1e-3  # the pools' batch norms divide by sqrt(1 + 1e-5)
    torch.testing.assert_close(got, expected, rtol=rtol, atol=1e-9)


def copy(source: nn.Module, target: nn.Module) -> None:
    missing = target.load_state_dict(source.state_dict(), strict=False)
    assert not missing.unexpected_keys
    # Affine parameters exist only in the discrete network, where they are neutral.
    assert all(key.endswith((".weight", ".bias")) or key in ("weight", "bias")
               for key in missing.missing_keys)  # fmt: skip


def test_mixture_is_the_weighted_sum() -> None:
    torch.manual_seed(0)
    mixed = MixedOperation(SPACE, 4, stride=2)
    x, weights = torch.randn(2, 4, 8, 8), torch.rand(8)
    mixed.eval()
    expected = sum(
        weights[column] * operation(x)
        for column, operation in zip(range(1, 8), mixed.operations, strict=True)
    )
    torch.testing.assert_close(mixed(x, weights), expected)


def test_search_time_batch_norms_have_no_affine_parameters_and_pools_have_one() -> None:
    mixed = MixedOperation(SPACE, 4, stride=1)
    norms = [m for m in mixed.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.affine for norm in norms)
    assert isinstance(mixed.operations[0], nn.Sequential)
    assert isinstance(mixed.operations[0][1], nn.BatchNorm2d)


def test_parameters_in_print() -> None:
    """DARTS's published supernet (C=16, 8 cells, 10 classes) has 1.930618 M weights."""
    supernet = Supernet(SPACE, channels=16, cells=8, classes=10)
    assert sum(p.numel() for p in supernet.weight_parameters()) == 1_930_618
    assert [tuple(p.shape) for p in supernet.architecture_parameters()] == [(14, 8)] * 2


class TestDerivation:
    @pytest.mark.parametrize("name", ["darts_v1", "pc_darts_cifar", "p_darts_cifar"])
    def test_finds_the_vertex(self, name: str) -> None:
        alphas = [torch.randn(14, 8) * 0.1 for _ in range(2)]
        for alpha, reduce in zip(alphas, (False, True), strict=True):
            vertex = alpha_of(ZOO[name], reduce)
            vertex[:, 0] = 0
            alpha += vertex
        genotype = derive_genotype(SPACE, *alphas)
        assert (SPACE.from_genotype(genotype) == SPACE.from_genotype(ZOO[name])).all()
        pairs = [sorted(ZOO[name].reduce[i : i + 2]) for i in range(0, 8, 2)]
        assert [sorted(genotype.reduce[i : i + 2]) for i in range(0, 8, 2)] == pairs

    def test_none_weakens_an_edge_but_is_never_chosen(self) -> None:
        alpha = torch.zeros(14, 8)
        alpha[:, 3] = 1.0  # skip_connect leads everywhere
        alpha[9, 0] = 5.0  # edge 0 -> 5 is mostly none
        alpha[13, 0] = 5.0
        genotype = derive_genotype(SPACE, alpha, alpha)
        assert {operation for operation, _ in genotype.normal} == {"skip_connect"}
        assert [source for _, source in genotype.normal[6:]] == [1, 2]


class TestFirstOrder:
    def make(self, lambda_per_ms: float) -> tuple[Supernet, FirstOrder]:
        torch.manual_seed(0)
        supernet = Supernet(SPACE, channels=2, cells=3, classes=3)
        weights = torch.rand(112, generator=torch.Generator().manual_seed(5))

        def latency(alpha: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return (alpha.softmax(-1).flatten() * weights).sum()

        return supernet, FirstOrder(supernet, OptimizerConfig(), latency, lambda_per_ms)

    def batch(self, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(4, 3, 8, 8, generator=generator)
        return x, torch.randint(3, (4,), generator=generator)

    def test_alpha_step_follows_the_total_loss(self) -> None:
        """The first Adam step moves each α by its learning rate against the gradient's sign."""
        supernet, optimizer = self.make(lambda_per_ms=0.7)
        train, val = self.batch(1), self.batch(2)
        before = [a.detach().clone() for a in supernet.architecture_parameters()]
        loss = nn.functional.cross_entropy(supernet(val[0]), val[1])
        loss = loss + 0.7 * optimizer.latency(supernet.alpha_normal, torch.Generator())
        gradients = torch.autograd.grad(loss, supernet.architecture_parameters())
        optimizer.step(train, val, torch.Generator())
        for a, b, g in zip(supernet.architecture_parameters(), before, gradients, strict=True):
            total = g + 1e-3 * b
            clear = total.abs() > 1e-4
            moved = (a.detach() - b)[clear]
            torch.testing.assert_close(moved, -3e-4 * total[clear].sign(), rtol=1e-2, atol=0)

    def test_weight_step_is_clipped_sgd(self) -> None:
        supernet, optimizer = self.make(lambda_per_ms=0.0)
        optimizer.arch_optimizer.param_groups[0]["lr"] = 0.0
        train, val = self.batch(1), self.batch(2)
        weights = supernet.weight_parameters()
        before = [w.detach().clone() for w in weights]
        loss = nn.functional.cross_entropy(supernet(train[0]), train[1])
        gradients = torch.autograd.grad(loss, weights)
        norm = torch.stack([g.norm() for g in gradients]).norm()
        scale = min(1.0, 5.0 / float(norm))
        optimizer.step(train, val, torch.Generator())
        for w, b, g in zip(weights, before, gradients, strict=True):
            expected = b - 0.025 * (scale * g + 3e-4 * b)
            torch.testing.assert_close(w.detach(), expected, rtol=1e-4, atol=1e-6)

    def test_learning_rate_is_a_cosine(self) -> None:
        _, optimizer = self.make(0.0)
        rates = []
        for epoch in (0, 25, 50):
            optimizer.set_epoch(epoch, 50)
            rates.append(optimizer.weight_optimizer.param_groups[0]["lr"])
        assert rates == pytest.approx([0.025, 0.0125, 0.0])
