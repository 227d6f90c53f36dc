"""The figures of the report: pure functions from numbers to SVG text.

Allowed imports: `sigmine.report.svg`, `sigmine.report.figures` (its row height).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sigmine.report.figures import ROW_HEIGHT
from sigmine.report.svg import (
    BLUE,
    GRID,
    MUTED,
    ORANGE,
    PALE,
    line,
    picture,
    rect,
    text,
)

__all__ = ["agreement", "chances", "layers"]

_WIDTH = 260


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
