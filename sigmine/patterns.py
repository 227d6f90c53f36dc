"""From counts to the table of patterns: every column, computed for all patterns at once.

Allowed imports: `columns`, `settings`, `rowsets`, `problem`, `association`, `search.outcome`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .association import cmh, cmh_exact, effects
from .columns import COLUMNS
from .rowsets import count_itemsets, shortest_generators
from .settings import SearchSettings

if TYPE_CHECKING:
    import pandas as pd

    from .problem import Problem
    from .results import PatternResults
    from .search.outcome import SearchOutcome

__all__ = [
    "compare_results",
    "frame_of",
    "item_tuples",
    "log_pvalues",
    "make_tables",
    "minimum_log_pvalues",
    "odds_ratios",
    "other_method",
    "pattern_frame",
]

_TIE_DECIMALS = 9  # p-values that differ by less are one value, on every platform


def other_method(method: str) -> str:
    """Return the method that a search by `method` did not use."""
    return "asymptotic" if method == "exact" else "exact"


def _keywords(settings: SearchSettings, method: str) -> dict[str, Any]:
    keywords: dict[str, Any] = {"alternative": settings.alternative}
    if method == "exact":
        keywords["two_sided"] = settings.two_sided
    else:
        keywords["variance"] = settings.variance
    return keywords


def log_pvalues(
    settings: SearchSettings,
    support: NDArray[np.int64],
    cases: NDArray[np.int64],
    sizes: NDArray[np.int64],
    case_sizes: NDArray[np.int64],
    *,
    method: str | None = None,
) -> NDArray[np.float64]:
    """Return natural logarithms of p-values under the settings.

    Parameters
    ----------
    settings : SearchSettings
        Alternative, kind of two-sided test and variance.
    support : ndarray of int64, shape (n_patterns, n_strata)
        Carriers by stratum.
    cases : ndarray of int64, shape (n_patterns,)
        Carriers that are cases, over all strata.
    sizes, case_sizes : ndarray of int64, shape (n_strata,)
        Rows and cases of every stratum.
    method : {"exact", "asymptotic"}, optional
        Default: that of the settings.

    Returns
    -------
    ndarray of float64, shape (n_patterns,)
        At most 0.
    """
    chosen = settings.method if method is None else method
    keywords = _keywords(settings, chosen)
    if chosen == "exact":
        return cmh_exact.log_pvalue(support, cases, sizes, case_sizes, **keywords)
    return cmh.log_pvalue(support, cases, sizes, case_sizes, **keywords)


def minimum_log_pvalues(
    settings: SearchSettings,
    support: NDArray[np.int64],
    sizes: NDArray[np.int64],
    case_sizes: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return logarithms of the smallest attainable p-values; parameters as in `log_pvalues`."""
    keywords = _keywords(settings, settings.method)
    if settings.method == "exact":
        return cmh_exact.minimum_log_pvalue(support, sizes, case_sizes, **keywords)
    return cmh.minimum_log_pvalue(support, sizes, case_sizes, **keywords)


