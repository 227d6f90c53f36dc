"""From counts to the table of patterns: every column, for as many patterns as are looked at.

Allowed imports: `columns`, `settings`, `rowsets`, `problem`, `association`, `search.outcome`,
`search.flat`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .association import cmh, cmh_exact, effects
from .columns import COLUMN_NAMES, COLUMNS
from .rowsets import count_itemsets, flatten, shortest_generators
from .search.flat import Itemsets, lengths_of, lexicographic_order, reordered
from .settings import SearchSettings

if TYPE_CHECKING:
    import pandas as pd

    from .problem import Problem
    from .search.outcome import SearchOutcome

__all__ = [
    "PatternTable",
    "compare_results",
    "comparison_frame",
    "csv_text",
    "item_tuples",
    "log_pvalues",
    "make_tables",
    "minimum_log_pvalues",
    "name_itemsets",
    "odds_ratios",
    "other_method",
    "stratum_columns",
]

LN10 = math.log(10.0)
_FEW = 1000  # patterns that are all described at once, whoever looks at how many
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
    items, ends = _flat(itemsets)
    texts = np.array(names, dtype=object)[items].tolist()
    return [tuple(texts[a:b]) for a, b in pairwise([0, *ends.tolist()])]


def _flat(itemsets: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all items, one itemset behind the other, and the end of each."""
    if isinstance(itemsets, Itemsets):
        return itemsets.flat, itemsets.ends
    items, offsets = flatten(itemsets)
    return items, offsets[1:]


