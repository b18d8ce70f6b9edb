"""What the supernet is computed by, against what PyTorch computes plainly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from latkit.search.supernet import BatchNormMode
from latkit.search.supernet.layout import (
    apart,
    corners,
    from_phases,
    images_of,
    rows_of,
    side_by_side,
    split_channels,
    to_phases,
)
from latkit.search.supernet.norms import Running, pointwise_norm
from latkit.search.supernet.products import (
    MANY_ROWS,
    add_product,
    average_pool,
    depthwise,
    gram,
    interleave,
    max_pool,
    pointwise,
    product,
    repeat,
)
from latkit.search.supernet.sums import Sum

LAST = torch.channels_last


def image(*shape: int) -> Tensor:
    x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=LAST).requires_grad_()


def same(ours: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Values and gradients agree, and both of ours are channels_last."""
    a, b = ours(x), plain(x)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    g = torch.randn_like(b).contiguous(memory_format=LAST)
    to_a, to_b = (torch.autograd.grad(y, x, g)[0] for y in (a, b))
    torch.testing.assert_close(to_a, to_b, rtol=0, atol=1e-10)
    for tensor in (a, to_a):
        assert tensor.is_contiguous(memory_format=LAST)


def test_phases_are_undone() -> None:
    x = image(2, 3, 4, 6).detach()
    back = images_of(from_phases(rows_of(to_phases(x)), 2, 4, 6), 2, 4, 6)
    assert torch.equal(back, x)
    assert torch.equal(to_phases(x)[2:4], x[:, :, ::2, 1::2])


def test_corners() -> None:
    same(lambda x: corners(x)[0], lambda x: x[:, :, ::2, ::2], image(2, 3, 4, 6))
    same(lambda x: corners(x)[1], lambda x: x[:, :, 1::2, 1::2], image(2, 3, 4, 6))
    same(
        lambda x: torch.cat(corners(x), 1),
        lambda x: torch.cat([x[:, :, ::2, ::2], x[:, :, 1::2, 1::2]], 1),
        image(2, 3, 4, 6),
    )


def test_images_side_by_side() -> None:
    x = image(3, 2, 4, 6)
    wide = side_by_side(x)
    assert wide.is_contiguous(memory_format=LAST)
    assert torch.equal(wide[0].unflatten(0, (3, 2)), x)
    same(lambda x: apart(side_by_side(x), 3), lambda x: x.clone(), x)


def test_channels() -> None:
    x = image(2, 6, 4, 4)
    left, right = split_channels(rows_of(x), 2)
    assert torch.equal(left, rows_of(x[:, :2]))
    assert torch.equal(right, rows_of(x[:, 2:]))
    same(lambda x: repeat(x, 3), lambda x: x.repeat(1, 3, 1, 1), x)


@pytest.mark.parametrize(("operated", "width"), [(2, 8), (4, 12), (16, 64)])
def test_channels_are_shuffled_as_in_print(operated: int, width: int) -> None:
    def ours(x: Tensor) -> Tensor:
        return images_of(interleave(*split_channels(rows_of(x), operated)), 2, 4, 4)

    def printed(x: Tensor) -> Tensor:
        return x.view(2, width // operated, operated, 4, 4).transpose(1, 2).reshape(2, width, 4, 4)

    same(ours, printed, image(2, width, 4, 4).detach().contiguous().requires_grad_())


@pytest.mark.parametrize("count", [48, MANY_ROWS, MANY_ROWS + 1, 2 * MANY_ROWS])
@pytest.mark.parametrize(("inside", "outside"), [(8, 8), (4, 16), (16, 16), (40, 24)])
def test_products(count: int, inside: int, outside: int) -> None:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    rows, weight, shift = normal(count, inside), normal(outside, inside), normal(outside)
    expected = rows @ weight.T
    close = {"rtol": 0, "atol": 1e-8}
    torch.testing.assert_close(product(rows, weight), expected, **close)
    torch.testing.assert_close(product(rows, weight, shift), expected + shift, **close)
    total = normal(count, outside)
    torch.testing.assert_close(add_product(total.clone(), rows, weight), total + expected, **close)
    torch.testing.assert_close(gram(total, rows), total.T @ rows, **close)
    single = product(rows.float(), weight.float())
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-4)
    # Parts of wider rows, as a gradient may be.
    torch.testing.assert_close(gram(total[:, 1:], rows), total[:, 1:].T @ rows, **close)
    for of in ((rows, weight), (rows,), (weight,)):
        for tensor in (rows, weight):
            tensor.requires_grad_(any(tensor is each for each in of))
        ours = torch.autograd.grad(pointwise(rows, weight), of, total)
        plain = torch.autograd.grad(rows @ weight.T, of, total)
        for a, b in zip(ours, plain, strict=True):
            torch.testing.assert_close(a, b, **close)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [3, 5, 7])
