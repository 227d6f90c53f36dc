"""The report of a search for a blend of criteria: from its dict to HTML and Markdown.

Allowed imports: `.render`, `.figures`, `.schema`, `sigmine.report`; jinja2 inside functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigmine.report.schema import Mapping, read_report, validate
from sigmine.report.svg import (
    BLUE,
    GREEN,
    GRID,
    MUTED,
    ORANGE,
    line,
    nice_ticks,
    number,
    picture,
    rect,
    text,
)

from . import figures
from .render import environment

if TYPE_CHECKING:
    from markupsafe import Markup

__all__ = ["FORMAT", "FORMAT_VERSION", "load_summary", "render_html", "render_markdown"]

FORMAT = "sigmine-blending-report"
FORMAT_VERSION = 1

_HISTORY = ("generation", "n_evaluations", "best", "median", "random_evaluations", "random_best")
SCHEMA: dict[str, Any] = {
    "format": "text",
    "version": "count",
    "created": "text",
    "versions": Mapping("text"),
    "question": {"sentence": "text"},
    "answer": {"sentence": "text", "how": "text"},
    "warnings": ["text"],
    "losses": [{"name": "text", "loss": "number?"}],
    "history": [dict.fromkeys(_HISTORY, "number?")],
    "agreement": {"names": ["text"], "values": [["number?"]]},
    "layers": [
        {
            "layer": "text",
            "n_filters": "count",
            "coupled": ["text"],
            "clusters": [
                {"members": ["text"], "medoid": "text", "taken": "text?", "factor": "number"}
            ],
            "silhouette": "number?",
            "left_out": ["text"],
            "constant": ["text"],
            "names": ["text"],
            "labels": ["count"],
            "joins": [["number"]],
        }
    ],
    "normaliser": "text",
    "notes": [{"name": "text", "text": "text"}],
}


def load_summary(path: str | Path) -> dict[str, Any]:
    """Read a report of a search for a blend from a JSON file.

    Parameters
    ----------
    path : str or Path
        The file.

    Returns
    -------
    dict
        Ready for `render_html` and `render_markdown`; every part has been checked.

    Raises
    ------
    FileFormatError
        If the file is not JSON, is cut off, is of another kind or version, or lacks something.
    OSError
        If it cannot be read.
    """
    advice = "Write it with BlendSearch.to_json."
    return read_report(path, FORMAT, FORMAT_VERSION, advice, _checked)


def _checked(value: dict[str, Any]) -> dict[str, Any]:
    summary: dict[str, Any] = validate(value, SCHEMA)
    _check(summary)
    return summary


def _check(summary: dict[str, Any]) -> None:
    """Check what kinds alone cannot say."""
    found = summary["agreement"]
    if {len(found["values"]), *map(len, found["values"])} != {len(found["names"])}:
        raise ValueError("agreement is no square matrix with a name a row")
    for i, layer in enumerate(summary["layers"]):
        n, joins = len(layer["names"]), layer["joins"]
        if n == 0 or len(layer["labels"]) != n or len(joins) != n - 1:
            raise ValueError(f"layers[{i}] has not one label a criterion, or joins not all of them")
        open_ = set(range(n))
        for k, join in enumerate(joins):
            if len(join) != 3 or not {join[0], join[1]} <= open_ or join[0] == join[1]:
                raise ValueError(f"layers[{i}].joins[{k}] joins what is not there")
            if not 0.0 <= join[2] <= 2.0:
                raise ValueError(f"layers[{i}].joins[{k}] has a height that is no distance")
            open_ = open_ - {join[0], join[1]} | {n + k}


def render_html(summary: dict[str, Any]) -> str:
    """Render a report as one self-contained HTML page.

    Parameters
    ----------
    summary : dict
        From `BlendSearch.to_dict`.

    Returns
    -------
    str
        A page without scripts and without anything to load; figures are inline SVG.
    """
    context = {**summary, "figure": _Figures(summary)}
    return environment(True).get_template("blending.html").render(context)


def render_markdown(summary: dict[str, Any]) -> str:
    """Render a report as Markdown (tables, no figures).

    Parameters
    ----------
    summary : dict
        From `BlendSearch.to_dict`.

    Returns
    -------
    str
        GitHub-flavoured Markdown; names are escaped.
    """
    return environment(False).get_template("blending.md").render(summary)


class _Figures:
    """The figures of one report, as markup that templates may insert."""

    def __init__(self, summary: dict[str, Any]) -> None:
        self._summary = summary

    def agreement(self) -> Markup:
        found = self._summary["agreement"]
        return _markup(figures.agreement(found["names"], found["values"]))

    def dendrogram(self, layer: dict[str, Any]) -> Markup:
        return _markup(dendrogram(layer["names"], layer["joins"], layer["labels"]))

    def history(self) -> Markup:
        return _markup(history(self._summary["history"]))


def _markup(svg: str) -> Markup:
    """Mark a figure as safe: it escapes its own labels."""
    from markupsafe import Markup

    return Markup(svg)


# -- Figures ----------------------------------------------------------------------------------

_STEP = 20  # between two criteria of a dendrogram
_COLORS = (("mark", BLUE), ("pooled", ORANGE), ("third", GREEN))


def dendrogram(
    names: Sequence[str], joins: Sequence[Sequence[float]], labels: Sequence[int]
) -> str:
    """Draw how criteria were joined, from the most alike on.

    Parameters
    ----------
    names : sequence of str
        Of the criteria.
    joins : sequence of (int, int, float)
        The two clusters that are joined (criteria first, then joins, in order) and their distance,
        1 - rank correlation.
    labels : sequence of int
        Number of the cluster that each criterion is in; neighbours in different ones have
        different colours.

    Returns
    -------
    str
        An SVG element, with the distance from left to right.
    """
    left = 16 + 7 * max(map(len, names))
    width, n = 260.0, len(names)
    rows = {leaf: row for row, leaf in enumerate(_leaves(n, joins))}
    ticks, high = nice_ticks(max((join[2] for join in joins), default=1.0))
    bottom = _STEP * n + 6.0
    body = [line(left + width * t / high, 0, left + width * t / high, bottom, "grid", GRID)
            for t in ticks]  # fmt: skip
    at = {leaf: (0.0, _STEP * row + 10.0) for leaf, row in rows.items()}
    for k, (first, second, height) in enumerate(joins):
        ends = [at[int(first)], at[int(second)]]
        x = left + width * height / high
        for end in ends:
            body.append(line(left + width * end[0] / high, end[1], x, end[1], "axis", MUTED))
        body.append(line(x, ends[0][1], x, ends[1][1], "axis", MUTED))
        at[n + k] = (height, (ends[0][1] + ends[1][1]) / 2)
    for leaf, row in rows.items():
        y = _STEP * row + 10
        name, color = _COLORS[labels[leaf] % len(_COLORS)]
        body.append(text(left - 10, y + 4, names[leaf], anchor="end"))
        body.append(rect(left - 3, y - 4, 6, 8, name, color))
    body += [text(left + width * t / high, bottom + 14, number(t)) for t in ticks]
    title = f"Dendrogram of {n} criteria by 1 - rank correlation"
    return picture(left + width + 12, bottom + 20, title, body, "dendrogram")


def _leaves(n: int, joins: Sequence[Sequence[float]]) -> list[int]:
    """Return the criteria in an order in which no two joins cross."""
    order = {leaf: [leaf] for leaf in range(n)}
    for k, (first, second, _) in enumerate(joins):
        order[n + k] = order.pop(int(first)) + order.pop(int(second))
    return [leaf for part in order.values() for leaf in part]


def history(rows: Sequence[dict[str, Any]]) -> str:
    """Draw the lowest loss so far by the number of masks tried, of both searches.

    Parameters
    ----------
    rows : sequence of dict
        Entries with ``n_evaluations``, ``best``, ``random_evaluations`` and ``random_best``.

    Returns
    -------
    str
        An SVG element.
    """
    pairs = (
        ("evolution", "n_evaluations", "best", "mark", BLUE),
        ("random search", "random_evaluations", "random_best", "pooled", ORANGE),
    )
    left, width, height = 60.0, 420.0, 180.0
    values = [row[y] for row in rows for _, _, y, _, _ in pairs if _is_finite(row[y])]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    span = high - low or 1.0
    ticks, right = nice_ticks(max((row["n_evaluations"] or 0.0 for row in rows), default=1.0))

    def x_of(count: float) -> float:
        return left + width * count / right

    def y_of(loss: float) -> float:
        return 12 + (height - 24) * (high - loss) / span

    body = [line(x_of(t), 0, x_of(t), height, "grid", GRID) for t in ticks]
    body += [text(x_of(t), height + 16, f"{t:g}") for t in ticks]
    for loss in (low, high):
        body.append(text(left - 6, y_of(loss) + 4, f"{loss:.4g}", anchor="end"))
    for place, (words, x, y, name, color) in enumerate(pairs):
        points = [(x_of(r[x]), y_of(r[y])) for r in rows if _is_finite(r[x]) and _is_finite(r[y])]
        for one, other in pairwise(points):
            body.append(line(*one, *other, name, color))
        body += [rect(a - 2, b - 2, 4, 4, name, color) for a, b in points]
        body.append(rect(left + 8 + 110 * place, height + 26, 10, 10, name, color))
        body.append(text(left + 24 + 110 * place, height + 35, words, anchor="start"))
    body.append(text(left + width, height + 35, "different masks tried", anchor="end"))
    title = "Lowest loss on the search data by the number of masks tried"
    return picture(left + width + 20, height + 44, title, body, "history")


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
