"""How sure a ranking is: intervals of scores and ranks, and the units that are undecided.

Calibration data are a sample; others would have given other scores, another order and another set
of pruned units. Resampling the samples behind a `ScoreTable` says how different.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.scores`, `sigmine_nn.resampling`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from sigmine._checks import open_unit, real_number, whole_number
from sigmine.exceptions import InputError
from sigmine.ranking import order, select, top_k
from sigmine.ranking import sparsity as sparsity_rule

from .resampling import BLOCK, Resampling, Tails, gaussian_means, resampled_means
from .scores import ScoreTable
from .units import Units

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RankUncertainty", "check_sampled", "rank_uncertainty", "scopes_of"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]

_SORTED_AT_ONCE = 1 << 15  # scores; a sort for each resample of few units would be all overhead


@dataclass(frozen=True, eq=False)
class RankUncertainty:
    """The ranking of a criterion, and how much of it other calibration data would change.

    Arrays are over the units, NaN (False) for units without a score. Those that describe the
    sampling distribution are None for criteria that have none.

    Attributes
    ----------
    units : Units
        What was ranked.
    criterion : str
        Name of the criterion.
    method : {"multinomial", "bayesian", "gaussian"} or None
        How the distribution was found: by resampling the samples, or, where they were not kept,
        from their moments, as if the means were normal and independent from unit to unit. None
        for criteria of weights alone.
    n_samples, n_resamples : int
        Samples behind the scores, and resamples of them; 0 without a distribution.
    confidence_level : float
        Of the intervals.
    thresholds : tuple of float
        Units whose `p_pruned` lies between are undecided.
    scope : str
        Where the ranks were given.
    score : ndarray of float64, shape (n_units,)
        High means keep.
    rank : ndarray of float64, shape (n_units,)
        1 for the best in its scope, whole numbers.
    pruned : ndarray of bool, shape (n_units,)
        The set that would be pruned.
    standard_error, ci_low, ci_high : ndarray of float64, shape (n_units,), or None
        Standard deviation and percentile interval of the resampled scores.
    rank_low, rank_high : ndarray of float64, shape (n_units,), or None
        Percentile interval of the resampled ranks, whole numbers.
    p_pruned : ndarray of float64, shape (n_units,), or None
        Share of the resamples in which the unit is in the pruned set.
    p_repeated : ndarray of float64, shape (n_units,), or None
        Probability that the unit is in the pruned set of another sample of the same size.
    undecided : ndarray of bool, shape (n_units,), or None
        Whether the data leave open if the unit belongs to the pruned set.
    """

    units: Units = field(repr=False)
    criterion: str
    method: str | None
    n_samples: int
    n_resamples: int
    confidence_level: float
    thresholds: tuple[float, float]
    scope: str
    score: Floats = field(repr=False)
    rank: Floats = field(repr=False)
    pruned: Bools = field(repr=False)
    standard_error: Floats | None = field(default=None, repr=False)
    ci_low: Floats | None = field(default=None, repr=False)
    ci_high: Floats | None = field(default=None, repr=False)
    rank_low: Floats | None = field(default=None, repr=False)
    rank_high: Floats | None = field(default=None, repr=False)
    p_pruned: Floats | None = field(default=None, repr=False)
    p_repeated: Floats | None = field(default=None, repr=False)
    undecided: Bools | None = field(default=None, repr=False)

    @property
    def has_sampling_distribution(self) -> bool:
        """Whether other calibration data would have given another ranking."""
        return self.p_pruned is not None

    @property
    def share_undecided(self) -> float | None:
        """Share of the units with a score that are undecided; None without a distribution."""
        if self.undecided is None:
            return None
        n_scored = int(np.isfinite(self.rank).sum())
        return float(self.undecided.sum()) / n_scored

    def to_frame(self) -> pd.DataFrame:
        """Return a row a unit.

        Returns
        -------
        DataFrame
            Columns ``unit``, ``layer``, ``index``, ``kind``, ``score``, ``standard_error``,
            ``ci_low``, ``ci_high``, ``rank``, ``rank_low``, ``rank_high``, ``p_pruned``,
            ``p_repeated``, ``undecided``, ``pruned``. What is not defined is missing;
            ``undecided`` is missing where there is no distribution or no score.
        """
        import pandas as pd

        frame = self.units.frame()
        for name in ("score", "standard_error", "ci_low", "ci_high", "rank", "rank_low",
                     "rank_high", "p_pruned", "p_repeated"):  # fmt: skip
            values = getattr(self, name)
            frame[name] = np.nan if values is None else values
        undecided = pd.array([pd.NA] * self.units.n, dtype="boolean")
        if self.undecided is not None:
            scored = np.isfinite(self.rank)
            undecided[scored] = self.undecided[scored]
        frame["undecided"] = undecided
        frame["pruned"] = self.pruned
        return frame


def rank_uncertainty(
    table: ScoreTable,
    sparsity: float | None = None,
    *,
    n_keep: int | Mapping[str, int] | None = None,
    scope: str = "global",
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    thresholds: tuple[float, float] = (0.05, 0.95),
    resampling: Resampling | str = Resampling.MULTINOMIAL,
    seed: int = 0,
    chunk: int = 256,
) -> RankUncertainty:
    """Say how much of a ranking, and of the set that it prunes, is due to the calibration data.

    Parameters
    ----------
    table : ScoreTable
        Scores of a criterion; best with the per-sample values kept.
    sparsity : float, optional
        Fraction of the units that is removed in every scope, in (0, 1); or give `n_keep`.
    n_keep : int or mapping of str to int, optional
        Units that are kept in every scope, or in each by name.
    scope : {"global", "layer"}, default="global"
        Where units are ranked together: all of them, or those of a group (of each of its blocks,
        where it has several).
    n_resamples : int, default=1000
        Resamples, at least 2.
    confidence_level : float, default=0.95
        Of the intervals, in (0, 1).
    thresholds : tuple of float, default=(0.05, 0.95)
        A unit whose probability to be pruned lies strictly between is undecided.
    resampling : {"multinomial", "bayesian"}, default="multinomial"
        How the samples are resampled. Where they were not kept (or, under ``torch.distributed``,
        are not all here), means are drawn from a normal distribution with the standard error of
        the moments, independently from unit to unit, and `RankUncertainty.method` is "gaussian".
    seed : int, default=0
        The answer is a function of the table and this.
    chunk : int, default=256
        Resamples held at a time; for memory only, the answer does not depend on it.

    Returns
    -------
    RankUncertainty
        For a criterion without a sampling distribution, the ranks and the pruned set only.

    Raises
    ------
    InputError
        If neither or both of `sparsity` and `n_keep` are given, they do not fit the scopes, no unit
        has a score, there are fewer than two samples, or a parameter is out of its range.
    InputTypeError
        If a parameter is no number.

    Notes
    -----
    The intervals are percentile intervals [1]_: exact in the limit of many samples. `p_pruned` is
    how sure the data are that the unit belongs to the pruned set. The pruned set of *another*
    sample of the same size is less sure to hold it, since that sample errs too: `p_repeated` adds
    the deviations of two resamples to the observed mean. (Of one comparison of normal means that is
    sure at 0.95, 0.88 of the other samples agree.) Both are about the calibration data alone, for
    this network: not about another training seed, and not about what removal does to the loss
    (`sigmine_nn.removal` tests that). If many units are nearly equal, those that come out
    sure are in part lucky, and both are too sure of them.
    Where the score is an absolute value, resampled scores of units near 0 are too large on average,
    and the interval of a unit whose true score is 0 does not hold 0.

    Memory: two vectors of the units for each resample of a chunk, and the tails of the resampled
    scores and ranks, which together are 2 (1 - `confidence_level`) of the resamples. Time:
    `n_resamples` products of n_samples times n_units, and as many sorts.

    References
    ----------
    .. [1] B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall (1993),
       chapter 13.
    .. [2] D. B. Rubin, "The Bayesian Bootstrap", Annals of Statistics 9 (1981) 130-134.
    """
    low, high = _checked_thresholds(thresholds)
    confidence_level = open_unit("confidence_level", confidence_level, "0.95")
    n_resamples = whole_number("n_resamples", n_resamples, 2)
    seed = whole_number("seed", seed, 0)
    score = table.score.detach().cpu().double().numpy()
    scopes = scopes_of(table.units, scope, ~np.isnan(score))
    if not scopes:
        raise InputError(
            f"criterion {table.criterion!r} gave no unit a score; there is nothing to rank. Choose "
            "a criterion that is defined for these units."
        )
    n_kept, pruned = _cut(score, scopes, sparsity, n_keep)
    plain = RankUncertainty(
        units=table.units,
        criterion=table.criterion,
        method=None,
        n_samples=0,
        n_resamples=0,
        confidence_level=confidence_level,
        thresholds=(low, high),
        scope=scope,
        score=score,
        rank=_ranks(score, scopes),
        pruned=pruned,
    )
    if not table.has_sampling_distribution:
        return plain
    method, draws = _draws(table, _resampling(resampling), n_resamples, seed, chunk)
    found = _summary(table, score, draws, scopes, n_kept, n_resamples, confidence_level)
    return replace(
        plain,
        method=method,
        n_samples=table.n_samples,
        n_resamples=n_resamples,
        undecided=(found["p_pruned"] > low) & (found["p_pruned"] < high),
        **found,
    )


def check_sampled(table: ScoreTable, what: str) -> None:
    """Refuse a table whose scores have no sampling distribution.

    Parameters
    ----------
    table : ScoreTable
        The table.
    what : str
        What needs a distribution, for the message.

    Raises
    ------
    InputError
        If there is none.
    """
    if not table.has_sampling_distribution:
        raise InputError(
            f"criterion {table.criterion!r} looks at the weights alone, so that its scores have no "
            f"sampling distribution, and {what} needs one. Choose a criterion that is computed "
            "from calibration data, such as 'taylor'."
        )


def scopes_of(units: Units, scope: str, defined: Bools | None = None) -> dict[str, Indices]:
    """Return the units that are ranked together, as `sigmine.ranking.select` takes them.

    Parameters
    ----------
    units : Units
        The units.
    scope : {"global", "layer"}
        All units; or those of each group, block by block where it has several.
    defined : ndarray of bool, shape (n_units,), optional
        Units that take part; all by default.

    Returns
    -------
    dict of str to ndarray of int64
        Names are "global", those of the groups, or ``"group[block]"``. Empty scopes are left out.

    Raises
    ------
    InputError
        For a scope that is not known.
    """
    if scope == "global":
        parts = {"global": np.arange(units.n)}
    elif scope == "layer":
        parts = {}
        for group in units:
            blocks = np.split(units.scopes[group.name], group.blocks)
            names = [f"{group.name}[{i}]" for i in range(group.blocks)]
            parts.update(zip(names if group.blocks > 1 else [group.name], blocks, strict=True))
    else:
        raise InputError(f"scope={scope!r} is not known; choose one of global, layer.")
    if defined is not None:
        parts = {name: where[defined[where]] for name, where in parts.items()}
    return {name: where for name, where in parts.items() if len(where)}


def _checked_thresholds(thresholds: tuple[float, float]) -> tuple[float, float]:
    expected = "two numbers with 0 <= low <= high <= 1, such as (0.05, 0.95)"
    try:
        low, high = thresholds
    except (TypeError, ValueError):
        raise InputError(f"thresholds={thresholds!r} cannot be used; give {expected}.") from None
    low = real_number("thresholds", low, 0.0, 1.0, expected)
    return low, real_number("thresholds", high, low, 1.0, expected)


def _resampling(how: Resampling | str) -> Resampling:
    try:
        return Resampling(how)
    except ValueError:
        raise InputError(
            f"resampling={how!r} is not known; choose one of {', '.join(Resampling)}."
        ) from None


def _cut(
    score: Floats,
    scopes: Mapping[str, Indices],
    sparsity: float | None,
    n_keep: int | Mapping[str, int] | None,
) -> tuple[dict[str, int], Bools]:
    """Return how many are kept in every scope, and the set that is pruned."""
    if (sparsity is None) == (n_keep is None):
        raise InputError(
            f"sparsity={sparsity!r} and n_keep={n_keep!r}; give exactly one of them, for example "
            "sparsity=0.5."
        )
    if isinstance(n_keep, Mapping):
        if set(n_keep) != set(scopes):
            raise InputError(
                f"n_keep names {sorted(n_keep)} and the scopes with scores are {sorted(scopes)}; "
                "name each of them."
            )
        wanted = {name: whole_number(f"n_keep[{name!r}]", n_keep[name], 0) for name in scopes}
    elif n_keep is not None:
        wanted = dict.fromkeys(scopes, whole_number("n_keep", n_keep, 0))
    pruned = np.zeros(len(score), dtype=bool)
    n_kept = {}
    for name, where in scopes.items():
        if sparsity is not None:
            rule = sparsity_rule(open_unit("sparsity", sparsity, "0.5"))
        elif wanted[name] > len(where):
            raise InputError(
                f"n_keep asks for {wanted[name]} units of {name!r}, which has {len(where)} with a "
                "score; ask for at most as many."
            )
        else:
            rule = top_k(wanted[name])
        selection = select(score[where], rule)
        pruned[where] = ~selection.mask
        n_kept[name] = selection.n_kept
    return n_kept, pruned


def _ranks(score: Floats, scopes: Mapping[str, Indices]) -> Floats:
    """Return the rank of every unit in its scope, 1 for the best."""
    return np.asarray(_ranks_of_rows(score[None], scopes)[0])


def _ranks_of_rows(scores: Floats, scopes: Mapping[str, Indices]) -> Floats:
    """Return the ranks inside every row, shape (n_rows, n_units)."""
    out = np.full(scores.shape, np.nan)
    for where in scopes.values():
        m = len(where)
        n_rows = max(1, _SORTED_AT_ONCE // m)
        for first in range(0, len(scores), n_rows):
            part = np.ascontiguousarray(scores[first : first + n_rows, where])
            # One order of several rows, taken apart again: stable, so each row keeps its own.
            together = order(part.reshape(-1))
            of_row = together[np.argsort(together // m, kind="stable")].reshape(-1, m) % m
            places = np.empty(part.shape)
            np.put_along_axis(places, of_row, np.arange(1.0, m + 1)[None], axis=1)
            out[first : first + n_rows, where] = places
    return out


def _draws(
    table: ScoreTable, how: Resampling, n_resamples: int, seed: int, chunk: int
) -> tuple[str, Iterator[Floats]]:
    """Return the method and the resampled means, chunk by chunk."""
    chunk = whole_number("chunk", chunk, 1)
    if table.n_samples < 2:
        raise InputError(
            f"criterion {table.criterion!r} was computed from {table.n_samples} sample; a sampling "
            "distribution needs at least 2. Give more calibration data."
        )
    if table.samples is not None and len(table.samples) == table.n_samples:
        values = table.samples.detach().cpu().numpy()
        return str(how), resampled_means(values, n_resamples, seed, how, chunk)
    assert table.moments is not None
    mean = table.moments.mean.detach().cpu().numpy()
    error = table.moments.standard_error.detach().cpu().numpy()
    return "gaussian", gaussian_means(mean, error, n_resamples, seed, chunk)


def _summary(
    table: ScoreTable,
    score: Floats,
    draws: Iterator[Floats],
    scopes: Mapping[str, Indices],
    n_kept: Mapping[str, int],
    n_resamples: int,
    confidence_level: float,
) -> dict[str, Any]:
    """Go through the resampled means once and return the columns of the result."""
    of_scores, of_ranks = (Tails(n_resamples, confidence_level) for _ in range(2))
    shift, squares = np.zeros_like(score), np.zeros_like(score)
    n_pruned = np.zeros_like(score)
    kept = np.full(len(score), np.nan)
    for name, where in scopes.items():
        kept[where] = n_kept[name]
    defined = ~np.isnan(kept)
    repeated = _Repetition(table, scopes, kept)
    for means in draws:
        repeated.add(means)
        scores = np.where(defined, _scores(table, means), np.nan)
        places = _ranks_of_rows(scores, scopes)
        n_pruned += (places > kept).sum(axis=0)
        # Deviations from the observed scores: no difference of large sums. Added up block by block,
        # so that the last bits do not depend on the chunks.
        for top in range(0, len(scores), BLOCK):
            deviations = scores[top : top + BLOCK] - score
            shift += deviations.sum(axis=0)
            squares += (deviations**2).sum(axis=0)
        of_scores.add(scores)
        of_ranks.add(places)
    variance = (squares - shift**2 / n_resamples) / (n_resamples - 1)
    ci_low, ci_high = of_scores.interval()
    rank_low, rank_high = of_ranks.interval(interpolate=False)
    return {
        "standard_error": np.sqrt(np.maximum(variance, 0.0)),
        "ci_low": ci_low,
        "ci_high": ci_high,
        "rank_low": rank_low,
        "rank_high": rank_high,
        "p_pruned": np.where(defined, n_pruned / n_resamples, np.nan),
        "p_repeated": np.where(defined, repeated.count() / n_resamples, np.nan),
    }


def _scores(table: ScoreTable, means: Floats) -> Floats:
    drawn = table.scores_of_means(torch.from_numpy(means).to(table.score.device))
    return np.asarray(drawn.detach().cpu().numpy(), dtype=np.float64)


class _Repetition:
    """Counts the samples of the same size, as far as can be foreseen, that prune a unit.

    Another sample errs as the one at hand does, and independently: its mean lies about the observed
    one with the errors of both. Two resamples that follow each other make up one such mean.
    """

    def __init__(self, table: ScoreTable, scopes: Mapping[str, Indices], kept: Floats) -> None:
        assert table.moments is not None
        self.table, self.scopes, self.kept = table, scopes, kept
        self.mean = table.moments.mean.detach().cpu().numpy()
        self.n_pruned = np.zeros(len(kept))
        self.first: Floats | None = None
        self.last: Floats | None = None

    def add(self, means: Floats) -> None:
        """Add resampled means, in their order."""
        if self.last is None:
            self.first = means[:1].copy()
        else:
            means = np.concatenate([self.last, means])
        self._pair(means[:-1], means[1:])
        self.last = means[-1:].copy()

    def count(self) -> Floats:
        """Return how many there were, the last with the first."""
        assert self.first is not None
        assert self.last is not None
        self._pair(self.last, self.first)
        return self.n_pruned

    def _pair(self, one: Floats, other: Floats) -> None:
        places = _ranks_of_rows(_scores(self.table, one + other - self.mean), self.scopes)
        self.n_pruned += (places > self.kept).sum(axis=0)
