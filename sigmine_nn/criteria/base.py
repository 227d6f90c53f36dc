"""What a criterion is, and the sums over the slices of units that many criteria are made of.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.adapters`, `sigmine_nn.calibrate`,
`sigmine_nn.scores`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sigmine.exceptions import InputError

from ..adapters import read_systems, sequence_lengths
from ..calibrate import Calibration, Statistic
from ..exceptions import CalibrationError
from ..scores import Aggregate, ScoreTable
from ..state_space import DiagonalSystem
from ..units import Kind, Role, Units, find_tensor

__all__ = [
    "CRITERIA",
    "Criterion",
    "Scoring",
    "criterion",
    "get_criterion",
    "sum_over_slices",
    "table_of_statistic",
    "times_weights",
]

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Scoring:
    """All that a criterion may look at.

    Attributes
    ----------
    units : Units
        What is to be scored.
    tensors : mapping of str to Tensor
        The parameters and buffers of the model, detached.
    calibration : Calibration or None
        What was collected for the criterion; None if it asks for nothing.
    seed : int
        For criteria that draw random numbers.
    systems : mapping of str to DiagonalSystem
        The discrete system behind every group of states of state space layers.
    lengths : mapping of str to int
        Steps of the sequences that these layers were given, where example inputs were.
    """

    units: Units
    tensors: Weights
    calibration: Calibration | None = None
    seed: int = 0
    systems: Mapping[str, DiagonalSystem] = field(default_factory=dict)
    lengths: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        units: Units,
        calibration: Calibration | None = None,
        seed: int = 0,
        example_inputs: Any = None,
    ) -> Scoring:
        """Gather what criteria need from a model; of masked parameters the masked values.

        Parameters
        ----------
        model : Module
            The network.
        units : Units
            Of this model.
        calibration : Calibration, optional
            What was collected.
        seed : int, default=0
            For criteria that draw random numbers.
        example_inputs : Tensor, tuple or mapping, optional
            What the network takes: criteria of states learn from them how long sequences are.

        Returns
        -------
        Scoring
            The tensors share memory with the model where nothing is masked.
        """
        units.check(model)
        found = {name: find_tensor(model, name) for name in units.shapes}
        tensors = {name: tensor.detach() for name, tensor in found.items() if tensor is not None}
        systems, lengths = {}, {}
        if any(group.kind is Kind.STATE for group in units):
            systems = read_systems(model)
            if example_inputs is not None:
                lengths = sequence_lengths(model, example_inputs)
        return cls(units, tensors, calibration, seed, systems, lengths)

    def parameter_means(self, statistic: Statistic) -> dict[str, Tensor]:
        """Return the collected means of parameters.

        Parameters
        ----------
        statistic : Statistic
            One that belongs to parameters.

        Returns
        -------
        dict of str to Tensor

        Raises
        ------
        CalibrationError
            If it was not collected.
        """
        if self.calibration is None or statistic not in self.calibration.of_parameters:
            raise CalibrationError(
                f"statistic {str(statistic)!r} was not collected; the criterion needs data."
            )
        return self.calibration.of_parameters[statistic]


Function = Callable[..., ScoreTable]


@dataclass(frozen=True)
class Criterion:
    """A way to score units: a function, what it needs, and where it comes from.

    Attributes
    ----------
    name : str
        Name in the interface.
    function : callable
        From a `Scoring` (and options) to a `ScoreTable`.
    formula : str
        The score of a unit, in one line.
    source : str
        The paper.
    statistics : frozenset of Statistic
        What calibration has to collect; empty for criteria of weights alone.
    needs_loss : bool
        Whether a loss is needed.
    needs_samples : bool
        Whether the values of every sample have to be kept.
    options : mapping
        Of the function.
    """

    name: str
    function: Function = field(repr=False)
    formula: str
    source: str
    statistics: frozenset[Statistic] = frozenset()
    needs_loss: bool = False
    needs_samples: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs_data(self) -> bool:
        """Whether calibration data are needed."""
        return bool(self.statistics)

    def __call__(self, scoring: Scoring) -> ScoreTable:
        """Score the units.

        Parameters
        ----------
        scoring : Scoring
            The model's tensors, and what was collected.

        Returns
        -------
        ScoreTable
            High scores are to be kept; NaN where the criterion is not defined.
        """
        return self.function(scoring, **self.options)


CRITERIA: dict[str, Criterion] = {}
"""The criteria by name."""


def criterion(
    name: str,
    *,
    formula: str,
    source: str,
    statistics: Sequence[Statistic] = (),
    needs_loss: bool = False,
    needs_samples: bool = False,
) -> Callable[[Function], Function]:
    """Make a function a criterion, known by a name.

    Parameters
    ----------
    name : str
        Not taken yet.
    formula, source : str
        As in `Criterion`.
    statistics : sequence of Statistic, default=()
        What it asks of calibration.
    needs_loss : bool, default=False
        Whether these need a loss.
    needs_samples : bool, default=False
        Whether it looks at the values of every sample.

    Returns
    -------
    callable
        A decorator, which leaves the function as it is.
    """

    def register(function: Function) -> Function:
        CRITERIA[name] = Criterion(
            name, function, formula, source, frozenset(statistics), needs_loss, needs_samples
        )
        return function

    return register


def get_criterion(name: str | Criterion, **options: Any) -> Criterion:
    """Return a criterion by name, with its options.

    Parameters
    ----------
    name : str or Criterion
        One of `CRITERIA`, or one of your own.
    **options
        Of the criterion.

    Returns
    -------
    Criterion

    Raises
    ------
    InputError
        For a name that is not known, or an option that it does not have.

    Examples
    --------
    >>> get_criterion("l2").needs_data
    False
    """
    if isinstance(name, str):
        if name not in CRITERIA:
            raise InputError(
                f"criterion={name!r} is not known; there are {', '.join(sorted(CRITERIA))}."
            )
        name = CRITERIA[name]
    known = list(inspect.signature(name.function).parameters)[1:]
    if unknown := sorted(options.keys() - set(known)):
        raise InputError(
            f"criterion {name.name!r} has no option {unknown[0]!r}; its options are "
            f"{', '.join(known) or 'none'}."
        )
    return Criterion(**{**vars(name), "options": {**name.options, **options}})


def sum_over_slices(
    units: Units,
    entries: Weights,
    roles: Sequence[Role] = (Role.OUT,),
    *,
    transform: Callable[[Tensor], Tensor] | None = None,
    biases: bool = False,
) -> Tensor:
    """Add up values of the entries of parameters over the slices of every unit.

    Parameters
    ----------
    units : Units
        The units.
    entries : mapping of str to Tensor
        A value for every entry of every parameter that counts; slices of others are passed over.
    roles : sequence of Role, default=(Role.OUT,)
        The slices that count.
    transform : callable, optional
        Applied to the entries of a parameter before they are added up.
    biases : bool, default=False
        Whether slices of parameters of one dimension count; elements always do.

    Returns
    -------
    Tensor of float64, shape (n_units,)
        NaN for units of which no slice counts.
    """
    parts = []
    for group in units:
        total: Tensor | None = None
        for piece in group.slices:
            values = entries.get(piece.parameter)
            if values is None or (piece.role not in roles and group.kind is not Kind.ELEMENT):
                continue
            if values.ndim < 2 and not biases and piece.axis is not None:
                continue
            values = values if transform is None else transform(values)
            part = _by_unit(values, piece.axis, piece.index)
            total = part if total is None else total + part
        if total is None:
            total = torch.full((group.n_units,), torch.nan, dtype=torch.float64)
        parts.append(total)
    device = next((values.device for values in entries.values()), parts[0].device)
    return torch.cat([part.to(device) for part in parts])


def _by_unit(values: Tensor, axis: int | None, index: np.ndarray[Any, Any] | None) -> Tensor:
    """Return the sum of the values of every unit, in float64."""
    if axis is None:
        along = values.reshape(-1).double()
    else:
        rows = values.movedim(axis, 0).reshape(values.shape[axis], -1)
        along = rows.sum(dim=1, dtype=torch.float64)
    if index is None:
        return along
    where = torch.from_numpy(index).to(along.device)
    return (along[where] * torch.from_numpy(_first_mentions(index)).to(along)).sum(dim=1)


def _first_mentions(index: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return 1 where a row of an index names an entry for the first time, else 0."""
    ordered = np.argsort(index, axis=1, kind="stable")
    values = np.take_along_axis(index, ordered, axis=1)
    fresh = np.ones(index.shape, dtype=np.float64)
    fresh[:, 1:] = values[:, 1:] != values[:, :-1]
    out = np.empty_like(fresh)
    np.put_along_axis(out, ordered, fresh, axis=1)
    return out


