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

References
----------
.. [1] C. Loader, "Fast and accurate computation of binomial probabilities" (2000).
.. [2] J. Cornfield, "A statistical problem arising from retrospective studies", Proc. Third
   Berkeley Symposium 4 (1956) 135-148: the mean of the tilted law to first order.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .._jit import njit, njit_leaf
from .cmh import CASES, SIZE

__all__ = ["log_point", "log_tails", "plain_tails", "point_pvalue_sum", "tilted_sum"]

_NEGLIGIBLE = 1e-20  # of the peak of a tilted law: what lies below cannot change a digit
_TILT_LIMIT = 80.0  # |log odds|; beyond it the law is a point for any table that fits in memory
_LOG_2PI = math.log(2.0 * math.pi)
MINLIKE_TOLERANCE = 1e-7  # relative; R and scipy call outcomes within it equally likely


@njit_leaf
def _stirling_error(n: float) -> float:
    """Return log n! - log(sqrt(2 pi n) (n/e)^n)."""
    if n < 16.0:
        return math.lgamma(n + 1.0) - (n + 0.5) * math.log(n) + n - 0.5 * _LOG_2PI
    square = n * n
    return (
        1.0 / 12.0
        - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / 1188.0 / square) / square) / square)
        / square
    ) / n


@njit_leaf
def _deviance(x: float, mean: float) -> float:
    """Return x log(x / mean) + mean - x without cancellation when x is near mean."""
    difference = x - mean
    if abs(difference) < 0.1 * (x + mean):
        ratio = difference / (x + mean)
        total = difference * ratio
        term = 2.0 * x * ratio
        square = ratio * ratio
        for j in range(1, 1000):
            term *= square
            new = total + term / (2 * j + 1)
            if new == total:
                return new
            total = new
        return total
    return x * math.log(x / mean) + mean - x


@njit_leaf
def _log_binomial_point(x: float, n: float, p: float) -> float:
    """Return the log of a binomial point probability (Loader), 0 < p < 1."""
    q = 1.0 - p
    if x == 0.0:
        return n * math.log1p(-p) if p < 0.5 else n * math.log(q)
    if x == n:
        return n * math.log(p) if p < 0.5 else n * math.log1p(-q)
    core = (
        _stirling_error(n)
        - _stirling_error(x)
        - _stirling_error(n - x)
        - _deviance(x, n * p)
        - _deviance(n - x, n * q)
    )
    return core - 0.5 * (_LOG_2PI + math.log(x) + math.log1p(-x / n))


@njit_leaf
def log_point(j: float, draws: float, cases: float, size: float) -> float:
    """Return log P(j cases among `draws` rows drawn from `size` rows with `cases` cases)."""
    if draws == 0.0 or draws == size or cases == 0.0 or cases == size:
        return 0.0
    p = draws / size
    return (
        _log_binomial_point(j, cases, p)
        + _log_binomial_point(draws - j, size - cases, p)
        - _log_binomial_point(draws, size, p)
    )


@njit_leaf
def _tilted_mean(odds: float, draws: float, cases: float, size: float) -> float:
    """Return Cornfield's approximation of the mean of the tilted hypergeometric law."""
    if abs(odds - 1.0) < 1e-12:
        return draws * cases / size
    b = size - cases - draws + odds * (cases + draws)
    c = odds * cases * draws
    root = math.sqrt(max(0.0, b * b + 4.0 * (1.0 - odds) * c))
    if b >= 0.0:
        return 2.0 * c / (b + root)
    return (root - b) / (2.0 * (1.0 - odds))


@njit_leaf
def find_tilt(
    target: float,
    x: NDArray[np.int64],
    margins: NDArray[np.float64],
) -> float:
    """Return theta such that the tilted mean of A is roughly `target`; any value is correct."""
    low, high = -_TILT_LIMIT, _TILT_LIMIT
    for _ in range(14):  # to 0.01: the tilt steers accuracy, it does not enter the answer
        theta = 0.5 * (low + high)
        odds = math.exp(theta)
        mean = 0.0
        for k in range(x.shape[0]):
            if 0 < x[k] < margins[SIZE, k]:
                mean += _tilted_mean(odds, float(x[k]), margins[CASES, k], margins[SIZE, k])
            elif x[k] > 0:
                mean += margins[CASES, k]
        if mean < target:
            low = theta
        else:
            high = theta
    return 0.5 * (low + high)


