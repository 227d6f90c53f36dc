"""The figures of the HTML report: pure functions from numbers to SVG text.

Drawn by hand because matplotlib takes a second to import and half a megabyte a figure.

Allowed imports: `report.svg`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .svg import (
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

__all__ = ["ROW_HEIGHT", "comparison", "forest", "qq", "strata_bars"]

ROW_HEIGHT = 30  # pixels of a table row that a figure is drawn beside; the style sheet agrees

_FOREST_WIDTH = 260
_BAR_WIDTH = 260
_LARGEST_RATIO = 1024.0  # odds ratios are drawn between this and its inverse
_TICK_STEPS = (1, 2, 5)


# ---- forest plot -----------------------------------------------------------------------------


def forest(detail: dict[str, Any]) -> str:
    """Draw the odds ratio of one pattern in every stratum and pooled, on a log scale.

    The rows stand `ROW_HEIGHT` apart, to be put beside the rows of a table: one for each stratum,
    one for the pooled value (a diamond), one for the axis.

    Parameters
    ----------
    detail : dict
        An entry of ``summary["details"]``.

    Returns
    -------
    str
        An SVG element.
    """
    rows = detail["strata"]
    low, high = _forest_limits(detail)
    scale = _LogScale(low, high, 14, _FOREST_WIDTH - 14)
    axis_y = ROW_HEIGHT * (len(rows) + 1) + 4
    body = [line(scale.at(tick), 0, scale.at(tick), axis_y, "grid", GRID) for tick in scale.ticks()]
    body.append(line(scale.at(1), 0, scale.at(1), axis_y, "null", MUTED))
    for k, row in enumerate(rows):
        body += _forest_row(row, scale, ROW_HEIGHT * (k + 0.5))
    body += _forest_pooled(detail, scale, ROW_HEIGHT * (len(rows) + 0.5))
    body.append(line(14, axis_y, _FOREST_WIDTH - 14, axis_y, "axis", MUTED))
    body += [text(scale.at(tick), axis_y + 16, _tick_label(tick)) for tick in scale.ticks()]
    title = f"Forest plot: odds ratio with 95 % interval in {len(rows)} strata, and pooled"
    return picture(_FOREST_WIDTH, ROW_HEIGHT * (len(rows) + 2), title, body, "forest")


def _forest_limits(detail: dict[str, Any]) -> tuple[float, float]:
    """Choose the range of the axis: all estimates, and intervals as far as they are reasonable."""
    names = ("odds_ratio", "odds_ratio_low", "odds_ratio_high")
    pooled = [detail[name] for name in names]
    estimates = [row["odds_ratio"] for row in detail["strata"]]
    ends = [row[name] for row in detail["strata"] for name in names[1:]]

    def proper(values: Sequence[float | None]) -> list[float]:
        return [v for v in values if v is not None and 0 < v < math.inf]

    core = [1.0, *proper(pooled), *proper(estimates)]
    reach = [*core, *proper(ends)]
    # An interval may widen the axis by a factor of four beyond the estimates, not swallow it.
    low = max(min(reach), min(core) / 4, 1 / _LARGEST_RATIO)
    high = min(max(reach), max(core) * 4, _LARGEST_RATIO)
    return min(low, 0.8), max(high, 1.25)


class _LogScale:
    """Positions on a logarithmic axis; values beyond its ends sit on the ends."""

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        self.low, self.high, self.start, self.stop = low, high, start, stop

    def at(self, value: float) -> float:
        if value <= self.low:
            return self.start
        if value >= self.high:
            return self.stop
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Return round values inside the axis, no closer than labels can stand."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        decade = (self.stop - self.start) / math.log10(self.high / self.low)
        steps = _TICK_STEPS if 0.3 * decade >= 28 else (1,)
        found = [
            step * 10.0**power
            for power in range(first, last + 1)
            for step in steps
            if self.low <= step * 10.0**power <= self.high
        ]
        return found if len(found) < 8 else found[(found.index(1.0) % 2) :: 2]


def _tick_label(value: float) -> str:
    return f"{value:g}"


def _forest_row(row: dict[str, Any], scale: _LogScale, y: float) -> list[str]:
    ratio, low, high = row["odds_ratio"], row["odds_ratio_low"], row["odds_ratio_high"]
    if ratio is None:
        return []
    shapes = []
    if low is not None and high is not None:
        x1, x2 = scale.at(low), scale.at(high)
        shapes.append(line(x1, y, x2, y, "interval", BLUE))
        if low < scale.low:
            shapes.append(path(f"M{number(x1 - 7)} {number(y)}l8 -4v8z", "mark", BLUE))
        if high > scale.high:
            shapes.append(path(f"M{number(x2 + 7)} {number(y)}l-8 -4v8z", "mark", BLUE))
    side = 5 + 9 * math.sqrt(max(0.0, min(1.0, row["weight"])))  # area by weight
    x = scale.at(ratio)
    shapes.append(rect(x - side / 2, y - side / 2, side, side, "mark", BLUE))
    return shapes


def _forest_pooled(detail: dict[str, Any], scale: _LogScale, y: float) -> list[str]:
    ratio, low, high = (
        detail[name] for name in ("odds_ratio", "odds_ratio_low", "odds_ratio_high")
    )
    if ratio is None:
        return []
    x = scale.at(ratio)
    x1, x2 = (x if end is None else scale.at(end) for end in (low, high))
    x1, x2 = min(x1, x - 5), max(x2, x + 5)
    corners = ((x1, y), (x, y - 7), (x2, y), (x, y + 7))
    diamond = f"M{'L'.join(f'{number(a)} {number(b)}' for a, b in corners)}Z"
    return [path(diamond, "pooled", ORANGE)]


# ---- strata ----------------------------------------------------------------------------------


def strata_bars(strata: Sequence[dict[str, Any]]) -> str:
    """Draw a bar for every stratum: its length the rows, its dark part the cases.

    The bars stand `ROW_HEIGHT` apart, to be put beside the rows of a table.

    Parameters
    ----------
    strata : sequence of dict
        Entries with ``n`` and ``n_cases``.

    Returns
    -------
    str
        An SVG element.
    """
    largest = max((stratum["n"] for stratum in strata), default=0) or 1
    body = []
    for k, stratum in enumerate(strata):
        y = ROW_HEIGHT * k + 8
        width = _BAR_WIDTH * stratum["n"] / largest
        cases = _BAR_WIDTH * stratum["n_cases"] / largest
        body.append(rect(0, y, width, ROW_HEIGHT - 16, "bar-rows", PALE))
        body.append(rect(0, y, cases, ROW_HEIGHT - 16, "bar-cases", ORANGE))
    title = f"Rows and cases of {len(strata)} strata"
    return picture(_BAR_WIDTH, ROW_HEIGHT * max(1, len(strata)), title, body, "strata-bars")


# ---- scatter plots ---------------------------------------------------------------------------

_SIZE, _LEFT, _BOTTOM, _TOP, _RIGHT = 380, 52, 46, 12, 14


class _Frame:
    """A square plot with two axes that start at 0, linear or square-root."""

    def __init__(self, x_high: float, y_high: float, *, root: bool = False) -> None:
        ticks = _root_ticks if root else nice_ticks
        self.root = root
        self.x_ticks, self.x_high = ticks(x_high)
        self.y_ticks, self.y_high = ticks(y_high)

    def x(self, value: float) -> float:
        share = _root(value / self.x_high, self.root)
        return _LEFT + (_SIZE - _LEFT - _RIGHT) * share

    def y(self, value: float) -> float:
        share = _root(value / self.y_high, self.root)
        return _SIZE - _BOTTOM - (_SIZE - _BOTTOM - _TOP) * share

    def axes(self, x_label: str, y_label: str) -> list[str]:
        bottom, left, top, right = _SIZE - _BOTTOM, _LEFT, _TOP, _SIZE - _RIGHT
        shapes = []
        for tick in self.x_ticks:
            shapes.append(line(self.x(tick), top, self.x(tick), bottom, "grid", GRID))
            shapes.append(text(self.x(tick), bottom + 17, f"{tick:g}"))
        for tick in self.y_ticks:
            shapes.append(line(left, self.y(tick), right, self.y(tick), "grid", GRID))
            shapes.append(text(left - 7, self.y(tick) + 4, f"{tick:g}", anchor="end"))
        shapes.append(text((left + right) / 2, _SIZE - 8, x_label, name="axis-title"))
        middle = (top + bottom) / 2
        turn = f' transform="rotate(-90 14 {number(middle)})"'
        shapes.append(text(14, middle, y_label, name="axis-title", extra=turn))
        return shapes

    def dots(self, points: Sequence[tuple[float, float]], name: str, color: str) -> str:
        """Draw all points as one path, which is a tenth of the size of circles."""
        d = "".join(f"M{number(self.x(x))} {number(self.y(y))}h0" for x, y in points)
        return (
            f'<path class="dots {name}" stroke="{color}" stroke-width="5.5" stroke-linecap="round" '
            f'fill="none" d="{d}"/>'
        )


def _root(share: float, root: bool) -> float:
    inside = max(0.0, min(share, 1.0))
    return math.sqrt(inside) if root else inside


def _root_ticks(high: float) -> tuple[list[float], float]:
    """Return round ticks that keep their distance on a square-root axis, and its end."""
    high = high * 1.04 if high > 0 else 1.0
    ticks = [0.0]
    for power in range(math.floor(math.log10(high)) - 2, math.floor(math.log10(high)) + 1):
        for step in _TICK_STEPS:
            value = step * 10.0**power
            if value <= high and math.sqrt(value / high) - math.sqrt(ticks[-1] / high) >= 0.1:
                ticks.append(value)
    return ticks, high


def qq(calibration: dict[str, Any], threshold: float | None) -> str:
    """Draw observed against expected p-values of the testable patterns.

    Parameters
    ----------
    calibration : dict
        ``summary["calibration"]``; points are pairs of -log10 p, expected and observed.
    threshold : float or None
        The corrected threshold, drawn as a line.

    Returns
    -------
    str
        An SVG element; without points, an empty frame.
    """
    points = [(x, y) for x, y in calibration["points"]]
    level = -math.log10(threshold) if threshold and 0 < threshold <= 1 else 0.0
    x_high = max([x for x, _ in points] + [1.0])
    frame = _Frame(x_high, max([y for _, y in points] + [level * 1.05, 1.0]))
    body = frame.axes("expected −log₁₀ p", "observed −log₁₀ p")
    end = min(frame.x_high, frame.y_high)
    body.append(line(frame.x(0), frame.y(0), frame.x(end), frame.y(end), "diagonal", MUTED))
    if level:
        body.append(_threshold_line(frame, y=level))
        body.append(text(_SIZE - _RIGHT - 4, frame.y(level) - 6, "significant above", anchor="end"))
    above = [(x, y) for x, y in points if level and y >= level]
    below = [(x, y) for x, y in points if not (level and y >= level)]
    body.append(frame.dots(below, "blue", BLUE))
    body.append(frame.dots(above, "orange", ORANGE))
    title = f"QQ plot of {calibration['n']:,} testable patterns: observed against expected p-values"
    return picture(_SIZE, _SIZE, title, body, "qq")


def _threshold_line(frame: _Frame, *, x: float | None = None, y: float | None = None) -> str:
    if x is not None:
        return line(frame.x(x), _TOP, frame.x(x), _SIZE - _BOTTOM, "threshold", ORANGE)
    at = frame.y(y or 0.0)
    return line(_LEFT, at, _SIZE - _RIGHT, at, "threshold", ORANGE)


def comparison(
    confounding: dict[str, Any], threshold: float | None, *, kinds: Sequence[str]
) -> str:
    """Draw p-values with the covariate against p-values without it.

    Parameters
    ----------
    confounding : dict
        ``summary["confounding"]``; points are -log10 p without, with, and the kind (0 significant
        in both, 1 only without, 2 only with).
    threshold : float or None
        Corrected threshold of the search with the covariate.
    kinds : sequence of str, length 3
        What the kinds are called in the title, for those who cannot see the figure.

    Returns
    -------
    str
        An SVG element.
    """
    points = confounding["points"]
    crude = confounding["corrected_threshold"]
    levels = [
        -math.log10(value) if value and 0 < value <= 1 else 0.0 for value in (crude, threshold)
    ]
    frame = _Frame(
        max([p[0] for p in points] + [levels[0] * 1.2, 1.0]),
        max([p[1] for p in points] + [levels[1] * 1.2, 1.0]),
        root=True,
    )
    body = frame.axes("−log₁₀ p without the covariate", "−log₁₀ p with it")
    end = min(frame.x_high, frame.y_high)
    body.append(line(frame.x(0), frame.y(0), frame.x(end), frame.y(end), "diagonal", MUTED))
    if levels[0]:
        body.append(_threshold_line(frame, x=levels[0]))
    if levels[1]:
        body.append(_threshold_line(frame, y=levels[1]))
    for kind, (name, color) in enumerate((("blue", BLUE), ("orange", ORANGE), ("green", GREEN))):
        chosen = [(p[0], p[1]) for p in points if p[2] == kind]
        if chosen:
            body.append(frame.dots(chosen, name, color))
    counts = ", ".join(
        f"{confounding[key]:,} {kind}"
        for key, kind in zip(("n_shared", "n_confounded", "n_gained"), kinds, strict=True)
    )
    return picture(_SIZE, _SIZE, f"P-values with and without the covariate: {counts}", body, "both")
