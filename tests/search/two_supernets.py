"""In each of two processes: steps of two processes are those of one that has the whole batches.

In double precision to rounding. A search in single precision cannot be compared so: its kinks and
the finite difference of second order make tenths of a learning rate in α of the last bits of a
weight. In bf16 gradients of α are compared, by what bf16 itself is wrong by.
A norm of inputs far from zero is compared in single precision.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from latkit.search.bilevel import ORDERS, Bilevel, OptimizerConfig
from latkit.search.data import ImageData, batches
from latkit.search.distributed import ALONE, Processes, joined, processes_here
from latkit.search.penalty import FixedWeight, Penalty
from latkit.search.supernet import BatchNormMode
from latkit.search.supernet.norms import Running, pointwise_norm
from latkit.spaces import get_space
from tests.search.made_objectives import linear_objective
from tests.search.supernets import build_supernet

BATCH, CLASSES = 8, 3


def made_data() -> ImageData:
    count = 2 * BATCH
    images = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0))  # fmt: skip
    return ImageData("made", images, torch.arange(count) % CLASSES, tuple("abc"), flip=True)


def search(
    method: str,
    order: int,
    processes: Processes,
    dtype: torch.dtype,
    precision: str = "fp32",
    space_name: str = "darts",
) -> tuple[Bilevel, Callable[[], None]]:
    """An optimiser, and what takes one of its steps."""
    torch.manual_seed(1)
    space = get_space(space_name)
    supernet = build_supernet(method, space, 4, 3, CLASSES).to(dtype)
    supernet.bn_mode.world = processes.world
    penalty = Penalty(space, linear_objective(0, space), FixedWeight(0.02))
    config = OptimizerConfig(arch_lr=0.02, weight_lr=0.1)
    bilevel = ORDERS[order](supernet, config, penalty, precision, processes.average_gradients)
    data = made_data()
    halves = torch.arange(len(data.labels)).view(2, -1)

    def take() -> None:
        streams = [torch.Generator().manual_seed(seed) for seed in (2, 3, 4)]
        ((train,), (val,)) = (
            batches(data, half, BATCH, data.normalisation(), stream, share=processes.share)
            for half, stream in zip(halves, streams[:2], strict=True)
        )
        bilevel.step((train[0].to(dtype), train[1]), (val[0].to(dtype), val[1]), streams[2])

    return bilevel, take


def compare_double(processes: Processes) -> None:
    """α, β, weights and the running statistics of batch norms."""
    # Second order takes first order's gradients too, at other weights.
    for method, order, space in (
        ("darts", 1, "darts"), ("pc-darts", 2, "darts"), ("darts", 1, "nasbench201"),
    ):  # fmt: skip
        states = []
        for who in (processes, ALONE):
            bilevel, take = search(method, order, who, torch.float64, space_name=space)
            before = {n: t.clone() for n, t in bilevel.supernet.state_dict().items()}
            take()
            states.append(bilevel.supernet.state_dict())
        assert any(name.endswith(("var", "running_var")) for name in states[0])
        assert ("beta_normal" in states[0]) == (method == "pc-darts")
        for name, ours in states[0].items():
            torch.testing.assert_close(
                ours, states[1][name], rtol=1e-6, atol=1e-8,
                msg=lambda m, where=f"{space} {method} {order} {name}": f"{where}: {m}",
            )  # fmt: skip
            if not name.endswith("num_batches_tracked"):
                assert not torch.equal(ours, before[name]), name


def compare_far_from_zero(processes: Processes) -> None:
    """A folded norm of single precision whose input's mean is 3,000 standard deviations."""
    generator = torch.Generator().manual_seed(5)
    rows = torch.randn(2048, 8, generator=generator) + 3000
    weight = torch.randn(8, 8, generator=generator)
    parts = rows.chunk(processes.world)
    found = []
    for x, world in ((parts[processes.rank], processes.world), (rows, 1)):
        running = Running(torch.zeros(8), torch.ones(8))
        y = pointwise_norm(x, weight, running, BatchNormMode(world=world))
        assert y is not None
        found.append((y, running.mean, running.var))
    whole = found[1][0].chunk(processes.world)[processes.rank]
    for ours, alone in zip(found[0], (whole, *found[1][1:]), strict=True):
        torch.testing.assert_close(ours, alone, rtol=1e-4, atol=1e-4)


def compare_bf16(processes: Processes) -> None:
    """First order only: the finite difference of second order is below bf16's resolution."""
    gradients = []
    for who, precision in ((processes, "bf16"), (ALONE, "bf16"), (ALONE, "fp32")):
        bilevel, take = search("darts", 1, who, torch.float32, precision)
        take()
        # After one step Adam's mean is the gradient times a constant.
        state = bilevel.arch_optimizer.state
        gradients.append(torch.cat([s["exp_avg"].flatten() for s in state]))
    ours, alone, exact = gradients
    wrong = [float((g - exact).norm() / exact.norm()) for g in (ours, alone)]
    assert 0 < wrong[1] < 0.5, wrong
    assert 0 < wrong[0] < 1.5 * wrong[1], wrong


def main(precision: str) -> None:
    """``double`` or ``bf16``."""
    torch.set_num_threads(1)
    with joined(processes_here(), "cpu") as processes:
        if precision == "double":
            compare_double(processes)
            compare_far_from_zero(processes)
        else:
            compare_bf16(processes)