@njit
def _tilted_law(
    draws: float, cases: float, size: float, theta: float
) -> tuple[int, NDArray[np.float64], float]:
    """Return (lowest value, normalised probabilities, log M) of one tilted law, cut when tiny."""
    low = max(0.0, draws - (size - cases))
    high = min(draws, cases)
    odds = math.exp(theta)
    start = min(max(math.floor(_tilted_mean(odds, draws, cases, size) + 0.5), low), high)
    others = size - cases
    width = int(high - low) + 1
    values = np.empty(width, dtype=np.float64)
    origin = int(start - low)
    values[origin] = 1.0
    peak = 1.0
    last = origin
    p = 1.0
    j = start
    while j < high:  # upwards by the ratio of neighbours
        p *= odds * (cases - j) * (draws - j) / ((j + 1.0) * (others - draws + j + 1.0))
        j += 1.0
        last += 1
        values[last] = p
        if p > peak:
            peak = p
        elif p < _NEGLIGIBLE * peak:
            break
    first = origin
    p = 1.0
    j = start
    while j > low:  # downwards
        p *= j * (others - draws + j) / (odds * (cases - j + 1.0) * (draws - j + 1.0))
        j -= 1.0
        first -= 1
        values[first] = p
        if p > peak:
            peak = p
        elif p < _NEGLIGIBLE * peak:
            break
    total = 0.0
    for i in range(first, last + 1):
        total += values[i]
    law = np.empty(last + 1 - first, dtype=np.float64)
    for i in range(law.shape[0]):
        law[i] = values[first + i] / total
    log_mgf = log_point(start, draws, cases, size) + theta * start + math.log(total)
    return int(low) + first, law, log_mgf


@njit
def tilted_sum(
    x: NDArray[np.int64],
    margins: NDArray[np.float64],
    theta: float,
) -> tuple[int, NDArray[np.float64], float]:
    """Return (lowest value, probabilities, sum of log M_k) of the tilted law of A."""
    offset = 0
    law = np.empty(1, dtype=np.float64)
    law[0] = 1.0
    log_mgf = 0.0
    for k in range(x.shape[0]):
        if x[k] == 0 or margins[CASES, k] == 0.0:
            continue
        if (
            x[k] == margins[SIZE, k] or margins[CASES, k] == margins[SIZE, k]
        ):  # no randomness in this stratum
            fixed = margins[CASES, k] if x[k] == margins[SIZE, k] else float(x[k])
            offset += int(fixed)
            log_mgf += theta * fixed
            continue
        low, part, log_part = _tilted_law(float(x[k]), margins[CASES, k], margins[SIZE, k], theta)
        offset += low
        log_mgf += log_part
        joined = np.zeros(law.shape[0] + part.shape[0] - 1, dtype=np.float64)
        peak = 0.0
        for i in range(law.shape[0]):
            weight = law[i]
            for j in range(part.shape[0]):
                joined[i + j] += weight * part[j]
        for i in range(joined.shape[0]):
            peak = max(peak, joined[i])
        first, last = 0, joined.shape[0]
        while joined[first] < _NEGLIGIBLE * peak:
            first += 1
        while joined[last - 1] < _NEGLIGIBLE * peak:
            last -= 1
        law = joined[first:last]
        offset += first
    return offset, law, log_mgf


