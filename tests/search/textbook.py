"""The supernets and steps of DARTS and PC-DARTS as published: the oracle of ours.

Written for likeness to the published description, not for speed: every edge computes every
operation by itself (``none`` too), in NCHW; the α-step back-propagates to everything; the
second-order step copies the network. Also what ``benchmarks/supernet.py`` compares with.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from latkit.spaces.darts.space import CONCAT, NODES, OPERATIONS, DartsSpace


class ReLUConvBN(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out, affine=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)  # type: ignore[no-any-return]


class FactorizedReduce(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(c_out, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], 1))  # type: ignore[no-any-return]


class Zero(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class Convolutions(nn.Module):
    """SepConv (twice, dilation 1) and DilConv (once, dilation 2)."""

    def __init__(self, c: int, side: int, stride: int, dilation: int, times: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for index in range(times):
            parts += [
                nn.ReLU(),
                nn.Conv2d(c, c, side, stride if index == 0 else 1, dilation * (side // 2),
                          dilation, groups=c, bias=False),
                nn.Conv2d(c, c, 1, bias=False),
                nn.BatchNorm2d(c, affine=False),
            ]  # fmt: skip
        self.op = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)  # type: ignore[no-any-return]


def operation(name: str, c: int, stride: int) -> nn.Module:
    if name == "none":
        return Zero(stride)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(c, c)
    kind, side = name[:3], int(name[-1])
    if kind == "max":
        return nn.Sequential(nn.MaxPool2d(3, stride, 1), nn.BatchNorm2d(c, affine=False))
    if kind == "avg":
        pool = nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        return nn.Sequential(pool, nn.BatchNorm2d(c, affine=False))
    return Convolutions(c, side, stride, 2 if kind == "dil" else 1, 2 if kind == "sep" else 1)


class MixedOp(nn.Module):
    def __init__(self, c: int, stride: int, partial: int) -> None:
        super().__init__()
        self.operated, self.partial = c // partial, partial
        self._ops = nn.ModuleList(operation(name, self.operated, stride) for name in OPERATIONS)
        self.pool = nn.MaxPool2d(2, 2) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        x, rest = x[:, : self.operated], x[:, self.operated :]
        mixed: Tensor = sum(w * op(x) for w, op in zip(weights, self._ops, strict=True))  # type: ignore[assignment]
        if self.partial == 1:
            return mixed
        every = torch.cat([mixed, self.pool(rest)], dim=1)
        b, c, h, w = every.shape
        shuffled = every.view(b, self.partial, c // self.partial, h, w).transpose(1, 2)
        return shuffled.reshape(b, c, h, w)


class Cell(nn.Module):
    def __init__(
        self, c_prev_prev: int, c_prev: int, c: int, reduction: bool, reduction_prev: bool,
        partial: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.reduction = reduction
        self.preprocess0: nn.Module = (
            FactorizedReduce(c_prev_prev, c) if reduction_prev else ReLUConvBN(c_prev_prev, c)
        )
        self.preprocess1 = ReLUConvBN(c_prev, c)
        self._ops = nn.ModuleList(
            MixedOp(c, 2 if reduction and source < 2 else 1, partial)
            for node in range(NODES)
            for source in range(2 + node)
        )

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor, strength: Tensor) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        offset = 0
        for _ in range(NODES):
            terms = [
                strength[offset + j] * self._ops[offset + j](h, weights[offset + j])
                for j, h in enumerate(states)
            ]
            offset += len(states)
            states.append(sum(terms[1:], terms[0]))
        return torch.cat([states[node] for node in CONCAT], dim=1)


class Textbook(nn.Module):
    """DARTS's supernet (``partial=1``) or PC-DARTS's (``partial=4``)."""

    def __init__(
        self, space: DartsSpace, channels: int, cells: int, classes: int, image_channels: int = 3,
        partial: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        c_prev_prev = c_prev = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, c_prev, 3, padding=1, bias=False), nn.BatchNorm2d(c_prev)
        )
        self.cells = nn.ModuleList()
        c, reduction_prev = channels, False
        for index in range(cells):
            reduction = index in (cells // 3, 2 * cells // 3)
            c = 2 * c if reduction else c
            self.cells.append(Cell(c_prev_prev, c_prev, c, reduction, reduction_prev, partial))
            reduction_prev = reduction
            c_prev_prev, c_prev = c_prev, NODES * c
        self.classifier = nn.Linear(c_prev, classes)
        self.partial = partial
        shape = (space.num_edges, space.num_operations)
        # Not parameters of the module, as published.
        self.alphas = [(1e-3 * torch.randn(shape)).requires_grad_() for _ in range(2)]
        self.betas = [(1e-3 * torch.randn(shape[0])).requires_grad_() for _ in range(2)]

    def architecture(self) -> list[Tensor]:
        return [*self.alphas, *(self.betas if self.partial > 1 else [])]

    def load(self, state: dict[str, Tensor]) -> None:
        """A state by :func:`tests.search.textbook_state.to_textbook`."""
        own = {k: v for k, v in state.items() if not k.startswith(("alphas", "betas"))}
        self.load_state_dict(own)
        dtype = state["alphas_normal"].dtype
        kinds = ("normal", "reduce")
        self.alphas = [state[f"alphas_{k}"].clone().requires_grad_() for k in kinds]
        if self.partial > 1:
            self.betas = [state[f"betas_{k}"].clone().requires_grad_() for k in kinds]
        self.to(dtype)

    def place(self, device: torch.device) -> None:
        """Move it, α and β to a device; before an optimiser takes hold of them."""
        self.to(device)
        self.alphas = [alpha.detach().to(device).requires_grad_() for alpha in self.alphas]
        self.betas = [beta.detach().to(device).requires_grad_() for beta in self.betas]

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            weights = self.alphas[int(cell.reduction)].softmax(-1)
            strength = torch.ones_like(weights[:, 0])
            if self.partial > 1:
                beta = self.betas[int(cell.reduction)]
                strength = torch.cat([part.softmax(0) for part in beta.split([2, 3, 4, 5])])
            s0, s1 = s1, cell(s0, s1, weights, strength)
        return self.classifier(s1.mean(dim=(2, 3)))  # type: ignore[no-any-return]


Batch = tuple[Tensor, Tensor]


class TextbookSearch:
    """Alternating steps as published, with the hyper-parameters of DARTS."""

    def __init__(self, net: Textbook, second_order: bool, arch_lr: float = 3e-4,
                 weight_lr: float = 0.025) -> None:  # fmt: skip
        self.net, self.second_order = net, second_order
        self.arch = torch.optim.Adam(
            net.architecture(), lr=arch_lr, betas=(0.5, 0.999), weight_decay=1e-3
        )
        self.weights = torch.optim.SGD(
            net.parameters(), lr=weight_lr, momentum=0.9, weight_decay=3e-4
        )

    def loss(self, net: Textbook, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(net(batch[0]), batch[1])

    def step(self, train: Batch, val: Batch) -> None:
        self.arch.zero_grad()
        if self.second_order:
            for a, g in zip(self.net.architecture(), self.unrolled(train, val), strict=True):
                a.grad = g
        else:
            self.loss(self.net, val).backward()
        self.arch.step()
        self.weights.zero_grad()
        self.loss(self.net, train).backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.weights.step()

    def unrolled(self, train: Batch, val: Batch) -> list[Tensor]:
        """∇α L_val(w', α) - ξ (∇α L_train(w+, α) - ∇α L_train(w-, α)) / 2R (DARTS, Eq. 7, 8)."""
        (group,) = self.weights.param_groups
        rate = group["lr"]
        weights = list(self.net.parameters())
        gradients = torch.autograd.grad(self.loss(self.net, train), weights)
        other = copy.deepcopy(self.net)
        with torch.no_grad():
            for w, g, moved in zip(weights, gradients, other.parameters(), strict=True):
                buffer = self.weights.state[w].get("momentum_buffer", torch.zeros_like(w))
                moved -= rate * (group["momentum"] * buffer + g + group["weight_decay"] * w)
        outer = self.loss(other, val)
        other_weights = list(other.parameters())
        found = torch.autograd.grad(outer, [*other.architecture(), *other_weights])
        count = len(other.architecture())
        direct, vector = found[:count], found[count:]
        radius = 0.01 / torch.cat([v.flatten() for v in vector]).norm()
        sides = []
        for sign in (1, -2):
            with torch.no_grad():
                for w, v in zip(weights, vector, strict=True):
                    w += sign * radius * v
            sides.append(torch.autograd.grad(self.loss(self.net, train), self.net.architecture()))
        with torch.no_grad():
            for w, v in zip(weights, vector, strict=True):
                w += radius * v
        return [d - rate * (p - n) / (2 * radius) for d, p, n in zip(direct, *sides, strict=True)]
