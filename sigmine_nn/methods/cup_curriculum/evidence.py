"""Is one way of training better than another? Estimates from the losses of several seeds.

May import: `sigmine`, `sigmine_nn.resampling`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sigmine._checks import open_unit, whole_number
from sigmine.exceptions import InputError

from ...resampling import bca_interval

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Difference", "compare_strategies", "estimate_difference", "expected_best"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """How much larger the second of two samples is.

    Attributes
    ----------
    n_first, n_second : int
        Sizes of the samples.
    paired : bool
        Whether they were compared pair by pair.
    hodges_lehmann : float
        The Hodges-Lehmann estimate.
    hl_low, hl_high : float
        Its interval by ranks; infinite where there are too few values for the level.
    hl_level : float
        The level that this interval really has, at least `confidence_level`; 1 if it is infinite.
    mean : float
        Difference of the means.
    ci_low, ci_high : float
        Bootstrap (BCa) interval of it.
    confidence_level : float
        That was asked for.
    """

    n_first: int
    n_second: int
    paired: bool
    hodges_lehmann: float
    hl_low: float
    hl_high: float
    hl_level: float
    mean: float
    ci_low: float
    ci_high: float
    confidence_level: float


def estimate_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    paired: bool = False,
    confidence_level: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """Estimate how much larger a second sample is than a first.

    Parameters
    ----------
    first, second : array_like, shape (n,)
        Such as the best losses of two ways of training, a seed each; at least 2. Both are finite.
    paired : bool, default=False
        Whether the values belong together one by one (the same seed gave both the same
        initialisation and order of the data).
    confidence_level : float, default=0.95
        In (0, 1).
    n_resamples : int, default=10000
        Of the bootstrap.
    seed : int, default=0
        Of the bootstrap.

    Returns
    -------
    Difference
        Second minus first: below 0, the second has lower losses.

    Raises
    ------
    InputError
        For samples that are too small, not finite, or paired and of different sizes.

    Notes
    -----
    The Hodges-Lehmann estimate [1]_ is the median of all differences between a value of the one and
    a value of the other sample; of pairs, the median of the means of any two of the differences (of
    one with itself too). Its interval consists of the shifts that the rank test (Wilcoxon's rank
    sum or signed rank, exact distribution) does not reject [2]_. It holds at its level for samples
    from continuous distributions that differ by a shift; of pairs, for differences that are
    symmetric. Five pairs cannot give 95 %: the interval is infinite then.

    The bootstrap resamples each sample by itself (or pairs), and is BCa [3]_. With five values a
    sample it covers less often than its level (88 % for 95 %, of normal values): it is here because
    such studies show it.

    References
    ----------
    .. [1] J. L. Hodges and E. L. Lehmann, "Estimates of location based on rank tests", Annals of
       Mathematical Statistics 34 (1963) 598-611.
    .. [2] M. Hollander, D. A. Wolfe and E. Chicken, "Nonparametric Statistical Methods", Wiley,
       third edition (2014), sections 3.3 and 4.3.
    .. [3] B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall (1993),
       chapter 14.

    Examples
    --------
    >>> found = estimate_difference([3.0, 1.0, 2.0, 6.0], [2.0, 0.5, 1.0, 0.0])
    >>> found.hodges_lehmann, found.mean
    (-1.75, -2.125)
    """
    x, y = _sample("first", first), _sample("second", second)
    level = open_unit("confidence_level", confidence_level, "0.95")
    whole_number("n_resamples", n_resamples, 2)
    if paired and len(x) != len(y):
        raise InputError(
            f"first and second have {len(x)} and {len(y)} values; pairs need the same number of "
            "both, in the same order."
        )
    rng = np.random.default_rng(whole_number("seed", seed, 0))
    if paired:
        shift = y - x
        i, j = np.triu_indices(len(shift))
        shifts = np.sort((shift[i] + shift[j]) / 2)
        counts = _signed_rank_counts(len(shift))
        groups = [shift]
    else:
        shifts = np.sort(np.subtract.outer(y, x).ravel())
        counts = _rank_sum_counts(len(x), len(y))
        groups = [y, -x]
    low, high, reached = _by_ranks(shifts, counts, level)
    mean = float(sum(group.mean() for group in groups))
    ci_low, ci_high = _bootstrap(groups, mean, n_resamples, level, rng)
    return Difference(
        len(x), len(y), paired, float(np.median(shifts)), low, high, reached,
        mean, ci_low, ci_high, level,
    )  # fmt: skip


def _sample(name: str, values: ArrayLike) -> Floats:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or len(sample) < 2 or not np.isfinite(sample).all():
        raise InputError(
            f"{name} has shape {sample.shape}"
            f"{'' if np.isfinite(sample).all() else ' and values that are not finite'}; give at "
            "least 2 finite numbers in one dimension. A training that diverged has no loss to "
            "compare: leave its seed out, and say so."
        )
    return sample


def _rank_sum_counts(n: int, m: int) -> list[int]:
    """Return in how many orders of n + m values u pairs are inverted, for u from 0 to n m."""
    counts = [1] + [0] * (n * m)
    for i in range(1, n + 1):  # the Gaussian binomial: times (1 - q^(m + i)), over (1 - q^i)
        for u in range(n * m, m + i - 1, -1):
            counts[u] -= counts[u - m - i]
        for u in range(i, n * m + 1):
            counts[u] += counts[u - i]
    return counts


def _signed_rank_counts(n: int) -> list[int]:
    """Return how many sets of the ranks 1 to n have the sum t, for t from 0 to n (n + 1) / 2."""
    counts = [1] + [0] * (n * (n + 1) // 2)
    for rank in range(1, n + 1):
        for t in range(len(counts) - 1, rank - 1, -1):
            counts[t] += counts[t - rank]
    return counts


def _by_ranks(shifts: Floats, counts: Sequence[int], level: float) -> tuple[float, float, float]:
    """Return the shifts between which a rank test does not reject, and the level of that."""
    total = sum(counts)
    tail = left_out = 0  # left out: values of the statistic at each end
    while (tail + counts[left_out]) * 2 <= total * (1 - level) * (1 + 1e-12):
        tail += counts[left_out]
        left_out += 1
    if left_out == 0:
        return -math.inf, math.inf, 1.0
    return float(shifts[left_out - 1]), float(shifts[-left_out]), 1 - 2 * tail / total


def _bootstrap(
    groups: Sequence[Floats], observed: float, n: int, level: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the BCa interval of the sum of the means of groups."""
    replicates = np.zeros(n)
    influence = []
    for group in groups:
        size = len(group)
        replicates += group[rng.integers(size, size=(n, size))].mean(axis=1)
        # What a value adds to the mean, over its size: with one group the jackknife, up to a
        # factor that the acceleration does not feel.
        influence.append((group.mean() - group) / size)
    return bca_interval(observed, replicates, np.concatenate(influence), level)


