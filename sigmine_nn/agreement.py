"""Rankings of the same units compared: by several criteria, or by one on other data or seeds.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.scores`, `sigmine_nn.significance`,
`sigmine_nn.rank_measures`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from sigmine._checks import one_of, open_unit, whole_number
from sigmine.exceptions import InputError
from sigmine.ranking import normalise, order, select
from sigmine.ranking import sparsity as sparsity_rule

from .rank_measures import (
    jaccard,
    kendall,
    rank_biased_overlap,
    selection_stability,
    spearman,
)
from .scores import ScoreTable
from .significance import scopes_of
from .units import Units

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "MEASURES",
    "Agreement",
    "Stability",
    "agreement",
    "average_linkage",
    "stability",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Indices = NDArray[np.int64]

MEASURES = ("spearman", "kendall", "jaccard", "rbo")

# -- Many rankings --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far rankings of the same units agree.

    Attributes
    ----------
    units : Units
        What was ranked.
    names : tuple of str
        Of the rankings.
    sparsity : float
        Fraction that the pruned sets hold.
    scope : str
        Where units were ranked together.
    overall : dict of str to ndarray of float64, shape (n_rankings, n_rankings)
        "spearman", "kendall", "jaccard" (of the pruned sets), "rbo" (of the orders, the first to
        be pruned first). With scope "layer", ranks and orders are relative to the layer. NaN where
        a measure is not defined.
    by_layer : dict of str to dict of str to ndarray
        The same inside each group.
    n_common : ndarray of int64, shape (n_rankings, n_rankings)
        Units with a score in both, on which the measures of a pair rest.
    relative : ndarray of float64, shape (n_rankings, n_units)
        Average rank over the number of units in the scope, 1 for the best; NaN without a score.
    pruned : ndarray of bool, shape (n_rankings, n_units)
        The set that each would prune.
    """

    units: Units = field(repr=False)
    names: tuple[str, ...]
    sparsity: float
    scope: str
    overall: Mapping[str, Floats] = field(repr=False)
    by_layer: Mapping[str, Mapping[str, Floats]] = field(repr=False)
    n_common: Indices = field(repr=False)
    relative: Floats = field(repr=False)
    pruned: Bools = field(repr=False)

    def matrix(self, measure: str = "spearman", layer: str | None = None) -> pd.DataFrame:
        """Return a measure for every pair of rankings.

        Parameters
        ----------
        measure : {"spearman", "kendall", "jaccard", "rbo"}, default="spearman"
            Which.
        layer : str, optional
            Name of a group; all units by default.

        Returns
        -------
        DataFrame
            With the names on both axes.
        """
        import pandas as pd

        one_of("measure", measure, MEASURES)
        if layer is not None:
            self.units.range_of(layer)  # a clear error for a layer that is not there
        values = (self.overall if layer is None else self.by_layer[layer])[measure]
        return pd.DataFrame(values, index=list(self.names), columns=list(self.names))

    @cached_property
    def linkage(self) -> Floats:
        """Average linkage of the rankings by 1 - Spearman, as scipy's ``linkage`` returns it.

        Raises
        ------
        InputError
            For fewer than two rankings, or where a correlation is not defined.
        """
        correlation = self.overall["spearman"]
        if len(self.names) < 2 or not np.isfinite(correlation).all():
            wrong = [
                name for name, row in zip(self.names, correlation, strict=True)
                if not np.isfinite(row).all()
            ]  # fmt: skip
            raise InputError(
                f"{len(self.names)} rankings, of which {wrong or 'none'} have no correlation with "
                "some other (all scores equal, or no unit with both scores); clusters need at "
                "least two rankings that can be compared. Leave those out."
            )
        return average_linkage(correlation)

    def clusters(self, max_distance: float = 0.3) -> dict[str, int]:
        """Return groups of rankings that agree.

        Parameters
        ----------
        max_distance : float, default=0.3
            Rankings joined at a mean 1 - Spearman of at most this are one cluster.

        Returns
        -------
        dict of str to int
            Name of every ranking and the number of its cluster, from 1, in order of appearance.
        """
        found = hierarchy.fcluster(self.linkage, max_distance, criterion="distance")
        numbers: dict[int, int] = {}
        return {
            name: numbers.setdefault(int(cluster), len(numbers) + 1)
            for name, cluster in zip(self.names, found, strict=True)
        }

    def consensus(self) -> pd.DataFrame:
        """Return what the rankings say together, a row a unit.

        Returns
        -------
        DataFrame
            ``unit``, ``layer``, ``index``, ``kind``, ``mean_rank`` (mean of `relative` over the
            rankings that score the unit, high is keep), ``borda`` (units of the same scope that it
            beats, added up over the rankings, ties half; a ranking without a score for it adds
            nothing), ``spread`` (largest minus smallest of `relative`), ``n_rankings`` and
            ``share_pruned`` (of those that score it).
        """
        frame = self.units.frame()
        scored = ~np.isnan(self.relative)
        count = scored.sum(axis=0)
        filled = np.where(scored, self.relative, 0.0)
        some = np.where(count > 0, count, np.nan)
        frame["mean_rank"] = filled.sum(axis=0) / some
        frame["borda"] = self._beaten().sum(axis=0)
        highest = np.where(scored, self.relative, -np.inf).max(axis=0)
        lowest = np.where(scored, self.relative, np.inf).min(axis=0)
        frame["spread"] = np.where(count > 0, highest, np.nan) - np.where(count > 0, lowest, 0.0)
        frame["n_rankings"] = count
        frame["share_pruned"] = self.pruned.sum(axis=0) / some
        return frame

    def _beaten(self) -> Floats:
        """Return how many units of its scope each unit beats in each ranking, ties half."""
        out = np.zeros_like(self.relative)
        for row, relative in zip(out, self.relative, strict=True):
            for where in scopes_of(self.units, self.scope, ~np.isnan(relative)).values():
                row[where] = relative[where] * len(where) - 1  # the worst has average rank 1
        return out

    def disputed(self, n: int = 20) -> pd.DataFrame:
        """Return the units on which the rankings differ most.

        Parameters
        ----------
        n : int, default=20
            How many at most.

        Returns
        -------
        DataFrame
            Rows of `consensus` of units that at least two rankings score, the largest ``spread``
            first, then the lower number.
        """
        frame = self.consensus()
        frame = frame[frame["n_rankings"] >= 2]
        # Rounded: differences of ranks that are equal as fractions are ties.
        first = order(frame["spread"].round(12).to_numpy())[: whole_number("n", n, 1)]
        return frame.iloc[first].reset_index(drop=True)


