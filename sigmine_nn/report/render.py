"""Render the dict of a pruning as HTML, Markdown or JSON: pure functions, no data access.

Names of layers come from a model that may be a stranger's: templates and figures escape everything.

Allowed imports: `report.figures`, `sigmine.report`; jinja2 inside functions.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sigmine.report import formats
from sigmine.report.render import as_markdown, as_strict_json

from . import figures

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["environment", "render_html", "render_json", "render_markdown"]


@lru_cache(maxsize=2)
def environment(html: bool) -> Environment:
    """Return the templates of reports of networks, with the filters that they use.

    Parameters
    ----------
    html : bool
        Whether values are escaped for HTML.

    Returns
    -------
    Environment
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    made = Environment(
        # The style sheet is the miner's.
        loader=ChoiceLoader([PackageLoader("sigmine_nn.report"), PackageLoader("sigmine.report")]),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        integer=formats.format_integer,
        decimal=formats.format_decimal,
        score=_score,
        md=as_markdown,
    )
    made.globals.update(
        pvalue=formats.format_pvalue, percent=formats.format_percent, share=formats.format_share
    )
    return made


def render_html(summary: dict[str, Any]) -> str:
    """Render a report as one self-contained HTML page.

    Parameters
    ----------
    summary : dict
        From `summarize`.

    Returns
    -------
    str
        A page without scripts and without anything to load; figures are inline SVG.
    """
    context = {**summary, "figure": _Figures(summary)}
    return environment(True).get_template("pruning.html").render(context)


def render_markdown(summary: dict[str, Any]) -> str:
    """Render a report as Markdown (tables, no figures).

    Parameters
    ----------
    summary : dict
        From `summarize`.

    Returns
    -------
    str
        GitHub-flavoured Markdown; names are escaped.
    """
    return environment(False).get_template("pruning.md").render(summary)


def render_json(summary: dict[str, Any]) -> str:
    """Render a report as strict JSON.

    Parameters
    ----------
    summary : dict
        From `summarize`.

    Returns
    -------
    str
        Missing numbers are null, infinite ones the strings "inf" and "-inf".
    """
    return as_strict_json(summary)


def _score(value: float | None) -> str:
    """Write a score with four digits."""
    return "–" if value is None else f"{value:.4g}"


class _Figures:
    """The figures of one report, as markup that templates may insert."""

    def __init__(self, summary: dict[str, Any]) -> None:
        self._summary = summary

    def layers(self) -> Markup:
        return _markup(figures.layers(self._summary["layers"]))

    def chances(self) -> Markup:
        undecided = self._summary["undecided"]
        limits = (undecided["low"], undecided["high"])
        return _markup(figures.chances(self._summary["ranking"]["rows"], limits))

    def agreement(self) -> Markup:
        found = self._summary["agreement"]
        return _markup(figures.agreement(found["names"], found["values"]))

    def unit_discs(self) -> Markup:
        return _markup(figures.unit_discs(self._summary["states"]["layers"]))

    def curves(self) -> Markup:
        found = self._summary["curves"]
        return _markup(figures.curves(found["ways"], found["whole"], found["metric"]))


def _markup(svg: str) -> Markup:
    """Mark a figure as safe: it escapes its own labels."""
    from markupsafe import Markup

    return Markup(svg)