def test_depthwise_gradients(side: int, stride: int) -> None:
    x = image(2, 4, 8, 6)
    weight = torch.randn(4, 1, side, side, dtype=torch.float64, requires_grad=True)
    for of in ((x, weight), (x,), (weight,)):
        for tensor in (x, weight):
            tensor.requires_grad_(any(tensor is each for each in of))
        plain = F.conv2d(x, weight, None, stride, side // 2, 1, 4)
        ours = depthwise(x, weight, stride)
        assert torch.equal(ours, plain)
        g = torch.randn_like(plain)
        for a, b in zip(
            torch.autograd.grad(ours, of, g), torch.autograd.grad(plain, of, g), strict=True
        ):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [2, 4, 5])
def test_pools(channels: int, stride: int) -> None:
    x = image(3, channels, 8, 6)
    same(lambda x: max_pool(x, stride), lambda x: F.max_pool2d(x, 3, stride, 1), x)
    same(
        lambda x: average_pool(x, stride),
        lambda x: F.avg_pool2d(x, 3, stride, 1, count_include_pad=False),
        x,
    )


def test_of_equal_pixels_the_first_is_the_largest() -> None:
    x = torch.zeros(2, 2, 4, 4, dtype=torch.float64).contiguous(memory_format=LAST)
    same(lambda x: max_pool(x, 1), lambda x: F.max_pool2d(x, 3, 1, 1), x.requires_grad_())


def far_from_zero(ratio: float, channels: int) -> tuple[Tensor, Tensor]:
    """Rows of spread one around means of about ``ratio``, and a weight; in double precision."""
    generator = torch.Generator().manual_seed(channels)
    rows = torch.randn(4096, channels, generator=generator)
    rows += ratio * (1 + 0.2 * torch.rand(channels, generator=generator))
    weight = torch.randn(channels, channels, generator=generator) / channels**0.5
    return rows.double(), weight.double()


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("ratio", [0, 10, 300, 3000])
@pytest.mark.parametrize("channels", [8, 16, 31])
def test_a_folded_norm_of_inputs_far_from_zero(channels: int, ratio: float, relu: bool) -> None:
    """In single precision, against PyTorch's batch norm in double: values, gradients, statistics.

    Behind a ReLU values alone: a pixel at its kink has either gradient.
    """
    inputs = far_from_zero(ratio, channels)
    scale = torch.tensor([0.7])
    running = Running(torch.zeros(channels), torch.ones(channels))
    rows, weight = (tensor.float().requires_grad_() for tensor in inputs)
    if relu:
        ours = pointwise_norm(rows, weight, running, BatchNormMode())
        assert ours is not None
    else:
        total = Sum()
        pointwise_norm(rows, weight, running, BatchNormMode(), scale, total)
        assert total.rows is not None
        ours = total.rows + torch.stack(total.shifts).sum(0)

    exact_rows, exact_weight = (tensor.requires_grad_() for tensor in inputs)
    mean, var = torch.zeros(channels).double(), torch.ones(channels).double()
    exact = F.batch_norm(exact_rows @ exact_weight.T, mean, var, training=True)
    exact = exact.relu() if relu else scale * exact
    torch.testing.assert_close(ours.double(), exact, rtol=0, atol=1e-3)
    torch.testing.assert_close(running.mean.double(), mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(running.var.double(), var, rtol=1e-3, atol=1e-5)
    if relu:
        return
    g = torch.randn(exact.shape, generator=torch.Generator().manual_seed(0)).double()
    wanted = torch.autograd.grad(exact, [exact_rows, exact_weight], g)
    got = torch.autograd.grad(ours, [rows, weight], g.float())
    for a, b in zip(got, wanted, strict=True):
        assert float((a.double() - b).norm() / b.norm()) < 1e-3
