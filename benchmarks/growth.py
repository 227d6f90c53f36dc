"""How the search time grows with the strata, the rows and the items: fitted exponents.

    python -m benchmarks.growth                 # every point, then fit and draw
    python -m benchmarks.growth --quick         # a look: one data set a point, one round
    python -m benchmarks.growth --draw          # only fit and draw what was measured

Three families of simulated data (those of `benchmarks.make_data`), and of each one size at a time
is changed. CPU time of the search alone, least of several rounds, in a process with its kernels
loaded. Exponents are slopes of least squares on logarithms, with 95 % intervals. Writes growth.csv
and growth_fit.csv into ``results/``, figure and table into ``docs/studies/``.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.make_data import SHAPES
from benchmarks.records import REPOSITORY, RESULTS, Row, print_table, read_records, write_records

PAGES = REPOSITORY / "docs" / "studies"
AXES = {"n_strata": "strata K", "n_rows": "rows n", "n_items": "items p"}
BASE_STRATA = 4
# What one size is changed to, the others as in the family.
SIZES: dict[str, dict[str, list[int]]] = {
    "wide": {
        "n_strata": [1, 2, 4, 8, 16, 32],
        "n_rows": [250, 350, 500, 700, 1000],
        "n_items": [450, 900, 1800, 3600, 7200],
    },
    "middle": {
        "n_strata": [1, 2, 4, 8, 16, 32],
        "n_rows": [250, 350, 500, 700, 1000],
        "n_items": [62, 125, 250, 500, 1000],
    },
    "dense": {
        "n_strata": [1, 2, 4, 8, 16, 32],
        "n_rows": [250, 500, 1000, 2000, 4000],
        "n_items": [16, 20, 24, 28, 32, 36],
    },
}
# A search that takes less is mostly the start of its threads: shown, but not fitted.
SHORTEST = 0.005
QUANTITIES = {"cpu_s": "CPU time", "visited": "row sets visited", "per_visit": "CPU time a visit"}


class Fit(NamedTuple):
    """A power law: the exponent with its 95 % interval, and the factor.

    Attributes
    ----------
    exponent, low, high : float
        Slope on logarithms; nan for fewer than three points.
    factor : float
        Value at size 1.
    n_points : int
        Points that were fitted.
    """

    exponent: float
    low: float
    high: float
    factor: float
    n_points: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--family", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--sets", type=int, default=3, help="data sets a point")
    parser.add_argument("--rounds", type=int, default=3, help="searches of each; the least counts")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds a data set, about")
    parser.add_argument("--method", default="exact")
    parser.add_argument("--quick", action="store_true", help="one set and one round")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the CSV files")
    parser.add_argument("--pages", type=Path, default=PAGES, help="folder of figure and table")
    options = parser.parse_args()
    if options.quick:
        options.sets = options.rounds = 1
    path = options.out / "growth.csv"
    if not options.draw:
        facts = {"method": options.method, "sets": options.sets, "rounds": options.rounds}
        rows: list[Row] = []
        for row in measure(options):
            rows.append(row)
            write_records(path, rows, facts)
    measured, _ = read_records(path)
    fits = fit_all(measured)
    write_records(options.out / "growth_fit.csv", fits)
    print_table(fits)
    for written in (draw(measured, options.pages), _table(fits, options.pages)):
        print(written)


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Yield one row a data set: its sizes and what its search cost.

    Parameters
    ----------
    options : argparse.Namespace
        Families, data sets, rounds, budget and method.
    """
    for family in options.family:
        done: set[tuple[int, ...]] = set()
        for axis, values in SIZES[family].items():
            for value in values:
                shape = {**SHAPES[family], "n_strata": BASE_STRATA, axis: value}
                sizes = tuple(shape[name] for name in AXES)
                if sizes in done:  # the common point of the three axes
                    continue
                done.add(sizes)
                for seed in range(options.sets):
                    row = _one_set(shape, seed, options)
                    yield {"family": family, **dict(zip(AXES, sizes, strict=True)), **row}
                print(f"{family} {axis}={value} done", file=sys.stderr)


def _one_set(shape: dict[str, Any], seed: int, options: argparse.Namespace) -> Row:
    from sigmine.mining import matrix_problem
    from sigmine.search import search_patterns
    from sigmine.settings import SearchSettings
    from sigmine.simulate import simulate_planted

    settings = SearchSettings(method=options.method)
    data = simulate_planted(rng=seed, **shape)
    problem = matrix_problem(
        data.X.astype(np.bool_), data.y, data.strata, data.item_names, None, settings
    )
    best, spent = math.inf, 0.0
    for number in range(options.rounds + 1):
        started = time.process_time()
        outcome = search_patterns(problem, settings)
        seconds = time.process_time() - started
        if number > 0 or seconds > options.budget:  # the first one compiles
            best = min(best, seconds)
        spent += seconds
        if spent > options.budget and best < math.inf:
            break
    return {
        "seed": seed,
        "cpu_s": best,
        "visited": outcome.n_visited,
        "testable": outcome.n_testable,
    }


