"""Resampling of samples: bootstrap weights, means of resamples, tails and intervals of them.

The numbers of resample i follow from the seed and i alone, so that neither the size of the chunks
nor what was drawn before has a say.

May import: `sigmine`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = [
    "BLOCK",
    "Resampling",
    "Tails",
    "bca_interval",
    "gaussian_means",
    "resampled_means",
    "weights",
]

Floats = NDArray[np.float64]

BLOCK = 32
"""Resamples that are multiplied at once: always as many, since the last bits depend on it."""
_COLUMNS = 4096  # units that are multiplied at once: bounds the float64 copy of their samples


class Resampling(StrEnum):
    """How the samples are weighted in a resample."""

    MULTINOMIAL = "multinomial"
    """As many draws with replacement as there are samples (Efron's bootstrap)."""
    BAYESIAN = "bayesian"
    """Weights uniform on the simplex (Rubin's Bayesian bootstrap); no sample is ever left out."""


def _generator(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))


def weights(n: int, start: int, stop: int, seed: int, how: Resampling) -> Floats:
    """Return the weights of the samples in some resamples.

    Parameters
    ----------
    n : int
        Samples.
    start, stop : int
        The resamples, from `start` to `stop` - 1.
    seed : int
        Of all resamples.
    how : Resampling
        How they are drawn.

    Returns
    -------
    ndarray of float64, shape (stop - start, n)
        Rows that sum to 1.
    """
    out = np.empty((stop - start, n))
    for row, number in zip(out, range(start, stop), strict=True):
        rng = _generator(seed, number)
        if how is Resampling.MULTINOMIAL:
            row[:] = np.bincount(rng.integers(n, size=n), minlength=n) / n
        else:
            drawn = rng.standard_exponential(n)
            row[:] = drawn / drawn.sum()
    return out


def resampled_means(
    values: Any, n_resamples: int, seed: int, how: Resampling, chunk: int = 256
) -> Iterator[Floats]:
    """Go through the means of the columns in resamples of the rows.

    Parameters
    ----------
    values : ndarray or Tensor on a CPU, shape (n_samples, n_units)
        Per-sample values. NaN stays in its column.
    n_resamples : int
        How many.
    seed : int
        Of all resamples.
    how : Resampling
        How they are drawn.
    chunk : int, default=256
        Resamples at a time, rounded up to a multiple of 32; memory is 8 bytes a resample and unit.
        The numbers do not depend on it, to the last bit.

    Yields
    ------
    ndarray of float64, shape (at most `chunk`, n_units)
        The next resamples.
    """
    n, n_units = values.shape
    chunk = BLOCK * math.ceil(chunk / BLOCK)
    for first in range(0, n_resamples, chunk):
        last = min(n_resamples, first + chunk)
        drawn = weights(n, first, last, seed, how)
        out = np.empty((last - first, n_units))
        for left in range(0, n_units, _COLUMNS):
            columns = slice(left, left + _COLUMNS)
            part = np.asarray(values[:, columns], dtype=np.float64)
            for top in range(0, last - first, BLOCK):
                rows = slice(top, top + BLOCK)
                out[rows, columns] = drawn[rows] @ part
        yield out


def gaussian_means(
    mean: Floats, standard_error: Floats, n_resamples: int, seed: int, chunk: int = 256
) -> Iterator[Floats]:
    """Go through draws of normal means, independent from unit to unit.

    Parameters
    ----------
    mean, standard_error : ndarray of float64, shape (n_units,)
        Of the mean of every unit.
    n_resamples : int
        How many.
    seed : int
        Of all resamples.
    chunk : int, default=256
        As in `resampled_means`.

    Yields
    ------
    ndarray of float64, shape (at most `chunk`, n_units)
        The next resamples.
    """
    chunk = BLOCK * math.ceil(chunk / BLOCK)
    for first in range(0, n_resamples, chunk):
        numbers = range(first, min(n_resamples, first + chunk))
        drawn = [_generator(seed, number).standard_normal(len(mean)) for number in numbers]
        yield mean + standard_error * np.stack(drawn)


class Tails:
    """The two tails of many columns that arrive row by row: enough for a central interval.

    A central interval needs the smallest and the largest few per cent of the resamples only; the
    others are forgotten, so that memory is bounded by the tails.

    Parameters
    ----------
    n_rows : int
        Rows that will be added in all, at least 2.
    confidence_level : float
        Share of the rows that the interval holds.
    """

    def __init__(self, n_rows: int, confidence_level: float) -> None:
        # The position of numpy's default quantile ("linear", type 7 of Hyndman and Fan).
        self._position = (n_rows - 1) * (1 - confidence_level) / 2
        self._n_kept = math.floor(self._position) + 2
        self._low: Floats | None = None
        self._high: Floats | None = None

    def add(self, rows: Floats) -> None:
        """Add rows.

        Parameters
        ----------
        rows : ndarray of float64, shape (n_rows, n_columns)
            A column is NaN in all rows or in none.
        """
        low = rows if self._low is None else np.concatenate([self._low, rows])
        high = -rows if self._high is None else np.concatenate([self._high, -rows])
        k = self._n_kept
        if k < len(low):
            low = np.partition(low, k - 1, axis=0)[:k]
        if k < len(high):
            high = np.partition(high, k - 1, axis=0)[:k]
        self._low, self._high = low, high

    def interval(self, *, interpolate: bool = True) -> tuple[Floats, Floats]:
        """Return the ends of the central interval.

        Parameters
        ----------
        interpolate : bool, default=True
            Between two rows; otherwise the ends are values that occurred, the wider ones.

        Returns
        -------
        low, high : ndarray of float64, shape (n_columns,)
        """
        assert self._low is not None
        assert self._high is not None
        return self._end(self._low, interpolate), -self._end(self._high, interpolate)

    def _end(self, tail: Floats, interpolate: bool) -> Floats:
        ordered = np.sort(tail, axis=0)
        below = math.floor(self._position)
        share = self._position - below if interpolate else 0.0
        return np.asarray(ordered[below] * (1 - share) + ordered[below + 1] * share)


def bca_interval(
    observed: float, replicates: Floats, jackknife: Floats, confidence_level: float
) -> tuple[float, float]:
    """Return the bias-corrected and accelerated bootstrap interval.

    Parameters
    ----------
    observed : float
        The statistic of the data.
    replicates : ndarray of float64, shape (n_resamples,)
        The statistic of the resamples.
    jackknife : ndarray of float64, shape (n_samples,)
        The statistic without each of the samples.
    confidence_level : float
        In (0, 1).

    Returns
    -------
    low, high : float
        Both `observed` if no replicate differs from it; the percentile interval if all replicates
        lie on one side of it, where the correction is not defined.

    Notes
    -----
    Equations 14.9, 14.10, 14.14 and 14.15 of [1]_; replicates equal to the observed value count
    half, as statistics of counts need it.

    References
    ----------
    .. [1] B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall (1993).
    """
    if (replicates == observed).all():
        return observed, observed
    tail = (1 - confidence_level) / 2
    below = (replicates < observed).mean() + (replicates == observed).mean() / 2
    levels = np.array([tail, 1 - tail])
    if 0 < below < 1:
        bias = special.ndtri(below)  # 14.14
        deviation = jackknife.mean() - jackknife
        spread = (deviation**2).sum() ** 1.5
        acceleration = (deviation**3).sum() / (6 * spread) if spread > 0 else 0.0  # 14.15
        shifted = bias + special.ndtri(levels)
        levels = special.ndtr(bias + shifted / (1 - acceleration * shifted))  # 14.10
    low, high = np.quantile(replicates, levels)
    return float(low), float(high)
