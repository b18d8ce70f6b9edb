"""Our supernet and the one of the reference code, with the same state, and images for both."""

from __future__ import annotations

import torch
from torch import Tensor

from latkit.search.supernet.network import DartsSupernet, SearchCell
from latkit.spaces import get_space
from tests.search.supernets import build_supernet
from tests.search.textbook import Textbook
from tests.search.textbook_state import to_textbook

SPACE = get_space("darts")
ARCHITECTURE = ("alphas_normal", "alphas_reduce", "betas_normal", "betas_reduce")


def twins(
    method: str, channels: int, cells: int, image_channels: int = 3, grouped: bool | None = None
) -> tuple[DartsSupernet, Textbook]:
    """Ours with random α and β, and the reference code with the same state, in double precision."""
    torch.manual_seed(0)
    ours = build_supernet(method, SPACE, channels, cells, 5, image_channels).double()
    assert isinstance(ours, DartsSupernet)
    for module in ours.modules():
        if isinstance(module, SearchCell):
            module.grouped = grouped
    with torch.no_grad():
        for p in ours.architecture_parameters():
            p.copy_(torch.randn_like(p))
    book = Textbook(SPACE, channels, cells, 5, image_channels, ours.partial).double()
    book.load(to_textbook(ours))
    return ours, book


def images(side: int, channels: int = 3, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, channels, side, side, dtype=torch.float64, generator=generator)
    return x, torch.randint(5, (4,), generator=generator)