def points(
    rows: Sequence[dict[str, str]], family: str, axis: str, quantity: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return the points of one panel and line.

    Parameters
    ----------
    rows : sequence of dict
        What `measure` wrote.
    family, axis, quantity : str
        Which.

    Returns
    -------
    sizes, values : ndarray of float64
        Of the data sets that differ from the family in this size alone.
    long : ndarray of bool
        Whether the search took long enough to be fitted.
    """
    base = {**SHAPES[family], "n_strata": BASE_STRATA}
    others = [name for name in AXES if name != axis]
    mine = [
        row
        for row in rows
        if row["family"] == family and all(int(row[name]) == base[name] for name in others)
    ]
    sizes = np.array([float(row[axis]) for row in mine])
    seconds = np.array([float(row["cpu_s"]) for row in mine])
    visited = np.array([float(row["visited"]) for row in mine])
    values = {"cpu_s": seconds, "visited": visited, "per_visit": seconds / np.maximum(visited, 1)}
    return sizes, values[quantity], seconds >= SHORTEST


def fit_power_law(sizes: NDArray[np.float64], values: NDArray[np.float64]) -> Fit:
    """Fit values = factor x sizes ** exponent by least squares on logarithms.

    Parameters
    ----------
    sizes, values : ndarray of float64
        Positive.

    Returns
    -------
    Fit
    """
    from scipy import stats

    if len(np.unique(sizes)) < 3:
        return Fit(math.nan, math.nan, math.nan, math.nan, len(sizes))
    line = stats.linregress(np.log(sizes), np.log(values))
    half = float(stats.t.ppf(0.975, len(sizes) - 2) * line.stderr)
    slope = float(line.slope)
    return Fit(slope, slope - half, slope + half, math.exp(line.intercept), len(sizes))


def fit_all(rows: Sequence[dict[str, str]]) -> list[Row]:
    """Return one row a family, size and quantity."""
    fits = []
    for family in dict.fromkeys(row["family"] for row in rows):
        for axis in AXES:
            for quantity in QUANTITIES:
                sizes, values, long = points(rows, family, axis, quantity)
                fit = fit_power_law(sizes[long], values[long])
                fits.append({"family": family, "size": axis, "of": quantity, **fit._asdict()})
    return fits


# Colours that differ in lightness too, and markers (as in `benchmarks.fwer_figure`).
_STYLE = {
    "wide": ("#0072B2", "o", "-"),
    "middle": ("#D55E00", "s", "--"),
    "dense": ("#595959", "^", ":"),
}
_TICKS = {
    "n_strata": [1, 2, 4, 8, 16, 32],
    "n_rows": [250, 500, 1000, 2000, 4000],
    "n_items": [20, 100, 1000, 5000],
}


def draw(rows: Sequence[dict[str, str]], pages: Path) -> Path:
    """Draw CPU time against each size on logarithmic axes, with the fitted lines.

    Parameters
    ----------
    rows : sequence of dict
        What `measure` wrote.
    pages : Path
        Folder of the figure.

    Returns
    -------
    Path
        ``growth.svg``
    """
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    path = pages / "growth.svg"
    settings: Any = {"font.family": "DejaVu Sans", "font.size": 9, "svg.hashsalt": "sigmine"}
    with mpl.rc_context(settings):
        figure, axes = plt.subplots(1, 3, figsize=(7.6, 3.4), sharey=True)
        for ax, (axis, label) in zip(axes, AXES.items(), strict=True):
            _panel(ax, rows, axis)
            ax.set_xlabel(label)
        axes[0].set_ylabel("CPU seconds of the search")
        handles = [
            mpl.lines.Line2D([], [], color=color, marker=marker, linestyle=line, label=family)
            for family, (color, marker, line) in _STYLE.items()
        ]
        figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False)
        figure.subplots_adjust(left=0.09, right=0.99, top=0.97, bottom=0.27, wspace=0.08)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Title": "Growth of the search time"})
        plt.close(figure)
    return path


def _panel(ax: Any, rows: Sequence[dict[str, str]], axis: str) -> None:
    for family, (color, marker, line) in _STYLE.items():
        sizes, seconds, long = points(rows, family, axis, "cpu_s")
        if not len(sizes):
            continue
        for chosen, fill in ((long, color), (~long, "none")):
            ax.plot(
                sizes[chosen],
                seconds[chosen],
                marker,
                color=color,
                markerfacecolor=fill,
                markersize=3.5,
            )
        fit = fit_power_law(sizes[long], seconds[long])
        if not math.isnan(fit.exponent):
            ends = np.array([sizes[long].min(), sizes[long].max()])
            ax.plot(ends, fit.factor * ends**fit.exponent, line, color=color, linewidth=1.2)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(_TICKS[axis], [f"{tick:,}" for tick in _TICKS[axis]])
    ax.minorticks_off()
    ax.grid(color="#D9D9D9", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _table(fits: Sequence[Row], pages: Path) -> Path:
    """Write the exponents as the table of the page: a line a family and size."""
    path = pages / "growth_table.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {(fit["family"], fit["size"], fit["of"]): fit for fit in fits}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for family in dict.fromkeys(fit["family"] for fit in fits):
            for axis, label in AXES.items():
                cells = [_exponent(found[family, axis, quantity]) for quantity in QUANTITIES]
                writer.writerow([family, label, *cells])
    return path


def _exponent(fit: Row) -> str:
    if math.isnan(fit["exponent"]):
        return "–"
    return f"{fit['exponent']:.2f} ({fit['low']:.2f} to {fit['high']:.2f})"


if __name__ == "__main__":
    main()
