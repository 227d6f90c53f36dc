"""Two networks on the same test data: paired tests and intervals.

May import: `sigmine`, `sigmine_nn.resampling`, `sigmine_nn.risks`, `sigmine_nn.state`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats
from torch import Tensor, nn

from sigmine._checks import one_of, open_unit, whole_number
from sigmine.exceptions import InputError

from .exceptions import CalibrationError
from .objective import batches, moved
from .resampling import bca_interval
from .risks import Metric, RiskOf
from .state import unchanged

__all__ = [
    "BootstrapInterval",
    "McNemar",
    "ModelComparison",
    "compare_models",
    "mcnemar",
    "newcombe_interval",
    "paired_bootstrap",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test of two classifiers on the same samples.

    Attributes
    ----------
    n_samples : int
        Samples.
    n_before, n_after : int
        Samples that only the one, and only the other, classified correctly.
    pvalue : float
        Exact.
    alternative : str
        What it speaks against equality for.
    """

    n_samples: int
    n_before: int
    n_after: int
    pvalue: float
    alternative: str


def mcnemar(before: ArrayLike, after: ArrayLike, alternative: str = "two-sided") -> McNemar:
    """Test whether two classifiers are equally often correct on the same samples.

    Parameters
    ----------
    before, after : array_like of bool, shape (n_samples,)
        Whether each classified the sample correctly.
    alternative : {"two-sided", "less", "greater"}, default="two-sided"
        "less": `after` is less often correct.

    Returns
    -------
    McNemar
        The p-value is 1 if they are correct on the same samples.

    Raises
    ------
    InputError
        For arrays that are no truth values of one length, or an unknown alternative.

    Notes
    -----
    Given the number of samples on which they differ, those that only `after` has right are
    binomial with probability 1/2 [1]_. Exact for independent samples.

    References
    ----------
    .. [1] Q. McNemar, "Note on the sampling error of the difference between correlated proportions
       or percentages", Psychometrika 12 (1947) 153-157.

    Examples
    --------
    >>> result = mcnemar([True] * 8 + [False] * 2, [False] * 6 + [True] * 2 + [False, True])
    >>> result.n_before, result.n_after, round(result.pvalue, 4)
    (6, 1, 0.125)
    """
    first, second = _paired_truth(before, after)
    one_of("alternative", alternative, ("two-sided", "less", "greater"))
    n_before, n_after = int((first & ~second).sum()), int((second & ~first).sum())
    n = n_before + n_after
    pvalue = 1.0 if n == 0 else float(stats.binomtest(n_after, n, 0.5, alternative).pvalue)
    return McNemar(len(first), n_before, n_after, pvalue, alternative)


def _paired_truth(before: ArrayLike, after: ArrayLike) -> tuple[NDArray[np.bool_], ...]:
    arrays = [np.asarray(values) for values in (before, after)]
    shapes = [values.shape for values in arrays]
    binary = all(np.isin(values, (0, 1)).all() for values in arrays)
    if shapes[0] != shapes[1] or arrays[0].ndim != 1 or not arrays[0].size or not binary:
        raise InputError(
            f"before and after have shapes {shapes[0]} and {shapes[1]}"
            f"{'' if binary else ' and other values than 0 and 1'}; give a truth value for each of "
            "the same samples, in one dimension."
        )
    return tuple(values.astype(bool) for values in arrays)