def times_weights(scoring: Scoring, statistic: Statistic, power: int = 1) -> dict[str, Tensor]:
    """Return powers of the parameters times a statistic in their shape.

    Parameters
    ----------
    scoring : Scoring
        The parameters, and a calibration that has collected the statistic.
    statistic : Statistic
        One in the shape of parameters.
    power : int, default=1
        Of the parameters.

    Returns
    -------
    dict of str to Tensor
        In single precision or more.
    """
    products = {}
    for name, mean in scoring.parameter_means(statistic).items():
        if name in scoring.tensors:
            weight = scoring.tensors[name].detach().to(mean)
            products[name] = mean * weight**power
    return products


def table_of_statistic(
    scoring: Scoring, statistic: Statistic, name: str, aggregate: Aggregate = Aggregate.MEAN
) -> ScoreTable:
    """Return the table of a criterion that is a mean of one per-sample statistic.

    Parameters
    ----------
    scoring : Scoring
        With a calibration that has collected it.
    statistic : Statistic
        One that belongs to units.
    name : str
        Name of the criterion.
    aggregate : Aggregate, default=Aggregate.MEAN
        How the mean gives the score.

    Returns
    -------
    ScoreTable

    Raises
    ------
    CalibrationError
        If it was not collected.
    """
    calibration = scoring.calibration
    if calibration is None or statistic not in calibration.of_units:
        raise CalibrationError(
            f"criterion {name!r} needs statistic {str(statistic)!r}, which was not collected."
        )
    moments = calibration.of_units[statistic]
    samples = calibration.samples.get(statistic)
    return ScoreTable(scoring.units, aggregate.of(moments.mean), name, moments, aggregate, samples)
