"""One-sided paired tests that something costs less than a margin, many at once.

Everything here is about an array of differences, samples by hypotheses: what each sample costs
after a change minus what it cost before. Where the differences come from does not matter.

May import: `sigmine`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from sigmine._checks import one_of, open_unit, real_number, whole_number
from sigmine.correction import adjust, get_correction
from sigmine.exceptions import InputError, InputTypeError
from sigmine.ranking import RELATIVE_TOLERANCE, select

__all__ = [
    "NonInferiority",
    "as_differences",
    "exact_margin_bound",
    "exact_margin_pvalue",
    "fixed_sequence",
    "noninferiority",
    "sign_flip_pvalues",
    "t_pvalues",
]

Floats = NDArray[np.float64]

CORRECTIONS = ("holm", "benjamini-hochberg", "bonferroni", "westfall-young", "none")
TESTS = ("t", "sign-flip", "exact")
_COLUMNS = 1024  # hypotheses whose flipped sums are held at once
_FLIPS = 512  # flips that are held at once
_NUISANCE_MISS = 1e-6  # error that the exact test spends on where its nuisance parameter lies
_GRID = 33


@dataclass(frozen=True, eq=False)
class NonInferiority:
    """What one-sided tests of a margin found. Arrays are over the hypotheses.

    Attributes
    ----------
    n_samples : int
        Samples of each test.
    margin : float
        What the mean increase is tested to be below.
    test : {"t", "sign-flip", "exact"}
        How the p-values were computed.
    correction : str
        How they were adjusted.
    level : float
        Of the error rate of the correction, and of the bounds.
    increase : ndarray of float64
        Mean difference.
    standard_error : ndarray of float64
        Of it.
    ci_high : ndarray of float64
        Upper confidence bound of each mean difference at confidence 1 - `level`; not corrected.
    pvalue, pvalue_adjusted : ndarray of float64
        Against "the mean difference is the margin or more".
    accepted : ndarray of bool
        Whether non-inferiority is shown at the level, after correction.
    """

    n_samples: int
    margin: float
    test: str
    correction: str
    level: float
    increase: Floats = field(repr=False)
    standard_error: Floats = field(repr=False)
    ci_high: Floats = field(repr=False)
    pvalue: Floats = field(repr=False)
    pvalue_adjusted: Floats = field(repr=False)
    accepted: NDArray[np.bool_] = field(repr=False)


def noninferiority(
    differences: ArrayLike,
    margin: float,
    *,
    test: str = "t",
    correction: str = "holm",
    level: float = 0.05,
    n_flips: int = 10_000,
    seed: int = 0,
) -> NonInferiority:
    """Test for every column whether its mean is below a margin.

    Parameters
    ----------
    differences : array_like, shape (n_samples, n_hypotheses)
        What each sample costs after each change minus before, finite, of at least 2 samples.
    margin : float
        The null hypothesis is that the mean difference is at least this.
    test : {"t", "sign-flip", "exact"}, default="t"
        Student's t; sign flips of the differences from the margin; or exact, for differences of
        -1, 0 and 1 (see `exact_margin_pvalue`).
    correction : str, default="holm"
        "holm", "bonferroni" and "westfall-young" keep the probability of one or more false
        acceptances at the level, "benjamini-hochberg" the expected share of false ones among those
        accepted; "none" each by itself. "westfall-young" flips the signs of whole samples, in all
        columns at once, and goes with test="t".
    level : float, default=0.05
        In (0, 1).
    n_flips : int, default=10_000
        Sign flips; all of them are gone through where there are no more.
    seed : int, default=0
        Of the flips.

    Returns
    -------
    NonInferiority

    Raises
    ------
    InputError
        For differences or parameters that cannot be used.
    InputTypeError
        For a parameter that is no number.

    Notes
    -----
    What each assumes, beyond independent samples:

    * "t": a mean that is close to normal. Losses are skewed, and a few samples with huge increases
      that the data happen not to hold are what makes a p-value too small: hold the number of
      samples against `docs/nn_guarantees`, where the false-alarm rates were simulated. A column
      without any variation has p-value 2^-n, that of a sign test, instead of 0.
    * "sign-flip": differences distributed symmetrically around their mean; then exact [1]_. Its
      bounds `ci_high` are those of "t".
    * "exact": nothing.
    * "westfall-young": all columns together symmetric around their means [2]_, so that flips of
      whole samples leave their joint distribution as it is; single-step. With n_flips flips no
      adjusted p-value is below 1 / (n_flips + 1).

    References
    ----------
    .. [1] R. A. Fisher, "The Design of Experiments", Oliver and Boyd (1935), section 21.
    .. [2] P. H. Westfall and S. S. Young, "Resampling-Based Multiple Testing", Wiley (1993).

    Examples
    --------
    >>> found = noninferiority([[0.0, 0.9], [0.1, 1.1], [-0.1, 1.0], [0.0, 0.7]], margin=0.5)
    >>> found.pvalue.round(4).tolist(), found.accepted.tolist()
    ([0.0006, 0.9922], [True, False])
    """
    values = as_differences(differences)
    one_of("test", test, TESTS)
    one_of("correction", correction, CORRECTIONS)
    level = open_unit("level", level, "0.05")
    margin = real_number("margin", margin, -math.inf, math.inf, "what may be lost, such as 0.01")
    n_flips, seed = whole_number("n_flips", n_flips, 1), whole_number("seed", seed, 0)
    if correction == "westfall-young" and test != "t":
        raise InputError(
            f"correction='westfall-young' with test={test!r}: it has its null distribution from "
            "flips of t-statistics. Use test='t', or correction='holm'."
        )
    increase, error = _moments(values)
    bound = increase + error * stats.t.isf(level, len(values) - 1)
    if test == "exact":
        pvalue, bound = _exact(values, margin, level)
    elif test == "sign-flip":
        pvalue = sign_flip_pvalues(values, margin, n_flips=n_flips, seed=seed)
    else:
        pvalue = t_pvalues(values, margin)
    if correction == "westfall-young":
        minima = _flipped_minima(values - margin, n_flips, seed)
        # (1 + number of minima <= p) / (n + 1), and the same with the rule of the engine.
        n_below = np.searchsorted(np.sort(minima), pvalue * (1 + RELATIVE_TOLERANCE), side="right")
        adjusted = (1 + n_below) / (len(minima) + 1)
        rule = get_correction(correction, level, null_minima=minima.tolist())
        accepted = select(pvalue, rule).mask
    elif correction == "none":
        adjusted, accepted = pvalue, pvalue <= level
    else:
        adjusted = adjust(pvalue, correction)
        accepted = select(pvalue, get_correction(correction, level)).mask
    return NonInferiority(
        len(values), margin, test, correction, level, increase, error, bound, pvalue, adjusted,
        accepted,
    )  # fmt: skip


def as_differences(differences: ArrayLike) -> Floats:
    """Check an array of differences.

    Parameters
    ----------
    differences : array_like, shape (n_samples, n_hypotheses)
        To be finite, with at least two samples and one hypothesis.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    InputError
        For another shape, or values that are not finite.
    InputTypeError
        For values that are no numbers.
    """
    try:
        values = np.asarray(differences, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"differences must be numbers ({error}).") from error
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < 1:
        raise InputError(
            f"differences have shape {values.shape}; they must be (n_samples, n_hypotheses) with "
            "at least 2 samples and 1 hypothesis."
        )
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise InputError(
            f"differences hold {values[row, column]} in row {row}, column {column}; they must be "
            "finite. Look for overflow in the losses."
        )
    return values


def fixed_sequence(pvalues: ArrayLike, level: float) -> int:
    """Return how many hypotheses a fixed-sequence procedure rejects.

    Parameters
    ----------
    pvalues : array_like of float, shape (n,)
        In an order that was fixed before the data were seen.
    level : float
        Of each test, and so of the probability of one or more false rejections.

    Returns
    -------
    int
        Number of p-values before the first above the level.

    Examples
    --------
    >>> fixed_sequence([0.01, 0.04, 0.2, 0.001], 0.05)
    2
    """
    failed = np.asarray(pvalues) > level
    return int(np.argmax(failed)) if failed.any() else len(failed)


def _moments(values: Floats) -> tuple[Floats, Floats]:
    """Return the mean of every column and its standard error, exactly 0 for constant columns."""
    constant = (values == values[0]).all(axis=0)
    mean = np.where(constant, values[0], values.mean(axis=0))
    error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return mean, np.where(constant, 0.0, error)


def t_pvalues(values: Floats, margin: float) -> Floats:
    """Return one-sided p-values of Student's t-test against means of at least a margin.

    Parameters
    ----------
    values : ndarray of float64, shape (n_samples, n_hypotheses)
        Differences.
    margin : float
        The margin.

    Returns
    -------
    ndarray of float64, shape (n_hypotheses,)
        For columns without variation 2^-n below the margin, as the sign test has it (t would give
        0: what has not varied in n samples may yet), and 1 otherwise.
    """
    n = len(values)
    mean, error = _moments(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        pvalue = special.stdtr(n - 1, (mean - margin) / error)
    return np.where(error > 0, pvalue, np.where(mean < margin, 2.0**-n, 1.0))


def sign_flip_pvalues(
    values: Floats, margin: float, *, n_flips: int = 10_000, seed: int = 0
) -> Floats:
    """Return one-sided p-values of sign flips against means of at least a margin.

    Parameters
    ----------
    values : ndarray of float64, shape (n_samples, n_hypotheses)
        Differences.
    margin : float
        The margin; what is flipped are the differences from it.
    n_flips : int, default=10_000
        Random flips; where there are no more than so many, each is gone through once.
    seed : int, default=0
        Of the flips.

    Returns
    -------
    ndarray of float64, shape (n_hypotheses,)
        The share of flips with a sum at most the observed one, or (1 + their number) /
        (`n_flips` + 1): never 0.
    """
    deviations = values - margin
    observed = deviations.sum(axis=0) + RELATIVE_TOLERANCE * np.abs(deviations).sum(axis=0)
    n_below = np.zeros(values.shape[1])
    total = 0
    for signs in _flips(len(values), n_flips, seed):
        total += len(signs)
        for columns in _slices(values.shape[1]):
            n_below[columns] += (signs @ deviations[:, columns] <= observed[columns]).sum(axis=0)
    if _enumerable(len(values), n_flips):
        return n_below / total
    return (1 + n_below) / (total + 1)


def _flipped_minima(deviations: Floats, n_flips: int, seed: int) -> Floats:
    """Return the smallest t-test p-value over the columns for each flip of whole samples."""
    n = len(deviations)
    squares = (deviations**2).sum(axis=0)  # no flip changes them
    minima = []
    for signs in _flips(n, n_flips, seed):
        smallest = np.full(len(signs), np.inf)
        for columns in _slices(deviations.shape[1]):
            mean = signs @ deviations[:, columns] / n
            variance = np.maximum(squares[columns] / n - mean**2, 0.0) * n / (n - 1)
            with np.errstate(divide="ignore", invalid="ignore"):
                statistic = mean / np.sqrt(variance / n)
            # 0 / 0 is a column that lies on the margin: it says nothing.
            smallest = np.fmin(smallest, np.nan_to_num(statistic, nan=0.0).min(axis=1))
        minima.append(special.stdtr(n - 1, smallest))
    return np.concatenate(minima)


def _enumerable(n: int, n_flips: int) -> bool:
    return n < 63 and 2**n <= n_flips


def _flips(n: int, n_flips: int, seed: int) -> Iterator[Floats]:
    """Go through sign flips of n samples: all of them, or so many at random."""
    every = _enumerable(n, n_flips)
    rng = np.random.default_rng(seed)
    total = 2**n if every else n_flips
    for first in range(0, total, _FLIPS):
        count = min(_FLIPS, total - first)
        if every:
            bits = (np.arange(first, first + count)[:, None] >> np.arange(n)) & 1
        else:
            bits = rng.integers(0, 2, size=(count, n))
        yield bits.astype(np.float64) * 2.0 - 1.0


def _slices(n: int) -> list[slice]:
    return [slice(first, first + _COLUMNS) for first in range(0, n, _COLUMNS)]


# -- Exact, for -1, 0 and 1 -------------------------------------------------------------------


def _exact(values: Floats, margin: float, level: float) -> tuple[Floats, Floats]:
    """Return p-values and upper bounds; columns with the same counts are computed once."""
    if not np.isin(values, (-1.0, 0.0, 1.0)).all():
        raise InputError(
            f"test='exact' is for differences of -1, 0 and 1 and there is {_other(values):g}; use "
            "metric='accuracy', or another test."
        )
    n = len(values)
    worse, better = (values > 0).sum(axis=0).tolist(), (values < 0).sum(axis=0).tolist()
    pairs = list(zip(worse, better, strict=True))
    found = {
        pair: (exact_margin_pvalue(*pair, n, margin), exact_margin_bound(*pair, n, level))
        for pair in set(pairs)
    }
    pvalue, bound = np.array([found[pair] for pair in pairs]).T
    return pvalue, bound


def _other(values: Floats) -> Any:
    return values[~np.isin(values, (-1.0, 0.0, 1.0))][0]


def exact_margin_pvalue(n_worse: int, n_better: int, n_samples: int, margin: float) -> float:
    """Return an exact p-value against a difference of paired proportions of at least a margin.

    Parameters
    ----------
    n_worse, n_better : int
        Samples that only the first, and only the second, classifier has right.
    n_samples : int
        All samples.
    margin : float
        Loss of accuracy, in [-1, 1].

    Returns
    -------
    float
        In (0, 1]; at least 1e-6 for margins other than 0.

    Notes
    -----
    At margin 0 this is McNemar's exact test given the discordant samples. At others, with d
    discordant samples and n (margin) = c, tables are ordered by

        Z = (n_worse - n_better - c) / sqrt(max(d, |c|) + 1),

    and the p-value is the largest probability of a Z as small as the observed one over the shares
    pi of discordant samples in a Clopper-Pearson interval that misses with probability gamma =
    1e-6, plus gamma [1]_; the idea of a studentised order is that of [2]_, the choice of Z is ours.
    Where Z is negative it falls if one worse sample becomes concordant, or a concordant one
    better, so that for each pi the margin itself is the worst case of the null hypothesis. Valid
    for every number of samples, up to the grid of 33 values of pi on which the largest is sought.

    References
    ----------
    .. [1] R. L. Berger and D. D. Boos, "P values maximized over a confidence set for the nuisance
       parameter", Journal of the American Statistical Association 89 (1994) 1012-1016.
    .. [2] H.-M. Hsueh, J.-P. Liu and J. J. Chen, "Unconditional exact tests for equivalence or
       noninferiority for paired binary endpoints", Biometrics 57 (2001) 478-483.

    Examples
    --------
    >>> round(exact_margin_pvalue(1, 6, 100, 0.0), 4)
    0.0625
    >>> round(exact_margin_pvalue(3, 3, 400, 0.02), 4)
    0.0075
    """
    n_discordant = n_worse + n_better
    if margin > 1:
        return _NUISANCE_MISS  # no data are under this hypothesis
    if margin <= -1:
        return 1.0
    if margin == 0:
        return float(stats.binom.cdf(n_worse, n_discordant, 0.5))
    below = margin * n_samples - (n_worse - n_better)
    if below <= 0:
        return 1.0
    size = below / math.sqrt(max(n_discordant, abs(margin) * n_samples) + 1)  # -Z
    tail = _NUISANCE_MISS / 2
    low = float(stats.beta.ppf(tail, n_discordant, n_samples - n_discordant + 1))
    high = float(stats.beta.isf(tail, n_discordant + 1, n_samples - n_discordant))
    low = 0.0 if n_discordant == 0 else low
    high = 1.0 if n_discordant == n_samples else high
    low = max(low, abs(margin))
    if low > high:
        return _NUISANCE_MISS
    shares = np.linspace(low, high, _GRID)
    worst = _lower_tail(size, n_samples, shares, margin).max()
    return float(min(1.0, worst + _NUISANCE_MISS))


def _lower_tail(size: float, n: int, shares: Floats, margin: float) -> Floats:
    """Return P(Z <= -size) for some shares of discordant samples."""
    missed = 1e-14  # of the discordant samples on either side, added again below
    first = int(stats.binom.ppf(missed, n, shares.min()))
    last = int(stats.binom.isf(missed, n, shares.max()))
    discordant = np.arange(max(first, 0), last + 1)
    worse = np.clip((shares + margin) / (2 * shares), 0.0, 1.0)
    spread = np.sqrt(np.maximum(discordant, abs(margin) * n) + 1)
    difference = margin * n - size * (1 - RELATIVE_TOLERANCE) * spread
    most = np.floor((difference + discordant) / 2 + 1e-9)  # worse - (d - worse) <= difference
    given = stats.binom.cdf(most, discordant, worse[:, None])
    weight = stats.binom.pmf(discordant, n, shares[:, None])
    return np.asarray((weight * given).sum(axis=1) + 2 * missed)


def exact_margin_bound(n_worse: int, n_better: int, n_samples: int, level: float) -> float:
    """Return an upper confidence bound of the loss of accuracy.

    Parameters
    ----------
    n_worse, n_better, n_samples : int
        As in `exact_margin_pvalue`.
    level : float
        Probability that the bound is too low, in (0, 1).

    Returns
    -------
    float
        The margin at which the p-value reaches the level, to 1e-6.
    """
    low, high = -1.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        if exact_margin_pvalue(n_worse, n_better, n_samples, middle) > level:
            low = middle
        else:
            high = middle
    return high
