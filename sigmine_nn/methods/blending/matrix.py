"""The criteria matrix: the score of every filter by every criterion, from one pass over the data.

May import: `sigmine`, and everything of `sigmine_nn` below `methods`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sigmine.exceptions import InputError
from sigmine.ranking import normalise

from ...collector import OF_PARAMETERS
from ...criteria import Criterion, Scoring
from ...discovery import find_units
from ...exceptions import ModelError
from ...scores import ScoreTable
from ...scoring import inputs_of, look, peeked
from ...units import Role, UnitGroup, Units

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FILTER_CRITERIA",
    "CriteriaMatrix",
    "criteria_matrix",
    "filter_scores",
    "find_filters",
    "rank_correlation",
]

Floats = NDArray[np.float64]

FILTER_CRITERIA = (
    "l1",
    "l2",
    "geometric_median",
    "fermat",
    "bn_scale",
    "bn_shift",
    "taylor_weight",
    "taylor_absolute",
    "apoz",
    "activation",
    "entropy",
    "hrank",
)
"""Twelve criteria of filters: of size, of geometry, of batch norm, of the loss, of activations."""


def find_filters(model: nn.Module, example_inputs: Any, *, ignore: Collection[str] = ()) -> Units:
    """Find the filters of the convolutions of a model.

    Parameters
    ----------
    model : Module
        The network; left as it was.
    example_inputs : Tensor, tuple or mapping
        What the network takes.
    ignore : collection of str, default=()
        Layers whose filters are not to be touched.

    Returns
    -------
    Units
        Its channels, without those that linear layers alone compute.

    Raises
    ------
    ModelError, TracingError, InputError, InputTypeError
        As `find_units`; `ModelError` also where no convolution has filters that can go.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    >>> find_filters(model, torch.zeros(1, 1, 8, 8)).names
    ['0']
    """
    units = find_units(model, "channel", example_inputs, ignore=ignore)
    filters = [group for group in units if _is_of_convolution(group, units)]
    if not filters:
        raise ModelError(
            f"{type(model).__name__} has units in {', '.join(units.names[:10])}, and none is of a "
            "convolution; blends are of filters. Give units= for others."
        )
    names = {piece.parameter for group in filters for piece in group.slices}
    left_out = dict(units.left_out) | {
        group.name: "its units are no filters of a convolution"
        for group in units
        if group not in filters
    }
    shapes = {name: shape for name, shape in units.shapes.items() if name in names}
    return Units(tuple(filters), shapes, left_out)


def _is_of_convolution(group: UnitGroup, units: Units) -> bool:
    return any(len(units.shapes[piece.parameter]) > 2 for piece in group.with_role(Role.OUT))


# -- Scores -----------------------------------------------------------------------------------


def filter_scores(scoring: Scoring, criteria: Sequence[Criterion]) -> Floats:
    """Score filters by several criteria; filters that several layers compute, by their ranks.

    Parameters
    ----------
    scoring : Scoring
        With all that the criteria look at.
    criteria : sequence of Criterion
        The criteria.

    Returns
    -------
    ndarray of float64, shape (n_criteria, n_units)
        NaN where a criterion is not defined.

    Notes
    -----
    Where several layers compute a filter together (the two ends of a residual connection), the sum
    of their raw scores would be that of the layer with the largest numbers. Criteria of parameters
    score the filters of every layer by themselves; average ranks over the number of filters are
    taken within each layer, and their mean over the layers for which the criterion is defined is
    the score. What is read from activations passes where the layers have been added up, and is one
    score a filter: it is replaced by its rank.
    """
    units = scoring.units
    coupled = {group.name: _by_layer(group) for group in units if len(_producers(group)) > 1}
    parts = [part for found in coupled.values() for part in found]
    apart = None
    if parts:
        apart = replace(scoring, units=Units(tuple(parts), units.shapes))
    rows = np.empty((len(criteria), units.n))
    with torch.no_grad():
        for row, criterion in zip(rows, criteria, strict=True):
            row[:] = criterion(scoring).score.detach().cpu().numpy()
            of_parts = {}
            if apart is not None and criterion.statistics <= OF_PARAMETERS:
                of_parts = apart.units.split(criterion(apart).score.detach().cpu().numpy())
            for name, members in coupled.items():
                where = units.range_of(name)
                mine = slice(where.start, where.stop)
                scores = [of_parts[part.name] for part in members] if of_parts else [row[mine]]
                row[mine] = _mean_rank(scores)
    return rows


def _mean_rank(scores: Sequence[Floats]) -> Floats:
    """Return the mean of the relative ranks of scores that are defined; NaN without any."""
    ranks = [np.asarray(normalise(each, "rank")) for each in scores if np.isfinite(each).all()]
    return np.mean(ranks, axis=0) if ranks else np.full(len(scores[0]), np.nan)


def _producers(group: UnitGroup) -> list[str]:
    """Return the modules that compute the units of a group."""
    return list(dict.fromkeys(_module(piece.parameter) for piece in group.with_role(Role.OUT)))


def _by_layer(group: UnitGroup) -> list[UnitGroup]:
    """Return a group for every module that has something of the units: its slices alone."""
    found: dict[str, list[Any]] = {}
    for piece in group.slices:
        found.setdefault(_module(piece.parameter), []).append(piece)
    return [
        UnitGroup(f"{group.name} by {module}", group.kind, group.n_units, tuple(pieces))
        for module, pieces in found.items()
    ]


def _module(parameter: str) -> str:
    return parameter.rpartition(".")[0]


# -- The matrix -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CriteriaMatrix:
    """Scores of the filters of a network by several criteria.

    Attributes
    ----------
    units : Units
        The filters, a group a layer.
    criteria : tuple of Criterion
        The criteria.
    scores : ndarray of float64, shape (n_criteria, n_units)
        High means keep; NaN where a criterion is not defined. Filters that several layers compute
        have mean ranks, in (0, 1]; see `coupled`.
    """

    units: Units
    criteria: tuple[Criterion, ...]
    scores: Floats = field(repr=False)

    @property
    def names(self) -> list[str]:
        """Names of the criteria."""
        return [criterion.name for criterion in self.criteria]

    @cached_property
    def coupled(self) -> dict[str, tuple[str, ...]]:
        """The layers whose filters several layers compute together, and which these are."""
        found = {group.name: tuple(_producers(group)) for group in self.units}
        return {name: layers for name, layers in found.items() if len(layers) > 1}

    @cached_property
    def left_out(self) -> dict[str, tuple[str, ...]]:
        """By layer, the criteria that have no finite score for some filter of it."""
        return {
            layer: tuple(
                name
                for name, row in zip(self.names, rows, strict=True)
                if not np.isfinite(row).all()
            )
            for layer, rows in self._by_layer.items()
        }

    @cached_property
    def constant(self) -> dict[str, tuple[str, ...]]:
        """By layer, the criteria that give all its filters the same score.

        Their rank correlation with others is not defined, and set to 0.
        """
        found = {}
        for layer in self.units.names:
            names, rows = self.defined(layer), self.of_layer(layer)
            found[layer] = tuple(
                name for name, row in zip(names, rows, strict=True) if (row == row[0]).all()
            )
        return found

    @cached_property
    def _by_layer(self) -> dict[str, Floats]:
        return {name: part.T for name, part in self.units.split(self.scores.T).items()}

    def defined(self, layer: str) -> list[str]:
        """Return the criteria that are defined for all filters of a layer.

        Parameters
        ----------
        layer : str
            Name of a group.

        Returns
        -------
        list of str
        """
        self.units.range_of(layer)  # a clear error for a layer that is not there
        return [name for name in self.names if name not in self.left_out[layer]]

    def of_layer(self, layer: str) -> Floats:
        """Return the scores of the filters of a layer.

        Parameters
        ----------
        layer : str
            Name of a group.

        Returns
        -------
        ndarray of float64, shape (n_defined, n_filters)
            Of the criteria that are `defined` there.
        """
        defined = self.defined(layer)
        return self._by_layer[layer][[name in defined for name in self.names]]

    def table(self, name: str) -> ScoreTable:
        """Return the scores by one criterion, for selections.

        Parameters
        ----------
        name : str
            The criterion.

        Returns
        -------
        ScoreTable
            Without a sampling distribution.

        Raises
        ------
        InputError
            For a criterion that is not in the matrix.
        """
        if name not in self.names:
            raise InputError(
                f"criterion {name!r} is not in the matrix; there are {', '.join(self.names)}."
            )
        row = self.scores[self.names.index(name)]
        return ScoreTable(self.units, torch.from_numpy(row.copy()), name)

    def correlation(self, layer: str | None = None) -> pd.DataFrame:
        """Return Spearman's rank correlation of the criteria.

        Parameters
        ----------
        layer : str, optional
            Name of a group; by default the mean over the layers on which both are defined.

        Returns
        -------
        DataFrame
            With the criteria on both axes: those that are defined on the layer, or all of them (NaN
            for two that are defined together nowhere). 0 for a criterion that is `constant`.
        """
        import pandas as pd

        if layer is not None:
            names = self.defined(layer)
            return pd.DataFrame(rank_correlation(self.of_layer(layer)), index=names, columns=names)
        frames = [self.correlation(name) for name in self.units.names]
        stacked = np.stack(
            [frame.reindex(index=self.names, columns=self.names).to_numpy() for frame in frames]
        )
        count = (~np.isnan(stacked)).sum(axis=0)
        mean = np.nansum(stacked, axis=0) / np.where(count > 0, count, np.nan)
        return pd.DataFrame(mean, index=self.names, columns=self.names)

    def to_frame(self) -> pd.DataFrame:
        """Return a row a filter.

        Returns
        -------
        DataFrame
            Columns ``unit``, ``layer``, ``index``, ``kind``, and a column a criterion.
        """
        frame = self.units.frame()
        for name, row in zip(self.names, self.scores, strict=True):
            frame[name] = row
        return frame


def rank_correlation(scores: Floats) -> Floats:
    """Return Spearman's rank correlation of rows; 0 where a row has only one value.

    Parameters
    ----------
    scores : ndarray of float64, shape (n_rows, n)
        Finite.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_rows)
        Symmetric, with ones on the diagonal, in [-1, 1].
    """
    standard = standard_ranks(scores)
    found: Floats = np.clip(standard @ standard.T / scores.shape[1], -1.0, 1.0)
    found = (found + found.T) / 2  # products of matrices need not be symmetric to the last bit
    np.fill_diagonal(found, 1.0)
    return found


def standard_ranks(scores: Floats) -> Floats:
    """Return the average ranks of rows with mean 0 and variance 1; zeros for one value.

    Parameters
    ----------
    scores : ndarray of float64, shape (n_rows, n)
        Finite.

    Returns
    -------
    ndarray of float64, shape (n_rows, n)
        The squared distance of two rows is 2 n (1 - their rank correlation).
    """
    found = np.empty(scores.shape)
    for row, standard in zip(scores, found, strict=True):
        standard[:] = normalise(np.asarray(normalise(row, "rank")), "standard")
    return found


def criteria_matrix(
    model: nn.Module,
    data: Any,
    *,
    criteria: Sequence[str | Criterion] = FILTER_CRITERIA,
    units: Units | None = None,
    loss: str | Callable[..., Tensor] | None = None,
    example_inputs: Any = None,
    ignore: Sequence[str] = (),
    n_batches: int | None = None,
    seed: int = 0,
    progress: bool | None = False,
) -> CriteriaMatrix:
    """Score the filters of a network by many criteria, with one pass over the data.

    Parameters
    ----------
    model : Module
        The network; left exactly as it was found.
    data : iterable of batches or None
        Calibration data, for criteria that need them.
    criteria : sequence of str or Criterion, default=FILTER_CRITERIA
        Names of `sigmine_nn.criteria.CRITERIA`, or your own.
    units : Units, optional
        What is scored; by default all filters of convolutions, `find_filters`.
    loss : str, callable or None, default=None
        As in `calibrate`.
    example_inputs : Tensor, tuple or mapping, optional
        What the network takes; by default the inputs of the first batch.
    ignore : sequence of str, default=()
        Layers whose filters are not to be touched.
    n_batches : int, optional
        Batches at most.
    seed : int, default=0
        For criteria that draw random numbers.
    progress : bool or None, default=False
        Whether to show a bar on stderr; None: on a terminal.

    Returns
    -------
    CriteriaMatrix

    Raises
    ------
    InputError, InputTypeError, ModelError, TracingError, CalibrationError
        If the criteria, the network, the data or the loss cannot be used.
    """
    if units is None:
        if example_inputs is None:
            if data is None:
                raise InputError(
                    "there are neither data nor example_inputs, and filters are found by running "
                    "the network; give a batch of inputs as example_inputs, or units."
                )
            batch, data = peeked(data)
            example_inputs = inputs_of(batch)
        units = find_filters(model, example_inputs, ignore=ignore)
    elif ignore:
        raise InputError(
            f"ignore={list(ignore)!r} and units are both given; leave the layers out of units."
        )
    chosen, scoring = look(
        model,
        data,
        criteria=criteria,
        units=units,
        loss=loss,
        n_batches=n_batches,
        seed=seed,
        progress=progress,
    )
    return CriteriaMatrix(units, tuple(chosen), filter_scores(scoring, chosen))
