"""The supernet against the published one, a discrete network, and the derivation of genotypes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from latkit.core.errors import InputError, SearchError
from latkit.search.supernet import get_supernet, methods_of, products
from latkit.search.supernet.network import DartsSupernet
from latkit.search.supernet.source_mix import best_grouped
from latkit.spaces import Setting
from latkit.spaces.darts.config import DartsConfig
from latkit.spaces.darts.genotype import Genotype
from latkit.spaces.darts.network import Network
from latkit.spaces.darts.space import CONCAT
from latkit.spaces.darts.zoo import ZOO
from tests.search.gpu_path import take_the_gpu_path
from tests.search.supernets import build_supernet, derive_cell
from tests.search.textbook import Textbook
from tests.search.textbook_state import from_textbook, to_textbook
from tests.search.twins import ARCHITECTURE, SPACE, images, twins

pytestmark = pytest.mark.usefixtures("one_thread")


def by_name(ours: DartsSupernet, tensors: list[Tensor]) -> dict[str, Tensor]:
    """Tensors like the parameters, weights first, by the names of the reference code."""
    shell = copy.deepcopy(ours)
    with torch.no_grad():
        parameters = [*shell.weight_parameters(), *shell.architecture_parameters()]
        for parameter, tensor in zip(parameters, tensors, strict=True):
            parameter.copy_(tensor)
    return to_textbook(shell)


def test_edges_stand_side_by_side_where_one_alone_is_too_small() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    wide, many = 64, 64 * 32 * 32
    assert best_grouped(8, many, cpu)
    assert not best_grouped(16, many, cpu)
    assert best_grouped(16, 64 * 8 * 8, cpu)
    assert not best_grouped(wide, 64 * 8 * 8, cpu)
    assert best_grouped(wide, many, gpu)


# A channel count on each side of what is grouped and what is folded, odd ones, odd sides.
CASES = [
    ("darts", 16, 3, 8, 3, False),
    ("darts", 4, 3, 8, 3, None),
    ("darts", 3, 4, 8, 1, None),
    ("darts", 5, 5, 4, 3, None),  # a side of one pixel after two reductions
    ("darts", 4, 3, 12, 3, False),  # three pixels
    ("darts", 16, 3, 8, 3, True),
    ("darts", 8, 3, 8, 3, False),
    ("pc-darts", 16, 3, 8, 3, None),
    ("pc-darts", 4, 4, 8, 3, None),
    ("pc-darts", 64, 3, 8, 3, None),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_logits_and_every_gradient_are_those_in_print(
    case: tuple[str, int, int, int, int, bool | None],
) -> None:
    method, channels, cells, side, image_channels, grouped = case
    ours, book = twins(method, channels, cells, image_channels, grouped)
    x, y = images(side, image_channels)
    logits, expected = ours(x), book(x)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
    found = torch.autograd.grad(
        nn.functional.cross_entropy(logits, y),
        [*ours.weight_parameters(), *ours.architecture_parameters()],
    )
    printed = dict(book.named_parameters())
    printed |= dict(zip(ARCHITECTURE, book.architecture(), strict=False))
    gradients = torch.autograd.grad(
        nn.functional.cross_entropy(expected, y), list(printed.values())
    )
    got = by_name(ours, list(found))
    for name, gradient in zip(printed, gradients, strict=True):
        torch.testing.assert_close(got[name], gradient, rtol=0, atol=1e-10, msg=name)
    # The gradients of α alone, as the α-step takes them.
    with ours.only(ours.architecture_parameters(), track=False):
        alone = torch.autograd.grad(
            nn.functional.cross_entropy(ours(x), y), ours.architecture_parameters()
        )
    for a, b in zip(alone, found[-len(alone) :], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert all(p.requires_grad for p in ours.parameters())


@pytest.mark.parametrize(
    "case", [("darts", 4, 3, 8, 3, None), ("pc-darts", 16, 3, 8, 3, None)], ids=str
)
def test_so_it_is_where_products_are_convolutions(
    case: tuple[str, int, int, int, int, bool | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of many pixels, here of 256."""
    monkeypatch.setattr(products, "MANY_ROWS", 256)
    test_logits_and_every_gradient_are_those_in_print(case)


