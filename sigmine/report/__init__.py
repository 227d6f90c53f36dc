"""The report: collect a result into a plain dict, then render the dict.

`summarize` turns a `sigmine.results.PatternResults` into a dict of plain values; `render_html`,
`render_markdown` and `render_json` are pure functions of that dict, and `load_summary` reads it
back from a JSON file.

Allowed imports: `columns`, `exceptions`, `_version`; inside functions also `patterns` and
`association`. Never `results`, which imports this package. Importing it costs nothing heavy.
"""

from .render import render_html, render_json, render_markdown, render_notebook
from .schema import load_summary
from .summarize import summarize

__all__ = [
    "load_summary",
    "render_html",
    "render_json",
    "render_markdown",
    "render_notebook",
    "summarize",
]
