"""How the documentation is built: ``make docs``."""

import csv
import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).resolve().parent / "_ext"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from quick_examples import QuickForm

from sigmine import __version__
from sigmine.columns import COLUMNS

project = "sigmine"
author = "The sigmine developers"
copyright = "2026, The sigmine developers"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
    "numpydoc",
    "mathml",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "decisions.md"]
default_role = "autolink"
root_doc = "index"

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings name the types, with shapes and ranges
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
toc_object_entries_show_parents = "hide"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "api/generated/backreferences",
    "capture_repr": ("_repr_html_",),  # tables; not the names of the axes of a figure
    "doc_module": ("sigmine",),
    "reference_url": {"sigmine": None},  # names in the code of the examples link to their pages
    "abort_on_example_error": True,
    "download_all_examples": False,
    "min_reported_time": 1,
    "show_signature": False,
    "within_subsection_order": "FileNameSortKey",
    "reset_argv": QuickForm(),
}

html_theme = "pydata_sphinx_theme"
html_title = "sigmine"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["sigmine.css"]
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "header_links_before_dropdown": 6,
}
# No sidebar of sections on pages that have none.
_PLAIN_PAGES = (
    "install", "quickstart", "concepts", "guarantees", "mathematics", "cli",
    "auto_examples/*", "studies/*", "methods/*",
)  # fmt: skip
html_sidebars = {page: [] for page in _PLAIN_PAGES}
# A paper cited by its module, not by a sentence, is no mistake.
suppress_warnings = ["ref.citation"]
html_show_sourcelink = False


def _write_columns(app: Sphinx) -> None:
    """Write the table of ``api/columns`` from the one list of what each column means."""
    folder = Path(app.srcdir, "api", "generated")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "columns.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for column in COLUMNS:
            writer.writerow([f"``{column.name}``", column.dtype, column.help])


def setup(app: Sphinx) -> None:
    """Run before the pages are read."""
    app.connect("builder-inited", _write_columns)
