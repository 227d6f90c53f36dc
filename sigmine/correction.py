"""Multiple-testing procedures by name: what each controls, under which assumptions, and its rule.

`get_correction` gives a procedure as a `sigmine.ranking.Rule`, to be applied by
`sigmine.ranking.select`; `adjust` gives adjusted p-values; `CORRECTIONS` says what a report needs
to know about each.

========================  =======  ==============================================================
name                      error    holds
========================  =======  ==============================================================
"bonferroni"              FWER     under any dependence
"holm"                    FWER     under any dependence; never rejects less than Bonferroni
"tarone"                  FWER     under any dependence, if the smallest attainable p-value of
                                   every test follows from what is fixed under the null hypothesis
"westfall-young"          FWER     if permuted labels have the null distribution (inside strata),
                                   and under subset pivotality for control in the strong sense
"benjamini-hochberg"      FDR      for independent p-values or positive regression dependence
========================  =======  ==============================================================

FWER is the probability of one or more false rejections, FDR the expected share of false ones
among the rejections.

References
----------
.. [1] S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
   Statistics 6 (1979) 65-70.
.. [2] R. E. Tarone, "A modified Bonferroni method for discrete data", Biometrics 46 (1990) 515-522,
   `doi:10.2307/2531456 <https://doi.org/10.2307/2531456>`_.
.. [3] P. H. Westfall and S. S. Young, "Resampling-Based Multiple Testing: Examples and Methods for
   p-Value Adjustment", Wiley (1993).
.. [4] Y. Benjamini and Y. Hochberg, "Controlling the false discovery rate", Journal of the Royal
   Statistical Society B 57 (1995) 289-300, `doi:10.1111/j.2517-6161.1995.tb02031.x
   <https://doi.org/10.1111/j.2517-6161.1995.tb02031.x>`_.

May import: `sigmine.ranking` and what lies below it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import one_of, whole_number
from .exceptions import InputError, InputTypeError
from .ranking import (
    Rule,
    benjamini_hochberg,
    bonferroni,
    holm,
    tarone,
    westfall_young,
)

__all__ = ["CORRECTIONS", "Correction", "adjust", "get_correction"]


@dataclass(frozen=True)
class Correction:
    """What a report says about one procedure.

    Attributes
    ----------
    name : str
        Name in the interface.
    title : str
        Name in a sentence.
    error_rate : {"FWER", "FDR"}
        What is kept at the level.
    scores : {"pvalue", "minimum_pvalue"}
        What the rule orders: p-values, or smallest attainable p-values (which p-values are then
        compared with `Selection.threshold`).
    assumptions : str
        When the level holds, as a clause.
    """

    name: str
    title: str
    error_rate: str
    scores: str
    assumptions: str


CORRECTIONS: dict[str, Correction] = {
    entry.name: entry
    for entry in (
        Correction(
            "bonferroni", "Bonferroni's correction", "FWER", "pvalue", "under any dependence"
        ),
        Correction("holm", "Holm's step-down procedure", "FWER", "pvalue", "under any dependence"),
        Correction(
            "tarone",
            "Tarone's correction",
            "FWER",
            "minimum_pvalue",
            "under any dependence, because the smallest attainable p-value of every test follows "
            "from margins that are fixed under the null hypothesis",
        ),
        Correction(
            "westfall-young",
            "Westfall and Young's permutation procedure",
            "FWER",
            "pvalue",
            "if labels permuted inside the strata have the null distribution",
        ),
        Correction(
            "benjamini-hochberg",
            "Benjamini and Hochberg's procedure",
            "FDR",
            "pvalue",
            "for independent or positively dependent p-values",
        ),
    )
}


_SHORT = {"bh": "benjamini-hochberg"}


def get_correction(
    name: str,
    alpha: float = 0.05,
    *,
    m: int | None = None,
    null_minima: Sequence[float] | None = None,
) -> Rule:
    """Return a multiple-testing procedure as a rule for `sigmine.ranking.select`.

    Parameters
    ----------
    name : {"bonferroni", "holm", "tarone", "westfall-young", "benjamini-hochberg"}
        "bh" is short for the last.
    alpha : float, default=0.05
        Level of the error rate, in (0, 1).
    m : int, optional
        Number of tests, for "bonferroni"; by default the number of p-values.
    null_minima : sequence of float, shape (n_permutations,)
        Smallest p-value of each permutation, for "westfall-young" only, which needs it.

    Returns
    -------
    Rule
        For p-values, or for smallest attainable p-values ("tarone").

    Raises
    ------
    InputError
        An unknown name, a level outside (0, 1), an argument that the procedure does not take, or
        one that it needs.
    InputTypeError
        A level or a number of tests that is no number.

    Notes
    -----
    What each controls, and when: see the table in `sigmine.correction`, and `CORRECTIONS`.

    Examples
    --------
    >>> from sigmine.ranking import select
    >>> select([0.001, 0.02, 0.03, 0.2], get_correction("holm", 0.05)).mask.tolist()
    [True, False, False, False]
    >>> CORRECTIONS["holm"].error_rate
    'FWER'
    """
    name = one_of("name", _SHORT.get(name, name), tuple(CORRECTIONS))
    if m is not None and name != "bonferroni":
        raise InputError(f"m={m!r} is given and {name!r} does not take it; leave it out.")
    if (null_minima is not None) != (name == "westfall-young"):
        problem = "takes no null_minima" if null_minima is not None else "needs null_minima"
        raise InputError(
            f"{name!r} {problem}; they are the smallest p-values of permuted data sets, which only "
            "'westfall-young' uses."
        )
    if name == "bonferroni":
        return bonferroni(alpha, m)
    if null_minima is not None:
        return westfall_young(null_minima, alpha)
    simple: dict[str, Callable[[float], Rule]] = {
        "holm": holm,
        "tarone": tarone,
        "benjamini-hochberg": benjamini_hochberg,
    }
    return simple[name](alpha)


def _as_pvalues(pvalues: ArrayLike) -> NDArray[np.float64]:
    try:
        values = np.asarray(pvalues, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputTypeError(
            f"pvalues must be numbers ({error}); give values in [0, 1]."
        ) from error
    if values.ndim != 1:
        raise InputError(f"pvalues has shape {values.shape}; it must be one-dimensional.")
    wrong = ~((values >= 0) & (values <= 1))  # NaN too
    if wrong.any():
        first = int(np.argmax(wrong))
        raise InputError(
            f"pvalues holds {values[first]} at index {first}; p-values lie in [0, 1]. Drop the "
            "tests that gave none."
        )
    return values


def adjust(
    pvalues: ArrayLike, method: str = "holm", *, m: int | None = None
) -> NDArray[np.float64]:
    """Return adjusted p-values: the smallest level at which the procedure rejects each.

    Parameters
    ----------
    pvalues : array_like of float, shape (n,)
        In [0, 1].
    method : {"bonferroni", "holm", "benjamini-hochberg"}, default="holm"
        "bh" is short for the last.
    m : int, optional
        Number of tests, at least n and n by default. Where it is larger, the p-values that are
        left out count as 1.

    Returns
    -------
    ndarray of float64, shape (n,)
        In the order of `pvalues`, at most 1, never below the p-value.

    Raises
    ------
    InputError
        A p-value outside [0, 1] or NaN, an unknown method, or m below n.
    InputTypeError
        p-values that are not numbers, or an m that is not a whole number.

    See Also
    --------
    get_correction : the procedures as rules; "tarone" adjusts by m = number of testable patterns.

    Examples
    --------
    >>> adjust([0.01, 0.04, 0.03], "holm").round(3).tolist()
    [0.03, 0.06, 0.06]
    >>> adjust([0.01, 0.04, 0.03], "bh").round(3).tolist()
    [0.03, 0.04, 0.04]
    """
    known = ("bonferroni", "holm", "benjamini-hochberg")
    method = one_of("method", _SHORT.get(method, method), known)
    values = _as_pvalues(pvalues)
    n_tests = len(values) if m is None else whole_number("m", m, len(values))
    if method == "bonferroni":
        return np.asarray(np.minimum(values * n_tests, 1.0), dtype=np.float64)
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    position = np.arange(len(values), dtype=np.float64)
    if method == "holm":
        stepped = np.maximum.accumulate(ascending * (n_tests - position))
    else:
        scaled = ascending * (n_tests / (position + 1))
        stepped = np.minimum.accumulate(scaled[::-1])[::-1]
    adjusted = np.empty_like(values)
    # p * (n / n) may round below p, which no adjustment does.
    adjusted[order] = np.maximum(np.minimum(stepped, 1.0), ascending)
    return adjusted