def average_linkage(correlation: Floats) -> Floats:
    """Return the average linkage of rankings by 1 - correlation.

    Parameters
    ----------
    correlation : ndarray of float64, shape (n_rankings, n_rankings)
        Symmetric, without NaN; of at least two rankings.

    Returns
    -------
    ndarray of float64, shape (n_rankings - 1, 4)
        As scipy's ``linkage`` returns it: the two clusters that are joined, their mean distance,
        and the rankings in both, in the order of joining.
    """
    distance = np.clip(1 - correlation, 0.0, 2.0)
    np.fill_diagonal(distance, 0.0)
    linked = hierarchy.linkage(squareform(distance, checks=False), method="average")
    return np.asarray(linked, dtype=np.float64)


def agreement(
    tables: Sequence[ScoreTable] | Mapping[str, ScoreTable],
    sparsity: float = 0.5,
    *,
    scope: str = "global",
    persistence: float = 0.9,
) -> Agreement:
    """Compare rankings of the same units.

    Parameters
    ----------
    tables : sequence of ScoreTable, or mapping of str to ScoreTable
        At least two; by default their names are those of the criteria.
    sparsity : float, default=0.5
        Fraction of the units in the pruned sets, in (0, 1).
    scope : {"global", "layer"}, default="global"
        Where units are ranked together.
    persistence : float, default=0.9
        As in `rank_biased_overlap`.

    Returns
    -------
    Agreement

    Raises
    ------
    InputError
        For fewer than two tables, tables of other units, or names that are not unique.

    Notes
    -----
    Units without a score in one of two rankings are left out of what is said of the pair, and
    counted in `Agreement.n_common`: the pruned sets of the pair are then those among the units that
    are left.
    """
    named = _named(tables)
    sparsity = open_unit("sparsity", sparsity, "0.5")
    units = next(iter(named.values())).units
    scores = np.stack([table.score.detach().cpu().double().numpy() for table in named.values()])
    relative, pruned = np.full(scores.shape, np.nan), np.zeros(scores.shape, dtype=bool)
    for row, score in enumerate(scores):
        for where in scopes_of(units, scope, ~np.isnan(score)).values():
            relative[row, where] = normalise(score[where], "rank")
        pruned[row] = _pruned(units, score, scope, sparsity, ~np.isnan(score))
    defined = (~np.isnan(scores)).astype(np.int64)
    regions: list[tuple[str | None, Indices]] = [(None, np.arange(units.n))]
    regions.extend(units.scopes.items())
    shape = (len(named), len(named))
    found: dict[str | None, dict[str, Floats]] = {
        name: {measure: np.full(shape, np.nan) for measure in MEASURES} for name, _ in regions
    }
    for i, j in combinations_with_replacement(range(len(named)), 2):
        common = ~np.isnan(scores[i]) & ~np.isnan(scores[j])
        sets = [_pruned(units, scores[k], scope, sparsity, common) for k in (i, j)]
        for name, region in regions:
            where = region[common[region]]
            values = _measures(relative[i, where], relative[j, where], persistence)
            values["jaccard"] = jaccard(sets[0][where], sets[1][where])
            for measure, value in values.items():
                found[name][measure][i, j] = found[name][measure][j, i] = value
    return Agreement(
        units=units,
        names=tuple(named),
        sparsity=sparsity,
        scope=scope,
        overall=found[None],
        by_layer={name: found[name] for name in units.names},
        n_common=defined @ defined.T,
        relative=relative,
        pruned=pruned,
    )


