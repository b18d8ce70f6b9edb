"""The documentation as a site: ``make docs``. The pages are plain Markdown of the repository."""

from __future__ import annotations

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
autodoc_preserve_defaults = True
# A field that has the name of a built-in type is no second target for that type.
suppress_warnings = ["ref.python"]
highlight_language = "none"

html_theme = "furo"
html_additional_pages = {"index": "redirect.html"}
templates_path = ["templates"]
html_show_sphinx = False
html_copy_source = False
