r"""Sums of independent hypergeometric variables, with tails accurate to any depth.

Given the margins, the number of cases among the carriers of stratum k is hypergeometric, and the
exact test needs the law of the sum A over strata. The laws are convolved after an exponential
*tilt*: each is multiplied by exp(theta j) and normalised, with theta chosen so that the tilted mean
of A is near the observed a. Then

.. math::  P(A \ge a) = e^{\sum_k \log M_k(\theta) - \theta a} \sum_{j \ge a} q_j e^{-\theta (j-a)}

where q is the tilted law of A and M_k the moment generating functions: every term near a is of
ordinary size, so nothing underflows, and what is far from a can be cut off. A tail of 1e-3000 comes
out with the same relative accuracy as one of 0.3.

The point probability at the centre of each law uses Loader's saddle-point expansion [1]_, whose
relative error is near machine precision for any n; the others follow by ratios.

Everything works on many patterns at once. Tilts and point probabilities are left to numpy, a block
of patterns at a time; only the convolution, whose loops have a length of their own for each
pattern, is a kernel, and a small one: it has to be compiled before the first result.

References
----------
.. [1] C. Loader, "Fast and accurate computation of binomial probabilities" (2000).
.. [2] J. Cornfield, "A statistical problem arising from retrospective studies", Proc. Third
   Berkeley Symposium 4 (1956) 135-148: the mean of the tilted law to first order.
.. [3] J. N. Darroch, "On the distribution of the number of successes in independent trials", Ann.
   Math. Statist. 35 (1964) 1317-1321.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .._jit import njit_entry, njit_leaf
from ._arrays import fitted_cell
from .cmh import CASES, SIZE

__all__ = ["convolution", "find_tilts", "log_point", "log_tails", "no_likelier"]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_NEGLIGIBLE = 1e-20  # of the peak of a tilted law: what lies below cannot change a digit
_TILT_LIMIT = 80.0  # |log odds|; beyond it the law is a point for any table that fits in memory
_NEWTON_STEPS, _MOST_STEPS = 12, 40  # then bisection: 28 halvings of 160 leave nothing to find
_BLOCK_CELLS = 2**16  # patterns times strata that numpy works on at a time: bounds the memory
JOINT, LAW, SUM = 0, 1, 2  # rows of the work space of the convolution
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
# log n! - log(sqrt(2 pi n) (n / e)^n) for n below 16; that of 0 is with 1 in place of n.
_STIRLING_ERRORS = np.array(
    [-_HALF_LOG_2PI]
    + [math.lgamma(n + 1.0) - (n + 0.5) * math.log(n) + n - _HALF_LOG_2PI for n in range(1, 16)]
)
MINLIKE_TOLERANCE = 1e-7  # relative; R and scipy call outcomes within it equally likely


def _stirling_error(n: Floats) -> Floats:
    """Return log n! - log(sqrt(2 pi m) (n / e)^n) with m = max(n, 1), for whole n."""
    small = _STIRLING_ERRORS[np.minimum(n, 15.0).astype(np.int64)]
    inverse = 1.0 / np.maximum(n, 16.0)
    square = inverse * inverse
    series = 1.0 / 1680.0 - square / 1188.0
    for coefficient in (1.0 / 1260.0, 1.0 / 360.0, 1.0 / 12.0):
        series = coefficient - square * series
    return np.where(n < 16.0, small, inverse * series)


def _deviance(count: Floats, expected: Floats) -> Floats:
    """Return x log(x / e) + e - x without cancellation when x is near e; e may be 0 where x is."""
    gap = count - expected
    ratio = np.divide(gap, expected, out=np.zeros_like(gap), where=count > 0.0)
    return count * np.log1p(ratio) - gap


def log_point(j: Floats, draws: Floats, cases: Floats, size: Floats) -> Floats:
    """Return log P(j cases among `draws` rows drawn from `size` rows with `cases` cases).

    Parameters
    ----------
    j, draws, cases, size : ndarray of float64, shapes that broadcast
        Whole numbers, j attainable with these margins, size at least 1.

    Returns
    -------
    ndarray of float64
        With an absolute error of about 1e-16 times the distance of j from its mean.
    """
    controls, rest = size - cases, size - draws
    cells = (j, draws - j, cases - j, controls - draws + j)
    margins = ((cases, draws), (controls, draws), (cases, rest), (controls, rest))
    # A product of factorials of the margins over one of the cells. Each log n! is split into
    # n log e - e + deviance + half a logarithm + Stirling's error; the first two cancel.
    log_p = _stirling_error(cases) + _stirling_error(controls) - _stirling_error(size)
    log_p = log_p + _stirling_error(draws) + _stirling_error(rest) - _HALF_LOG_2PI
    ratio = 1.0 / size
    for margin, cell in zip((cases, controls, draws, rest), cells, strict=True):
        ratio = ratio * (np.maximum(margin, 1.0) / np.maximum(cell, 1.0))
    for cell, (row, column) in zip(cells, margins, strict=True):
        log_p = log_p - _stirling_error(cell) - _deviance(cell, row * column / size)
    return np.asarray(log_p + 0.5 * np.log(ratio), dtype=np.float64)


def _spread(mean: Floats, draws: Floats, cases: Floats, size: Floats) -> Floats:
    """Return the inverse of the sum of the reciprocals of the four cells: about the variance."""
    first = mean * (draws - mean)
    second = (cases - mean) * (size - cases - draws + mean)
    scale = draws * second + (size - draws) * first
    return np.divide(first * second, scale, out=np.zeros_like(mean), where=scale > 0.0)


def find_tilts(target: Floats, support: Counts, margins: Floats) -> Floats:
    """Return theta such that the tilted mean of A is roughly `target`; any value is correct.

    The mean of a tilted law is, to first order, the cell of the 2x2 table with its margins and the
    odds ratio e^theta [2]_. Newton's method, and bisection where it leaves its bracket.

    Parameters
    ----------
    target : ndarray of float64, shape (n_patterns,)
        Between the ends of the range of A.
    support : ndarray of int64, shape (n_patterns, n_strata)
        Carriers by stratum.
    margins : ndarray of float64, shape (4, n_strata)
        As from `cmh.margins_matrix`.

    Returns
    -------
    ndarray of float64, shape (n_patterns,)
    """
    size, cases = margins[SIZE], margins[CASES]
    carriers, all_cases, rows = support.sum(axis=1), cases.sum(), size.sum()
    # The log odds ratio of all strata together is a good start.
    theta = np.log((target + 0.5) * (rows - all_cases - carriers + target + 0.5))
    theta -= np.log((all_cases - target + 0.5) * (carriers - target + 0.5))
    low, high = np.full_like(theta, -_TILT_LIMIT), np.full_like(theta, _TILT_LIMIT)
    going = np.arange(len(theta))
    for step in range(_MOST_STEPS):
        draws, now = support[going].astype(np.float64), theta[going]
        mean = fitted_cell(draws, cases, size, np.exp(now)[:, None])
        slope = np.maximum(_spread(mean, draws, cases, size).sum(axis=1), 1e-300)
        gap = target[going] - mean.sum(axis=1)
        far = gap * gap > 0.01 * slope + 0.01  # it steers accuracy and does not enter the answer
        if not far.any():
            break
        going, now, gap, slope = going[far], now[far], gap[far], slope[far]
        low[going] = np.where(gap > 0.0, now, low[going])
        high[going] = np.where(gap > 0.0, high[going], now)
        new = now + gap / slope
        halve = (new <= low[going]) | (new >= high[going]) | (step >= _NEWTON_STEPS)
        theta[going] = np.where(halve, 0.5 * (low[going] + high[going]), new)
    return np.asarray(theta, dtype=np.float64)


@njit_leaf
def _write_law(
    start: int, draws: float, cases: float, size: float, odds: float, work: NDArray[np.float64]
) -> tuple[int, int, float]:
    """Write a tilted law, scaled to 1 at `start`, to ``work[LAW]``, its lowest value at place 0.

    Returns where it begins and ends, since what is negligible is cut off, and its sum.
    """
    spare = size - cases - draws  # controls less carriers
    low = -spare if spare < 0.0 else 0.0
    high = cases if cases < draws else draws
    first = start - int(low)
    last = first
    work[LAW, first] = 1.0
    total, peak, p = 1.0, 1.0, 1.0
    j = float(start)
    while j < high:  # upwards by the ratio of neighbours
        p *= odds * (cases - j) * (draws - j) / ((j + 1.0) * (spare + j + 1.0))
        j += 1.0
        last += 1
        work[LAW, last] = p
        total += p
        if p > peak:
            peak = p
        elif p < _NEGLIGIBLE * peak:
            break
    p = 1.0
    j = float(start)
    while j > low:  # downwards
        p *= j * (spare + j) / (odds * (cases - j + 1.0) * (draws - j + 1.0))
        j -= 1.0
        first -= 1
        work[LAW, first] = p
        total += p
        if p > peak:
            peak = p
        elif p < _NEGLIGIBLE * peak:
            break
    return first, last, total


@njit_entry
def _convolve(
    cases: NDArray[np.int64],
    support: NDArray[np.int64],
    start: NDArray[np.int64],
    theta: NDArray[np.float64],
    margins: NDArray[np.float64],
    lows: NDArray[np.int64],
    work: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Convolve the tilted laws of every pattern, each scaled to 1 at its `start`.

    Row 0 of `out` gets the sum of the logs of their totals, row 1 the sum of q_j e^(-theta (j - a))
    over j beyond a on the side of the tilt, row 2 q_a. The rows of `work` are longer than the range
    of A, which begins at the sum of `lows`.
    """
    for i in range(cases.shape[0]):
        odds = math.exp(theta[i])
        work[JOINT, 0] = 1.0
        length = 1
        at = cases[i]  # becomes its place in the joint law
        log_totals = 0.0
        for k in range(support.shape[1]):
            first, last, total = _write_law(
                start[i, k], float(support[i, k]), margins[CASES, k], margins[SIZE, k], odds, work
            )
            log_totals += math.log(total)
            at -= lows[i, k] + first
            if first == last:
                continue
            longer = length + last - first
            for m in range(longer):
                work[SUM, m] = 0.0
            for b in range(first, last + 1):
                weight = work[LAW, b] / total
                for m in range(length):
                    work[SUM, b - first + m] += weight * work[JOINT, m]
            peak = 0.0
            for m in range(longer):
                if work[SUM, m] > peak:
                    peak = work[SUM, m]
            first = 0
            while work[SUM, first] < _NEGLIGIBLE * peak:
                first += 1
            while work[SUM, longer - 1] < _NEGLIGIBLE * peak:
                longer -= 1
            length = longer - first
            at -= first
            for m in range(length):
                work[JOINT, m] = work[SUM, first + m]
        tail = 0.0
        factor = 1.0
        if theta[i] >= 0.0:  # a is above the mean: the upper tail is the small one
            for m in range(at, length):
                tail += work[JOINT, m] * factor
                factor /= odds
        else:
            for m in range(at, -1, -1):
                tail += work[JOINT, m] * factor
                factor *= odds
        out[0, i] = log_totals
        out[1, i] = tail
        out[2, i] = work[JOINT, at]


