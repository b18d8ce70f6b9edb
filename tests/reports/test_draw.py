"""Drawings: which colours, widths and places, and as which files."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import latkit as front_door
from latkit.core.errors import InputError
from latkit.lpm.prediction import PublishedLPM
from latkit.registry import load_lpm
from latkit.reports.draw import DrawRequest, draw, weigh
from latkit.reports.figures.canvas import write_picture
from latkit.reports.figures.cells import MAX_WIDTH, architecture_picture, graph_picture
from latkit.reports.figures.layout import place
from latkit.reports.figures.operations import operation_colour, short_name
from latkit.reports.figures.picture import Box, Disc, Label, Line, contrasting
from latkit.spaces import Edge, Group, SearchSpace, get_space
from latkit.spaces.darts.zoo import ZOO
from latkit.spaces.graph import Link, graphs_of
from tests.support.commands import RunLatkit, check, ok
from tests.support.report_files import search, write
from tests.support.synthetic import OPERATION_MS, SPACE, formula_ms, made_lpm

NB201 = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|skip_connect~2|"
FBNET = " ".join(str(layer % 9) for layer in range(22))


class TestGraphs:
    def test_of_a_genotype(self) -> None:
        normal, reduction = SPACE.graphs(ZOO["darts_v2"])
        assert (normal.title, reduction.title) == ("normal cell", "reduction cell")
        assert normal.nodes == ("c(k-2)", "c(k-1)", "2", "3", "4", "5", "output")
        chosen = [(link.operation, link.source) for link in normal.links if link.operation]
        assert chosen == list(ZOO["darts_v2"].normal)
        assert [link.source for link in normal.links if link.operation is None] == [2, 3, 4, 5]
        # By the space's edges, which an LPM knows of the normal cell alone.
        for link in normal.links[:8]:
            assert link.edge is not None
            edge = SPACE.edges[link.edge]
            assert (edge.source, edge.target) == (link.source, link.target)
        assert {link.edge for link in reduction.links} == {None}

    def test_of_a_point_of_the_space(self) -> None:
        (normal,) = SPACE.graphs(SPACE.from_genotype(ZOO["gdas"]))
        assert set(normal.links) == set(SPACE.graphs(ZOO["gdas"])[0].links)

    def test_of_networks_that_are_no_points(self) -> None:
        normal, _ = SPACE.graphs(ZOO["nasnet_a"])
        assert len(normal.nodes) == 8
        assert normal.operations[0] == "sep_conv_5x5"

    def test_of_other_spaces(self) -> None:
        (cell,) = graphs_of(get_space("nasbench201"), get_space("nasbench201").parse(NB201))
        assert cell.links[1] == Link(0, 2, "none", 1)
        assert not cell.is_chain
        (chain,) = graphs_of(get_space("fbnet"), get_space("fbnet").parse(FBNET))
        assert chain.is_chain
        assert len(chain.links) == 22
        assert chain.nodes[:3] == ("16", "16", "24")

    def test_a_space_without_them(self) -> None:
        plain = SearchSpace("plain", ("a", "b"), (0, 1), [Edge(0, 1)], [Group((0,), 1)])
        with pytest.raises(InputError, match="plain cannot be drawn"):
            graphs_of(plain, plain.unrank(0))


class TestLayout:
    def test_nothing_overlaps_and_few_cross(self) -> None:
        for name in ("darts_v2", "pc_darts_cifar", "nasnet_a", "amoebanet_a"):
            for graph in SPACE.graphs(ZOO[name]):
                boxes = [i for i in graph_picture(graph).items if isinstance(i, Box)]
                assert len(boxes) == len(graph.nodes) + sum(
                    link.operation is not None for link in graph.links
                )
                for one, two in itertools.combinations(boxes, 2):
                    apart = (
                        one.x + one.width <= two.x or two.x + two.width <= one.x
                        or one.y + one.height <= two.y or two.y + two.height <= one.y
                    )  # fmt: skip
                    assert apart, (name, graph.title)

    def test_two_crossed_links_are_uncrossed(self) -> None:
        placed = place({"a": 0, "b": 0, "c": 1, "d": 1}, dict.fromkeys("abcd", 1.0),
                       [("a", "d"), ("b", "c")], 0.5)  # fmt: skip
        above = placed.heights["a"] < placed.heights["b"]
        assert (placed.heights["d"] < placed.heights["c"]) == above
        assert abs(placed.heights["a"] - placed.heights["b"]) >= 1

    def test_a_long_link_passes_through_the_layers_between(self) -> None:
        placed = place({"a": 0, "b": 1, "c": 2}, dict.fromkeys("abc", 1.0),
                       [("a", "b"), ("b", "c"), ("a", "c")], 0.5)  # fmt: skip
        assert [layer for layer, _ in placed.ways[2]] == [0, 1, 2]
        assert abs(placed.ways[2][1][1] - placed.heights["b"]) >= 0.75


class TestColours:
    def test_operations_of_a_space_are_told_apart(self) -> None:
        for name in ("darts", "nasbench201", "fbnet"):
            operations = get_space(name).operations
            assert len({operation_colour(operation) for operation in operations}) == len(operations)
        assert operation_colour("my_op") == operation_colour("my_op")

    def test_text_on_them_can_be_read(self) -> None:
        def luminance(colour: str) -> float:
            parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
            linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
            return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

        for space in ("darts", "nasbench201", "fbnet"):
            for operation in get_space(space).operations:
                colour = operation_colour(operation)
                light, dark = sorted((luminance(colour), luminance(contrasting(colour))))[::-1]
                assert (light + 0.05) / (dark + 0.05) >= 4.5, operation

    def test_names(self) -> None:
        assert short_name("sep_conv_3x3") == "sep 3×3"
        assert short_name("nor_conv_1x1") == "conv 1×1"
        assert short_name("k5_e1_g2") == "k5 e1 g2"
        assert short_name("an_operation_of_a_plug_in") == "an operatio…"


class TestShares:
    def test_are_what_operations_take_above_the_cheapest(self, published: PublishedLPM) -> None:
        row = SPACE.from_genotype(ZOO["darts_v2"])
        weighed = weigh(published, row)
        whole = float(formula_ms(SPACE.rank(row))[0])
        assert weighed.predicted == pytest.approx(whole, rel=0.01)
        cheapest = min(OPERATION_MS[1:])
        for edge, share in weighed.shares.items():
            expected = (OPERATION_MS[row[0, edge]] - cheapest) / whole
            assert share == pytest.approx(expected, abs=0.005)
        assert len(weighed.shares) == 8

    def test_of_linear_lpms_they_are_differences_of_coefficients(self) -> None:
        lpm = load_lpm("p100")
        row = SPACE.from_genotype(ZOO["gdas"])
        weighed = weigh(lpm, row)
        coefficients = lpm.lpm.coefficients()
        assert coefficients is not None
        table = coefficients[0].reshape(SPACE.num_edges, -1).numpy()
        for edge, share in weighed.shares.items():
            above = table[edge, row[0, edge]] - table[edge, list(SPACE.choices)].min()
            assert share * weighed.predicted == pytest.approx(above, abs=1e-4)

    def test_widths_follow_them(self) -> None:
        graph = SPACE.graphs(ZOO["gdas"])[0]
        edges = [link.edge for link in graph.links if link.edge is not None]
        shares = {edge: 0.03 * number for number, edge in enumerate(edges)}
        picture = graph_picture(graph, shares)
        lines = [i for i in picture.items if isinstance(i, Line) and not i.dashed]
        assert max(line.width for line in lines) == MAX_WIDTH
        assert [line.width for line in lines[::2]] == sorted(line.width for line in lines[::2])
        texts = {item.text for item in picture.items if isinstance(item, Label)}
        assert "sep 3×3 21 %" in texts

    def test_heights_of_a_strip_follow_them(self) -> None:
        (chain,) = graphs_of(get_space("fbnet"), get_space("fbnet").parse(FBNET))
        shares = {layer: 0.001 * (layer + 1) for layer in range(22)}
        boxes = [i for i in graph_picture(chain, shares).items if isinstance(i, Box)]
        assert [box.height for box in boxes] == sorted(box.height for box in boxes)
        assert boxes[21].height == pytest.approx(2 * boxes[10].height)
        assert np.ptp([box.y + box.height for box in boxes]) == pytest.approx(0)


@pytest.fixture
def published(tmp_path: Path) -> PublishedLPM:
    trained = made_lpm(tmp_path / "made")
    return PublishedLPM(trained.lpm, trained.card, "formula")


class TestFiles:
    @pytest.mark.parametrize(
        ("suffix", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")]
    )
    def test_formats(self, tmp_path: Path, suffix: str, magic: bytes) -> None:
        first, second = (
            draw(DrawRequest("darts_v2", tmp_path / f"{name}.{suffix}")) for name in "ab"
        )
        content = first.file.read_bytes()
        assert content.startswith(magic)
        assert content == second.file.read_bytes()
        assert first.space == "darts"
        assert [graph.title for graph in first.graphs] == ["normal cell", "reduction cell"]

    def test_the_space_is_found(self, tmp_path: Path) -> None:
        for text, space, graphs in (
            (NB201, "nasbench201", 1),
            (FBNET, "fbnet", 1),
            (7, "darts", 1),
        ):
            done = draw(DrawRequest(text, tmp_path / "a.svg"))
            assert (done.space, len(done.graphs)) == (space, graphs)
        assert draw(DrawRequest(6111, tmp_path / "a.svg", space="nasbench201")).graphs[0].operations

    def test_a_result_with_its_lpm(self, tmp_path: Path, latkit: RunLatkit) -> None:
        write(tmp_path / "s" / "result.json", search())
        printed = ok(latkit, "draw", "s/result.json", "--device", "p100", "--out", "found.svg")
        shares = [row["share"] for row in printed["graphs"][0]["operations"]]
        assert 0 < sum(shares) < 1
        assert {row["share"] for row in printed["graphs"][1]["operations"]} == {None}
        assert printed["unit"] == "ms"
        assert Path("found.svg").stat().st_size < 150_000

    def test_titles_are_texts(self, tmp_path: Path) -> None:
        """Nothing in a title is taken for mathematics or markup."""
        picture = architecture_picture(SPACE.graphs(ZOO["gdas"]), "<b>$x$ & $\\frac{</b>")
        write_picture(picture, tmp_path / "a.svg", "svg", "a")
        assert isinstance(picture.items[0], Label)
        assert not any(isinstance(item, Disc) for item in picture.items)

    def test_refusals(self, latkit: RunLatkit) -> None:
        check(latkit, "draw", "darts_v2", "--out", "a.gif", says=("a.gif", ".svg"), code=2)
        check(latkit, "draw", "dart_v2", "--out", "a.svg", says=("dart_v2",))
        check(latkit, "draw", "gdas", "--device", "nope", "--out", "a.svg", says=("nope",), code=2)
        check(latkit, "draw", "nasnet_a", "--device", "p100", "--out", "a.svg", says=("5 nodes",))
        check(latkit, "draw", "gdas", "--out", "no/such/a.svg", says=("no/such/a.svg",))
        assert not list(Path().glob("a.*"))

    def test_the_api(self, tmp_path: Path) -> None:
        request = DrawRequest("gdas", tmp_path / "a.svg")
        content = front_door.draw(request, out=tmp_path / "b.svg").to_dict()
        assert content["file"] == str(tmp_path / "b.svg")
        assert json.loads(json.dumps(content)) == content
