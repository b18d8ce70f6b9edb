"""Small fits run on one thread, whatever there is around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits
from torch import Tensor
from torch.overrides import TorchFunctionMode

from latkit.lpm.default import DefaultLPM
from latkit.lpm.linear import LookupTableLPM
from latkit.lpm.paper import PaperLPM, PaperRecipe
from latkit.lpm.recipe import Recipe
from latkit.lpm.residual import fit_residual
from latkit.lpm.rows import Rows
from latkit.lpm.selection import choose_active
from latkit.lpm.threads import one_thread
from latkit.lpm.training import judge
from latkit.lpm.transfer import TransferPrior
from tests.support.synthetic import MICRO, SPACE, formula_ms

Seen = set[tuple[str, int]]
IDS = SPACE.sample(220, 0)
ENCODINGS = SPACE.encode(SPACE.unrank(IDS)).astype(np.float64)
VALUES = formula_ms(IDS)


def threads_now() -> Seen:
    """Threads that PyTorch and each library of the process would start."""
    pools = {(pool["user_api"], pool["num_threads"]) for pool in threadpool_info()}
    return {("torch", torch.get_num_threads()), *pools}


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    with threadpool_limits(limits=2):
        torch.set_num_threads(2)
        yield
    torch.set_num_threads(before)


class Watching(LookupTableLPM):
    """An LPM that notes how many threads there are when it predicts."""

    def __init__(self) -> None:
        super().__init__(10.0, torch.ones(SPACE.encoding_size, dtype=torch.float64))
        self.seen: Seen = set()

    def mean(self, encodings: Tensor) -> Tensor:
        self.seen |= threads_now()
        return super().mean(encodings)


def fits_default(watching: Watching) -> None:
    prior = TransferPrior(("watching",), (watching,), (10.0,))
    rows = Rows(SPACE, MICRO, ENCODINGS[:40], VALUES[:40])
    DefaultLPM.fit(rows, Recipe(transfer=prior))


def chooses(watching: Watching) -> None:
    prior = TransferPrior(("watching",), (watching,), (10.0,))
    choose_active(SPACE, MICRO, ENCODINGS, 5, prior)


def judges(watching: Watching) -> None:
    judge(watching, Rows(SPACE, MICRO, ENCODINGS, VALUES, "latency_ms"))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("use", [fits_default, chooses, judges])
def test_what_asks_an_lpm(use: Callable[[Watching], None]) -> None:
    before = threads_now()
    watching = Watching()
    use(watching)
    assert watching.seen
    assert {count for _, count in watching.seen} == {1}
    assert threads_now() == before
    assert ("torch", 2) in before


def trains_the_paper(encodings: Any) -> None:
    rows = Rows(SPACE, MICRO, encodings, VALUES)
    PaperLPM.fit(rows, Recipe("paper", options=PaperRecipe(epochs=2)))


def trains_the_residual(encodings: Any) -> None:
    fit_residual(torch.from_numpy(encodings), np.ones(len(encodings)), 0)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("use", [trains_the_paper, trains_the_residual])
def test_what_trains(use: Callable[[Any], None]) -> None:
    before, seen = threads_now(), set()

    class Watch(TorchFunctionMode):
        """Notes how many threads there are when PyTorch computes gradients."""

        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if function is torch.autograd.grad and not seen:
                seen.update(threads_now())
            return function(*args, **(kwargs or {}))

    with Watch():
        use(ENCODINGS)
    assert seen
    assert {count for _, count in seen} == {1}
    assert threads_now() == before


@pytest.mark.usefixtures("two_threads")
def test_threads_are_put_back_after_an_error() -> None:
    before = threads_now()
    with pytest.raises(ZeroDivisionError), one_thread():
        raise ZeroDivisionError
    assert threads_now() == before
