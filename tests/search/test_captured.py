"""Steps as functions of fixed tensors: those of the plain steps, to the bit, replays among them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from latkit.lpm.base import LPM
from latkit.search import parts
from latkit.search.bilevel import ORDERS, Bilevel, OptimizerConfig, StepLosses
from latkit.search.captured import CapturedSteps
from latkit.search.cuda_graphs import Launch, call
from latkit.search.data import ImageData
from latkit.search.distributed import Processes
from latkit.search.supernet import Supernet
from latkit.search.supernet.network import DartsSupernet
from latkit.spaces import get_space
from tests.search.gpu_path import Tapes, take_the_gpu_path
from tests.search.micro import MICRO, Finished, run
from tests.search.supernets import build_supernet

pytestmark = pytest.mark.usefixtures("one_thread")

RATES = OptimizerConfig(arch_lr=3e-3, weight_lr=0.05)
PHASES = {"gradients of alpha", "step of the weights"}


class Moving:
    """A penalty whose weight and cost change from step to step."""

    def __init__(self, supernet: Supernet) -> None:
        shape = supernet.alphas[supernet.encoded].shape
        self.costs = torch.rand(shape, generator=torch.Generator().manual_seed(5))
        self.weight = 0.5

    def expected(
        self, alpha: Tensor, strength: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        assert alpha.device.type == "cpu"
        noise = torch.rand(1, generator=generator)[0]
        edges = 1.0 if strength is None else strength[:, None]
        return noise * (alpha.softmax(-1) * edges * self.costs).sum()

    def state_dict(self) -> dict[str, float]:
        return {}

    def load_state_dict(self, state: object) -> None:
        pass


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(4, 3, 8, 8, generator=generator)
    return (
        images.contiguous(memory_format=torch.channels_last),
        torch.randint(5, (4,), generator=generator),
    )


def state_of(bilevel: Bilevel) -> dict[str, Tensor]:
    both = {"arch": bilevel.arch_optimizer, "weight": bilevel.weight_optimizer}
    return bilevel.supernet.state_dict() | {
        f"{prefix}/{name}": tensor
        for prefix, optimizer in both.items()
        for name, tensor in optimizer.state_dict().items()
    }


def walk(
    supernet: Supernet,
    order: int,
    step_of: Callable[[Bilevel], Callable[..., StepLosses]],
    frozen: bool = False,
) -> tuple[list[StepLosses], dict[str, Tensor]]:
    """Six steps, the first two without α's, with other rates, weights and batches each time."""
    penalty = Moving(supernet)
    bilevel = ORDERS[order](supernet, RATES, penalty)
    step, generator, losses = step_of(bilevel), torch.Generator().manual_seed(0), []
    for number in range(6):
        bilevel.set_epoch(number, 7)
        penalty.weight = 0.5 - 0.2 * number  # of a target it may be negative
        train = None if frozen else batch(number)
        losses.append(step(train, batch(10 + number), generator, frozen or number >= 2))
    return losses, state_of(bilevel)


def check_same(
    supernet: Supernet, order: int, launch: Launch, frozen: bool = False
) -> dict[str, Tensor]:
    """Steps that are launched end where plain ones end; returns that state."""
    losses, state = walk(copy.deepcopy(supernet), order, lambda bilevel: bilevel.step, frozen)
    ours, launched = walk(
        supernet, order, lambda bilevel: CapturedSteps(bilevel, launch).step, frozen
    )
    for a, b in zip(losses, ours, strict=True):
        for one, other in zip(a, b, strict=True):
            assert (one is None) == (other is None)
            assert one is None or float(one) == float(other)  # type: ignore[arg-type]
    assert state.keys() == launched.keys()
    for name, tensor in state.items():
        assert torch.equal(tensor, launched[name]), name
    return state


def supernet_of(method: str, space: str) -> Supernet:
    torch.manual_seed(0)
    return build_supernet(method, get_space(space), 4, 3, 5)


@pytest.mark.parametrize(
    ("method", "space", "order"),
    [("pc-darts", "darts", 1), ("darts", "nasbench201", 2)],
)
def test_called_steps_are_plain_steps(method: str, space: str, order: int) -> None:
    before = supernet_of(method, space)
    after = check_same(copy.deepcopy(before), order, call)
    for name, tensor in before.state_dict().items():
        moves = tensor.is_floating_point() and tensor.numel() > 1
        assert not moves or not torch.equal(tensor, after[name]), f"{name} has not moved"


@pytest.mark.parametrize(
    ("method", "space", "order"),
    [
        ("darts", "darts", 1),
        ("darts", "darts", 2),
        ("pc-darts", "darts", 1),
        ("darts", "nasbench201", 1),
    ],
)
def test_replays_are_plain_steps(
    method: str, space: str, order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the path of a GPU: nothing that changes is baked in, nothing is read by the host."""
    take_the_gpu_path(monkeypatch)
    tapes = Tapes()
    check_same(supernet_of(method, space), order, tapes)
    assert tapes.tapes.keys() > PHASES
    # Of six steps of the weights and four of α, which have two functions, two are not replays.
    assert tapes.replays == 4 + 2 * 2


def test_frozen_weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    take_the_gpu_path(monkeypatch)
    tapes = Tapes()
    supernet = supernet_of("pc-darts", "darts")
    before = [weight.clone() for weight in supernet.weight_parameters()]
    check_same(supernet, 1, tapes, frozen=True)
    assert "step of the weights" not in tapes.tapes
    after = supernet.weight_parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_what_a_function_reads_by_the_host_is_refused() -> None:
    tapes = Tapes()

    def read() -> None:
        float(torch.ones(1).sum())

    tapes("name", read)
    with pytest.raises(AssertionError, match="not permitted"):
        tapes("name", read)


def test_costs_that_strengths_are_no_part_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step of α is another function where the cost does not depend on β."""
    take_the_gpu_path(monkeypatch)

    class Uniform(Moving):
        def expected(self, alpha: Tensor, strength: object, generator: torch.Generator) -> Tensor:
            return super().expected(alpha, None, generator)

    supernet = supernet_of("pc-darts", "darts")
    assert isinstance(supernet, DartsSupernet)
    uniform, tapes = Uniform(supernet), Tapes()
    bilevel = ORDERS[1](supernet, RATES, uniform)
    steps, generator = CapturedSteps(bilevel, tapes), torch.Generator()
    steps.step(batch(0), batch(1), generator)
    bilevel.penalty = Moving(supernet)
    steps.step(batch(0), batch(1), generator)
    assert len(tapes.called) == 4


def test_a_search_by_replays_is_the_search(
    tmp_path: Path,
    finished: Finished,
    lpm: LPM,
    data: ImageData,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Tapes] = []

    def tapes(device: torch.device, warn: object) -> Tapes:
        made.append(Tapes())
        return made[-1]

    monkeypatch.setattr(parts, "are_captured", lambda device, processes: True)
    monkeypatch.setattr(parts, "CudaGraphs", tapes)
    outcome = run(tmp_path / "s", lpm, data, MICRO)
    assert made[0].replays > 0
    finished.check_same_end(tmp_path / "s", outcome)


def test_what_is_captured() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert parts.are_captured(gpu, Processes())
    assert not parts.are_captured(cpu, Processes())
    assert not parts.are_captured(gpu, Processes(0, 2, 0))