def convolution() -> tuple[Callable[..., None], tuple[Counts | Floats, ...]]:
    """Return the kernel behind `log_tails`, and small arguments, for who compiles it in advance."""
    counts, table = np.zeros(1, dtype=np.int64), np.zeros((1, 1), dtype=np.int64)
    margins, numbers = np.zeros((4, 1)), np.zeros(1)
    return _convolve, (counts, table, table, numbers, margins, table, margins, margins)


def _range(support: Counts, margins: Floats) -> tuple[Counts, Counts]:
    """Return the lowest and the highest number of cases in every stratum."""
    n1 = margins[CASES].astype(np.int64)
    n0 = margins[SIZE].astype(np.int64) - n1
    return np.maximum(0, support - n0), np.minimum(support, n1)


def log_tails(cases: Counts, support: Counts, margins: Floats) -> Floats:
    """Return log P(A <= a), log P(A >= a) and log P(A = a) of every pattern.

    Parameters
    ----------
    cases : ndarray of int64, shape (n_patterns,)
        a, attainable.
    support : ndarray of int64, shape (n_patterns, n_strata)
        Carriers by stratum.
    margins : ndarray of float64, shape (4, n_strata)
        As from `cmh.margins_matrix`.

    Returns
    -------
    ndarray of float64, shape (3, n_patterns)
        At most 0.

    Notes
    -----
    Cost: the product of the widths of the laws, each a few standard deviations.
    """
    out = np.zeros((3, len(cases)), dtype=np.float64)
    rows = max(1, _BLOCK_CELLS // support.shape[1])
    for begin in range(0, len(cases), rows):
        block = slice(begin, begin + rows)
        out[:, block] = _block_tails(cases[block], support[block], margins)
    return out


def _block_tails(cases: Counts, support: Counts, margins: Floats) -> Floats:
    """Return what `log_tails` does; the outcomes at the ends of the range need no convolution."""
    out = np.zeros((3, len(cases)), dtype=np.float64)
    lows, highs = _range(support, margins)
    low, high = lows.sum(axis=1), highs.sum(axis=1)
    for ends, other, at, row in ((highs, low, high, 1), (lows, high, low, 0)):
        here = (cases == at) & (at != other)
        draws = support[here].astype(np.float64)
        point = log_point(ends[here].astype(np.float64), draws, margins[CASES], margins[SIZE])
        out[row, here] = out[2, here] = np.minimum(point.sum(axis=1), 0.0)
    inside = np.flatnonzero((low < cases) & (cases < high))
    if len(inside):
        a, x = cases[inside], support[inside]
        theta = find_tilts(a.astype(np.float64), x, margins)
        out[:, inside] = _tails_by_tilt(a, x, margins, theta)
    return out


def _tails_by_tilt(cases: Counts, support: Counts, margins: Floats, theta: Floats) -> Floats:
    """Return what `log_tails` does for outcomes that are not at an end, through a given tilt."""
    lows, highs = _range(support, margins)
    n1, n = margins[CASES], margins[SIZE]
    draws = support.astype(np.float64)
    centre = np.floor(fitted_cell(draws, n1, n, np.exp(theta)[:, None]) + 0.5)
    start = np.minimum(np.maximum(centre.astype(np.int64), lows), highs)
    work = np.empty((3, int((highs - lows).sum(axis=1).max()) + 2), dtype=np.float64)
    found = np.empty((3, len(cases)), dtype=np.float64)
    _convolve(cases, np.ascontiguousarray(support), start, theta, margins, lows, work, found)
    log_totals, tail, at = found
    scale = log_point(start.astype(np.float64), draws, n1, n).sum(axis=1) + log_totals
    scale += theta * (start.sum(axis=1) - cases)  # log M(theta) - theta a
    small = np.minimum(scale + np.log(tail), 0.0)
    point = scale + np.log(at)
    rest = np.exp(small) - np.exp(point)  # P(beyond a) on the small side
    large = np.where(rest < 1.0, np.log1p(-np.where(rest < 1.0, rest, 0.0)), point)
    above = theta >= 0.0
    return np.stack([np.where(above, large, small), np.where(above, small, large), point])


def no_likelier(cases: Counts, support: Counts, margins: Floats) -> Floats:
    """Return log of the sum of P(j) over j no likelier than a, and log of those as likely as a.

    The law is log-concave (a convolution of log-concave laws), so the outcomes no likelier than a
    are two tails: the one that starts at a, and the one that ends at the nearest such b on the
    other side of the mode. b is found by bisection, each step with its own tilt.

    Parameters
    ----------
    cases, support, margins
        As in `log_tails`.

    Returns
    -------
    ndarray of float64, shape (2, n_patterns)
        At most 0.
    """
    out = np.zeros((2, len(cases)), dtype=np.float64)
    lows, highs = _range(support, margins)
    low, high = lows.sum(axis=1), highs.sum(axis=1)

    def log_p(which: Counts, a: Counts) -> Floats:
        return np.asarray(log_tails(a, support[which], margins)[2], dtype=np.float64)

    going = np.flatnonzero(low < high)
    a, low, high = cases[going], low[going], high[going]
    lower, upper, log_a = log_tails(a, support[going], margins)
    limit = log_a + math.log1p(MINLIKE_TOLERANCE)
    out[1, going] = log_a
    mode, log_mode = _mode(support[going], margins, low, high)
    # a is a mode, so that every outcome counts; a neighbour may be a mode too.
    flat = log_mode <= limit
    for step in (-1, 1):
        near = flat & (low <= a + step) & (a + step <= high)
        which = going[near]
        other = log_p(which, a[near] + step)
        tied = np.abs(other - log_a[near]) <= MINLIKE_TOLERANCE
        out[1, which] = np.where(tied, np.logaddexp(out[1, which], other), out[1, which])
    # Outcomes as far as the end of the other side may all be likelier than a: then b is none.
    above = a > mode
    out[0, going[~flat]] = np.where(above, upper, lower)[~flat]
    outside = np.where(above, low, high)
    pair = np.flatnonzero(~flat & (log_p(going, outside) <= limit))
    inside = mode.copy()
    open_ = pair
    while len(open_ := open_[np.abs(inside[open_] - outside[open_]) > 1]):
        middle = (inside[open_] + outside[open_]) // 2
        unlikely = log_p(going[open_], middle) <= limit[open_]
        outside[open_] = np.where(unlikely, middle, outside[open_])
        inside[open_] = np.where(unlikely, inside[open_], middle)
    which = going[pair]
    b_lower, b_upper, log_b = log_tails(outside[pair], support[which], margins)
    beyond = np.where(above[pair], b_lower, b_upper)
    out[0, which] = np.minimum(np.logaddexp(out[0, which], beyond), 0.0)
    tied = np.abs(log_b - log_a[pair]) <= MINLIKE_TOLERANCE
    out[1, which] = np.where(tied, np.logaddexp(out[1, which], log_b), out[1, which])
    return out


def _mode(support: Counts, margins: Floats, low: Counts, high: Counts) -> tuple[Counts, Floats]:
    """Return a most likely outcome and its log probability: the mean, rounded up or down [3]_."""
    mean = (support * (margins[CASES] / margins[SIZE])).sum(axis=1)
    candidates = [
        np.clip(rounded.astype(np.int64), low, high) for rounded in (np.floor(mean), np.ceil(mean))
    ]
    logs = [log_tails(candidate, support, margins)[2] for candidate in candidates]
    second = logs[1] > logs[0]
    return np.where(second, candidates[1], candidates[0]), np.where(second, logs[1], logs[0])
