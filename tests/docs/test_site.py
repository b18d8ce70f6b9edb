"""The documentation's site: it is built as ``make docs`` builds it, and its links hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

for name in ("sphinx", "furo", "myst_parser", "sphinx_click"):
    pytest.importorskip(name, reason=f"{name} is not installed: pip install '.[docs]'")
ROOT = Path(__file__).parents[2]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    options = ("-W", "--keep-going", "--quiet", "-c", "docs", ".")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}
    assert pages == {page.stem for page in (tmp_path / "site" / "docs").glob("*.html")}
    assert (tmp_path / "site" / "index.html").is_file()
