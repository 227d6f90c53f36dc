"""Collect everything a report says into one plain dict; nothing is formatted here but sentences.

The dict holds only str, int, float, bool, None, list and dict; a value that does not exist (nan)
is None, an infinite odds ratio is inf. `sigmine.report.schema` describes it.

Allowed imports: `columns`, `report.formats`; inside functions `patterns` and `association`.
"""

from __future__ import annotations

import math
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._version import __version__
from ..columns import COLUMNS
from ..exceptions import InputError
from .coverage import is_lowered, stopped_after, untestable
from .formats import (
    NBSP,
    count_of,
    format_integer,
    format_interval,
    format_percent,
    format_pvalue,
    format_ratio,
    join_names,
)

if TYPE_CHECKING:
    from ..results import PatternResults

__all__ = ["FORMAT", "FORMAT_VERSION", "summarize"]

FORMAT = "sigmine-report"
FORMAT_VERSION = 2  # 1 is still read: every search ran to its end then

MAX_STRATA = 1_000  # listed in the data section
MAX_DETAIL_STRATA = 30  # shown for one pattern: those with most weight
MAX_DROPPED = 500
MAX_POINTS = 400  # of a figure
MAX_CONFOUNDED = 20
MAX_NAMED_ITEMS = 6  # of a pattern in a sentence
MAX_CLOSURE_FOR_GENERATORS = 30  # beyond, listing all shortest descriptions can take long
HETEROGENEOUS = 0.05
NOTHING_LEFT = 0.05  # p-value within strata above which an association counts as gone
_COUNTS = ("carriers", "carrier_cases", "others", "other_cases")
_RATIOS = ("odds_ratio", "odds_ratio_low", "odds_ratio_high")
_COMPARED = (
    "pvalue",
    "log10_pvalue",
    "odds_ratio",
    "pvalue_unstratified",
    "log10_pvalue_unstratified",
    "odds_ratio_unstratified",
)
_PACKAGES = ("numpy", "scipy", "numba", "pandas")


def summarize(
    results: PatternResults,
    *,
    top: int = 20,
    confounding: bool = True,
    limit: int | None = 10_000,
    created: str | None = None,
) -> dict[str, Any]:
    """Collect the report of a result.

    Parameters
    ----------
    results : PatternResults
        The result of a search.
    top : int, default=20
        Patterns that are described one by one.
    confounding : bool, default=True
        Compare with the search without the covariate. Runs that search if it has not been run.
    limit : int or None, default=10_000
        Most rows of the table of patterns in the dict, at least `top`; None for all. The number
        that was cut is ``d["patterns"]["total"] - d["patterns"]["included"]``.
    created : str, optional
        Date and time in ISO 8601; now without it.

    Returns
    -------
    dict
        Plain values only.

    Raises
    ------
    InputError
        If `top` or `limit` is negative.
    """
    for name, value in (("top", top), ("limit", limit)):
        if value is not None and value < 0:
            raise InputError(f"{name}={value!r} is negative; give the number of patterns to show.")
    compared, not_compared = _confounding(results) if confounding else (None, [])
    problem, settings = results.problem, results.settings
    concerns = [results.concerns] if results.concerns else []
    details = [_detail(results, i, row) for i, row in enumerate(results.rows(top))]
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "created": created or datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "question": {
            "sentence": _question(results),
            "target": problem.target_name,
            "control": problem.class_names[0],
            "case": problem.class_names[1],
            "strata_names": list(problem.strata_names),
        },
        "answer": _answer(results, details),
        "data": _data(results),
        "tested": {
            "alpha": float(settings.alpha),
            "method": settings.method,
            "alternative": settings.alternative,
            "n_visited": results.n_visited,
            "n_testable": results.n_testable,
            "testability_threshold": _number(results.testability_threshold),
            "corrected_threshold": _number(results.corrected_threshold),
            "smallest_minimum_pvalue": _number(results.outcome.smallest_minimum_pvalue),
            "guarantee": results.guarantee,
            "seconds": _number(results.outcome.seconds),
            "complete": results.complete,
            "searched_fraction": float(results.searched_fraction),
            "coverage": results.coverage,
            "lowered": is_lowered(results),
        },
        "warnings": concerns,
        "patterns": _patterns(results, limit if limit is None else max(limit, top)),
        "details": details,
        "calibration": _calibration(results),
        "confounding": compared,
        "notes": [*problem.notes, *not_compared],
        "dropped": {
            "total": len(problem.dropped),
            "rows": [
                {"name": item.name, "reason": item.reason} for item in problem.dropped[:MAX_DROPPED]
            ],
        },
        "settings": settings.to_dict(),
        "reproduce": _reproduce(results),
    }


