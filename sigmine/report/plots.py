"""The figures of a result in matplotlib, for papers and notebooks; each returns its axes.

Allowed imports: `report.formats`, `report.svg`; matplotlib inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .formats import format_pvalue
from .svg import BLUE, MUTED, ORANGE, PALE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["forest", "qq", "strata"]


def _axes(ax: Axes | None, **size: Any) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    new: Axes = plt.subplots(layout="constrained", **size)[1]
    return new


def _plain(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)


def forest(table: pd.DataFrame, row: pd.Series, *, title: str, ax: Axes | None = None) -> Axes:
    """Draw odds ratios with 95 % intervals by stratum, and pooled, on a log axis.

    Parameters
    ----------
    table : DataFrame
        From `PatternResults.stratum_table`.
    row : Series
        The row of `PatternResults.patterns`.
    title : str
        Title of the axes.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib Axes
        One horizontal line a stratum; strata without a finite odds ratio are left blank.
    """
    ax = _axes(ax, figsize=(6.4, 1.4 + 0.3 * (len(table) + 1)))
    names = ["odds_ratio", "odds_ratio_low", "odds_ratio_high"]
    values = np.vstack([table[names].to_numpy(dtype=np.float64), row[names].to_numpy(np.float64)])
    labels = [*table["stratum"], "Pooled"]
    y = np.arange(len(labels))
    drawn = np.isfinite(values).all(axis=1) & (values > 0).all(axis=1)
    for k in np.flatnonzero(drawn):
        color, marker = (ORANGE, "D") if k == len(labels) - 1 else (BLUE, "s")
        ratio, low, high = values[k]
        ax.plot([low, high], [y[k], y[k]], color=color, linewidth=1.5, solid_capstyle="butt")
        ax.plot([ratio], [y[k]], marker=marker, color=color, markersize=6)
    ax.axvline(1.0, color=MUTED, linewidth=1.0)
    ax.set_xscale("log")
    ax.set_yticks(y, labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.set_xlabel("odds ratio (95 % interval)")
    ax.set_title(title, loc="left", fontsize="medium", parse_math=False)
    _plain(ax)
    return ax


def qq(
    log10_pvalue: NDArray[np.float64],
    *,
    threshold: float,
    inflation: float,
    ax: Axes | None = None,
) -> Axes:
    """Draw observed against expected -log10 p-values.

    Parameters
    ----------
    log10_pvalue : ndarray of float64, shape (n,)
        Base-10 logarithms, in any order.
    threshold : float
        The corrected threshold, drawn as a line.
    inflation : float
        Shown in the title.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib Axes
        One point a p-value.
    """
    ax = _axes(ax, figsize=(4.8, 4.8))
    observed = np.abs(np.sort(log10_pvalue))
    n = len(observed)
    expected = -np.log10((np.arange(n) + 0.5) / n) if n else observed
    end = float(expected.max(initial=1.0))
    ax.plot([0, end], [0, end], color=MUTED, linewidth=1.0, linestyle="--")
    ax.axhline(-np.log10(threshold), color=ORANGE, linewidth=1.0, linestyle="--")
    ax.plot(expected, observed, linestyle="none", marker="o", markersize=3.5, color=BLUE)
    ax.set_xlabel(r"expected $-\log_{10}$ p")
    ax.set_ylabel(r"observed $-\log_{10}$ p")
    ax.set_title(
        f"{n:,} testable patterns, inflation {inflation:.2f}, "
        f"threshold {format_pvalue(threshold, plain=True)}",
        loc="left",
        fontsize="medium",
    )
    _plain(ax)
    return ax


def strata(rows: Sequence[tuple[str, int, int]], *, case_name: str, ax: Axes | None = None) -> Axes:
    """Draw rows and cases of the strata as horizontal bars.

    Parameters
    ----------
    rows : sequence of (label, n, n_cases)
        The strata.
    case_name : str
        Name of the case class, for the legend.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib Axes
        One bar a stratum, with its case rate.
    """
    ax = _axes(ax, figsize=(6.4, 1.2 + 0.28 * len(rows)))
    labels = [label for label, _, _ in rows]
    sizes = np.array([n for _, n, _ in rows], dtype=np.float64)
    cases = np.array([n for _, _, n in rows], dtype=np.float64)
    y = np.arange(len(rows))
    ax.barh(y, sizes, color=PALE, label="rows")
    ax.barh(y, cases, color=ORANGE, label=f"cases ({case_name})")
    for k in range(len(rows)):
        share = cases[k] / sizes[k] if sizes[k] else 0.0
        ax.annotate(
            f"{share:.0%}",
            (sizes[k], y[k]),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
            color=MUTED,
        )
    ax.set_yticks(y, labels)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel("rows")
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
    _plain(ax)
    return ax