@njit_leaf
def _extremes(x: NDArray[np.int64], margins: NDArray[np.float64]) -> tuple[int, int, float, float]:
    """Return lowest and highest value of A and the logs of their probabilities."""
    low, high = 0.0, 0.0
    log_low, log_high = 0.0, 0.0
    for k in range(x.shape[0]):
        draws = float(x[k])
        bottom = max(0.0, draws - (margins[SIZE, k] - margins[CASES, k]))
        top = min(draws, margins[CASES, k])
        low += bottom
        high += top
        if top > bottom:
            log_low += log_point(bottom, draws, margins[CASES, k], margins[SIZE, k])
            log_high += log_point(top, draws, margins[CASES, k], margins[SIZE, k])
    return int(low), int(high), log_low, log_high


@njit
def log_tails(
    a: int,
    x: NDArray[np.int64],
    margins: NDArray[np.float64],
) -> tuple[float, float, float]:
    """Return (log P(A <= a), log P(A >= a), log P(A = a)).

    Cost: the product of the widths of the laws, each a few standard deviations.
    """
    low, high, log_low, log_high = _extremes(x, margins)
    if low == high:
        return 0.0, 0.0, 0.0
    if a == high:
        return 0.0, log_high, log_high
    if a == low:
        return log_low, 0.0, log_low
    theta = find_tilt(float(a), x, margins)
    offset, law, log_mgf = tilted_sum(x, margins, theta)
    scale = log_mgf - theta * a
    at = a - offset
    tail = 0.0
    if theta >= 0.0:  # a is above the mean: the upper tail is the small one
        for j in range(at, law.shape[0]):
            tail += law[j] * math.exp(-theta * (j - at))
    else:
        for j in range(at + 1):
            tail += law[j] * math.exp(-theta * (j - at))
    small = min(scale + math.log(tail), 0.0)
    point = scale + math.log(law[at])
    rest = math.exp(small) - math.exp(point)  # P(beyond a) on the small side
    large = math.log1p(-rest) if rest < 1.0 else point
    if theta >= 0.0:
        return large, small, point
    return small, large, point


@njit
def _log_point_of_sum(
    a: int,
    x: NDArray[np.int64],
    margins: NDArray[np.float64],
) -> float:
    """Return log P(A = a)."""
    return log_tails(a, x, margins)[2]


@njit
def point_pvalue_sum(
    a: int,
    x: NDArray[np.int64],
    margins: NDArray[np.float64],
) -> tuple[float, float]:
    """Return log of the sum of P(j) over j no likelier than a, and log of those as likely as a.

    The law is log-concave (a convolution of log-concave laws), so the outcomes no likelier than a
    are two tails: the one that starts at a, and the one that ends at the nearest such b on the
    other side of the mode. b is found by bisection, each side with its own tilt.
    """
    low, high, _, _ = _extremes(x, margins)
    if low == high:
        return 0.0, 0.0
    offset, law, _ = tilted_sum(x, margins, 0.0)
    mode = offset
    for i in range(law.shape[0]):
        if law[i] > law[mode - offset]:
            mode = offset + i
    log_lower, log_upper, log_a = log_tails(a, x, margins)
    limit = log_a + math.log1p(MINLIKE_TOLERANCE)
    if _log_point_of_sum(mode, x, margins) <= limit:
        # a is a mode, so that every outcome counts; a neighbour may be a mode too.
        tied = log_a
        for neighbour in (a - 1, a + 1):
            if low <= neighbour <= high:
                log_other = _log_point_of_sum(neighbour, x, margins)
                if abs(log_other - log_a) <= MINLIKE_TOLERANCE:
                    tied += math.log1p(math.exp(log_other - tied))
        return 0.0, tied
    above = a > mode
    near = log_upper if above else log_lower
    # Outcomes as far as `edge` on the other side may all be likelier than a: then b is none.
    inside, outside = mode, (low if above else high)
    far = _log_point_of_sum(outside, x, margins)
    if far > limit:
        return near, log_a
    while abs(inside - outside) > 1:
        middle = (inside + outside) // 2
        if _log_point_of_sum(middle, x, margins) <= limit:
            outside = middle
        else:
            inside = middle
    b_lower, b_upper, log_b = log_tails(outside, x, margins)
    other = b_lower if above else b_upper
    tied = log_a
    if abs(log_b - log_a) <= MINLIKE_TOLERANCE:
        tied = log_a + math.log1p(math.exp(log_b - log_a))
    total = max(near, other) + math.log1p(math.exp(-abs(near - other)))
    return min(total, 0.0), tied


