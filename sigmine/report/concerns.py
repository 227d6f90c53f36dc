"""Where a result promises more than its test can keep.

Allowed imports: `report.formats`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .formats import format_percent, format_pvalue

if TYPE_CHECKING:
    from ..results import PatternResults

__all__ = ["asymptotic_concerns"]

BALANCED = (0.4, 0.6)  # share of cases within which null runs kept the asymptotic test's level
UNEVEN = (0.2, 0.8)  # share of cases of a stratum; 25 to 75 % kept the level, 2 and 90 % did not
UNEVEN_SHARE = 0.1  # of the searched rows that may lie in uneven strata
THIN_ROWS = 25  # a stratum with fewer rows is thin for the chi-squared approximation
THIN_CLASS = 5  # so is one with fewer cases, or fewer controls
THIN_SHARE = 0.25  # of the searched rows that may lie in thin strata


def asymptotic_concerns(results: PatternResults) -> str | None:
    """Say where the chi-squared approximation is too thin for the promised error rate.

    Parameters
    ----------
    results : PatternResults
        The result of a search.

    Returns
    -------
    str or None
        Sentences for a `StatisticalWarning` and for the report; None if the search used the exact
        test or if nothing speaks against the approximation.

    Notes
    -----
    At Tarone's thresholds (p of about 1e-7) the chi-squared tail is far below the true
    conditional tail when few cases are expected among the carriers, whatever the number of rows.
    On null data at alpha = 0.05 (the study of the error rate in the documentation) something was
    reported in 2 % of the data sets with one stratum and half of the rows cases, in 68 % with 10 %
    cases, in 99.7 % with 3 %; and in 19 to 41 % with half of the rows cases but strata of unequal
    case rates. Hence the signs that are looked for: a share of cases outside 40 to 60 %, many rows
    in strata with fewer than 25 rows or fewer than 5 cases or controls, or with a case rate outside
    20 to 80 %, and significant patterns that the exact test does not confirm.
    """
    if results.settings.method != "asymptotic":
        return None
    sizes, case_sizes = results.problem.table.sizes, results.problem.table.case_sizes
    n_rows, n_cases = int(sizes.sum()), int(case_sizes.sum())
    signs = []
    if not BALANCED[0] <= n_cases / n_rows <= BALANCED[1]:
        signs.append(
            f"{format_percent(n_cases, n_rows)} of the searched rows are cases (the approximation "
            f"holds its level only near 50 %)"
        )
    smaller = np.minimum(case_sizes, sizes - case_sizes)
    thin = (sizes < THIN_ROWS) | (smaller < THIN_CLASS)
    thin_rows = int(sizes[thin].sum())
    if thin_rows > THIN_SHARE * n_rows:
        signs.append(
            f"{format_percent(thin_rows, n_rows)} of them lie in strata with fewer than "
            f"{THIN_ROWS} rows or fewer than {THIN_CLASS} cases or controls"
        )
    rates = case_sizes / sizes
    uneven_rows = int(sizes[(rates < UNEVEN[0]) | (rates > UNEVEN[1])].sum())
    if uneven_rows > UNEVEN_SHARE * n_rows:
        signs.append(
            f"{format_percent(uneven_rows, n_rows)} of them lie in strata with less than "
            f"{UNEVEN[0]:.0%} or more than {UNEVEN[1]:.0%} cases"
        )
    refuted = results.n_disagreements
    if refuted:
        signs.append(
            f"{refuted:,} of the {len(results):,} significant patterns "
            f"{'has' if refuted == 1 else 'have'} an exact p-value above the threshold "
            f"{format_pvalue(results.corrected_threshold, plain=True)}"
        )
    if not signs:
        return None
    return (
        "The chi-squared approximation is too thin here for the family-wise error rate of "
        f"{results.settings.alpha:g} that was asked for: {'; '.join(signs)}. Use "
        'method="exact", which keeps the error rate for any design.'
    )
