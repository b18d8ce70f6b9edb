"""The page in a browser: nothing is fetched, nothing fails, and everybody can read it.

Needs Debian's package ``chromium``, and for accessibility ``axe-core`` of npm: the folder that
``npm install axe-core`` made below the checkout, or the file ``axe.min.js`` that
``LATKIT_AXE`` names.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from latkit.reports.report import ReportRequest, report
from tests.support import report_files
from tests.support.synthetic import made_dataset

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
DARK = "--blink-settings=preferredColorScheme=0"
# Of axe-core's four impacts.
FAULTS = {"serious", "critical"}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


def browse(page: Path, folder: Path, *options: str) -> tuple[str, str]:
    """The page as it is after it was opened, and what the browser noted."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr",
         *options, "--dump-dom", page.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = report_files.write_all(tmp_path_factory.mktemp("browser") / "all")
    made_dataset(folder / "d", 60)
    return report(ReportRequest([folder, "p100"], folder.parent / "r.html")).file


def opened(page: Path, folder: Path) -> tuple[set[str], list[str]]:
    """What the page requested, and what it wrote to the console."""
    log = folder / "net.json"
    _, notes = browse(page, folder, f"--log-net-log={log}")
    events = json.loads(log.read_text())["events"]
    # The browser's own requests have no page as their origin.
    requested = {
        str(event["params"]["url"])
        for event in events
        if event.get("params", {}).get("initiator", "not an origin") != "not an origin"
    }
    return requested, [line for line in notes.splitlines() if "CONSOLE" in line]


def test_nothing_is_requested_and_nothing_fails(page: Path, tmp_path: Path) -> None:
    assert opened(page, tmp_path) == (set(), [])


def test_requests_and_errors_would_be_noticed(page: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    more = "<img src='http://127.0.0.1:9/x.png'><script>console.error('boo')</script></body>"
    bad.write_text(page.read_text(encoding="utf-8").replace("</body>", more), encoding="utf-8")
    requested, notes = opened(bad, tmp_path)
    assert requested == {"http://127.0.0.1:9/x.png"}
    assert any("boo" in note for note in notes)


def axe() -> str:
    named = os.environ.get("LATKIT_AXE")
    path = Path(named) if named else ROOT / "node_modules" / "axe-core" / "axe.min.js"
    if not path.is_file():
        pytest.skip("there is no axe-core: npm install axe-core, or set LATKIT_AXE to axe.min.js")
    return path.read_text(encoding="utf-8").replace("</script", "<\\/script")


def faults(text: str, folder: Path, *options: str) -> list[tuple[str, str]]:
    """The serious faults that axe-core finds, each with where it is first."""
    run = (
        "axe.run({resultTypes: ['violations']}).then(done => document.title = JSON.stringify("
        "done.violations.map(v => [v.impact, v.id, v.nodes[0].html])))"
    )
    checked = folder / "checked.html"
    scripts = f"<script>{axe()}</script><script>{run}</script></body>"
    checked.write_text(text.replace("</body>", scripts), encoding="utf-8")
    shown, _ = browse(checked, folder, "--virtual-time-budget=60000", *options)
    title = re.search(r"<title>(.*?)</title>", shown, re.DOTALL)
    assert title is not None
    found: list[list[Any]] = json.loads(html.unescape(title[1]))
    return [(fault, where) for impact, fault, where in found if impact in FAULTS]


@pytest.mark.parametrize("options", [("--window-size=1280,900",), ("--window-size=390,800", DARK)])
def test_no_serious_fault(page: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    assert faults(page.read_text(encoding="utf-8"), tmp_path, *options) == []


def test_faults_would_be_found(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    pale = text.replace("--muted: #5b6470", "--muted: #bbbbbb").replace(
        '<html lang="en">', "<html>"
    )
    assert {fault for fault, _ in faults(pale, tmp_path)} == {"color-contrast", "html-has-lang"}
