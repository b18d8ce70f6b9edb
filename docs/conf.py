"""The documentation as a site: ``make docs``. The pages are plain Markdown of the repository."""

from __future__ import annotations

import re
from pathlib import Path

import click
from sphinx.application import Sphinx

import latkit

project = "latkit"
author = "the authors of latkit"
version = release = latkit.__version__
html_title = f"latkit {version}"

# The sources begin at the repository's root, so that pages link to its files as they do there.
root_doc = "docs/index"
include_patterns = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/*.md",
    "benchmarks/results/**.md",  # other pages link to them
]
exclude_patterns = [".*", "build", "dist", "docs/build", "node_modules", "**/examples"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_use_ivar = True
add_module_names = False
autodoc_preserve_defaults = True
# A field that has the name of a built-in type is no second target for that type.
suppress_warnings = ["ref.python"]
highlight_language = "none"

smartquotes = False  # they would make one dash of an option's two

html_theme = "furo"
html_additional_pages = {"index": "redirect.html"}
templates_path = ["templates"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False

# Links that name a file, as suits the repository, name the page here: by its first line.
TITLES = {
    path.name: path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    for path in Path(__file__).parent.glob("*.md")
}


def name_pages(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = re.sub(
        r"\[(?:docs/)?([\w-]+\.md)\](?=\()",
        lambda link: f"[{TITLES.get(link[1], link[1])}]",
        source[0],
    )


def show_help(app: Sphinx, command: click.Context, lines: list[str]) -> None:
    """Help texts are plain: examples stand as they are, and no character is markup."""
    shown: list[str] = []
    for line in lines:
        if line.startswith("| "):  # of a paragraph that the terminal does not wrap
            if not shown or not shown[-1].startswith("   "):
                shown += ["::", ""]
            shown.append(f"   {line[2:]}")
        else:
            shown.append(re.sub(r"([*|])", r"\\\1", line))
    lines[:] = shown


def setup(app: Sphinx) -> None:
    app.connect("source-read", name_pages)
    app.connect("sphinx-click-process-description", show_help)
    app.connect("sphinx-click-process-options", show_help)