def make_tables(
    support: NDArray[np.int64],
    support_cases: NDArray[np.int64],
    sizes: NDArray[np.int64],
    case_sizes: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the 2x2 tables of every pattern in every stratum.

    Parameters
    ----------
    support, support_cases : ndarray of int64, shape (n_patterns, n_strata)
        Carriers, and carriers that are cases.
    sizes, case_sizes : ndarray of int64, shape (n_strata,)
        Rows and cases.

    Returns
    -------
    ndarray of int64, shape (n_patterns, n_strata, 2, 2)
        ``[[carriers that are cases, carrier controls], [other cases, other controls]]``.
    """
    tables = np.empty((*support.shape, 2, 2), dtype=np.int64)
    tables[..., 0, 0] = support_cases
    tables[..., 0, 1] = support - support_cases
    tables[..., 1, 0] = case_sizes - support_cases
    tables[..., 1, 1] = (sizes - case_sizes) - tables[..., 0, 1]
    return tables


def odds_ratios(
    tables: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return pooled odds ratios with the ends of their 95 % intervals.

    Parameters
    ----------
    tables : ndarray of int64, shape (n_patterns, n_strata, 2, 2)
        As from `make_tables`.

    Returns
    -------
    odds_ratio, low, high : ndarray of float64, shape (n_patterns,)
        Mantel-Haenszel estimates; 0, inf or nan where the tables are that degenerate.
    """
    low, high = effects.pooled_odds_ratio_interval(tables)
    return effects.pooled_odds_ratio(tables), low, high


def item_tuples(
    names: Sequence[str], itemsets: Sequence[NDArray[np.int64]]
) -> list[tuple[str, ...]]:
    """Return the itemsets with the names of their items."""
    return [tuple([names[j] for j in items.tolist()]) for items in itemsets]


def frame_of(values: dict[str, Any]) -> pd.DataFrame:
    """Make the DataFrame of patterns from its columns, with the order and types of `COLUMNS`.

    Parameters
    ----------
    values : dict of str to sequence
        One entry for every column.

    Returns
    -------
    DataFrame
        With a fresh index.
    """
    import pandas as pd

    types = {"tuple": "object"}
    return pd.DataFrame(
        {
            column.name: pd.Series(values[column.name], dtype=types.get(column.dtype, column.dtype))
            for column in COLUMNS
        }
    )


def pattern_frame(
    problem: Problem, settings: SearchSettings, outcome: SearchOutcome
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    r"""Describe the significant patterns of a search, best first.

    Parameters
    ----------
    problem : Problem
        What was searched.
    settings : SearchSettings
        How.
    outcome : SearchOutcome
        What was found.

    Returns
    -------
    patterns : DataFrame
        One row a pattern, with the columns of `sigmine.columns.COLUMNS`. Ordered by p-value
        (through its logarithm, so also where the p-value underflows), then the larger
        \|log odds ratio\|, then fewer items, then item order.
    tables : ndarray of int64, shape (n_patterns, n_strata, 2, 2)
        The 2x2 tables in the same order.
    """
    sizes, case_sizes = problem.table.sizes, problem.table.case_sizes
    support, support_cases = outcome.support, outcome.support_cases
    cases = support_cases.sum(axis=1)
    margins = (support, cases, sizes, case_sizes)
    exact, mid = cmh_exact.log_pvalue_and_mid(*margins, **_keywords(settings, "exact"))
    asymptotic = log_pvalues(settings, *margins, method="asymptotic")
    logp, other = (exact, asymptotic) if settings.method == "exact" else (asymptotic, exact)
    tables = make_tables(support, support_cases, sizes, case_sizes)
    ratio, low, high = odds_ratios(tables)
    closures = [np.sort(items) for items in outcome.closures]
    length = np.array([len(items) for items in closures], dtype=np.int64)
    expected = (support * (case_sizes / sizes)).sum(axis=1)
    shortest = shortest_generators(problem.table.columns, closures, outcome.generators)
    log10p = logp / np.log(10.0)
    values: dict[str, NDArray[Any]] = {
        "length": length,
        "support": support.sum(axis=1),
        "support_cases": cases,
        "statistic": cmh.statistic(support, cases, sizes, case_sizes, variance=settings.variance),
        "pvalue": np.exp(logp),
        "log10_pvalue": log10p,
        "pvalue_adjusted": np.minimum(1.0, np.exp(logp + np.log(max(1, outcome.n_testable)))),
        "minimum_pvalue": np.exp(minimum_log_pvalues(settings, support, sizes, case_sizes)),
        "odds_ratio": ratio,
        "odds_ratio_low": low,
        "odds_ratio_high": high,
        "homogeneity_pvalue": effects.breslow_day(tables, tarone=True)[1],
        "direction": np.where(cases >= expected, "greater", "less"),
        "pvalue_other": np.exp(other),
        "pvalue_mid": np.exp(mid),
    }
    order = _best_first(log10p, ratio, length, closures)
    sorted_values: dict[str, Any] = {name: column[order] for name, column in values.items()}
    sorted_values["pattern"] = item_tuples(problem.item_names, [closures[i] for i in order])
    sorted_values["generator"] = item_tuples(problem.item_names, [shortest[i] for i in order])
    return frame_of(sorted_values), tables[order]


def _best_first(
    log10p: NDArray[np.float64],
    ratio: NDArray[np.float64],
    length: NDArray[np.int64],
    closures: Sequence[NDArray[np.int64]],
) -> NDArray[np.int64]:
    """Order patterns by p-value, then effect, then length, then items; no two are equal."""
    with np.errstate(divide="ignore"):
        effect = np.nan_to_num(np.abs(np.log(ratio)), nan=0.0, posinf=np.inf)
    keys = (length, -effect.round(_TIE_DECIMALS), log10p.round(_TIE_DECIMALS))
    order = np.lexsort(keys)
    ranked = np.stack([key[order] for key in keys])
    new_group = np.ones(len(order), dtype=bool)
    new_group[1:] = (ranked[:, 1:] != ranked[:, :-1]).any(axis=0)
    starts = np.append(np.flatnonzero(new_group), len(order))
    for start, stop in pairwise(starts.tolist()):
        if stop - start > 1:
            tied = sorted(order[start:stop].tolist(), key=lambda i: closures[i].tolist())
            order[start:stop] = tied
    return order.astype(np.int64)


def compare_results(with_strata: PatternResults, without: PatternResults) -> pd.DataFrame:
    """Put two searches of the same rows and items side by side, with and without strata.

    Parameters
    ----------
    with_strata, without : PatternResults
        The results; the second with one stratum.

    Returns
    -------
    DataFrame
        One row for every pattern that is significant in either; see `PatternResults.comparison`.
    """
    import pandas as pd

    problem, settings = with_strata.problem, with_strata.settings
    names = problem.item_names
    index = {name: j for j, name in enumerate(names)}
    adjusted = list(with_strata.patterns["pattern"])
    crude = list(without.patterns["pattern"])
    significant, significant_crude = set(adjusted), set(crude)
    union = crude + [pattern for pattern in adjusted if pattern not in significant_crude]
    closures = [np.array([index[name] for name in pattern], dtype=np.int64) for pattern in union]

    sizes, case_sizes = problem.table.sizes, problem.table.case_sizes
    support, support_cases = count_itemsets(problem.table, closures)
    cases = support_cases.sum(axis=1)
    pooled, pooled_cases = support.sum(axis=1, keepdims=True), cases[:, None]
    one_size, one_case_size = sizes.sum(keepdims=True), case_sizes.sum(keepdims=True)
    logp = log_pvalues(settings, support, cases, sizes, case_sizes)
    logp_crude = log_pvalues(settings, pooled, cases, one_size, one_case_size)
    ratio = odds_ratios(make_tables(support, support_cases, sizes, case_sizes))[0]
    ratio_crude = odds_ratios(make_tables(pooled, pooled_cases, one_size, one_case_size))[0]
    known = dict(zip(adjusted, with_strata.patterns["generator"], strict=True))
    known.update(zip(crude, without.patterns["generator"], strict=True))
    frame = pd.DataFrame(
        {
            "pattern": pd.Series(union, dtype="object"),
            "generator": pd.Series([known[pattern] for pattern in union], dtype="object"),
            "support": pooled[:, 0],
            "support_cases": cases,
            "pvalue": np.exp(logp),
            "log10_pvalue": logp / np.log(10.0),
            "odds_ratio": ratio,
            "pvalue_unstratified": np.exp(logp_crude),
            "log10_pvalue_unstratified": logp_crude / np.log(10.0),
            "odds_ratio_unstratified": ratio_crude,
            "significant": np.array([pattern in significant for pattern in union], dtype=bool),
            "significant_unstratified": np.array(
                [pattern in significant_crude for pattern in union], dtype=bool
            ),
        }
    )
    order = np.argsort(frame["log10_pvalue_unstratified"].to_numpy(), kind="stable")
    return frame.iloc[order].reset_index(drop=True)
