"""The documentation's site: it is built as ``make docs`` builds it, and its links hold."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from latkit import api

ROOT = Path(__file__).parents[2]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    for name in ("sphinx", "furo", "myst_parser", "sphinx_click"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install '.[docs]'")
    options = ("-W", "--keep-going", "--quiet", "-c", "docs", ".")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert pages == {page.stem for page in (tmp_path / "site" / "docs").glob("*.html")}
    assert (tmp_path / "site" / "index.html").is_file()


def test_every_public_name_is_documented() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    names = re.findall(r"^\.\. auto(?:function|class):: (\w+)$", text, re.MULTILINE)
    assert sorted(names) == sorted(api.__all__)


def test_the_figures_are_drawn_from_results(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "docs" / "plots.py", tmp_path], check=True)
    text = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    shown = re.findall(r"\(images/(.*\.svg)\)", text)
    assert sorted(shown) == sorted(path.name for path in tmp_path.iterdir())
