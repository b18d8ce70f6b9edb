"""The page: its structure, what is in it and what is not, and its size."""

from __future__ import annotations

import csv
import io
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latkit.core.files import write_json_atomically
from latkit.dataset.format import IMPORTED_SCHEMA
from latkit.registry import Registry
from latkit.reports.figures.picture import ROLES
from latkit.reports.page.render import DARK, FORMATS
from latkit.reports.report import ReportRequest, report
from latkit.spaces.registry import analytic_table
from tests.support import report_files
from tests.support.synthetic import MICRO, SPACE, formula_ms, made_dataset, made_lpm, made_manifest

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page, each with its attributes and the names of those around it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.texts: dict[int, str] = {}
        self._open: list[tuple[str, int]] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        around = tuple(name for name, _ in self._open)
        self.elements.append((tag, dict(attrs), around))
        if tag not in VOID:
            self._open.append((tag, len(self.elements) - 1))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(name for name, _ in self._open)))

    def handle_endtag(self, tag: str) -> None:
        name, _ = self._open.pop()
        assert name == tag

    def handle_data(self, data: str) -> None:
        for _, number in self._open:
            self.texts[number] = self.texts.get(number, "") + data

    def of(self, *tags: str) -> list[tuple[str, dict[str, str | None], tuple[str, ...]]]:
        return [element for element in self.elements if element[0] in tags]

    def text_of(self, *tags: str) -> list[str]:
        return [
            self.texts.get(number, "")
            for number, element in enumerate(self.elements)
            if element[0] in tags
        ]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = report_files.write_all(tmp_path_factory.mktemp("page") / "all")
    made_dataset(folder / "d", 60)
    return folder


@pytest.fixture(scope="module")
def html(everything: Path) -> str:
    out = everything.parent / "r.html"
    return report(ReportRequest([everything, "p100"], out)).file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


class TestStructure:
    def test_nothing_is_fetched_or_run(self, html: str, page: Page) -> None:
        assert page.of("script", "iframe", "object", "embed", "img", "form") == []
        for _, attrs, _ in page.elements:
            assert not {"src", "srcset", "action", "xlink:href"} & set(attrs)
            assert str(attrs.get("href", "#")).startswith(("#", "data:,"))
        assert not re.search(r"url\(|@import|javascript:|\bon\w+\s*=", html)
        without_names = html.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in without_names
        assert "https://" not in without_names

    def test_landmarks(self, page: Page) -> None:
        for name in ("main", "header", "nav"):
            assert len(page.of(name)) == 1
        assert page.of("html")[0][1]["lang"] == "en"
        assert page.of("nav")[0][1]["aria-label"]
        skip = next(element for element in page.of("a") if element[1].get("class") == "skip")
        assert skip[1]["href"] == f"#{page.of('main')[0][1]['id']}"

    def test_ids_are_unique_and_links_lead_to_one(self, page: Page) -> None:
        ids = [attrs["id"] for _, attrs, _ in page.elements if "id" in attrs]
        assert len(ids) == len(set(ids))
        for _, attrs, _ in page.elements:
            named = (attrs.get("aria-labelledby") or "").split()
            linked = [str(attrs["href"])[1:]] if str(attrs.get("href")).startswith("#") else []
            assert {*named, *linked} <= set(ids)

    def test_headings_are_in_order(self, page: Page) -> None:
        levels = [int(name[1]) for name, _, _ in page.elements if re.fullmatch(r"h[1-6]", name)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))

    def test_every_picture_has_a_name(self, page: Page) -> None:
        pictures = page.of("svg")
        assert len(pictures) > 12
        for _, attrs, around in pictures:
            assert attrs["role"] == "img"
            assert len(str(attrs["aria-labelledby"]).split()) == 2
            assert "figure" in around
        assert len(page.of("title")) == len(pictures) + 1
        assert all(page.text_of("title", "desc"))

    def test_tables(self, page: Page) -> None:
        assert len(page.of("table")) > 8
        for _, attrs, around in page.of("th"):
            assert attrs["scope"] == ("col" if "thead" in around else "row")
        # What scrolls sideways can be reached by the keyboard, and has a name.
        for _, attrs, _ in page.elements:
            if "scroll" in str(attrs.get("class")).split():
                assert attrs["tabindex"] == "0"
                assert attrs.get("aria-label") or attrs.get("aria-labelledby")

    def test_figures_have_their_data(self, page: Page) -> None:
        data = page.text_of("pre")
        assert len(data) == len(page.of("svg"))
        for text in data:
            first, *rest = csv.reader(io.StringIO(text))
            assert rest
            assert {len(row) for row in rest} == {len(first)}

    def test_every_kind_of_number_is_named(self, page: Page) -> None:
        found = {
            str(attrs["class"]).partition(" ")[2]
            for _, attrs, around in page.elements
            if str(attrs.get("class")).startswith("badge") and "dt" not in around
        }
        assert found == {
            "measured", "predicted", "published", "simulated", "scaled-down", "counted"
        }  # fmt: skip

    def test_every_section_is_there(self, page: Page) -> None:
        linked = [str(attrs["href"])[1:] for _, attrs, around in page.of("a") if "nav" in around]
        assert linked == [
            "best", "devices", "quality", "latencies", "macs", "lpms", "learning", "searches",
            "pareto", "cells", "matrix", "trainings", "measurements", "benchmarks", "made-of",
        ]  # fmt: skip

    def test_it_follows_the_readers_colours(self, html: str) -> None:
        assert set(DARK) == set(ROLES)
        assert "prefers-color-scheme: dark" in html
        assert "@media print" in html
        colours = set(re.findall(r'(?:fill|stroke)="([^"]+)"', html))
        # Besides the page's own, only those of operations and of the text on them.
        fixed = {colour for colour in colours if not colour.startswith("var(--")} - {"none"}
        assert all(re.fullmatch(r"#[0-9a-f]{6}", colour) for colour in fixed)
        used = {colour[6:-1] for colour in colours if colour.startswith("var(--")}
        assert used <= set(ROLES)


