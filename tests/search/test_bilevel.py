"""Steps of both orders, against the published ones and autograd."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from latkit.search.bilevel import FirstOrder, OptimizerConfig, SecondOrder
from latkit.search.supernet import methods_of
from tests.search.textbook import TextbookSearch
from tests.search.textbook_state import to_textbook
from tests.search.twins import ARCHITECTURE, images, twins

pytestmark = pytest.mark.usefixtures("one_thread")


class Toy:
    """A penalty whose gradient is known."""

    weight = 0.7

    def __init__(self) -> None:
        self.costs = torch.rand(14, 8, generator=torch.Generator().manual_seed(5)).double()

    def expected(
        self, alpha: Tensor, edge_strength: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        return (alpha.softmax(-1) * self.costs).sum()

    def state_dict(self) -> dict[str, float]:
        return {}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        pass


class TestSteps:
    RATES = OptimizerConfig(arch_lr=3e-3, weight_lr=0.05)

    def batch(self, seed: int) -> tuple[Tensor, Tensor]:
        return images(8, seed=seed)

    @pytest.mark.parametrize("method", methods_of("darts"))
    @pytest.mark.parametrize("order", [1, 2])
    def test_two_steps_end_where_those_in_print_end(self, method: str, order: int) -> None:
        ours, book = twins(method, 4, 3)
        toy = Toy()
        toy.weight = 0.0
        optimizer = (FirstOrder if order == 1 else SecondOrder)(ours, self.RATES, toy)
        printed = TextbookSearch(book, order == 2, 3e-3, 0.05)
        for step in range(2):
            optimizer.step(self.batch(step), self.batch(10 + step), torch.Generator())
            printed.step(self.batch(step), self.batch(10 + step))
        state = to_textbook(ours)
        expected = dict(book.named_parameters())
        expected |= dict(zip(ARCHITECTURE, book.architecture(), strict=False))
        for name, tensor in expected.items():
            torch.testing.assert_close(state[name], tensor, rtol=0, atol=1e-8, msg=name)
        moved = (ours.alpha_normal - twins(method, 4, 3)[0].alpha_normal).abs()
        assert moved.max() > 3e-3

    def test_second_order_is_not_first_order(self) -> None:
        ends = []
        for kind in (FirstOrder, SecondOrder):
            ours, _ = twins("darts", 4, 3)
            toy = Toy()
            optimizer = kind(ours, self.RATES, toy)
            gradients = optimizer.arch_gradients(self.batch(1), self.batch(2))[2]
            ends.append(gradients[0])
        assert (ends[0] - ends[1]).norm() > 0.01 * ends[0].norm()

    def test_looking_ahead_leaves_no_trace(self) -> None:
        ours, _ = twins("darts", 4, 3)
        optimizer = SecondOrder(ours, self.RATES, Toy())
        optimizer.step(self.batch(0), self.batch(1), torch.Generator())
        before = {name: t.clone() for name, t in ours.state_dict().items()}
        optimizer.arch_gradients(self.batch(2), self.batch(3))
        after = ours.state_dict()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
        assert all(p.grad is None for p in ours.parameters())

    def test_finite_difference_is_the_second_derivative(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Against autograd through the look-ahead step of the published network.

        DARTS's radius is too large for that: with four images of few pixels the loss is rough.
        """
        monkeypatch.setattr("latkit.search.bilevel.RADIUS", 1e-7)
        ours, book = twins("darts", 4, 3)
        optimizer = SecondOrder(ours, self.RATES, Toy())
        train, val = self.batch(2), self.batch(3)
        found = optimizer.arch_gradients(train, val)[2]
        names = [name for name, _ in book.named_parameters()]
        weights = list(book.parameters())
        loss = nn.functional.cross_entropy(book(train[0]), train[1])
        gradients = torch.autograd.grad(loss, weights, create_graph=True)
        ahead = {
            name: w - 0.05 * (g + 3e-4 * w)
            for name, w, g in zip(names, weights, gradients, strict=True)
        }
        logits = torch.func.functional_call(book, ahead, (val[0],))
        exact = torch.autograd.grad(nn.functional.cross_entropy(logits, val[1]), book.alphas)
        for a, b in zip(found, exact, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.norm()))

    def test_the_penalty_is_added(self) -> None:
        """The first Adam step moves each α by its learning rate against the gradient's sign."""
        ours, _ = twins("darts", 4, 3)
        toy = Toy()
        optimizer = FirstOrder(ours, OptimizerConfig(), toy)
        train, val = self.batch(1), self.batch(2)
        before = [a.detach().clone() for a in ours.architecture_parameters()]
        loss = nn.functional.cross_entropy(ours(val[0]), val[1])
        loss = loss + 0.7 * toy.expected(ours.alpha_normal, None, torch.Generator())
        gradients = torch.autograd.grad(loss, ours.architecture_parameters())
        seen = optimizer.step(train, val, torch.Generator())
        assert seen.expected_cost is not None
        for a, b, g in zip(ours.architecture_parameters(), before, gradients, strict=True):
            total = g + 1e-3 * b
            clear = total.abs() > 1e-4
            torch.testing.assert_close(
                (a.detach() - b)[clear], -3e-4 * total[clear].sign(), rtol=1e-2, atol=0
            )

    def test_weight_step_is_clipped_sgd(self) -> None:
        ours, _ = twins("darts", 4, 3)
        config = OptimizerConfig(gradient_clip=0.5)
        optimizer = FirstOrder(ours, config, Toy())
        train, val = self.batch(1), self.batch(2)
        weights = ours.weight_parameters()
        before = [w.detach().clone() for w in weights]
        loss = nn.functional.cross_entropy(ours(train[0]), train[1])
        gradients = torch.autograd.grad(loss, weights)
        norm = torch.stack([g.norm() for g in gradients]).norm()
        assert norm > 0.5
        seen = optimizer.step(train, val, torch.Generator(), arch=False)
        assert seen.val_loss is None
        for w, b, g in zip(weights, before, gradients, strict=True):
            expected = b - 0.025 * (0.5 / norm * g + 3e-4 * b)
            torch.testing.assert_close(w.detach(), expected, rtol=1e-4, atol=1e-6)

    def test_without_the_alpha_step_alpha_stays(self) -> None:
        ours, _ = twins("pc-darts", 4, 3)
        before = [a.detach().clone() for a in ours.architecture_parameters()]
        optimizer = FirstOrder(ours, self.RATES, Toy())
        optimizer.step(self.batch(1), self.batch(2), torch.Generator(), arch=False)
        assert all(
            torch.equal(a, b) for a, b in zip(ours.architecture_parameters(), before, strict=True)
        )

    def test_learning_rate_is_a_cosine(self) -> None:
        optimizer = FirstOrder(twins("darts", 4, 3)[0], OptimizerConfig(), Toy())
        rates = []
        for epoch in (0, 25, 50):
            optimizer.set_epoch(epoch, 50)
            rates.append(optimizer.weight_optimizer.lr)
        assert rates == pytest.approx([0.025, 0.0125, 0.0])