def name_itemsets(
    problem: Problem,
    closures: Sequence[NDArray[np.int64]],
    known: Sequence[NDArray[np.int64]],
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Return the names of patterns and of their shortest generators.

    Parameters
    ----------
    problem : Problem
        What was searched.
    closures : sequence of ndarray of int64
        The closed itemset of every pattern, ascending.
    known : sequence of ndarray of int64
        Some generator of every pattern.

    Returns
    -------
    patterns, generators : list of tuple of str
    """
    shortest = shortest_generators(problem.table.columns, closures, known)
    return item_tuples(problem.item_names, closures), item_tuples(problem.item_names, shortest)


class PatternTable:
    """The table of patterns of one search, best first; rows are described when they are asked for.

    A search may find a hundred thousand patterns of which a reader looks at twenty: only what the
    order depends on is computed for all of them.

    Parameters
    ----------
    problem : Problem
        What was searched.
    settings : SearchSettings
        How.
    outcome : SearchOutcome
        What was found.
    """

    def __init__(self, problem: Problem, settings: SearchSettings, outcome: SearchOutcome) -> None:
        self.problem, self.settings, self.outcome = problem, settings, outcome

    def __len__(self) -> int:
        return len(self.outcome.closures)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        r"""Numbers of the patterns in the outcome, best first.

        Ordered by p-value (through its logarithm, so also where the p-value underflows), then the
        larger \|log odds ratio\|, then fewer items, then item order.
        """
        everything = np.arange(len(self))
        log10p = self._logs(everything, self.settings.method) / LN10
        ratio = effects.pooled_odds_ratio(self._tables(everything))
        return _best_first(log10p, ratio, *_flat(self.outcome.closures))

    @cached_property
    def tables(self) -> NDArray[np.int64]:
        """The 2x2 tables of all patterns, shape (n_patterns, n_strata, 2, 2)."""
        return self._tables(self.order)

    @cached_property
    def pvalues_other(self) -> NDArray[np.float64]:
        """The p-values of all patterns by the method that was not used."""
        logs = self._logs(np.arange(len(self)), other_method(self.settings.method))
        return np.asarray(np.exp(logs[self.order]), dtype=np.float64)

    def n_refuted(self, threshold: float) -> int:
        """Count the patterns whose p-value by the method that was not used is above a threshold.

        Parameters
        ----------
        threshold : float
            p-value.

        Returns
        -------
        int
            Of the patterns of an asymptotic search most are settled by a bound.
        """
        if self.settings.method == "exact" or "_all_exact" in vars(self):
            return int((self.pvalues_other > threshold).sum())
        keywords = _keywords(self.settings, "exact")
        ceiling = cmh_exact.log_pvalue_ceiling(*self._margins(np.arange(len(self))), **keywords)
        unsettled = np.flatnonzero(ceiling > math.log(threshold))
        return int((np.exp(self._exact(unsettled)[0]) > threshold).sum())

    def ranked(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64], float]]:
        """Return the closed itemset, some generator and log p of every pattern, best first."""
        logs = self._logs(self.order, self.settings.method)
        return list(zip(*self._itemsets(self.order), logs.tolist(), strict=True))

    @cached_property
    def all_columns(self) -> dict[str, Any]:
        """What `columns` returns, of all patterns."""
        return self._describe(self.order)

    def columns(self, last: int) -> dict[str, Any]:
        """Describe the best patterns.

        Parameters
        ----------
        last : int
            How many; fewer if there are fewer.

        Returns
        -------
        dict of str to ndarray or list
            The columns of `sigmine.columns.COLUMNS`, and the logarithms log10_pvalue_other and
            log10_minimum_pvalue.
        """
        if last >= len(self) or len(self) <= _FEW or "all_columns" in vars(self):
            return {name: values[:last] for name, values in self.all_columns.items()}
        return self._describe(self.order[:last])

    def rows(self, last: int) -> list[dict[str, Any]]:
        """Describe the best patterns one by one, in plain Python values; see `columns`."""
        columns = self.columns(last)
        lists = [v if isinstance(v, list) else v.tolist() for v in columns.values()]
        return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]

    def frame(self) -> pd.DataFrame:
        """Return all patterns as a DataFrame, with the order and types of `COLUMNS`."""
        import pandas as pd

        types = {"tuple": "object"}
        return pd.DataFrame(
            {
                column.name: pd.Series(
                    self.all_columns[column.name], dtype=types.get(column.dtype, column.dtype)
                )
                for column in COLUMNS
            }
        )

    def _margins(self, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Return carriers by stratum, their cases in all, and the sizes of the strata."""
        support, cases = self.outcome.support[index], self.outcome.support_cases[index].sum(axis=1)
        return support, cases, self.problem.table.sizes, self.problem.table.case_sizes

    def _tables(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        sizes, case_sizes = self.problem.table.sizes, self.problem.table.case_sizes
        found = self.outcome
        return make_tables(found.support[index], found.support_cases[index], sizes, case_sizes)

    def _logs(self, index: NDArray[np.int64], method: str) -> NDArray[np.float64]:
        """Return log p of some patterns by one method."""
        known = self.outcome.log_pvalue
        if known is not None and method == self.settings.method:
            return known[index]
        if method == "exact":
            return np.asarray(self._exact(index)[0], dtype=np.float64)
        return log_pvalues(self.settings, *self._margins(index), method=method)

    def _exact(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return log p and log mid-p of the exact test, shape (2, n_patterns)."""
        if "_all_exact" in vars(self) or len(index) == len(self):
            return self._all_exact[:, index]
        return self._exact_anew(index)

    @cached_property
    def _all_exact(self) -> NDArray[np.float64]:
        return self._exact_anew(np.arange(len(self)))

    def _exact_anew(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        keywords = _keywords(self.settings, "exact")
        return np.stack(cmh_exact.log_pvalue_and_mid(*self._margins(index), **keywords))

    def _itemsets(self, index: NDArray[np.int64]) -> tuple[Itemsets, Itemsets]:
        """Return the closed itemsets and some generators of some patterns."""
        found = self.outcome
        closures, generators = (
            Itemsets(*reordered(*_flat(itemsets), index))
            for itemsets in (found.closures, found.generators)
        )
        return closures, generators

    def _describe(self, index: NDArray[np.int64]) -> dict[str, Any]:
        """Compute every column of some patterns, given by their numbers in the outcome."""
        settings, outcome = self.settings, self.outcome
        support, cases, sizes, case_sizes = self._margins(index)
        exact, mid = self._exact(index)
        logp = self._logs(index, settings.method)
        other = self._logs(index, "asymptotic") if settings.method == "exact" else exact
        least = minimum_log_pvalues(settings, support, sizes, case_sizes)
        tables = self._tables(index)
        ratio, low, high = odds_ratios(tables)
        closures, known = self._itemsets(index)
        patterns, generators = name_itemsets(self.problem, closures, known)
        expected = (support * (case_sizes / sizes)).sum(axis=1)
        variance = settings.variance
        return {
            "pattern": patterns,
            "length": closures.lengths,
            "support": support.sum(axis=1),
            "support_cases": cases,
            "statistic": cmh.statistic(support, cases, sizes, case_sizes, variance=variance),
            "pvalue": np.exp(logp),
            "log10_pvalue": logp / LN10,
            "pvalue_adjusted": np.minimum(1.0, np.exp(logp + np.log(max(1, outcome.n_testable)))),
            "minimum_pvalue": np.exp(least),
            "odds_ratio": ratio,
            "odds_ratio_low": low,
            "odds_ratio_high": high,
            "homogeneity_pvalue": effects.breslow_day(tables, tarone=True)[1],
            "direction": np.where(cases >= expected, "greater", "less"),
            "pvalue_other": np.exp(other),
            "pvalue_mid": np.exp(mid),
            "generator": generators,
            "log10_pvalue_other": other / LN10,
            "log10_minimum_pvalue": least / LN10,
        }


def _best_first(
    log10p: NDArray[np.float64],
    ratio: NDArray[np.float64],
    items: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Order patterns by p-value, then effect, then length, then items; no two are equal."""
    with np.errstate(divide="ignore"):
        effect = np.nan_to_num(np.abs(np.log(ratio)), nan=0.0, posinf=np.inf)
    place = np.empty(len(ends), dtype=np.int64)
    place[lexicographic_order(items, ends)] = np.arange(len(ends))
    keys = (place, lengths_of(ends), -effect.round(_TIE_DECIMALS), log10p.round(_TIE_DECIMALS))
    return np.lexsort(keys).astype(np.int64)


def stratum_columns(problem: Problem, tables: NDArray[np.int64]) -> dict[str, Any]:
    """Describe the 2x2 tables of one pattern, a row a stratum; see `PatternResults.stratum_table`.

    Parameters
    ----------
    problem : Problem
        What was searched.
    tables : ndarray of int64, shape (n_strata, 2, 2)
        As from `make_tables`.

    Returns
    -------
    dict of str to ndarray or list
        Columns.
    """
    ratio, low, high = effects.stratum_odds_ratios(tables)
    return {
        "stratum": list(problem.stratum_labels),
        "carriers": tables[:, 0].sum(axis=1),
        "carrier_cases": tables[:, 0, 0],
        "others": tables[:, 1].sum(axis=1),
        "other_cases": tables[:, 1, 0],
        "odds_ratio": ratio,
        "odds_ratio_low": low,
        "odds_ratio_high": high,
    }


def csv_text(columns: dict[str, Any], separator: str) -> str:
    """Write the columns of `COLUMNS` as CSV, as pandas would.

    Parameters
    ----------
    columns : dict of str to ndarray or list
        As from `PatternTable.columns`.
    separator : str
        Between the items of a pattern.

    Returns
    -------
    str
        A header and a line a pattern; numbers with all their digits, an empty cell for nan.
    """
    lists: list[list[Any]] = []
    for column in COLUMNS:
        values = columns[column.name]
        if column.dtype == "tuple":
            lists.append([separator.join(items) for items in values])
        elif column.dtype == "float64" and np.isnan(values).any():
            lists.append(["" if value != value else value for value in values.tolist()])
        else:
            lists.append(values.tolist())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMN_NAMES)
    writer.writerows(zip(*lists, strict=True))
    return text.getvalue()


def compare_results(with_strata: PatternTable, without: PatternTable) -> dict[str, Any]:
    """Put two searches of the same rows and items side by side, with and without strata.

    Parameters
    ----------
    with_strata, without : PatternTable
        The results; the second with one stratum.

    Returns
    -------
    dict of str to ndarray or list
        Columns with an entry for every pattern that is significant in either; see
        `PatternResults.comparison`. In place of names there are the numbers of the items: `closure`
        and `known`, some generator; `name_itemsets` makes the names.
    """
    problem, settings = with_strata.problem, with_strata.settings
    # The same closed itemset is the same rows; the patterns of the second search stand first.
    crude = {tuple(closure.tolist()): found for closure, *found in without.ranked()}
    adjusted = {tuple(closure.tolist()): found for closure, *found in with_strata.ranked()}
    union = crude | adjusted
    closures = [np.array(items, dtype=np.int64) for items in union]

    sizes, case_sizes = problem.table.sizes, problem.table.case_sizes
    support, support_cases = count_itemsets(problem.table, closures)
    cases = support_cases.sum(axis=1)
    pooled, pooled_cases = support.sum(axis=1, keepdims=True), cases[:, None]
    one_size, one_case_size = sizes.sum(keepdims=True), case_sizes.sum(keepdims=True)
    # Each search knows the p-values of what it has found.
    logp, logp_crude = (
        np.array([found[items][1] if items in found else np.nan for items in union])
        for found in (adjusted, crude)
    )
    new, new_crude = np.isnan(logp), np.isnan(logp_crude)
    logp[new] = log_pvalues(settings, support[new], cases[new], sizes, case_sizes)
    logp_crude[new_crude] = log_pvalues(
        settings, pooled[new_crude], cases[new_crude], one_size, one_case_size
    )
    tables = make_tables(support, support_cases, sizes, case_sizes)
    crude_tables = make_tables(pooled, pooled_cases, one_size, one_case_size)
    values = {
        "support": pooled[:, 0],
        "support_cases": cases,
        "pvalue": np.exp(logp),
        "log10_pvalue": logp / LN10,
        "odds_ratio": effects.pooled_odds_ratio(tables),
        "pvalue_unstratified": np.exp(logp_crude),
        "log10_pvalue_unstratified": logp_crude / LN10,
        "odds_ratio_unstratified": effects.pooled_odds_ratio(crude_tables),
        "significant": np.array([items in adjusted for items in union], dtype=bool),
        "significant_unstratified": np.array([items in crude for items in union], dtype=bool),
    }
    order = np.argsort(logp_crude / LN10, kind="stable")
    known = [some for some, _ in union.values()]
    return {
        "closure": [closures[i] for i in order.tolist()],
        "known": [known[i] for i in order.tolist()],
        **{name: column[order] for name, column in values.items()},
    }


def comparison_frame(problem: Problem, compared: dict[str, Any]) -> pd.DataFrame:
    """Name the patterns of a comparison.

    Parameters
    ----------
    problem : Problem
        What was searched.
    compared : dict of str to ndarray or list
        As from `compare_results`.

    Returns
    -------
    DataFrame
        See `PatternResults.comparison`.
    """
    import pandas as pd

    columns = dict(compared)
    patterns, generators = name_itemsets(problem, columns.pop("closure"), columns.pop("known"))
    named = {"pattern": patterns, "generator": generators}
    return pd.DataFrame(
        {name: pd.Series(texts, dtype="object") for name, texts in named.items()} | columns
    )