HOSTILE = "<script>alert(1)</script>\"'&</style></svg><img src=//x onerror=y>"


def test_hostile_names_are_texts(tmp_path: Path) -> None:
    rows = [report_files.measured_row(HOSTILE, 10.0, flags=[HOSTILE])]
    content = report_files.measurement(HOSTILE, rows=rows, backend=HOSTILE)
    content["fingerprint"] = {HOSTILE: HOSTILE}
    report_files.write(tmp_path / "m" / "measurement.json", content)
    report_files.write(
        tmp_path / "s" / "result.json",
        report_files.search(lpm=HOSTILE, genotype=HOSTILE, measured={"why_not": HOSTILE}),
    )
    report_files.write(tmp_path / "b.json", {"date": HOSTILE, HOSTILE: {HOSTILE: 1}})
    for format in FORMATS:
        out = tmp_path / f"r.{format}"
        report(ReportRequest(tmp_path, out, title=HOSTILE))
        text = out.read_text(encoding="utf-8")
        if format == "html":
            page = Page(text)
            assert page.of("script", "img") == []
            assert HOSTILE in "".join(page.texts.values())
        elif format == "md":
            assert "<script>" not in re.sub(r"````csv\n.*?````", "", text, flags=re.DOTALL)


def test_markdown(everything: Path, tmp_path: Path) -> None:
    out = report(ReportRequest([everything], tmp_path / "r.md")).file
    text = out.read_text(encoding="utf-8")
    levels = [len(line.split()[0]) for line in re.findall(r"^#+ .*$", text, re.MULTILINE)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    assert "(published)" in text
    assert text.count("````") == 2 * text.count("````csv")


def test_a_hundred_thousand_rows(tmp_path: Path) -> None:
    """Binned, whatever there are: an imported dataset, and an LPM judged on it."""
    n = 100_000
    folder = tmp_path / "d"
    folder.mkdir()
    ids = SPACE.sample(n, 0)
    matrix = SPACE.unrank(ids)
    costs = analytic_table("darts", MICRO.network).rows(matrix)
    latency = formula_ms(ids) * np.random.default_rng(0).lognormal(0, 0.02, n)
    columns: dict[str, Any] = {
        "arch_id": ids, "arch": ["formula"] * n, "latency_ms": latency,
        "visit": np.zeros(n, np.int32), "flags": pa.array([[]] * n, pa.list_(pa.string())),
        "macs": costs[:, 2].astype(np.int64), "params": costs[:, 4].astype(np.int64),
    }  # fmt: skip
    table = pa.table(columns).cast(IMPORTED_SCHEMA)
    pq.write_table(table, folder / "part-000000.parquet")
    manifest = made_manifest(n, anchor=None, origin={"made": "by formula"})
    write_json_atomically(folder / "dataset.json", manifest.to_dict())
    trained = made_lpm(tmp_path / "of-the-lpm")
    Registry().publish(trained.lpm, trained.card)
    done = report(ReportRequest([folder, "formula"], tmp_path / "r.html"))
    assert done.nbytes < 1_000_000  # a fifth of what is allowed
    assert done.file.stat().st_size == done.nbytes
    assert "100,000 architectures" in done.file.read_text(encoding="utf-8")