def expected_best(losses: ArrayLike, n: int) -> float:
    """Return the lowest loss to expect of n trainings.

    Parameters
    ----------
    losses : array_like, shape (n_trainings,)
        Of more trainings that differ by their seed.
    n : int
        From 1 to their number.

    Returns
    -------
    float
        The mean, over all sets of n of them, of the lowest: without bias for n fresh trainings. For
        n = 1 the mean, for all of them the lowest.

    Raises
    ------
    InputError
        For fewer losses than n, or some that are not finite.

    Examples
    --------
    >>> [round(expected_best([3.0, 1.0, 2.0], n), 4) for n in (1, 2, 3)]
    [2.0, 1.3333, 1.0]
    """
    values = np.asarray(losses, dtype=np.float64)
    n = whole_number("n", n, 1)
    if values.ndim != 1 or len(values) < n or not np.isfinite(values).all():
        raise InputError(
            f"losses have shape {values.shape}; give at least n={n} finite numbers, one for each "
            "training."
        )
    ordered = np.sort(values).tolist()
    # The i-th lowest (from 0) is the lowest of those sets whose others are among the larger ones.
    sets = [math.comb(len(ordered) - 1 - i, n - 1) for i in range(len(ordered))]
    weighted = sum(k * float(v) for k, v in zip(sets, ordered, strict=True))
    return weighted / math.comb(len(ordered), n)


