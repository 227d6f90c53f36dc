"""Render a report dict as HTML, Markdown, JSON or a notebook cell: pure functions, no data access.

The dict may come from a stranger's file (through `sigmine.report.load_summary`, which checks its
kinds), so nothing in it is trusted: templates escape everything, figures escape their labels.

Allowed imports: `columns`, `report.formats`, `report.figures`; jinja2 inside functions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..columns import COLUMNS
from . import figures, formats

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = [
    "as_markdown",
    "as_strict_json",
    "render_html",
    "render_json",
    "render_markdown",
    "render_notebook",
]

MAX_TABLE_ROWS = 50  # of the overview table
MAX_STRATA_ROWS = 40  # of the data section: the largest
MAX_NAMES = 30  # of dropped items listed for one reason
SHOWN_ITEMS = 12  # of a closed itemset; the rest is counted
_COMPARISON_KINDS = ("significant either way", "only without it", "only with it")
_MARKDOWN_SPECIAL = "\\`*_[]#|~$"
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}  # not every Markdown lets these be escaped


@lru_cache(maxsize=2)
def _environment(html: bool) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sigmine.report"),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        integer=formats.format_integer,
        ratio=formats.format_ratio,
        decimal=formats.format_decimal,
        md=as_markdown,
        short=formats.short_label,
    )
    environment.globals.update(
        pvalue=formats.format_pvalue,
        percent=formats.format_percent,
        share=formats.format_share,
        interval=formats.format_interval,
        count_of=formats.count_of,
        implied=_implied,
        columns=COLUMNS,
        shown_items=SHOWN_ITEMS,
    )
    return environment


def render_html(summary: dict[str, Any]) -> str:
    """Render a report as one self-contained HTML page.

    Parameters
    ----------
    summary : dict
        From `summarize` or `load_summary`.

    Returns
    -------
    str
        A page without scripts and without anything to load; figures are inline SVG.
    """
    context = {**_context(summary), "figure": _Figures(summary)}
    return _environment(True).get_template("report.html").render(context)


def render_markdown(summary: dict[str, Any]) -> str:
    """Render a report as Markdown (tables, no figures).

    Parameters
    ----------
    summary : dict
        From `summarize` or `load_summary`.

    Returns
    -------
    str
        GitHub-flavoured Markdown; everything from the data is escaped.
    """
    return _environment(False).get_template("report.md").render(_context(summary))


def render_notebook(summary: dict[str, Any]) -> str:
    """Render the counts and the first patterns as a fragment of HTML for a notebook.

    Parameters
    ----------
    summary : dict
        From `summarize` or `load_summary`.

    Returns
    -------
    str
        A ``div`` element with its own few rules of style.
    """
    return _environment(True).get_template("notebook.html").render(_context(summary))


def render_json(summary: dict[str, Any]) -> str:
    """Render a report as strict JSON.

    Parameters
    ----------
    summary : dict
        From `summarize` or `load_summary`.

    Returns
    -------
    str
        Missing numbers are null, infinite ones the strings "inf" and "-inf"; `load_summary` reads
        the same dict back.
    """
    return as_strict_json(summary)


def as_strict_json(summary: dict[str, Any]) -> str:
    """Write a dict of plain values as JSON without NaN and infinities.

    Parameters
    ----------
    summary : dict
        Of dicts, lists, strings, numbers and None.

    Returns
    -------
    str
        Ends with a line feed.
    """
    return json.dumps(_strict(summary), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    return [_strict(item) for item in value] if isinstance(value, list) else value


def _implied(pattern: Sequence[str], generator: Sequence[str]) -> list[str]:
    """Return the items of the closed itemset that its shortest description implies."""
    return [item for item in pattern if item not in generator]


def as_markdown(text: Any) -> str:
    """Escape a string for a paragraph or a table cell of Markdown, on one line.

    Parameters
    ----------
    text : object
        Its string.

    Returns
    -------
    str
    """
    flat = " ".join(str(text).split())
    return "".join(f"\\{c}" if c in _MARKDOWN_SPECIAL else _ENTITIES.get(c, c) for c in flat)


def _context(summary: dict[str, Any]) -> dict[str, Any]:
    """Add to the dict what only the pages need."""
    rows = summary["patterns"]["rows"]
    return {
        **summary,
        "table_rows": rows[:MAX_TABLE_ROWS],
        "n_more": summary["patterns"]["total"] - min(len(rows), MAX_TABLE_ROWS),
        "shown_strata": _shown_strata(summary["data"]["strata"]),
        "dropped_groups": _dropped_groups(summary["dropped"]),
        "given": formats.join_names(summary["question"]["strata_names"]),
        "exact": summary["tested"]["method"] == "exact",
    }


def _shown_strata(strata: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the largest strata, in their own order."""
    if len(strata) <= MAX_STRATA_ROWS:
        return strata
    largest = sorted(range(len(strata)), key=lambda k: (-strata[k]["n"], k))[:MAX_STRATA_ROWS]
    return [strata[k] for k in sorted(largest)]


def _dropped_groups(dropped: dict[str, Any]) -> list[dict[str, Any]]:
    """Group the items that were left out by reason."""
    groups: dict[str, list[str]] = {}
    for row in dropped["rows"]:
        groups.setdefault(row["reason"], []).append(row["name"])
    return [
        {"reason": reason, "n": len(names), "names": names[:MAX_NAMES]}
        for reason, names in groups.items()
    ]


class _Figures:
    """The figures of one report, as markup that templates may insert."""

    def __init__(self, summary: dict[str, Any]) -> None:
        self._summary = summary
        self._threshold = summary["tested"]["corrected_threshold"]

    def forest(self, detail: dict[str, Any]) -> Markup:
        return _markup(figures.forest(detail))

    def strata(self, strata: list[dict[str, Any]]) -> Markup:
        return _markup(figures.strata_bars(strata))

    def qq(self) -> Markup:
        return _markup(figures.qq(self._summary["calibration"], self._threshold))

    def comparison(self) -> Markup:
        return _markup(
            figures.comparison(
                self._summary["confounding"], self._threshold, kinds=_COMPARISON_KINDS
            )
        )


def _markup(svg: str) -> Markup:
    """Mark a figure as safe: it escapes its own labels."""
    from markupsafe import Markup

    return Markup(svg)
