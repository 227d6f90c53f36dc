"""The rules of `sigmine.ranking`: where to cut ordered scores, and the arrays behind that.

Everything public here is exported by `sigmine.ranking`, which is the module to import.
May import: `sigmine.exceptions`. No numba, no pandas.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeAlias

import array_api_compat
import numpy as np

from ._checks import open_unit, real_number, whole_number
from .exceptions import InputError, InputTypeError

__all__ = [
    "RELATIVE_TOLERANCE",
    "Array",
    "Namespace",
    "Rule",
    "as_scores",
    "at_most",
    "benjamini_hochberg",
    "bonferroni",
    "count_true",
    "cumulative_mass",
    "holm",
    "sparsity",
    "tarone",
    "top_k",
    "westfall_young",
    "worst_of",
]

Array: TypeAlias = Any
"""A numpy array, a torch tensor, or another array of the array API standard."""
Namespace: TypeAlias = Any
"""The functions of one array library, as the array API standard names them."""

RELATIVE_TOLERANCE = 1e-9
"""p-values nearer than this, relatively, to each other or to a threshold are the same value.

p-values of different tables are often equal as fractions and differ in the last bits as floats;
without the tolerance, rounding (and so the platform) would decide which of them are kept.
"""

_SORT_DIRECTLY = 1 << 15  # below this many values a sort is quicker than narrowing
_SAMPLE = 1 << 14
_ROUNDS = 4


# -- Borders ----------------------------------------------------------------------------------


def as_scores(scores: Any, what: str = "scores") -> tuple[Namespace, Array]:
    """Return (namespace, floating 1-d array); refuse other shapes, types and NaN."""
    if not array_api_compat.is_array_api_obj(scores):
        scores = np.asarray(scores)
    if array_api_compat.is_torch_array(scores):
        scores = scores.detach()  # a selection has no gradient, and torch warns of reading numbers
    xp = array_api_compat.array_namespace(scores)
    if scores.ndim != 1:
        raise InputError(
            f"{what} has shape {tuple(scores.shape)}; it must be one-dimensional. Flatten it "
            "and name the parts with scopes."
        )
    if xp.isdtype(scores.dtype, "integral") or scores.shape[0] == 0:
        return xp, xp.astype(scores, xp.float64)
    if not xp.isdtype(scores.dtype, "real floating"):
        raise InputTypeError(
            f"{what} has dtype {scores.dtype}; it must hold real numbers, one per candidate."
        )
    missing = xp.isnan(scores)
    if bool(xp.any(missing)):
        first = int(xp.argmax(xp.astype(missing, xp.int8)))
        raise InputError(
            f"{what} has {count_true(xp, missing)} NaN (the first at index {first}); a missing "
            "score has no rank. Drop those candidates or score them."
        )
    return xp, scores


def count_true(xp: Namespace, mask: Array) -> int:
    """Return how many entries of a mask are True."""
    return int(xp.count_nonzero(mask))


# -- Cut --------------------------------------------------------------------------------------


def _kth_smallest(xp: Namespace, values: Array, k: int) -> Array:
    """Return the k-th smallest value (k from 1) without a full sort, as a 0-d array.

    The answer is bracketed by two values of a sorted sample and only what lies between them is
    kept; if the answer is not there, the side where it is. Any sample is right, a typical one is
    also fast: one round leaves a few per cent of the values.
    """
    rest, rank = values, k
    for _ in range(_ROUNDS):
        n = rest.shape[0]
        if n <= _SORT_DIRECTLY:
            break
        sample = xp.sort(rest[:: n // _SAMPLE])
        m = sample.shape[0]
        centre = (rank - 1) * m // n
        margin = 2 * math.isqrt(m)  # about four standard deviations of a sample rank
        low, high = sample[max(centre - margin, 0)], sample[min(centre + margin, m - 1)]
        below, above = rest < low, rest > high
        n_below, n_above = count_true(xp, below), count_true(xp, above)
        if rank <= n_below:
            rest = rest[below]
        elif rank > n - n_above:
            rest, rank = rest[above], rank - (n - n_above)
        elif bool(low == high):
            return low
        else:
            rest, rank = rest[~(below | above)], rank - n_below
    return xp.sort(rest)[rank - 1]


def _best(xp: Namespace, values: Array, k: int, largest: bool) -> Array:
    """Return the mask of the k best scores; among equal scores the lowest indices."""
    n = values.shape[0]
    if k <= 0 or k >= n:
        full = xp.ones if k >= n else xp.zeros
        return full(n, dtype=xp.bool, device=array_api_compat.device(values))
    edge = _kth_smallest(xp, values, n - k + 1 if largest else k)
    better = values > edge if largest else values < edge
    tied = values == edge
    needed = k - count_true(xp, better)
    if needed < count_true(xp, tied):
        tied = tied & (xp.cumulative_sum(xp.astype(tied, xp.int64)) <= needed)
    return better | tied


@dataclass(frozen=True, repr=False)
class Rule(ABC):
    """Where to cut ordered scores. Made by `top_k`, `tarone`, ...; applied by `select`.

    Attributes
    ----------
    name : str
        Name of the function that makes the rule.
    direction : {"either", "largest", "smallest"}
        Which scores the rule can keep. p-value rules and `at_most` keep the smallest whatever
        `select` is told, `cumulative_mass` the largest.

    Notes
    -----
    Rules are values: immutable, comparable, picklable. The functions that make them refuse a
    parameter out of range with an `InputError`, and one of a wrong type with an `InputTypeError`.
    """

    name: ClassVar[str]
    direction: ClassVar[str] = "either"

    def __repr__(self) -> str:
        parameters = ", ".join(
            f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr
        )
        return f"{self.name}({parameters})"

    @abstractmethod
    def decide(self, xp: Namespace, values: Array, largest: bool) -> tuple[Array, float]:
        """Return the mask and the threshold for checked scores: what `select` calls."""


def worst_of(xp: Namespace, values: Array, mask: Array, largest: bool) -> float:
    """Return the worst score that is kept; nan if none is."""
    kept = values[mask]
    if kept.shape[0] == 0:
        return math.nan
    return float(xp.min(kept) if largest else xp.max(kept))


class _CountRule(Rule):
    """Rules that know from n alone how many to keep: no sort is needed."""

    @abstractmethod
    def count(self, n: int) -> int:
        """Return how many of n scores are kept."""

    def decide(self, xp: Namespace, values: Array, largest: bool) -> tuple[Array, float]:
        mask = _best(xp, values, self.count(values.shape[0]), largest)
        return mask, worst_of(xp, values, mask, largest)


@dataclass(frozen=True, repr=False)
class _TopK(_CountRule):
    k: int
    name: ClassVar[str] = "top_k"

    def count(self, n: int) -> int:
        if self.k > n:
            raise InputError(f"{self!r} asks for {self.k} of {n} scores; k must be at most {n}.")
        return self.k


@dataclass(frozen=True, repr=False)
class _Sparsity(_CountRule):
    s: float
    name: ClassVar[str] = "sparsity"

    def count(self, n: int) -> int:
        # 0.29 * 100 is 28.999999999999996 in floats and must remove 29.
        return n - min(n, math.floor(self.s * n + 4 * sys.float_info.epsilon * n))


@dataclass(frozen=True, repr=False)
class _AtMost(Rule):
    t: float
    name: ClassVar[str] = "at_most"
    direction: ClassVar[str] = "smallest"

    def decide(self, xp: Namespace, values: Array, largest: bool) -> tuple[Array, float]:
        return values <= self.t, self.t


@dataclass(frozen=True, repr=False)
class _CumulativeMass(Rule):
    eps: float
    name: ClassVar[str] = "cumulative_mass"
    direction: ClassVar[str] = "largest"

    def decide(self, xp: Namespace, values: Array, largest: bool) -> tuple[Array, float]:
        n = values.shape[0]
        if n == 0:
            return _best(xp, values, 0, True), math.nan
        if bool(xp.any(values < 0)) or bool(xp.any(xp.isinf(values))):
            raise InputError(
                f"{self!r} adds scores up, and some are negative or infinite; use squares or "
                "absolute values, or another rule."
            )
        removed = xp.cumulative_sum(xp.sort(xp.astype(values, xp.float64)))
        budget = self.eps * float(removed[-1]) * (1 + RELATIVE_TOLERANCE)
        mask = _best(xp, values, n - count_true(xp, removed <= budget), True)
        return mask, worst_of(xp, values, mask, True)


class _PvalueRule(Rule):
    """Rules on p-values: the smallest are kept, all that are equal to the last one kept too."""

    direction: ClassVar[str] = "smallest"

    @abstractmethod
    def cut(self, xp: Namespace, ascending: Array) -> tuple[int, float]:
        """Return (how many are kept, threshold) for sorted float64 p-values, at least one."""

    @abstractmethod
    def level_of_none(self) -> float:
        """Return the threshold where there is no p-value at all."""

    def decide(self, xp: Namespace, values: Array, largest: bool) -> tuple[Array, float]:
        if values.shape[0] == 0:
            return _best(xp, values, 0, False), self.level_of_none()
        ascending = xp.sort(xp.astype(values, xp.float64))
        if float(ascending[0]) < 0 or float(ascending[-1]) > 1 + RELATIVE_TOLERANCE:
            raise InputError(
                f"{self!r} works on p-values, and the scores go from {float(ascending[0]):g} to "
                f"{float(ascending[-1]):g}; p-values lie in [0, 1]."
            )
        k, threshold = self.cut(xp, ascending)
        if k == 0:
            return _best(xp, values, 0, False), threshold
        return xp.astype(values, xp.float64) <= ascending[k - 1], threshold


@dataclass(frozen=True, repr=False)
class _Bonferroni(_PvalueRule):
    alpha: float
    m: int | None = None
    name: ClassVar[str] = "bonferroni"

    def level_of_none(self) -> float:
        return self.alpha / (self.m or 1)

    def cut(self, xp: Namespace, ascending: Array) -> tuple[int, float]:
        n = ascending.shape[0]
        if self.m is not None and self.m < n:
            raise InputError(
                f"{self!r} is for {self.m} tests, and there are {n} p-values; m counts every test "
                f"that was or could have been made, so at least {n}."
            )
        threshold = self.alpha / (self.m or n)
        return count_true(xp, ascending <= threshold * (1 + RELATIVE_TOLERANCE)), threshold


@dataclass(frozen=True, repr=False)
class _Tarone(_PvalueRule):
    alpha: float
    name: ClassVar[str] = "tarone"

    def level_of_none(self) -> float:
        return self.alpha

    def cut(self, xp: Namespace, ascending: Array) -> tuple[int, float]:
        # m(delta) at every attained delta. delta * m(delta) never falls, so what qualifies is a
        # prefix, and its last delta is delta*.
        m = xp.searchsorted(ascending, ascending * (1 + RELATIVE_TOLERANCE), side="right")
        bound = ascending * xp.astype(m, xp.float64)
        qualified = count_true(xp, bound <= self.alpha * (1 + RELATIVE_TOLERANCE))
        testable = int(m[qualified - 1]) if qualified else 0
        return testable, self.alpha / max(1, testable)


@dataclass(frozen=True, repr=False)
class _BenjaminiHochberg(_PvalueRule):
    q: float
    name: ClassVar[str] = "benjamini_hochberg"

    def level_of_none(self) -> float:
        return self.q

    def cut(self, xp: Namespace, ascending: Array) -> tuple[int, float]:
        n = ascending.shape[0]
        line = _positions(xp, ascending) * (self.q / n)
        under = xp.nonzero(ascending <= line * (1 + RELATIVE_TOLERANCE))[0]
        k = int(under[-1]) + 1 if under.shape[0] else 0
        return k, self.q * max(1, k) / n


@dataclass(frozen=True, repr=False)
class _Holm(_PvalueRule):
    alpha: float
    name: ClassVar[str] = "holm"

    def level_of_none(self) -> float:
        return self.alpha

    def cut(self, xp: Namespace, ascending: Array) -> tuple[int, float]:
        n = ascending.shape[0]
        levels = self.alpha / (n + 1 - _positions(xp, ascending))
        over = xp.nonzero(ascending > levels * (1 + RELATIVE_TOLERANCE))[0]
        k = int(over[0]) if over.shape[0] else n
        return k, self.alpha / (n + 1 - max(1, k))


def _positions(xp: Namespace, ascending: Array) -> Array:
    """Return 1, 2, ..., n as float64."""
    device = array_api_compat.device(ascending)
    return xp.arange(1, ascending.shape[0] + 1, dtype=xp.float64, device=device)


@dataclass(frozen=True, repr=False)
class _WestfallYoung(_PvalueRule):
    null_minima: tuple[float, ...] = field(repr=False)
    alpha: float
    name: ClassVar[str] = "westfall_young"

    def level_of_none(self) -> float:
        n = len(self.null_minima)
        # Rejected: (1 + number of minima <= p) / (n + 1) <= alpha.
        allowed = math.floor(self.alpha * (n + 1) * (1 + RELATIVE_TOLERANCE)) - 1
        if allowed < 0:
            return 0.0
        return self.null_minima[allowed] if allowed < n else math.inf

    def cut(self, xp: Namespace, ascending: Array) -> tuple[int, float]:
        threshold = self.level_of_none()
        return count_true(xp, ascending < threshold * (1 - RELATIVE_TOLERANCE)), threshold


# -- Rules by name ----------------------------------------------------------------------------


def top_k(k: int) -> Rule:
    """Keep exactly k scores, whatever the ties.

    Parameters
    ----------
    k : int
        At least 0, and at most the number of scores.

    Returns
    -------
    Rule
        For scores of either direction; of equal ones the lower index is kept.
    """
    return _TopK(whole_number("k", k, 0))


def sparsity(s: float) -> Rule:
    """Remove the fraction s of the scores: floor(s * n) of n are removed.

    Parameters
    ----------
    s : float
        In [0, 1]; 0.9 removes nine of ten.

    Returns
    -------
    Rule
        For scores of either direction; of equal ones the lower index is kept.
    """
    return _Sparsity(real_number("s", s, 0.0, 1.0, "the fraction removed, in [0, 1]"))


def at_most(t: float) -> Rule:
    """Keep the scores that are t or less, without tolerance.

    Parameters
    ----------
    t : float
        Any number, also infinite.

    Returns
    -------
    Rule
        Keeps small scores, whatever `select` is told.
    """
    return _AtMost(real_number("t", t, -math.inf, math.inf, "a number that is not NaN"))


def cumulative_mass(eps: float) -> Rule:
    """Keep the fewest scores that hold at least 1 - eps of the sum of all.

    Parameters
    ----------
    eps : float
        Share of the sum that may be lost, in [0, 1]. 0 removes scores of 0 only.

    Returns
    -------
    Rule
        For scores that are finite and not negative. Where all are 0, none is kept.
    """
    return _CumulativeMass(
        real_number("eps", eps, 0.0, 1.0, "the share that may be lost, in [0, 1]")
    )


def bonferroni(alpha: float, m: int | None = None) -> Rule:
    """Keep the p-values of at most alpha / m.

    Parameters
    ----------
    alpha : float
        Family-wise error rate, in (0, 1).
    m : int, optional
        Number of tests; the number of p-values by default. Larger where only the best of m
        p-values are at hand.

    Returns
    -------
    Rule
        FWER at level alpha under any dependence of the p-values.
    """
    return _Bonferroni(
        open_unit("alpha", alpha, "0.05"), None if m is None else whole_number("m", m, 1)
    )


def tarone(alpha: float) -> Rule:
    """Keep the testable candidates, from their minimum attainable p-values.

    Parameters
    ----------
    alpha : float
        Family-wise error rate, in (0, 1).

    Returns
    -------
    Rule
        For scores that are minimum attainable p-values. The mask tells the testable candidates;
        `Selection.threshold` is alpha / max(1, m), the corrected threshold for the *p-values* of
        those m (and of no others); `Selection.last_kept` is delta*, the largest attained minimum
        p-value with delta* m(delta*) <= alpha, where m(delta) counts the scores <= delta.

    Notes
    -----
    FWER at level alpha if every p-value is valid and every minimum p-value depends on quantities
    that are fixed under the null hypothesis (the margins) [1]_: the m testable candidates share
    alpha, and the others are not rejected whatever their p-value.

    References
    ----------
    .. [1] R. E. Tarone, "A modified Bonferroni method for discrete data", Biometrics 46 (1990)
       515-522, `doi:10.2307/2531456 <https://doi.org/10.2307/2531456>`_.

    Examples
    --------
    >>> from sigmine.ranking import select
    >>> selection = select([0.001, 0.5, 0.02, 0.02], tarone(0.06))
    >>> selection.mask.tolist(), selection.threshold, selection.last_kept
    ([True, False, True, True], 0.02, 0.02)
    """
    return _Tarone(open_unit("alpha", alpha, "0.05"))


def benjamini_hochberg(q: float) -> Rule:
    """Keep the p-values that the step-up procedure of Benjamini and Hochberg rejects.

    Parameters
    ----------
    q : float
        False discovery rate, in (0, 1).

    Returns
    -------
    Rule
        FDR at level q for independent p-values and under positive regression dependence [1]_.

    References
    ----------
    .. [1] Y. Benjamini and Y. Hochberg, "Controlling the false discovery rate", Journal of the
       Royal Statistical Society B 57 (1995) 289-300; Y. Benjamini and D. Yekutieli, "The control of
       the false discovery rate in multiple testing under dependency", Annals of Statistics 29
       (2001) 1165-1188.
    """
    return _BenjaminiHochberg(open_unit("q", q, "0.05"))


def holm(alpha: float) -> Rule:
    """Keep the p-values that Holm's step-down procedure rejects.

    Parameters
    ----------
    alpha : float
        Family-wise error rate, in (0, 1).

    Returns
    -------
    Rule
        FWER at level alpha under any dependence [1]_; never keeps fewer than `bonferroni`.

    References
    ----------
    .. [1] S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal
       of Statistics 6 (1979) 65-70.
    """
    return _Holm(open_unit("alpha", alpha, "0.05"))


def westfall_young(null_minima: Sequence[float], alpha: float) -> Rule:
    """Keep the p-values that few permuted data sets beat (single-step minP).

    Parameters
    ----------
    null_minima : sequence of float, shape (n_permutations,)
        Smallest p-value of each data set with permuted labels, in [0, 1].
    alpha : float
        Family-wise error rate, in (0, 1).

    Returns
    -------
    Rule
        Keeps p where (1 + number of minima <= p) / (n_permutations + 1) <= alpha: p-values *below*
        `Selection.threshold`. With fewer than 1 / alpha - 1 permutations nothing can be kept.

    Notes
    -----
    FWER at level alpha if the permutations keep the null distribution (labels permuted inside the
    strata). Weak control in general, strong under subset pivotality [1]_.

    References
    ----------
    .. [1] P. H. Westfall and S. S. Young, "Resampling-Based Multiple Testing: Examples and Methods
       for p-Value Adjustment", Wiley (1993).
    """
    _, minima = as_scores(null_minima, "null_minima")
    values = sorted(float(value) for value in minima)
    if not values or values[0] < 0 or values[-1] > 1:
        found = f"goes from {values[0]:g} to {values[-1]:g}" if values else "is empty"
        raise InputError(
            f"null_minima {found}; give the smallest p-value of every permutation, in [0, 1]."
        )
    return _WestfallYoung(tuple(values), open_unit("alpha", alpha, "0.05"))
