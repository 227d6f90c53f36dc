"""Draw the figure and the tables of ``docs/studies/fwer`` from the results of the study."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.confounded import ALPHA, ARMS, N_STRATA, SHARES
from benchmarks.records import read_records

# Colours that differ in lightness too and for colour-blind readers (Okabe and Ito); every arm has
# a marker and a line style of its own as well.
_STYLE = {
    "exact": ("#0072B2", "o", "-", "exact (the default)"),
    "asymptotic": ("#D55E00", "s", "--", 'method="asymptotic"'),
    "no strata": ("#595959", "^", ":", "exact, strata ignored"),
}
_INK, _PALE = "#333333", "#D9D9D9"
_TICK_LABELS = ["0", "1 %", "alpha = 5 %", "20 %", "50 %", "100 %"]
_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.hashsalt": "sigmine",  # the same numbers give the same file
}


def draw(results: Path, pages: Path) -> list[Path]:
    """Write the figure and the tables that the results at hand allow; return their paths."""
    written = []
    if (results / "fwer.csv").exists():
        rows, _ = read_records(results / "fwer.csv")
        written += [_figure(rows, pages / "fwer.svg"), _fwer_table(rows, pages / "fwer_table.csv")]
    if (results / "fwer_single_items.csv").exists():
        rows, _ = read_records(results / "fwer_single_items.csv")
        written.append(_single_table(rows, pages / "fwer_single_table.csv"))
    if (results / "power.csv").exists():
        rows, _ = read_records(results / "power.csv")
        written.append(_power_table(rows, pages / "power_table.csv"))
    return written


def _figure(rows: list[dict[str, str]], path: Path) -> Path:
    """Draw one panel a share of cases: FWER against the number of strata, one line an arm."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    with mpl.rc_context(_RC):
        figure, axes = plt.subplots(2, 2, figsize=(7.6, 6.4), sharex=True, sharey=True)
        for ax, share in zip(axes.flat, SHARES, strict=True):
            _panel(ax, [row for row in rows if float(row["case_share"]) == share])
            ax.set_title(f"{100 * share:g} % cases", fontsize=10)
        figure.supylabel("runs with a false discovery (square-root scale)", fontsize=9, x=0.02)
        figure.supxlabel("number of strata", fontsize=9, x=0.575, y=0.06)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="lower center",
            bbox_to_anchor=(0.575, 0.0),
            ncols=len(handles),
            frameon=False,
        )
        figure.subplots_adjust(
            left=0.165, right=0.985, top=0.95, bottom=0.145, wspace=0.07, hspace=0.17
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Title": "FWER on confounded null data"})
        plt.close(figure)
    return path


def _panel(ax: Any, rows: list[dict[str, str]]) -> None:
    """Draw the arms of one share, with 95 % Clopper-Pearson intervals and the level."""
    # The square root shows 0 and spreads the small rates, where the question is decided.
    ax.set_yscale("function", functions=(lambda v: np.sqrt(np.maximum(v, 0.0)), np.square))
    ax.set_ylim(-0.0001, 1.02)
    ax.set_yticks([0.0, 0.01, ALPHA, 0.2, 0.5, 1.0], _TICK_LABELS)
    ax.axhspan(0.0, ALPHA, color="#E8F1F8", zorder=0)
    ax.axhline(ALPHA, color=_INK, linewidth=1.0, zorder=1)
    for i, arm in enumerate(ARMS):
        color, marker, line, label = _STYLE[arm]
        mine = {int(row["n_strata"]): row for row in rows if row["arm"] == arm}
        x = np.array([np.log2(k) for k in N_STRATA if k in mine]) + 0.1 * (i - 1)
        rate, low, high = (
            np.array([float(mine[k][name]) for k in N_STRATA if k in mine])
            for name in ("fwer", "fwer_low", "fwer_high")
        )
        ax.errorbar(
            x,
            rate,
            yerr=[rate - low, high - rate],
            color=color,
            marker=marker,
            linestyle=line,
            linewidth=1.4,
            markersize=4.5,
            elinewidth=1.0,
            capsize=2,
            label=label,
            clip_on=False,
            zorder=3,
        )
    ax.set_xticks(np.log2(N_STRATA), [str(k) for k in N_STRATA])
    ax.set_xlim(-0.35, 5.35)
    ax.grid(axis="y", color=_PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _rate(row: dict[str, str] | None, name: str) -> str:
    """Format a rate with its interval, in per cent."""
    if row is None:
        return "–"
    rate, low, high = (100 * float(row[name + end]) for end in ("", "_low", "_high"))
    # Word joiners: a narrow column breaks the line before the interval, not inside it.
    return f"{rate:.1f} ({low:.1f}\u2060–\u2060{high:.1f})"


def _write(path: Path, table: list[list[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(table)
    return path


def _fwer_table(rows: list[dict[str, str]], path: Path) -> Path:
    by_key = {(float(r["case_share"]), int(r["n_strata"]), r["arm"]): r for r in rows}
    table = []
    for share in SHARES:
        for k in N_STRATA:
            arms = [by_key.get((share, k, arm)) for arm in ARMS]
            if arms[0] is None:
                continue
            testable = f"{float(arms[0]['median_testable']):,.0f}"
            cells = [_rate(row, "fwer") for row in arms]
            table.append([f"{100 * share:g} %", str(k), testable, *cells])
    return _write(path, table)


def _single_table(rows: list[dict[str, str]], path: Path) -> Path:
    return _write(path, [[row["n_strata"], _rate(row, "fwer")] for row in rows])


def _power_table(rows: list[dict[str, str]], path: Path) -> Path:
    table = []
    for rate in sorted({row["carriers_among_cases"] for row in rows}):
        for row in rows:
            if row["carriers_among_cases"] == rate:
                cells = [_rate(row, "power"), row["found_by_this_only"], _rate(row, "fwer")]
                table.append([f"{100 * float(rate):g} %", row["method"], *cells])
    return _write(path, table)
