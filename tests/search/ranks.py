"""What each of two processes does that train as one; tests/search/test_distributed.py runs it."""

from __future__ import annotations

import os

import torch
from torch import nn

from latkit.search.data import ImageData, batches
from latkit.search.distributed import joined, processes_here
from tests.support.processes import latkit_here


def average_gradients() -> None:
    """Averaged gradients of the parts of a batch are those of the batch."""
    images = torch.randint(0, 256, (24, 3, 4, 4), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0))  # fmt: skip
    data = ImageData("made", images, torch.arange(24) % 3, ("a", "b", "c"), flip=True)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    parameters = list(model.parameters())

    def gradients(share: tuple[int, int]) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(2)
        passed = batches(data, torch.arange(24), 8, data.normalisation(), generator, share=share)
        loss = sum(
            (nn.functional.cross_entropy(model(x.double()), y) for x, y in passed), torch.zeros(())
        )
        return list(torch.autograd.grad(loss, parameters))

    with joined(processes_here(), "cpu") as processes:
        assert processes.world == 2
        own, whole = gradients(processes.share), gradients((0, 1))
        assert not torch.allclose(own[0], whole[0])
        processes.average_gradients(own)
        for ours, expected in zip(own, whole, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
        # Each process has its own number; the mean is everybody's.
        mean = processes.average(torch.tensor([float(processes.rank), 3.0]))
        assert mean.tolist() == [0.5, 3.0]
        processes.wait()


def search_with_an_empty_registry(*arguments: str) -> None:
    """The second process finds another registry than the first."""
    if os.environ["RANK"] == "1":
        os.environ["LATKIT_REGISTRY"] = "empty"
    latkit_here(*arguments)


def search_other_data(*arguments: str) -> None:
    """The second process finds other data by the same name."""
    given = list(arguments)
    if os.environ["RANK"] == "1":
        given[given.index("--data") + 1] = "other"
    latkit_here(*given)