def newcombe_interval(
    before: ArrayLike, after: ArrayLike, confidence_level: float = 0.95
) -> tuple[float, float]:
    """Return Newcombe's interval of the difference of two paired proportions.

    Parameters
    ----------
    before, after : array_like of bool, shape (n_samples,)
        Paired truth values, such as whether each classifier was correct.
    confidence_level : float, default=0.95
        In (0, 1).

    Returns
    -------
    low, high : float
        Of the proportion in `after` minus that in `before`, in [-1, 1].

    Raises
    ------
    InputError
        For arrays that are no truth values of one length, or a level outside (0, 1).

    Notes
    -----
    Method 10 of [1]_: Wilson's intervals of the two proportions, put together by their correlation
    phi, which is taken nearer to 0 by a correction for continuity where it is positive. Its
    coverage is close to the level on average over proportions, not at least the level for each.

    References
    ----------
    .. [1] R. G. Newcombe, "Improved confidence intervals for the difference between binomial
       proportions based on paired data", Statistics in Medicine 17 (1998) 2635-2650.

    Examples
    --------
    >>> after = [1] * 48 + [0] * 2
    >>> before = [1] * 36 + [0] * 12 + [1] * 2
    >>> low, high = newcombe_interval(before, after)
    >>> round(low, 4), round(high, 4)
    (0.0569, 0.3404)
    """
    first, second = _paired_truth(before, after)
    level = open_unit("confidence_level", confidence_level, "0.95")
    n = len(first)
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    n_after, n_before = int((second & ~first).sum()), int((first & ~second).sum())
    z = float(special.ndtri((1 + level) / 2))
    p_after, p_before = (both + n_after) / n, (both + n_before) / n
    low_after, high_after = _wilson(both + n_after, n, z)
    low_before, high_before = _wilson(both + n_before, n, z)
    product = float(both * neither - n_after * n_before)
    if product > 0:
        product = max(product - n / 2, 0.0)
    margins = (both + n_after) * (n_before + neither) * (both + n_before) * (n_after + neither)
    phi = product / math.sqrt(margins) if margins else 0.0

    def together(one: float, other: float) -> float:
        return math.sqrt(max(one**2 - 2 * phi * one * other + other**2, 0.0))

    difference = p_after - p_before
    down = together(p_after - low_after, high_before - p_before)
    up = together(high_after - p_after, p_before - low_before)
    return max(-1.0, difference - down), min(1.0, difference + up)