def compare_strategies(
    losses: pd.DataFrame,
    baseline: str,
    *,
    paired: bool = False,
    confidence_level: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare ways of training with a baseline, from the best losses of several seeds.

    Parameters
    ----------
    losses : DataFrame
        A row a training; columns ``strategy``, ``seed``, ``loss``.
    baseline : str
        One of the strategies.
    paired : bool, default=False
        Whether trainings with the same seed are compared with each other; then every strategy needs
        every seed of the baseline.
    confidence_level, n_resamples, seed
        As in `estimate_difference`.

    Returns
    -------
    DataFrame
        A row a strategy, the baseline first: ``strategy``, ``n``, ``mean``, ``median``, ``best``,
        ``over_baseline`` (median over the seeds of the relative improvement on the baseline's mean;
        positive is better), ``over_best`` (the same on the best of all its trainings), and the
        fields of `Difference` from ``hodges_lehmann`` to ``ci_high``: strategy minus baseline.

    Raises
    ------
    InputError
        If a column, the baseline or a pair is missing, or a loss is not finite.

    Notes
    -----
    The intervals are those of one comparison each: with many strategies some will lie beside 0 by
    chance. The best of many strategies or seeds looks better than it is; `expected_best` says how
    much a baseline gains by as many trainings.
    """
    import pandas as pd

    table = _checked(losses, baseline)
    names = [baseline, *(s for s in dict.fromkeys(table["strategy"]) if s != baseline)]
    samples = {
        name: part.set_index("seed")["loss"].sort_index()
        for name, part in table.groupby("strategy", sort=False)
    }
    first = samples[baseline]
    rows: list[dict[str, Any]] = []
    for name in names:
        second = samples[name]
        if paired and not second.index.equals(first.index):
            raise InputError(
                f"{name!r} has the seeds {list(second.index)}, and {baseline!r} "
                f"{list(first.index)}; pairs need the same seeds."
            )
        row = {
            "strategy": name,
            "n": len(second),
            "mean": float(second.mean()),
            "median": float(second.median()),
            "best": float(second.min()),
            "over_baseline": float((1 - second / first.mean()).median()),
            "over_best": float((1 - second / first.min()).median()),
        }
        if name != baseline:
            found = estimate_difference(
                first, second, paired=paired, confidence_level=confidence_level,
                n_resamples=n_resamples, seed=seed,
            )  # fmt: skip
            fields = ("hodges_lehmann", "hl_low", "hl_high", "hl_level", "mean", "ci_low",
                      "ci_high")  # fmt: skip
            row |= {
                "mean_difference" if field == "mean" else field: getattr(found, field)
                for field in fields
            }
        rows.append(row)
    return pd.DataFrame(rows)


def _checked(losses: Any, baseline: str) -> pd.DataFrame:
    columns = ["strategy", "seed", "loss"]
    missing = [name for name in columns if name not in getattr(losses, "columns", ())]
    if missing:
        raise InputError(
            f"losses have no column {missing[0]!r}; give a data frame with the columns "
            f"{', '.join(columns)}."
        )
    if baseline not in set(losses["strategy"]):
        raise InputError(
            f"baseline={baseline!r} is none of the strategies "
            f"{', '.join(map(str, dict.fromkeys(losses['strategy'])))}."
        )
    repeated = losses[losses.duplicated(["strategy", "seed"])]
    if len(repeated):
        row = repeated.iloc[0]
        raise InputError(
            f"strategy {row['strategy']!r} has seed {row['seed']} twice; give one row for each."
        )
    table: pd.DataFrame = losses[columns]
    return table