@njit_leaf
def _plain_law(
    draws: float,
    cases: float,
    size: float,
    log_lowest: float,
    law: NDArray[np.float64],
) -> tuple[int, int]:
    """Write one law without a tilt; return (lowest value, length). Tiny ends are cut off.

    `log_lowest` is the log probability of the lowest value; the law runs up from there, or, if
    that underflows, up and down from its mode.
    """
    low = max(0.0, draws - (size - cases))
    high = min(draws, cases)
    others = size - cases
    if log_lowest > -600.0:
        start = low
        p = math.exp(log_lowest)
    else:
        start = min(max(math.floor((draws + 1.0) * (cases + 1.0) / (size + 2.0)), low), high)
        p = math.exp(log_point(start, draws, cases, size))
        origin = start
        centre = p
        while start > low and p > _NEGLIGIBLE:
            p *= start * (others - draws + start) / ((cases - start + 1.0) * (draws - start + 1.0))
            start -= 1.0
        # Up again by the same ratios, from a point that is as good as zero: the centre is known.
        law[0] = p
        j = start
        place = 0
        while j < origin:
            place += 1
            p *= (cases - j) * (draws - j) / ((j + 1.0) * (others - draws + j + 1.0))
            j += 1.0
            law[place] = p
        law[place] = centre
        p = centre
        while j < high and p > _NEGLIGIBLE:
            place += 1
            p *= (cases - j) * (draws - j) / ((j + 1.0) * (others - draws + j + 1.0))
            j += 1.0
            law[place] = p
        return int(start), place + 1
    length = 0
    j = start
    while True:
        if p > _NEGLIGIBLE or length > 0:
            law[length] = p
            length += 1
        else:
            start += 1.0
        if j >= high or (length > 1 and p < _NEGLIGIBLE):
            break
        p *= (cases - j) * (draws - j) / ((j + 1.0) * (others - draws + j + 1.0))
        j += 1.0
    return int(start), length


@njit_leaf
def plain_tails(
    a: int,
    x: NDArray[np.int64],
    margins: NDArray[np.float64],
    extremes: NDArray[np.float64],
    offset: NDArray[np.int64],
    joint: NDArray[np.float64],
    part: NDArray[np.float64],
    joined: NDArray[np.float64],
) -> tuple[float, float]:
    """Return P(A <= a) and P(A >= a) to an absolute error far below 1e-15, fast.

    For decisions against a threshold; `log_tails` gives every digit. The three work arrays have
    more than sum x_k entries.
    """
    joint[0] = 1.0
    length = 1
    lowest = 0
    for k in range(x.shape[0]):
        size, cases = margins[SIZE, k], margins[CASES, k]
        if x[k] == 0 or cases == 0.0:
            continue
        if x[k] == size or cases == size:
            lowest += int(cases) if x[k] == size else x[k]
            continue
        low, width = _plain_law(float(x[k]), cases, size, -extremes[1, offset[k] + x[k]], part)
        lowest += low
        for i in range(length + width - 1):
            joined[i] = 0.0
        for i in range(length):
            weight = joint[i]
            for j in range(width):
                joined[i + j] += weight * part[j]
        first, last = 0, length + width - 1
        while first < last - 1 and joined[first] < _NEGLIGIBLE:
            first += 1
        while last - 1 > first and joined[last - 1] < _NEGLIGIBLE:
            last -= 1
        length = last - first
        lowest += first
        for i in range(length):
            joint[i] = joined[first + i]
    below = 0.0
    above = 0.0
    for i in range(length):
        if lowest + i <= a:
            below += joint[i]
        if lowest + i >= a:
            above += joint[i]
    return below, above
