"""What is promised about a result, and what a search that was stopped leaves open, in sentences.

Allowed imports: `report.formats`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .formats import format_pvalue, format_share, join_names

if TYPE_CHECKING:
    from ..results import PatternResults

__all__ = [
    "INCOMPARABLE",
    "coverage_of",
    "guarantee_of",
    "is_lowered",
    "stopped_after",
    "untestable",
]

INCOMPARABLE = (
    "A search with or without the strata was stopped by its time limit, so that False in the "
    "columns significant and significant_unstratified may mean that a pattern was not searched. "
    "Search to the end before comparing."
)
_TOLERANCE = 1e-9  # relative, of equal thresholds


def guarantee_of(results: PatternResults) -> str:
    """Say what is promised about false discoveries.

    Parameters
    ----------
    results : PatternResults
        The result of a search.

    Returns
    -------
    str
        Sentences.
    """
    problem, settings = results.problem, results.settings
    percent = f"{100 * settings.alpha:g} %"
    given = (
        f" among rows with the same {join_names(problem.strata_names)}"
        if problem.strata_names
        else " in these rows"
        if problem.table.n_strata == 1
        else " within the strata"
    )
    premise = f"If no pattern had anything to do with {problem.target_name}{given}, the chance"
    if settings.method == "exact":
        promise = (
            f"{premise} that this list contains even one would be at most {percent} (family-wise "
            "error rate). The exact conditional test makes this hold for any sizes of the strata."
        )
    else:
        promise = (
            f"{premise} that this list contains even one would be about {percent} at most "
            "(family-wise error rate). The test uses the chi-squared approximation, so this holds "
            'only approximately; method="exact" would guarantee it.'
        )
    if results.complete:
        return promise
    return (
        f"{promise} It holds for this search, which was stopped, if its time limit was chosen "
        "before anybody saw what it found."
    )


def coverage_of(results: PatternResults) -> str | None:
    """Say what was not searched.

    Parameters
    ----------
    results : PatternResults
        The result of a search.

    Returns
    -------
    str or None
        Sentences for a `StatisticalWarning` and for the report; None if the search is complete.
    """
    if results.complete:
        return None
    if results.searched_fraction >= 1.0:
        return _unfinished_last_pass(results)
    share = format_share(results.searched_fraction)
    done, n_items = len(results.searched_items), len(results.problem.item_names)
    whose = "whose" if results.settings.max_length is None else "in whose shortest description the"
    where = f"only for patterns {whose} rarest item is one of {done:,} of the {n_items:,} items"
    if done == 0:
        where = "for no item yet"
    return (
        f"The search was stopped by its time limit after {share} of the search space (an "
        "estimate). What is reported is significant among the patterns that were searched; about "
        "all others nothing is said, so a pattern that is not listed may be significant. The list "
        f"is sure to be complete {where}."
    )


def _unfinished_last_pass(results: PatternResults) -> str:
    """Say what is missing after the first pass, which has seen everything."""
    start = (
        "The search was stopped by its time limit in its last pass. Every pattern was counted, "
        "but not everything that was met could be kept"
    )
    if results.n_testable == 0:
        return (
            f"{start}: that nothing is called testable, or what the smallest attainable p-value "
            "is, may change with more time."
        )
    return (
        f"{start}: so the threshold is {format_pvalue(results.corrected_threshold, plain=True)}, "
        "perhaps lower than that of a complete search, and patterns above it may be missing. "
        "Nothing that meets it is."
    )


def stopped_after(results: PatternResults) -> str:
    """Say in a few words how far a search went that was stopped.

    Parameters
    ----------
    results : PatternResults
        The result of a search that is not complete.

    Returns
    -------
    str
        For the end of a sentence.
    """
    if results.searched_fraction >= 1.0:
        return "stopped in its last pass"
    return f"stopped after {format_share(results.searched_fraction)} of the search space"


def is_lowered(results: PatternResults) -> bool:
    """Say whether the threshold is below alpha / n_testable, so that all that meets it is known.

    Parameters
    ----------
    results : PatternResults
        The result of a search.

    Returns
    -------
    bool
        Never true after a complete search.
    """
    full = results.settings.alpha / max(1, results.n_testable)
    return results.corrected_threshold < full * (1.0 - _TOLERANCE)


def untestable(results: PatternResults) -> str:
    """Say why nothing was testable.

    Parameters
    ----------
    results : PatternResults
        The result of a search without testable patterns.

    Returns
    -------
    str
        Sentences.
    """
    smallest, alpha = results.outcome.smallest_minimum_pvalue, results.settings.alpha
    if not results.complete:
        return (
            f"Nothing that was searched could be tested; the search was {stopped_after(results)}."
        )
    if math.isnan(smallest):
        return "Nothing could be tested: no combination of items met the limits of the search."
    start = (
        f"Nothing could be tested: the smallest p-value that any combination can attain in these "
        f"data is {format_pvalue(smallest)}, "
    )
    if smallest > alpha:
        return f"{start}above the level of {alpha:g}. More rows, or larger strata, are needed."
    return (
        f"{start}and so many combinations share it that their number times this value exceeds the "
        f"level of {alpha:g}. More rows, or larger strata, are needed."
    )