def _named(tables: Sequence[ScoreTable] | Mapping[str, ScoreTable]) -> dict[str, ScoreTable]:
    """Return the tables by name, of the same units."""
    if isinstance(tables, Mapping):
        named = dict(tables)
    else:
        named = {table.criterion: table for table in tables}
        if len(named) < len(tables):
            raise InputError(
                f"tables of the criteria {[table.criterion for table in tables]}: names must "
                "differ. Give a mapping of names to tables."
            )
    if len(named) < 2:
        raise InputError(f"{len(named)} rankings cannot agree or differ; give at least two.")
    described = {
        name: [(group.name, group.n_units, group.blocks) for group in table.units]
        for name, table in named.items()
    }
    first = next(iter(named))
    for name in named:
        if described[name] != described[first]:
            raise InputError(
                f"{name!r} ranks {named[name].units.n} units of {len(named[name].units)} groups "
                f"and {first!r} {named[first].units.n} of {len(named[first].units)}; only rankings "
                "of the same units can be compared."
            )
    return named


def _pruned(units: Units, score: Floats, scope: str, sparsity: float, among: Bools) -> Bools:
    """Return the set that a ranking prunes of some of the units."""
    out = np.zeros(units.n, dtype=bool)
    for where in scopes_of(units, scope, among).values():
        out[where] = ~select(score[where], sparsity_rule(sparsity)).mask
    return out


def _measures(first: Floats, second: Floats, persistence: float) -> dict[str, float]:
    """Return what depends on the order alone."""
    # Pruned first is kept last: of equal scores the lower number is kept.
    orders = [order(values)[::-1] for values in (first, second)]
    return {
        "spearman": spearman(first, second),
        "kendall": kendall(first, second),
        "rbo": rank_biased_overlap(orders[0], orders[1], persistence),
    }


# -- One criterion again and again ---------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Stability:
    """How far rankings by one criterion repeat themselves.

    Attributes
    ----------
    agreement : Agreement
        Of the repetitions.
    mean, lowest : dict of str to float
        Of each measure, over the pairs of different repetitions; NaN where none is defined.
    selection : float
        `selection_stability` of the pruned sets.
    """

    agreement: Agreement = field(repr=False)
    mean: Mapping[str, float]
    lowest: Mapping[str, float]
    selection: float

    def to_frame(self) -> pd.DataFrame:
        """Return a row a unit: `Agreement.consensus`, whose ``share_pruned`` is the frequency.

        Returns
        -------
        DataFrame
        """
        return self.agreement.consensus()


def stability(
    tables: Sequence[ScoreTable] | Mapping[str, ScoreTable],
    sparsity: float = 0.5,
    *,
    scope: str = "global",
    persistence: float = 0.9,
) -> Stability:
    """Compare rankings of one criterion over seeds, calibration data or checkpoints.

    Parameters
    ----------
    tables : sequence of ScoreTable, or mapping of str to ScoreTable
        At least two repetitions; by default they are named by their number.
    sparsity, scope, persistence
        As in `agreement`.

    Returns
    -------
    Stability

    Raises
    ------
    InputError
        As `agreement` does.

    Notes
    -----
    Over seeds of the training, unit 3 of one network is not unit 3 of another: only compare
    networks that went on from the same weights, or shares of layers.
    """
    if not isinstance(tables, Mapping):
        tables = {str(number): table for number, table in enumerate(tables)}
    found = agreement(tables, sparsity, scope=scope, persistence=persistence)
    pairs = np.triu_indices(len(found.names), 1)
    of_pairs = {measure: found.overall[measure][pairs] for measure in MEASURES}

    def over_pairs(function: Callable[[Floats], float]) -> dict[str, float]:
        kept = {measure: values[~np.isnan(values)] for measure, values in of_pairs.items()}
        return {m: float(function(v)) if len(v) else float("nan") for m, v in kept.items()}

    scored = ~np.isnan(found.relative).any(axis=0)
    return Stability(
        agreement=found,
        mean=over_pairs(np.mean),
        lowest=over_pairs(np.min),
        selection=selection_stability(found.pruned[:, scored]),
    )