def _number(value: float) -> float | None:
    """Return a Python float, None for nan."""
    number = float(value)
    return None if math.isnan(number) else number


def _versions() -> dict[str, str]:
    found = {"sigmine": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


# ---- question and answer ---------------------------------------------------------------------


def _same(results: PatternResults, noun: str) -> str:
    """Say which rows are compared with each other."""
    names = results.problem.strata_names
    if names:
        return f"{noun} with the same {join_names(names)}"
    return noun if results.problem.table.n_strata == 1 else f"{noun} of the same stratum"


def _question(results: PatternResults) -> str:
    problem = results.problem
    how = {"two-sided": "more or less often", "greater": "more often", "less": "less often"}
    among = "" if problem.table.n_strata == 1 else f", among {_same(results, 'rows')}"
    return (
        f"Which combinations of the {count_of(len(problem.item_names), 'item')} go together with "
        f"{_outcome_name(results)} {how[results.settings.alternative]} than chance explains"
        f"{among}?"
    )


def _outcome_name(results: PatternResults) -> str:
    return f"{results.problem.target_name}{NBSP}={NBSP}{results.problem.class_names[1]}"


def _answer(results: PatternResults, details: list[dict[str, Any]]) -> dict[str, Any]:
    n = len(results)
    stopped = "" if results.complete else f" The search was {stopped_after(results)}."
    if n:
        sentence = (
            f"{count_of(n, 'combination is', 'combinations are')} significantly associated with "
            f"{_outcome_name(results)}, out of {results.n_testable:,} that could be tested."
            f"{stopped}"
        )
    elif results.n_testable:
        sentence = (
            f"None of the {count_of(results.n_testable, 'testable combination')} is significantly "
            f"associated with {_outcome_name(results)}.{stopped or _closest(results)}"
        )
    else:
        sentence = untestable(results)
    headline = None
    if n:
        headline = details[0]["sentence"] if details else _describe(results, 0, results.rows(1)[0])
    return {"n_significant": n, "sentence": sentence, "headline": headline}


def _closest(results: PatternResults) -> str:
    """Name the smallest p-value, if all testable patterns are at hand."""
    logs = results.testable_log10_pvalues
    if results.outcome.sample_fraction < 1 or len(logs) == 0:
        return ""
    smallest = float(logs.min())
    return (
        f" The smallest p-value is {format_pvalue(10.0**smallest, smallest)}; significance needs "
        f"{format_pvalue(results.corrected_threshold)} or less."
    )


def _items_in_words(items: tuple[str, ...]) -> str:
    if len(items) > MAX_NAMED_ITEMS:
        rest = len(items) - MAX_NAMED_ITEMS
        return join_names([*items[:MAX_NAMED_ITEMS], f"{rest} more items"])
    return join_names(items)


def _describe(results: PatternResults, i: int, row: dict[str, Any]) -> str:
    """Say in words what pattern `i` found."""
    table = results.tables[i].sum(axis=0)
    (a, b), (c, d) = table.tolist()
    items = _items_in_words(row["generator"])
    start = (
        f"Of the {count_of(a + b, 'row')} with {items}, {a:,} ({format_percent(a, a + b)}) have "
        f"{_outcome_name(results)}; of the other {c + d:,} rows, {c:,} "
        f"({format_percent(c, c + d)}) have."
    )
    ratio = float(row["odds_ratio"])
    compared = _same(results, "other rows")
    pvalue = f"p{NBSP}={NBSP}{format_pvalue(row['pvalue'], row['log10_pvalue'])}"
    if not math.isfinite(ratio) or ratio == 0:
        often = "more" if row["direction"] == "greater" else "less"
        return (
            f"{start} That is {often} often than among {compared} (odds ratio "
            f"{format_ratio(ratio)}, {pvalue})."
        )
    interval = format_interval(row["odds_ratio_low"], row["odds_ratio_high"])
    return (
        f"{start} Compared with {compared}, their odds are {format_ratio(ratio)} times as high "
        f"(95 % interval {interval}; {pvalue})."
    )


# ---- data ------------------------------------------------------------------------------------


def _data(results: PatternResults) -> dict[str, Any]:
    problem = results.problem
    summary = problem.strata_summary
    uninformative = [s for s in summary if not s.informative]
    return {
        "n_rows": problem.n_rows,
        "n_searched": problem.table.n_rows,
        "n_cases": problem.n_cases,
        "n_items": len(problem.item_names),
        "n_strata": len(summary),
        "n_strata_searched": problem.table.n_strata,
        "n_uninformative": len(uninformative),
        "n_uninformative_rows": sum(s.n for s in uninformative),
        "strata": [
            {"label": s.label, "n": s.n, "n_cases": s.n_cases, "informative": s.informative}
            for s in summary[:MAX_STRATA]
        ],
    }


# ---- patterns --------------------------------------------------------------------------------


def _patterns(results: PatternResults, limit: int | None) -> dict[str, Any]:
    total = len(results)
    included = total if limit is None else min(limit, total)
    rows = []
    for found in results.rows(included):
        row = {column.name: found[column.name] for column in COLUMNS}
        for column in COLUMNS:
            if column.dtype == "tuple":
                row[column.name] = list(row[column.name])
            elif column.dtype == "float64":
                row[column.name] = _number(row[column.name])
        rows.append(row)
    return {"total": total, "included": included, "rows": rows}


def _detail(results: PatternResults, i: int, row: dict[str, Any]) -> dict[str, Any]:
    table = results.tables[i].sum(axis=0)
    pattern, generator = row["pattern"], row["generator"]
    generators = [generator]
    if len(generator) < len(pattern) <= MAX_CLOSURE_FOR_GENERATORS:
        generators = results.generators(i, limit=20)
    numbers = (
        "statistic",
        "pvalue",
        "log10_pvalue",
        "pvalue_adjusted",
        "minimum_pvalue",
        "odds_ratio",
        "odds_ratio_low",
        "odds_ratio_high",
        "homogeneity_pvalue",
        "pvalue_other",
        "pvalue_mid",
    )
    return {
        "rank": i + 1,
        "pattern": list(pattern),
        "generator": list(generator),
        "generators": [list(items) for items in generators],
        "sentence": _describe(results, i, row),
        "direction": row["direction"],
        "table": table.tolist(),
        **{name: _number(row[name]) for name in numbers},
        "log10_pvalue_other": _number(row["log10_pvalue_other"]),
        "log10_minimum_pvalue": _number(row["log10_minimum_pvalue"]),
        "warnings": _detail_warnings(results, i, row),
        **_detail_strata(results, i),
    }


def _detail_warnings(results: PatternResults, i: int, row: dict[str, Any]) -> list[str]:
    found = []
    log10p, log10_other = row["log10_pvalue"], row["log10_pvalue_other"]
    exact = results.settings.method == "exact"
    names = ("exact", "chi-squared") if exact else ("chi-squared", "exact")
    used, other = (
        f"{name} p = {format_pvalue(10.0**value, value)}"
        for name, value in zip(names, (log10p, log10_other), strict=True)
    )
    near = math.log10(results.corrected_threshold) - 3  # far below it, nothing hangs on the gap
    if results.disagreements[i]:
        verdict = (
            "the approximation alone would have missed this pattern"
            if exact
            else "the exact test does not confirm this pattern"
        )
        threshold = format_pvalue(results.corrected_threshold)
        found.append(
            f"The two tests disagree: {used}, but {other} is above the threshold of {threshold}; "
            f"{verdict}."
        )
    elif abs(log10p - log10_other) > 1 and max(log10p, log10_other) > near:
        found.append(
            f"The two tests are far apart ({used}, {other}): few cases are expected among the "
            "rows with the pattern. Trust the exact one."
        )
    homogeneity = row["homogeneity_pvalue"]
    if homogeneity < HETEROGENEOUS:
        found.append(
            "The odds ratio seems to differ between strata (Breslow-Day "
            f"p = {format_pvalue(homogeneity)}): the pooled value is an average of different ones."
        )
    return found


def _detail_strata(results: PatternResults, i: int) -> dict[str, Any]:
    from ..patterns import stratum_columns

    columns = stratum_columns(results.problem, results.tables[i])
    tables = results.tables[i].astype(np.float64)
    n = tables.sum(axis=(1, 2))
    weight = tables[:, 0, 1] * tables[:, 1, 0] / n  # of the Mantel-Haenszel estimate
    ranking = np.lexsort((-n, -columns["carriers"], -weight))
    shown = np.sort(ranking[:MAX_DETAIL_STRATA])
    total = weight.sum()
    rows = [
        {
            "label": str(columns["stratum"][k]),
            **{name: int(columns[name][k]) for name in _COUNTS},
            **{name: _number(columns[name][k]) for name in _RATIOS},
            "weight": float(weight[k] / total) if total > 0 else 0.0,
        }
        for k in shown.tolist()
    ]
    return {"strata": rows, "n_strata": len(weight)}


# ---- figures ---------------------------------------------------------------------------------


def _calibration(results: PatternResults) -> dict[str, Any]:
    logs = np.sort(results.testable_log10_pvalues)
    n = len(logs)
    ranks = _thin(n)
    expected = -np.log10((ranks + 0.5) / n) if n else np.zeros(0)
    return {
        "n": n,
        "fraction": float(results.outcome.sample_fraction),
        "inflation": _number(results.inflation),
        "points": _points(expected, np.abs(logs[ranks])),
    }


def _thin(n: int) -> NDArray[np.int64]:
    """Choose at most `MAX_POINTS` of n ranks: all of the smallest, fewer and fewer of the rest."""
    if n <= MAX_POINTS:
        return np.arange(n)
    half = MAX_POINTS // 2
    spread = np.geomspace(half, n - 1, MAX_POINTS - half)
    return np.unique(np.concatenate([np.arange(half), spread.astype(np.int64)]))


def _points(*coordinates: NDArray[Any]) -> list[list[float]]:
    """Return points with the few digits that a figure can show."""
    return [
        [float(f"{value:.5g}") for value in point]
        for point in zip(*(axis.tolist() for axis in coordinates), strict=True)
    ]


# ---- with and without the covariate ----------------------------------------------------------


def _confounding(results: PatternResults) -> tuple[dict[str, Any] | None, list[str]]:
    """Compare with the search without the covariate, or note why that is not done.

    With one stratum there is nothing to compare.
    """
    if results.problem.table.n_strata == 1:
        return None, []
    names = join_names(results.problem.strata_names) or "the strata"
    start = f"Not compared with a search without {names}:"
    if not results.complete:
        return None, [f"{start} this one was stopped, and would miss what it has not searched."]
    if not results.unstratified().complete:
        return None, [f"{start} that one was stopped by the time limit."]
    return _comparison(results), []


def _comparison(results: PatternResults) -> dict[str, Any]:
    """Compare two complete searches, with and without the covariate."""
    from ..patterns import name_itemsets

    without = results.unstratified()
    compared = results.compared
    here, there = compared["significant"], compared["significant_unstratified"]
    kinds = np.where(here & there, 0, np.where(there, 1, 2))
    confounded = np.flatnonzero(there & ~here)
    gone = int((compared["pvalue"][confounded] > NOTHING_LEFT).sum())
    shown = confounded[:MAX_CONFOUNDED].tolist()
    closures, known = ([compared[name][i] for i in shown] for name in ("closure", "known"))
    rows = [
        {
            "pattern": list(pattern),
            "generator": list(generator),
            **{name: int(compared[name][i]) for name in ("support", "support_cases")},
            **{name: _number(compared[name][i]) for name in _COMPARED},
        }
        for i, pattern, generator in zip(
            shown, *name_itemsets(results.problem, closures, known), strict=True
        )
    ]
    return {
        "sentence": _confounding_sentence(results, len(without), len(confounded), gone),
        "n_testable": without.n_testable,
        "corrected_threshold": _number(without.corrected_threshold),
        "inflation": _number(without.inflation),
        "n_significant": len(without),
        "n_shared": int((here & there).sum()),
        "n_confounded": len(confounded),
        "n_gone": gone,
        "n_gained": int((here & ~there).sum()),
        "rows": rows,
        "points": _comparison_points(
            compared["log10_pvalue_unstratified"], compared["log10_pvalue"], kinds
        ),
    }


def _confounding_sentence(results: PatternResults, claimed: int, lost: int, gone: int) -> str:
    names = join_names(results.problem.strata_names) or "the strata"
    if claimed == 0:
        return f"Without {names}, the same search would have claimed nothing."
    start = (
        f"Without {names}, the same search of the same rows would have claimed "
        f"{count_of(claimed, 'combination')}."
    )
    if lost == 0:
        return f"{start} All of them hold within the strata too."
    return (
        f"{start} {format_integer(lost)} of them ({format_percent(lost, claimed)}) are not "
        f"significant once rows are compared only with others of the same {names}: "
        f"{format_integer(gone)} show no association any more (p above {NOTHING_LEFT} within the "
        f"strata), {format_integer(lost - gone)} a weaker one that is not certain enough."
    )


def _comparison_points(
    crude: NDArray[np.float64], adjusted: NDArray[np.float64], kinds: NDArray[np.int64]
) -> list[list[float]]:
    """Return points (-log10 p without, with, kind), thinned evenly within each kind."""
    chosen = []
    for kind in (0, 1, 2):
        members = np.flatnonzero(kinds == kind)
        step = max(1, -(-len(members) // (MAX_POINTS // 2)))
        chosen.append(members[::step])
    index = np.concatenate(chosen)
    return _points(np.abs(crude[index]), np.abs(adjusted[index]), kinds[index].astype(np.float64))


# ---- how to run it again ---------------------------------------------------------------------


def _reproduce(results: PatternResults) -> str:
    """Write the call that gives this result again."""
    problem, settings = results.problem, results.settings
    defaults = type(settings)()
    changed = {
        name: value
        for name, value in settings.to_dict().items()
        if name in {"alpha", "method"} or value != getattr(defaults, name)
    }
    if results.time_limit is not None:
        changed["time_limit"] = results.time_limit
    options = ", ".join(f"{name}={value!r}" for name, value in changed.items())
    if problem.target_name == "y" and not problem.strata_names:
        strata = "" if len(problem.strata_summary) == 1 else ", strata=strata"
        return f"from sigmine import FACS\n\nresults = FACS({options}).fit(X, y{strata}).results_"
    strata = f"    strata={list(problem.strata_names)!r},\n" if problem.strata_names else ""
    return (
        "from sigmine import mine_patterns\n\n"
        "results = mine_patterns(\n"
        f"    frame,\n    target={problem.target_name!r},\n{strata}    {options},\n)"
    )
