"""Public genotypes, in the forms in which people have them, and what is refused with its reason."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from latkit.core.errors import InputError, LatkitError, SpaceError
from latkit.spaces import get_preset, get_space
from latkit.spaces.architecture import architecture_cost, get_architecture, read_network
from latkit.spaces.build import build_network
from latkit.spaces.darts.genotype import Genotype
from latkit.spaces.darts.zoo import ZOO, _cell
from latkit.spaces.reader import parse_row, read_architecture, read_architectures
from tests.support.genotypes import (
    AUXILIARY,
    FORMS,
    GENOTYPES,
    PUBLIC,
    nested,
    plain,
    triples,
)

DARTS, BENCHMARK, FBNET = get_space("darts"), get_space("nasbench201"), get_space("fbnet")
CIFAR = get_preset("cifar")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", PUBLIC)
def test_every_form_of_every_public_genotype(name: str, form: str) -> None:
    text = FORMS[form](GENOTYPES[name])
    millions = PUBLIC[name][2]
    for file, encoding in (("my cells (2)", "utf-8-sig"), ("cell.json", "utf-16")):
        Path(file).write_bytes(text.encode(encoding))
        for given in (text, file):
            architecture = read_network(given, CIFAR)
            assert isinstance(architecture, Genotype)
            params = architecture_cost(architecture, CIFAR).params + AUXILIARY.get(name, 0)
            assert f"{params / 1e6:.{len(millions.partition('.')[2])}f}" == millions
            expected = GENOTYPES[name]
            if form == "triples":  # within a node the order is not kept, and means nothing
                assert sorted(architecture.normal) == sorted(expected.normal)
                assert architecture.reduce == expected.reduce
            else:
                assert architecture == expected
            (named,) = read_architectures(given, DARTS)
            assert (named.row(DARTS) == DARTS.from_genotype(expected)).all()


def test_the_parameters_are_those_of_the_network_that_is_built() -> None:
    genotype = GENOTYPES["MdeNAS"]
    network = build_network(genotype, CIFAR)
    assert sum(p.numel() for p in network.parameters()) == architecture_cost(genotype, CIFAR).params


@pytest.mark.parametrize(
    "form",
    ["{}", "Structure(4 nodes with {})", "1", " 1 ", "[2026-11-24] best: {} acc 90.1", "a = '{}'"],
)
def test_the_benchmarks_own_text(form: str) -> None:
    setting = get_preset("nasbench201")
    text = BENCHMARK.format(BENCHMARK.unrank(1)[0])
    architecture = get_architecture(form.format(text), setting)
    cost = architecture_cost(architecture, setting)
    assert (f"{cost.params / 1e6:.6f}", f"{cost.macs / 1e6:.2f}") == ("0.802426", "113.95")
    Path("cells").write_text(f"# of index 1\n{form.format(text)}\n", encoding="utf-8-sig")
    assert read_network("cells", setting) == architecture
    assert (parse_row(form.format(text), BENCHMARK) == BENCHMARK.unrank(1)).all()


class TestSeveral:
    def test_a_python_file(self) -> None:
        lines = [
            "from collections import namedtuple",
            "Genotype = namedtuple('Genotype', 'normal normal_concat reduce reduce_concat')",
            "class Genotype(NamedTuple): pass",
            "PRIMITIVES = ['none', 'max_pool_3x3',",
            "]",
            *(f"{name} = {FORMS[form](g).strip()}" for (name, g), form in zip(
                GENOTYPES.items(), ["plain", "in_lists_over_lines", "in_order", "nested",
                                    "triples", "numpys", "plain", "plain"], strict=True)),
            "DARTS = DARTS_V2",
            "# OLD = Genotype(normal=1,",
            "#                reduce=2)",
        ]  # fmt: skip
        Path("geno types.py").write_text("\n".join(lines))
        found = read_architectures("geno types.py", DARTS)
        assert [a.label for a in found] == [f"geno types.py:{name}" for name in PUBLIC]
        assert found[1].cell == GENOTYPES["PC_DARTS"]
        for name, genotype in (("MdeNAS", "MdeNAS"), ("DARTS", "DARTS_V2")):
            (one,) = read_architectures(f"geno types.py:{name}", DARTS)
            assert one.cell == GENOTYPES[genotype]
        assert read_network("geno types.py:6", CIFAR) == GENOTYPES["P_DARTS"]
        with pytest.raises(InputError, match="8 architectures, and one") as error:
            read_network("geno types.py", CIFAR)
        assert "geno types.py:P_DARTS" in error.value.fix
        with pytest.raises(InputError, match="no 'DATS'") as error:
            read_network("geno types.py:DATS", CIFAR)
        assert "geno types.py:P_DARTS" in error.value.fix

    def test_one_bad_cell_does_not_hide_the_others(self) -> None:
        nasnet = str(ZOO["nasnet_a"])
        Path("g.py").write_text(f"NASNet = {nasnet}\nDARTS_V1 = {ZOO['darts_v1']}\n")
        with pytest.raises(InputError, match=r"g\.py:NASNet.*normal cell.* 5 nodes"):
            read_architectures("g.py", DARTS)
        assert read_network("g.py:DARTS_V1", CIFAR) == ZOO["darts_v1"]

    def test_an_open_bracket_hides_nothing(self) -> None:
        whole = plain(ZOO["gdas"])
        Path("log.txt").write_text(f"epoch 1\n{whole[:60]}\nepoch 2\n{whole}\n")
        with pytest.raises(InputError, match=r"log\.txt:2: "):
            read_architectures("log.txt", DARTS)
        assert read_network("log.txt:4", CIFAR) == ZOO["gdas"]

    def test_prose_about_genotypes(self) -> None:
        prose = "A cell is a Genotype(normal=..., reduce=...), or Genotype(...) for short, as in"
        Path("notes.md").write_text(f"{prose}\n\n{plain(ZOO['gdas'])}\n")
        assert read_network("notes.md", CIFAR) == ZOO["gdas"]

    def test_cells_over_several_lines(self) -> None:
        texts = [BENCHMARK.format(BENCHMARK.unrank(i)[0]) for i in (6111, 7)]
        Path("list").write_text("\n".join([texts[0].replace("|+|", "|+\n  |"), "# x", texts[1]]))
        found = read_architectures("list", BENCHMARK)
        assert [a.label for a in found] == texts
        with open("list", "a") as file:
            file.write("\nnothing")
        with pytest.raises(SpaceError, match="list:6: "):
            read_architectures("list", BENCHMARK)

    def test_a_log_of_the_same_cell(self) -> None:
        lines = [f"03:0{i} genotype = {plain(GENOTYPES['SDARTS'])}" for i in range(3)]
        Path("log.txt").write_text("\n".join(["gpu device = 0", *lines]))
        labels = [a.label for a in read_architectures("log.txt", DARTS)]
        assert labels == ["log.txt:2", "log.txt:3", "log.txt:4"]
        assert read_network("log.txt", CIFAR) == GENOTYPES["SDARTS"]
        with open("log.txt", "a") as log:
            log.write(f"\n03:09 genotype = {plain(GENOTYPES['DrNAS'])}\n")
        with pytest.raises(InputError, match="4 architectures"):
            read_network("log.txt", CIFAR)
        assert read_network("log.txt:5", CIFAR) == GENOTYPES["DrNAS"]

    def test_a_list_of_every_kind(self) -> None:
        text = DARTS.format(DARTS.unrank(5)[0])
        lines = ["# mine", "gdas  # as published", "", "7", text, plain(ZOO["gdas"]), "DARTS-V2"]
        Path("list").write_text("\n".join(lines))
        found = read_architectures("list", DARTS)
        assert [a.label for a in found] == ["gdas", "7", text, "list:6", "DARTS-V2"]
        ids = [int(DARTS.rank(a.row(DARTS))[0]) for a in found]
        assert ids[1:3] == [7, 5]
        assert ids[0] == ids[3] == DARTS.rank(DARTS.from_genotype(ZOO["gdas"]))[0]
        # No line of a list is passed over.
        for typo in ("dart_v2", "not a name"):
            Path("list").write_text("\n".join([*lines, typo]))
            with pytest.raises(InputError, match=rf"list:8: .*{typo}"):
                read_architectures("list", DARTS)
        Path("list").write_text(f"{plain(ZOO['gdas'])}\ndart_v2\n")
        with pytest.raises(InputError, match=r"list:2.*dart_v2"):
            read_architectures("list", DARTS)

    def test_a_sweep_and_predictions(self) -> None:
        rows = [{"name": f"lambda-{i}", "genotype": str(g)} for i, g in enumerate(ZOO.values())]
        rows = rows[2:5]
        Path("sweep.json").write_text(json.dumps({"searches": [*rows, {"name": "x", "error": ""}]}))
        found = read_architectures("sweep.json", DARTS)
        assert [a.label for a in found] == [f"sweep.json:lambda-{i}" for i in (2, 3, 4)]
        assert read_network("sweep.json:lambda-3", CIFAR) == list(ZOO.values())[3]
        text = BENCHMARK.format(BENCHMARK.unrank(3)[0])
        predictions = [{"arch": text, "given": "3"}]
        Path("p.json").write_text(json.dumps({"lpm": "a@1", "predictions": predictions}))
        assert (read_architecture("p.json", BENCHMARK).row(BENCHMARK)
                == BENCHMARK.unrank(3)).all()  # fmt: skip
        Path("names.json").write_text('["gdas", "darts_v1"]')
        assert [a.label for a in read_architectures("names.json", DARTS)] == ["gdas", "darts_v1"]

    def test_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        content = b"\xef\xbb\xbf6111\n7\n"
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        rows = [a.row(BENCHMARK) for a in read_architectures("-", BENCHMARK)]
        assert [int(BENCHMARK.rank(row)[0]) for row in rows] == [6111, 7]
        monkeypatch.setattr(sys, "stdin", None)
        with pytest.raises(InputError, match="standard input"):
            read_architectures("-", BENCHMARK)

    def test_numbers_of_fbnet(self) -> None:
        texts = [FBNET.format(FBNET.unrank(i)[0]) for i in (5, 8)]
        Path("nets").write_text("\n".join(texts))
        assert [a.label for a in read_architectures("nets", FBNET)] == texts
        (one,) = read_architectures(texts[1].replace(" ", ","), FBNET)
        assert FBNET.rank(one.row(FBNET))[0] == 8
        result = {"name": "found", "genotype": texts[0], "arch": texts[0], "created_at": "2026 11"}
        Path("result.json").write_text(json.dumps(result))
        assert (
            read_architecture("result.json", FBNET).row(FBNET).tolist() == FBNET.unrank(5).tolist()
        )
        predictions = [{"arch": text, "given": str(i)} for i, text in enumerate(texts)]
        Path("p.json").write_text(json.dumps({"predictions": predictions}))
        assert [a.label for a in read_architectures("p.json", FBNET)] == texts

    def test_names_of_fbnet(self) -> None:
        Path("nets").write_text("fbnet_a\n# the largest\nFBNet-C\n")
        found = read_architectures("nets", FBNET)
        assert [a.label for a in found] == ["fbnet_a", "FBNet-C"]
        assert [str(a.cell) for a in found] == [str(FBNET.find(n)) for n in ("fbnet_a", "fbnet_c")]

    def test_a_name_is_not_a_file(self) -> None:
        Path("gdas").write_text("darts_v2")
        Path("7").write_text("darts_v2")
        assert read_network("gdas", CIFAR) == ZOO["gdas"]
        assert read_network("./gdas", CIFAR) == read_network("./7", CIFAR) == ZOO["darts_v2"]
        Path("a:b").write_text("darts_v1")
        assert read_network("a:b", CIFAR) == ZOO["darts_v1"]


def changed(cell: str, normal: bool = True) -> str:
    """DARTS_V2 with another cell."""
    other = [*_cell(PUBLIC["DARTS_V2"][1])]
    cells = [*_pairs(cell)], other
    first, second = cells if normal else cells[::-1]
    return (
        f"Genotype(normal={first}, normal_concat=range(2, 6), reduce={second}, "
        "reduce_concat=range(2, 6))"
    )


def _pairs(cell: str) -> list[tuple[str, int]]:
    pairs = (item.split("~") for item in cell.split())
    return [(name, int(source)) for name, source in pairs]


SEP, SKIP = "sep_conv_3x3", "skip_connect"
EIGHT = f"{SEP}~0 {SEP}~1 {SKIP}~0 {SEP}~1 {SEP}~1 {SEP}~2 {SEP}~0 {SKIP}~2"
ALL_EDGES = " ".join(f"{SEP}~{source}" for node in range(2, 6) for source in range(node))
REFUSED = {
    "all edges": (changed(ALL_EDGES), "normal", 6),
    "all edges of the reduction cell": (changed(ALL_EDGES, normal=False), "reduce", 6),
    "five nodes, the last unread": (changed(f"{EIGHT} {SEP}~0 {SEP}~1"), "normal", 6),
    "five nodes": (
        changed(f"{EIGHT} {SEP}~0 {SEP}~1").replace(
            "normal_concat=range(2, 6)", "normal_concat=range(2, 7)"
        ),
        "normal", 6,
    ),
    "seven connections": (changed(EIGHT.rpartition(" ")[0]), "normal", 5),
    "nine connections": (changed(f"{EIGHT} {SEP}~1"), "normal", 6),
    "three nodes": (
        changed(" ".join(EIGHT.split()[:6])).replace("range(2, 6)", "range(2, 5)", 1), "normal", 4,
    ),
    "none": (changed(EIGHT.replace(f"{SEP}~2", "none~2")), "normal", 4),
    "none in the reduction cell": (changed(f"none~0 {EIGHT[15:]}", normal=False), "reduce", 2),
    "an unread node": (
        changed(EIGHT).replace("normal_concat=range(2, 6)", "normal_concat=[2, 4, 5]"),
        "normal", 3,
    ),
    "an operation of another space": (changed(EIGHT.replace(SKIP, "conv_7x1_1x7")), "normal", 3),
    "a later node": (changed(EIGHT.replace(f"{SEP}~2", f"{SEP}~4")), "normal", 4),
    "three connections nested in a node": (
        nested(ZOO["darts_v2"]).replace(
            "(('skip_connect', 0), ('dil_conv_3x3', 2))",
            "(('skip_connect', 0), ('dil_conv_3x3', 2), ('dil_conv_3x3', 3))",
        ),
        "normal", 5,
    ),
    "a triple too few": (
        triples(ZOO["darts_v2"]).replace("('skip_connect', 3, 2), ", "", 1), "reduce", 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_names_the_node(case: str) -> None:
    text, cell, node = REFUSED[case]
    Path("cell.txt").write_text(text)
    for read in (
        lambda: read_network(text, CIFAR),
        lambda: read_network("cell.txt", CIFAR),
        lambda: read_architectures(f"best = {text}", DARTS),
        lambda: parse_row(text, DARTS),
    ):
        with pytest.raises(InputError) as error:
            read()
        assert cell in error.value.cause
        assert re.search(rf"\b{node}\b", error.value.cause)


def test_what_the_space_lacks_is_named() -> None:
    with pytest.raises(InputError, match="conv_7x1_1x7 is not an operation"):
        parse_row(REFUSED["an operation of another space"][0], DARTS)
    with pytest.raises(InputError, match="did you mean sep_conv_3x3"):
        parse_row(changed(EIGHT.replace(SEP, "sepconv_3x3")), DARTS)
    with pytest.raises(InputError, match="of the space darts, not nasbench201"):
        parse_row("darts_v2", BENCHMARK)
    with pytest.raises(InputError, match="exactly the fields"):
        parse_row(nested(ZOO["gdas"]).replace("connects=None", "connects=[1]"), DARTS)


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ("nothing.json", "nothing.json"),
        ("no/such/file", "no/such/file"),
        ("my cells (2).txt", "Cannot read my cells (2).txt"),
        ("genotypes.py:DARTS", "Cannot read genotypes.py"),
        ("empty", "empty"),
        ("dart_v2", "dart_v2"),
        ("half.py", "half.py"),
        ("bare.json", "bare.json has no genotype"),
        ("cut.json", "cut.json has no genotype"),
        ("null.json", "null.json has no genotype"),
        ("folder/", "folder/"),
        ("binary", "binary is not text"),
        ("9" * 40, "no identifier"),
        ("x" * 5000, "unknown"),
        ("a\0b", "unknown"),
        ("Genotype(", "not a genotype"),
        ("", "no genotype"),
    ],
)
def test_what_has_none(given: str, cause: str) -> None:
    Path("empty").write_text("\n# nothing\n")
    Path("half.py").write_text("X = Genotype(normal=[('sep_conv_3x3', 0)")
    Path("bare.json").write_text("{}")
    Path("cut.json").write_text('{"genotype": "Geno')
    Path("null.json").write_text('{"genotype": null}')
    Path("folder").mkdir()
    Path("binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LatkitError) as error:
        read_architectures(given, DARTS)
    assert cause in error.value.cause
    assert len(error.value.cause) < 300


def test_a_cell_of_another_space_is_refused_as_such() -> None:
    text = BENCHMARK.format(BENCHMARK.unrank(1)[0])
    Path("cells.txt").write_text(text)
    with pytest.raises(SpaceError, match="--setting"):
        read_network("cells.txt", CIFAR)
    # What begins like a cell and goes on is not cut off.
    with pytest.raises(SpaceError):
        parse_row(f"{text}+|bad text~0|", BENCHMARK)


@hypothesis.given(st.text())
def test_arbitrary_text_is_refused_in_one_way(text: str) -> None:
    for piece in (text, f"Genotype({text}", f"|a~{text}|", f"{{{text}"):
        for space in (DARTS, BENCHMARK):
            try:
                parse_row(piece, space)
                read_architectures(piece, space)
            except LatkitError:
                pass
