"""The figures of the report: pure functions from numbers to SVG text.

Allowed imports: `sigmine.report.svg`, `sigmine.report.figures` (its row height).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sigmine.report.figures import ROW_HEIGHT
from sigmine.report.svg import (
    BLUE,
    GREEN,
    GRID,
    MUTED,
    ORANGE,
    PALE,
    line,
    nice_ticks,
    number,
    path,
    picture,
    rect,
    text,
)

__all__ = ["agreement", "chances", "curves", "layers", "unit_discs"]

_WIDTH = 260
_DISC = 190  # a disc with its title
_RADIUS = 80
# Okabe and Ito, the readable ones first.
_COLORS = (BLUE, ORANGE, GREEN, "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#8c6d31")


def layers(rows: Sequence[dict[str, Any]]) -> str:
    """Draw a bar for every layer: its length the units, its dark part those that stay.

    Parameters
    ----------
    rows : sequence of dict
        Entries with ``n_units`` and ``n_kept``.

    Returns
    -------
    str
        An SVG element whose bars stand as far apart as the rows of a table.
    """
    largest = max((row["n_units"] for row in rows), default=0) or 1
    body = []
    for k, row in enumerate(rows):
        y = ROW_HEIGHT * k + 8
        body.append(
            rect(0, y, _WIDTH * row["n_units"] / largest, ROW_HEIGHT - 16, "bar-rows", PALE)
        )
        body.append(rect(0, y, _WIDTH * row["n_kept"] / largest, ROW_HEIGHT - 16, "mark", BLUE))
    title = f"Units and units kept in {len(rows)} layers"
    return picture(_WIDTH, ROW_HEIGHT * max(1, len(rows)), title, body, "layers")


def chances(rows: Sequence[dict[str, Any]], limits: tuple[float, float]) -> str:
    """Draw for every unit how likely it is to be among the pruned, between 0 and 1.

    Parameters
    ----------
    rows : sequence of dict
        Entries with ``p_pruned`` and ``undecided``.
    limits : tuple of two floats
        Between them a unit is undecided.

    Returns
    -------
    str
        An SVG element whose bars stand as far apart as the rows of a table, with an axis below.
    """
    left, width = 8.0, _WIDTH - 16.0
    bottom = ROW_HEIGHT * len(rows)
    body = [
        line(left + width * at, 0, left + width * at, bottom, "grid", GRID) for at in (0, 0.5, 1)
    ]
    body += [
        line(left + width * at, 0, left + width * at, bottom, "threshold", ORANGE) for at in limits
    ]
    for k, row in enumerate(rows):
        if row["p_pruned"] is None:
            continue
        x, y = left + width * row["p_pruned"], ROW_HEIGHT * (k + 0.5)
        name, color = ("pooled", ORANGE) if row["undecided"] else ("mark", BLUE)
        body.append(line(left, y, x, y, "axis", MUTED))
        body.append(rect(x - 4.5, y - 4.5, 9, 9, name, color))
    body += [text(left + width * at, bottom + 17, f"{at:g}") for at in (0, 0.5, 1)]
    title = f"Probability of being pruned, for {len(rows)} units next to the cut"
    return picture(_WIDTH, bottom + ROW_HEIGHT, title, body, "chances")


def agreement(names: Sequence[str], values: Sequence[Sequence[float | None]]) -> str:
    """Draw a matrix of agreement as a heat map.

    Parameters
    ----------
    names : sequence of str
        Of the criteria.
    values : sequence of sequences of float or None
        Symmetric, from -1 to 1; None where it is not defined.

    Returns
    -------
    str
        An SVG element; every cell has its number.
    """
    cell = 52
    left = 16 + 7 * max((len(name) for name in names), default=0)
    body = []
    for i, name in enumerate(names):
        body.append(text(left - 8, cell * i + cell / 2 + 4, name, anchor="end"))
        turn = f' transform="rotate(-40 {left + cell * i + cell / 2} {cell * len(names) + 14})"'
        at = (left + cell * i + cell / 2, cell * len(names) + 14)
        body.append(text(*at, name, anchor="end", extra=turn))
        for j, value in enumerate(values[i]):
            x, y = left + cell * j, cell * i
            strength = 0.0 if value is None else max(0.0, min(1.0, abs(value)))
            color, kind = (BLUE, "mark") if value is None or value >= 0 else (ORANGE, "pooled")
            shape = rect(x + 1, y + 1, cell - 2, cell - 2, kind, color)
            body.append(
                shape.replace("<rect ", f'<rect fill-opacity="{0.08 + 0.72 * strength:.2f}" ')
            )
            label = "–" if value is None else f"{value:.2f}"
            body.append(text(x + cell / 2, y + cell / 2 + 4, label, name="cell"))
    size = cell * len(names)
    return picture(left + size + 8, size + left, "Agreement of the criteria", body, "agreement")


def unit_discs(layers: Sequence[dict[str, Any]]) -> str:
    """Draw the eigenvalues of every layer in a unit disc of its own.

    Parameters
    ----------
    layers : sequence of dict
        Entries with ``layer`` and ``points``, each with ``re``, ``im``, ``score`` in [0, 1] and
        ``keep``.

    Returns
    -------
    str
        An SVG element, four discs a row.
    """
    body = []
    for k, layer in enumerate(layers):
        x, y = _DISC * (k % 4) + _DISC / 2, (_DISC + 24) * (k // 4) + 24 + _DISC / 2
        body.append(_circle(x, y, _RADIUS, "axis", MUTED, filled=False))
        body.append(line(x - _RADIUS, y, x + _RADIUS, y, "grid", GRID))
        body.append(line(x, y - _RADIUS, x, y + _RADIUS, "grid", GRID))
        body.append(text(x, y - _DISC / 2 - 2, layer["layer"]))
        for point in layer["points"]:
            at = (x + _RADIUS * point["re"], y - _RADIUS * point["im"])
            if point["keep"]:
                dot = _circle(*at, 3.0, "mark", BLUE)
                opacity = 0.25 + 0.75 * point["score"]
                body.append(dot.replace("<path ", f'<path fill-opacity="{opacity:.2f}" '))
            else:
                body.append(_circle(*at, 3.0, "ring", ORANGE, filled=False))
    n_rows = -(-len(layers) // 4)
    width, height = _DISC * min(4, max(1, len(layers))), (_DISC + 24) * max(1, n_rows)
    title = f"Discrete eigenvalues of {len(layers)} layers in the unit disc"
    return picture(width, height, title, body, "discs")


def _circle(x: float, y: float, r: float, name: str, color: str, *, filled: bool = True) -> str:
    d = (
        f"M{number(x - r)} {number(y)}a{number(r)} {number(r)} 0 1 0 {number(2 * r)} 0"
        f"a{number(r)} {number(r)} 0 1 0 {number(-2 * r)} 0z"
    )
    shape = path(d, name, color)
    return shape if filled else shape.replace(f'fill="{color}"', f'fill="none" stroke="{color}"')


def curves(ways: Sequence[dict[str, Any]], whole: float, metric: str) -> str:
    """Draw means and intervals of a metric against the amount removed.

    Parameters
    ----------
    ways : sequence of dict
        Entries with ``way`` and ``points``: ``amount``, ``mean``, ``low``, ``high``.
    whole : float
        The metric with everything there.
    metric : str
        Its name.

    Returns
    -------
    str
        An SVG element.
    """
    left, top, width, height = 52.0, 12.0, 460.0, 260.0
    points = [point for way in ways for point in way["points"]]
    high = max([whole, *(p["mean"] for p in points)])
    ticks, high = ([0.2 * i for i in range(6)], 1.0) if metric == "accuracy" else nice_ticks(high)
    last = max((p["amount"] for p in points), default=1.0) or 1.0

    def at(amount: float, value: float) -> tuple[float, float]:
        share = min(max(value / high, 0.0), 1.0)
        return left + width * amount / last, top + height * (1.0 - share)

    body = []
    for tick in ticks:
        y = at(0.0, tick)[1]
        body += [line(left, y, left + width, y, "grid", GRID)]
        body += [text(left - 8, y + 4, f"{tick:g}", anchor="end")]
    for tick in sorted({p["amount"] for p in points}):
        body.append(text(at(tick, 0.0)[0], top + height + 18, f"{100 * tick:g} %"))
    body.append(text(left + width / 2, top + height + 38, "fraction of the units removed"))
    y = at(0.0, whole)[1]
    body.append(line(left, y, left + width, y, "diagonal", MUTED))
    for k, way in enumerate(ways):
        color = _COLORS[k % len(_COLORS)]
        body += _curve(way["points"], at, color)
        y = top + 18 * k + 8
        body.append(line(left + width + 16, y, left + width + 36, y, "curve", color))
        body.append(text(left + width + 42, y + 4, way["way"], anchor="start"))
    title = f"{metric} against the fraction removed, for {len(ways)} ways"
    bottom = max(top + height + 46, top + 18 * len(ways) + 8)
    return picture(left + width + 240, bottom, title, body, "curves")


def _curve(
    points: Sequence[dict[str, Any]], at: Callable[[float, float], tuple[float, float]], color: str
) -> list[str]:
    """Draw one line, and its band where there is one."""

    def joined(pairs: Sequence[tuple[float, float]]) -> str:
        return "L".join(f"{number(x)} {number(y)}" for x, y in (at(*pair) for pair in pairs))

    shapes = []
    banded = [p for p in points if p["low"] is not None and p["high"] is not None]
    if len(banded) > 1:
        upper = [(p["amount"], p["high"]) for p in banded]
        lower = [(p["amount"], p["low"]) for p in reversed(banded)]
        band = path(f"M{joined(upper + lower)}z", "band", color)
        shapes.append(band.replace("<path ", '<path fill-opacity="0.1" '))
    d = f"M{joined([(p['amount'], p['mean']) for p in points])}"
    shapes.append(
        path(d, "curve", color).replace(f'fill="{color}"', f'fill="none" stroke="{color}"')
    )
    return shapes
