"""Ranked selection: the one engine that miners and pruners share.

Every selection has three steps. **Order** the scores, best first; equal scores by index, lower
first. **Cut** where a monotone condition on the ordered scores stops holding. Return a **mask**.
A `Rule` is the condition; `select` does the rest.

>>> from sigmine.ranking import select, top_k
>>> select([0.2, 0.9, 0.9, 0.1], top_k(2)).mask.tolist()
[False, True, True, False]

The code uses the array API standard only, so that numpy arrays and torch tensors (on a CPU or a
GPU) go through the same lines and get the same mask, ties included. Whole-number scores are taken
as float64. Scores that are not a number are an error: a rank for them would be invented.

May import: `sigmine.exceptions`. No numba, no pandas.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import array_api_compat
import numpy as np

from ._checks import one_of
from ._rules import (
    RELATIVE_TOLERANCE,
    Array,
    Namespace,
    Rule,
    as_scores,
    at_most,
    benjamini_hochberg,
    bonferroni,
    count_true,
    cumulative_mass,
    holm,
    sparsity,
    tarone,
    top_k,
    westfall_young,
    worst_of,
)
from .exceptions import InputError, InputTypeError

__all__ = [
    "RELATIVE_TOLERANCE",
    "Rule",
    "Selection",
    "at_most",
    "benjamini_hochberg",
    "bonferroni",
    "cumulative_mass",
    "holm",
    "normalise",
    "order",
    "ranks",
    "select",
    "sparsity",
    "tail_normalise",
    "tarone",
    "top_k",
    "westfall_young",
]

# -- Order ------------------------------------------------------------------------------------


def order(scores: Any, largest: bool = True) -> Array:
    """Return the indices of the scores, best first.

    Parameters
    ----------
    scores : array_like of real numbers, shape (n,)
        numpy, torch, or anything of the array API standard; lists are taken by numpy.
    largest : bool, default=True
        Large scores are good.

    Returns
    -------
    array of int64, shape (n,)
        Equal scores (0.0 and -0.0 are equal) come in the order of their indices.

    Raises
    ------
    InputError
        Scores that are not one-dimensional, or NaN.
    InputTypeError
        Scores that are not real numbers.

    Examples
    --------
    >>> order([0.5, 2.0, 0.5]).tolist()
    [1, 0, 2]
    >>> order([0.5, 2.0, 0.5], largest=False).tolist()
    [0, 2, 1]
    """
    xp, values = as_scores(scores)
    return _order(xp, values, largest)


def _order(xp: Namespace, values: Array, largest: bool) -> Array:
    # + 0.0 turns -0.0 into 0.0: radix sorts, as on GPUs, may tell them apart.
    return xp.argsort(values + 0.0, descending=largest, stable=True)


def ranks(scores: Any, largest: bool = True, ties: str = "first") -> Array:
    """Return the rank of every score, 1 for the best.

    Parameters
    ----------
    scores : array_like of real numbers, shape (n,)
        As in `order`.
    largest : bool, default=True
        Large scores are good.
    ties : {"first", "min", "max", "average"}, default="first"
        Rank of equal scores: by index (all ranks differ), or the best, the worst or the mean of
        the ranks that they take up together.

    Returns
    -------
    array, shape (n,)
        int64; float64 for "average".

    Raises
    ------
    InputError
        Scores as in `order`, or an unknown `ties`.
    InputTypeError
        Scores that are not real numbers.

    Examples
    --------
    >>> ranks([0.5, 2.0, 0.5]).tolist()
    [2, 1, 3]
    >>> ranks([0.5, 2.0, 0.5], ties="average").tolist()
    [2.5, 1.0, 2.5]
    """
    one_of("ties", ties, ("first", "min", "max", "average"))
    xp, values = as_scores(scores)
    n = values.shape[0]
    if ties == "first":
        return _inverse(xp, _order(xp, values, largest)) + 1
    ascending = xp.sort(values)
    below = xp.searchsorted(ascending, values, side="left")
    not_above = xp.searchsorted(ascending, values, side="right")
    best, worst = (n - not_above + 1, n - below) if largest else (below + 1, not_above)
    if ties == "average":
        return xp.astype(best + worst, xp.float64) / 2
    return xp.astype(best if ties == "min" else worst, xp.int64)


def _inverse(xp: Namespace, permutation: Array) -> Array:
    """Return the inverse of a permutation of 0..n-1."""
    return xp.argsort(permutation, stable=True)


# -- Selection --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Selection:
    """What a rule kept, and why.

    Attributes
    ----------
    mask : array of bool, shape (n,)
        True for what is kept; same library and device as the scores.
    threshold : float
        The number of the rule: the score of the last one kept (`top_k`, `sparsity`,
        `cumulative_mass`; nan if none is), t (`at_most`), or the corrected threshold for p-values
        (all others). nan with scopes: see `parts`.
    n_kept : int
        Number of True in `mask`.
    rule : Rule or mapping of str to Rule
        The rule that was applied.
    largest : bool
        Whether large scores were kept.
    scores : array of float, shape (n,)
        The scores.
    parts : mapping of str to Selection
        The selection inside every scope; empty without scopes.
    """

    mask: Array
    threshold: float
    n_kept: int
    rule: Rule | Mapping[str, Rule]
    largest: bool
    scores: Array = field(repr=False)
    parts: Mapping[str, Selection] = field(default_factory=dict, repr=False)

    @cached_property
    def order(self) -> Array:
        """Indices of all scores, best first (equal scores by index); sorted on first use.

        Without scopes the first `n_kept` of them are the ones kept.
        """
        xp = array_api_compat.array_namespace(self.scores)
        return _order(xp, self.scores, self.largest)

    @cached_property
    def last_kept(self) -> float:
        """Worst score that is kept; nan if none is. For `tarone` this is delta*."""
        xp = array_api_compat.array_namespace(self.scores)
        return worst_of(xp, self.scores, self.mask, self.largest)

    @property
    def reason(self) -> str:
        """One sentence: the rule, how many it kept of how many, and the threshold."""
        if self.parts:
            return "; ".join(f"{name}: {part.reason}" for name, part in self.parts.items())
        return (
            f"{self.rule!r} kept {self.n_kept} of {self.scores.shape[0]}, "
            f"threshold {self.threshold:.6g}"
        )


def select(
    scores: Any,
    rule: Rule | Mapping[str, Rule],
    scopes: Mapping[str, Any] | None = None,
    largest: bool = True,
) -> Selection:
    """Order the scores, cut them by a rule, return a mask with the reason.

    Parameters
    ----------
    scores : array_like of real numbers, shape (n,)
        One score per candidate: numpy, torch (any device), or another library of the array API
        standard; lists are taken by numpy. For p-value rules, p-values.
    rule : Rule, or mapping of str to Rule
        `top_k`, `sparsity`, `at_most`, `cumulative_mass`, `bonferroni`, `tarone`,
        `benjamini_hochberg`, `holm` or `westfall_young`; a mapping gives every scope its own.
    scopes : mapping of str to sequence of int, optional
        Name of every scope (a layer, a head) and the indices of its scores. The rule is applied
        inside each; together they hold every index once. None: one scope with everything.
    largest : bool, default=True
        Keep the largest scores. Rules of one direction (p-values, `at_most`, `cumulative_mass`)
        ignore it.

    Returns
    -------
    Selection
        The mask, the threshold, and the rule that was applied.

    Raises
    ------
    InputError
        Scores that are not one-dimensional, are NaN, or that the rule cannot use; scopes that
        miss or repeat an index.
    InputTypeError
        Scores that are not real numbers; a rule that is not a `Rule`.

    Notes
    -----
    Deterministic: the mask is a function of the scores alone, the same for every library and
    device, and of equal scores the lower index is kept. `top_k` and `sparsity` find the last score
    kept by narrowing, in linear time for typical data; nothing is sorted until `Selection.order`
    is read.

    Examples
    --------
    >>> selection = select([3.0, 1.0, 2.0, 2.0], top_k(2))
    >>> selection.mask.tolist(), selection.threshold
    ([True, False, True, False], 2.0)
    >>> layers = {"first": [0, 1], "second": [2, 3]}
    >>> select([3.0, 2.0, 1.0, 0.5], sparsity(0.5), scopes=layers).mask.tolist()
    [True, False, True, False]
    >>> select([0.01, 0.02, 0.4], holm(0.05)).reason
    'holm(alpha=0.05) kept 2 of 3, threshold 0.025'
    """
    xp, values = as_scores(scores)
    if scopes is not None:
        return _select_in_scopes(xp, values, rule, scopes, largest)
    if not isinstance(rule, Rule):
        raise InputTypeError(
            f"rule={rule!r} is not a Rule; make one, for example with top_k(10). A mapping of "
            "rules needs scopes."
        )
    if rule.direction != "either":
        largest = rule.direction == "largest"
    mask, threshold = rule.decide(xp, values, largest)
    return Selection(mask, threshold, count_true(xp, mask), rule, largest, values)


def _select_in_scopes(
    xp: Namespace,
    values: Array,
    rule: Rule | Mapping[str, Rule],
    scopes: Mapping[str, Any],
    largest: bool,
) -> Selection:
    """Apply the rule inside each scope and put the masks back in place."""
    indices, inverse = _check_scopes(xp, values, scopes)
    rules = rule if isinstance(rule, Mapping) else dict.fromkeys(indices, rule)
    if set(rules) != set(indices):
        raise InputError(
            f"rules are given for {sorted(rules)} and scopes for {sorted(indices)}; name the same "
            "scopes in both."
        )
    parts = {
        name: select(xp.take(values, where), rules[name], largest=largest)
        for name, where in indices.items()
    }
    directions = {part.largest for part in parts.values()}
    if len(directions) > 1:
        raise InputError("some of the rules keep the largest scores and others the smallest.")
    mask = xp.take(xp.concat([part.mask for part in parts.values()]), inverse)
    return Selection(
        mask=mask,
        threshold=math.nan,
        n_kept=sum(part.n_kept for part in parts.values()),
        rule=rule,
        largest=directions.pop(),
        scores=values,
        parts=parts,
    )


def _check_scopes(
    xp: Namespace, values: Array, scopes: Mapping[str, Any]
) -> tuple[dict[str, Array], Array]:
    """Return the indices of every scope, and the inverse of their concatenation."""
    if not isinstance(scopes, Mapping) or not scopes:
        raise InputTypeError(
            f"scopes={scopes!r} is not a mapping of at least one name to indices; use None for one "
            "scope."
        )
    n, device = values.shape[0], array_api_compat.device(values)
    indices = {}
    for name, where in scopes.items():
        if not array_api_compat.is_array_api_obj(where):
            where = np.asarray(where)
            where = where.astype(np.int64) if where.size == 0 else where
        where = xp.asarray(where, device=device)
        if where.ndim != 1 or not xp.isdtype(where.dtype, "integral"):
            raise InputTypeError(
                f"scope {name!r} has shape {tuple(where.shape)} and dtype {where.dtype}; give the "
                "indices of its scores as whole numbers."
            )
        indices[name] = xp.astype(where, xp.int64)
    together = xp.concat(list(indices.values()))
    everything = xp.arange(n, dtype=xp.int64, device=device)
    if together.shape[0] != n or not bool(xp.all(xp.sort(together) == everything)):
        raise InputError(
            f"the scopes hold {together.shape[0]} indices for {n} scores; together they must hold "
            f"each of 0..{n - 1} exactly once. Put what is not to be cut into a scope of its own, "
            "with a rule that keeps all."
        )
    return indices, _inverse(xp, together)


# -- Scale ------------------------------------------------------------------------------------

_SCALES = ("sum", "mean", "max", "l2", "standard", "rank")


def normalise(scores: Any, how: str = "sum", scopes: Mapping[str, Any] | None = None) -> Array:
    """Bring the scores of every scope to one scale, so that they can be ranked together.

    Parameters
    ----------
    scores : array_like of real numbers, shape (n,)
        Finite for every `how` but "rank".
    how : {"sum", "mean", "max", "l2", "standard", "rank"}, default="sum"
        Divide by the sum, mean or largest of the absolute values or by the Euclidean norm; take
        (score - mean) / standard deviation (denominator n); or replace a score by its average rank
        over n, so that the best gets 1.
    scopes : mapping of str to sequence of int, optional
        As in `select`; None is one scope.

    Returns
    -------
    array of float64, shape (n,)
        In the order of `scores`. A scope whose divisor is 0 gets zeros.

    Raises
    ------
    InputError
        An unknown `how`, infinite scores, or scores or scopes as in `select`.
    InputTypeError
        Scores that are not real numbers, or scopes that are not indices.

    Examples
    --------
    >>> normalise([1.0, 3.0, 10.0, 30.0], scopes={"a": [0, 1], "b": [2, 3]}).tolist()
    [0.25, 0.75, 0.25, 0.75]
    """
    one_of("how", how, _SCALES)
    xp, values = as_scores(scores)
    if how != "rank" and bool(xp.any(xp.isinf(values))):
        raise InputError(f"how={how!r} needs finite scores and some are infinite; use how='rank'.")
    values = xp.astype(values, xp.float64)
    if scopes is None:
        return _scaled(xp, values, how)
    indices, inverse = _check_scopes(xp, values, scopes)
    parts = [_scaled(xp, xp.take(values, where), how) for where in indices.values()]
    return xp.take(xp.concat(parts), inverse)


def _scaled(xp: Namespace, values: Array, how: str) -> Array:
    n = values.shape[0]
    if n == 0:
        return values
    if how == "rank":
        return ranks(values, largest=False, ties="average") / n
    if how == "standard":
        values = values - xp.mean(values)
    size = xp.abs(values)
    if how in ("sum", "mean"):
        divisor = float(xp.sum(size)) / (n if how == "mean" else 1)
    else:
        divisor = largest = float(xp.max(size))
        if how != "max" and largest > 0:  # scaled first: squares overflow
            divisor = largest * math.sqrt(float(xp.sum((values / largest) ** 2)))
            divisor /= math.sqrt(n) if how == "standard" else 1.0
    return values / divisor if divisor > 0 else values * 0.0


def tail_normalise(scores: Any, scopes: Mapping[str, Any] | None = None) -> Array:
    """Divide each score by the sum of itself and all larger ones of its scope.

    Parameters
    ----------
    scores : array_like of real numbers, shape (n,)
        Finite and not negative. Of equal scores the one with the lower index counts as larger.
    scopes : mapping of str to sequence of int, optional
        As in `select`; None is one scope.

    Returns
    -------
    array of float64, shape (n,)
        In [0, 1], in the order of `scores`, and in the order of their ranks within a scope; the
        largest score of a scope gets 1. A scope of zeros gets zeros.

    Raises
    ------
    InputError
        Scores that are negative or infinite, or scores or scopes as in `select`.
    InputTypeError
        Scores that are not real numbers, or scopes that are not indices.

    Notes
    -----
    J. Lee, S. Park, S. Mo, S. Ahn, J. Shin, Layer-adaptive sparsity for the magnitude-based
    pruning, ICLR 2021, equation 4, where the scores are squared weights. Under one threshold over
    all scopes at least one score of every scope is kept, unless all of a scope are 0.

    Examples
    --------
    >>> tail_normalise([1.0, 3.0, 5.0, 15.0], scopes={"a": [0, 1], "b": [2, 3]}).tolist()
    [0.25, 1.0, 0.25, 1.0]
    """
    xp, values = as_scores(scores)
    if bool(xp.any(xp.isinf(values))) or bool(xp.any(values < 0)):
        raise InputError(
            f"scores lie between {float(xp.min(values)):g} and {float(xp.max(values)):g}; shares "
            "of a sum need finite scores that are not negative. Square them, or take their "
            "absolute values."
        )
    values = xp.astype(values, xp.float64)
    if scopes is None:
        return _shares_of_tails(xp, values)
    indices, inverse = _check_scopes(xp, values, scopes)
    parts = [_shares_of_tails(xp, xp.take(values, where)) for where in indices.values()]
    return xp.take(xp.concat(parts), inverse)


def _shares_of_tails(xp: Namespace, values: Array) -> Array:
    largest = float(xp.max(values)) if values.shape[0] else 0.0
    if largest == 0.0:
        return values * 0.0
    best_first = _order(xp, values, True)
    shares = xp.take(values, best_first) / largest  # scaled first: sums overflow
    shares = shares / xp.cumulative_sum(shares)
    return xp.take(shares, _inverse(xp, best_first))
