"""The report of a pruning: a plain dict of what was found, and its pages.

`summarize` turns `PruningResults` into a dict of plain values; `render_html`, `render_markdown` and
`render_json` are pure functions of that dict, and `load_summary` reads it back from JSON.

Allowed imports: `sigmine.report`, `sigmine_nn.exceptions`; never `sigmine_nn.results`, which
imports this package.
"""

from .render import render_html, render_json, render_markdown
from .schema import load_summary
from .summarize import summarize

__all__ = ["load_summary", "render_html", "render_json", "render_markdown", "summarize"]
