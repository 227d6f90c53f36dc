"""Shapes of SVG as text, in the colours of the reports.

Colours come from the classes of the page's style sheet (so that dark mode and print work);
attributes give the same colours where there is no style sheet. Text is escaped.

Allowed imports: none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

__all__ = [
    "BLUE",
    "GREEN",
    "GRID",
    "INK",
    "MUTED",
    "ORANGE",
    "PALE",
    "line",
    "nice_ticks",
    "number",
    "path",
    "picture",
    "rect",
    "text",
]

INK, MUTED, GRID = "#1d2733", "#5b6875", "#d9dee4"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito: safe for colour blindness
PALE = "#c9d3dd"


def number(value: float) -> str:
    """Write a coordinate with at most two decimals."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def picture(width: float, height: float, title: str, body: Sequence[str], name: str) -> str:
    """Wrap shapes into an SVG element that screen readers name by `title`."""
    return (
        f'<svg class="figure {name}" xmlns="http://www.w3.org/2000/svg" role="img" '
        f'width="{number(width)}" height="{number(height)}" '
        f'viewBox="0 0 {number(width)} {number(height)}">'
        f"<title>{escape(title)}</title>{''.join(body)}</svg>"
    )


def line(x1: float, y1: float, x2: float, y2: float, name: str, color: str) -> str:
    """Draw a line."""
    return (
        f'<line class="{name}" stroke="{color}" x1="{number(x1)}" y1="{number(y1)}" '
        f'x2="{number(x2)}" y2="{number(y2)}"/>'
    )


def text(
    x: float, y: float, words: str, *, anchor: str = "middle", name: str = "label", extra: str = ""
) -> str:
    """Write words at a place."""
    return (
        f'<text class="{name}" fill="{MUTED}" font-size="12" font-family="sans-serif" '
        f'x="{number(x)}" y="{number(y)}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'
    )


def rect(x: float, y: float, width: float, height: float, name: str, color: str) -> str:
    """Draw a rectangle."""
    return (
        f'<rect class="{name}" fill="{color}" x="{number(x)}" y="{number(y)}" '
        f'width="{number(width)}" height="{number(height)}"/>'
    )


def path(d: str, name: str, color: str) -> str:
    """Draw a filled path."""
    return f'<path class="{name}" fill="{color}" d="{d}"/>'


def nice_ticks(high: float) -> tuple[list[float], float]:
    """Return about five round ticks from 0, and the end of the axis."""
    high = high * 1.04 if high > 0 else 1.0
    raw = high / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
    return [step * k for k in range(int(high / step) + 1)], high