@pytest.mark.parametrize(
    "case", [("darts", 8, 3, 8, 3, True), ("pc-darts", 16, 4, 8, 3, True)], ids=str
)
def test_so_it_is_by_the_execution_of_gpus(
    case: tuple[str, int, int, int, int, bool | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what is for CPUs alone."""
    take_the_gpu_path(monkeypatch)
    test_logits_and_every_gradient_are_those_in_print(case)


@pytest.mark.parametrize("method", methods_of("darts"))
@pytest.mark.parametrize("channels", [8, 32])
def test_running_statistics_and_eval_mode_are_those_in_print(method: str, channels: int) -> None:
    ours, book = twins(method, channels, 3)
    for seed in range(3):
        x, _ = images(8, seed=seed)
        ours(x)
        book(x)
    state = to_textbook(ours)
    for name, tensor in book.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(state[name], tensor, rtol=0, atol=1e-10, msg=name)
    x, y = images(8, seed=9)
    with ours.only([], track=False):
        ours(x)
    assert all(
        torch.equal(a, b) for a, b in zip(state.values(), to_textbook(ours).values(), strict=True)
    )
    a, b = ours.eval()(x), book.eval()(x)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    grads = [
        torch.autograd.grad(nn.functional.cross_entropy(out, y), alphas)
        for out, alphas in ((a, ours.architecture_parameters()), (b, book.architecture()))
    ]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", methods_of("darts"))
def test_a_state_in_print_can_be_loaded(method: str) -> None:
    ours, book = twins(method, 8, 3)
    torch.manual_seed(5)
    other = Textbook(SPACE, 8, 3, 5, 3, ours.partial).double()
    other(images(8)[0])
    from_textbook(ours, other.state_dict())
    with torch.no_grad():
        for mine, theirs in zip(ours.architecture_parameters(), other.architecture(), strict=True):
            mine.copy_(theirs)
        other.alphas = [a.double() for a in other.alphas]
        other.betas = [b.double() for b in other.betas]
    x, _ = images(8, seed=3)
    torch.testing.assert_close(ours.eval()(x), other.eval()(x), rtol=0, atol=1e-10)
    assert set(to_textbook(ours)) >= set(book.state_dict())
    with pytest.raises(SearchError, match="the state lacks stem"):
        from_textbook(ours, {})
    with pytest.raises(SearchError, match="is not this supernet's"):
        from_textbook(ours, Textbook(SPACE, 16, 3, 5, 3, ours.partial).state_dict())


def test_bf16_stays_close() -> None:
    """Autocast takes the unfolded norms: logits within bf16's reach of full precision."""
    ours, _ = twins("darts", 8, 3)
    ours.float()
    x = images(8)[0].float()
    expected = ours(x)
    with torch.autocast("cpu", torch.bfloat16):
        got = ours(x)
    assert got.dtype == torch.bfloat16
    assert not torch.equal(got.float(), expected)
    torch.testing.assert_close(got.float(), expected, rtol=0.1, atol=0.1)


def test_unfit_channels_and_methods_are_refused() -> None:
    with pytest.raises(InputError, match="use a multiple of 4"):
        build_supernet("pc-darts", SPACE, 6, 3, 5)
    with pytest.raises(InputError, match="use one of: darts, pc-darts"):
        get_supernet("snas", "darts")
    with pytest.raises(InputError, match="the method pc-darts searches darts, not nasbench201"):
        get_supernet("pc-darts", "nasbench201")


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
    supernet = build_supernet("darts", SPACE, 4, 3, 5).double().eval()
    setting = Setting(DartsConfig(macro="cifar", cells=3, channels=4, resolution=16, classes=5))
    network = Network(genotype, setting.network).double().eval()
    with torch.no_grad():
        supernet.alpha_normal.copy_(alpha_of(genotype, reduce=False))
        supernet.alpha_reduce.copy_(alpha_of(genotype, reduce=True))
        book = Textbook(SPACE, 4, 3, 5).double()
        book.load(to_textbook(supernet))
        network.stem0.load_state_dict(book.stem.state_dict())
        network.classifier.load_state_dict(book.classifier.state_dict())
        for cell, printed in zip(network.cells, book.cells, strict=True):
            fill(cell.preprocess0, printed.preprocess0)
            fill(cell.preprocess1, printed.preprocess1)
            connections = genotype.reduce if printed.reduction else genotype.normal
            for index, (operation, source) in enumerate(connections):
                edge = next(
                    i
                    for i, e in enumerate(SPACE.edges)
                    if (e.source, e.target) == (source, index // 2 + 2)
                )
                if "pool" not in operation:
                    column = SPACE.operations.index(operation)
                    fill(cell.operations[index], printed._ops[edge]._ops[column])
        x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
        # The supernet normalises pools; undo it, as these statistics are those of a new module.
        expected, got = network(x), supernet(x)
    pools = sum("pool" in op for op, _ in (*genotype.normal, *genotype.reduce))
    rtol = 1e-9 if pools == 0 else 1e-3  # the pools' batch norms divide by sqrt(1 + 1e-5)
    torch.testing.assert_close(got, expected, rtol=rtol, atol=1e-9)


def fill(target: nn.Module, source: nn.Module) -> None:
    """Copy parameters and statistics in order; affine norms, which only ``target`` has, stay."""
    norms = {
        id(p) for m in target.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()
    }
    mine = [p for p in target.parameters() if id(p) not in norms]
    for a, b in zip(mine, source.parameters(), strict=True):
        a.copy_(b)


def test_parameters_in_print() -> None:
    """DARTS's published supernet (C=16, 8 cells, 10 classes) has 1.930618 M weights."""
    supernet = build_supernet("darts", SPACE, 16, 8, 10)
    assert sum(p.numel() for p in supernet.weight_parameters()) == 1_930_618
    assert [tuple(p.shape) for p in supernet.architecture_parameters()] == [(14, 8)] * 2
    printed = Textbook(SPACE, 16, 8, 10, partial=4)
    partial = build_supernet("pc-darts", SPACE, 16, 8, 10)
    weights = sum(p.numel() for p in partial.weight_parameters())
    assert weights == sum(p.numel() for p in printed.parameters())


def derived(normal: Tensor, reduce: Tensor) -> Genotype:
    return Genotype(derive_cell(SPACE, normal), CONCAT, derive_cell(SPACE, reduce), CONCAT)


class TestDerivation:
    @pytest.mark.parametrize("name", ["darts_v1", "pc_darts_cifar", "p_darts_cifar"])
    def test_finds_the_vertex(self, name: str) -> None:
        alphas = [torch.randn(14, 8) * 0.1 for _ in range(2)]
        for alpha, reduce in zip(alphas, (False, True), strict=True):
            vertex = alpha_of(ZOO[name], reduce)
            vertex[:, 0] = 0
            alpha += vertex
        genotype = derived(*alphas)
        assert (SPACE.from_genotype(genotype) == SPACE.from_genotype(ZOO[name])).all()
        pairs = [sorted(ZOO[name].reduce[i : i + 2]) for i in range(0, 8, 2)]
        assert [sorted(genotype.reduce[i : i + 2]) for i in range(0, 8, 2)] == pairs

    def test_none_weakens_an_edge_but_is_never_chosen(self) -> None:
        alpha = torch.zeros(14, 8)
        alpha[:, 3] = 1.0  # skip_connect leads everywhere
        alpha[9, 0] = 5.0  # edge 0 -> 5 is mostly none
        alpha[13, 0] = 5.0
        genotype = derived(alpha, alpha)
        assert {operation for operation, _ in genotype.normal} == {"skip_connect"}
        assert [source for _, source in genotype.normal[6:]] == [1, 2]

    def test_edge_strength_chooses_between_edges(self) -> None:
        alpha = torch.zeros(14, 8)
        alpha[:, 4] = 1.0
        strength = torch.full((14,), 0.1)
        strength[[10, 12]] = 0.4  # edges 1 -> 5 and 3 -> 5
        assert [s for _, s in derive_cell(SPACE, alpha, strength)[6:]] == [1, 3]
        assert [s for _, s in derive_cell(SPACE, alpha)[6:]] == [0, 1]

    def test_pc_darts_derives_by_beta(self) -> None:
        supernet = build_supernet("pc-darts", SPACE, 4, 3, 5)
        with torch.no_grad():
            for beta in supernet.architecture_parameters()[2:]:
                beta.zero_()
                beta[[9 + 2, 9 + 4]] = 3.0
        for cell in (supernet.derive().normal, supernet.derive().reduce):
            assert [source for _, source in cell[6:]] == [2, 4]