def _wilson(count: int, n: int, z: float) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion."""
    centre = (count + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(count * (n - count) / n + z * z / 4)
    return centre - half, centre + half


@dataclass(frozen=True)
class BootstrapInterval:
    """A difference of two networks and its bootstrap interval.

    Attributes
    ----------
    difference : float
        The metric of the second network minus that of the first.
    ci_low, ci_high : float
        BCa interval of it.
    standard_error : float
        Standard deviation of the resampled differences.
    confidence_level : float
        Of the interval.
    n_resamples : int
        How many resamples.
    """

    difference: float
    ci_low: float
    ci_high: float
    standard_error: float
    confidence_level: float
    n_resamples: int


def paired_bootstrap(
    before: ArrayLike,
    after: ArrayLike,
    metric: Callable[[Floats], float] | None = None,
    *,
    n_resamples: int = 2000,
    confidence_level: float = 0.95,
    seed: int = 0,
) -> BootstrapInterval:
    """Return the BCa interval of the difference of a metric of two networks on the same samples.

    Parameters
    ----------
    before, after : array_like, shape (n_samples, ...)
        What each network gave for every sample: losses, or rows of counts such as (errors, words).
    metric : callable, optional
        From such an array, of any number of samples, to a number; the mean by default.
    n_resamples : int, default=2000
        At least 2.
    confidence_level : float, default=0.95
        In (0, 1).
    seed : int, default=0
        Of the resampling.

    Returns
    -------
    BootstrapInterval

    Raises
    ------
    InputError
        For arrays of different lengths or fewer than two samples.

    Notes
    -----
    The same samples are drawn for both networks, so that what makes a sample hard for both cancels.
    BCa intervals are second-order correct for smooth metrics [1]_; n_samples further calls of
    the metric give the acceleration by the jackknife.

    References
    ----------
    .. [1] B. Efron, "Better bootstrap confidence intervals", Journal of the American Statistical
       Association 82 (1987) 171-185.
    """
    first, second = np.asarray(before), np.asarray(after)
    if first.ndim == 0 or len(first) != len(second) or len(first) < 2:
        raise InputError(
            f"before and after have shapes {first.shape} and {second.shape}; give values of the "
            "same samples, at least 2."
        )
    level = open_unit("confidence_level", confidence_level, "0.95")
    whole_number("n_resamples", n_resamples, 2)
    n = len(first)
    rng = np.random.default_rng(whole_number("seed", seed, 0))
    of = metric or (lambda values: float(values.mean()))

    def difference(rows: NDArray[Any]) -> float:
        return of(second[rows]) - of(first[rows])

    observed = difference(np.arange(n))
    replicates = np.array([difference(rng.integers(n, size=n)) for _ in range(n_resamples)])
    jackknife = np.array([difference(np.delete(np.arange(n), i)) for i in range(n)])
    low, high = bca_interval(observed, replicates, jackknife, level)
    error = float(replicates.std(ddof=1))
    return BootstrapInterval(observed, low, high, error, level, n_resamples)


@dataclass(frozen=True)
class ModelComparison:
    """Two networks on the same data; differences are the second minus the first.

    Attributes
    ----------
    n_samples : int
        Samples.
    risk_before, risk_after : float
        Mean risk (loss, share of mistakes, or one's own) of each.
    risk : BootstrapInterval
        Their difference.
    accuracy_before, accuracy_after : float or None
        Share of correct classes; None where the metric is not "accuracy".
    accuracy_low, accuracy_high : float or None
        Newcombe's interval of their difference.
    test : McNemar or None
        Of their equality.
    """

    n_samples: int
    risk_before: float
    risk_after: float
    risk: BootstrapInterval
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    test: McNemar | None = None


def compare_models(
    before: nn.Module,
    after: nn.Module,
    data: object,
    *,
    metric: Metric = "accuracy",
    loss: str | Callable[..., Tensor] | None = None,
    n_batches: int | None = None,
    n_resamples: int = 2000,
    confidence_level: float = 0.95,
    seed: int = 0,
) -> ModelComparison:
    """Compare two networks on the same data.

    Parameters
    ----------
    before, after : Module
        Asked in evaluation mode, left as they were found.
    data : iterable of batches
        Test data that neither training nor pruning has seen; taken once.
    metric : {"accuracy", "loss"} or callable, default="accuracy"
        As in `RiskOf`.
    loss : str, callable or None, default=None
        As in `calibrate`; for "loss".
    n_batches : int or None, default=None
        Batches at most.
    n_resamples, confidence_level, seed
        As in `paired_bootstrap`.

    Returns
    -------
    ModelComparison

    Raises
    ------
    CalibrationError
        If there is no batch, or a risk is no number.
    """
    risk_of = RiskOf(metric, loss)
    parts: list[tuple[Floats, Floats]] = []
    with ExitStack() as stack:
        for model in (before, after):
            stack.enter_context(unchanged(model))
            model.eval()
        devices = [_device_of(model) for model in (before, after)]
        for batch in batches(data, n_batches):
            one, other = (
                risk_of(model, moved(batch, device))
                for model, device in zip((before, after), devices, strict=True)
            )
            parts.append((one, other))
    if not parts:
        raise CalibrationError("data holds no batch; give at least one.")
    first, second = (np.concatenate(column) for column in zip(*parts, strict=True))
    interval = paired_bootstrap(
        first, second, n_resamples=n_resamples, confidence_level=confidence_level, seed=seed
    )
    plain = (len(first), float(first.mean()), float(second.mean()), interval)
    if metric != "accuracy":
        return ModelComparison(*plain)
    low, high = newcombe_interval(1 - first, 1 - second, confidence_level)
    accuracies = (1 - float(first.mean()), 1 - float(second.mean()))
    return ModelComparison(*plain, *accuracies, low, high, mcnemar(1 - first, 1 - second))


def _device_of(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
