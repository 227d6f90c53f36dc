"""Scores of a model's units by one criterion or several, from one pass over the data.

May import: `sigmine`, `sigmine_nn.discovery`, `sigmine_nn.calibrate`, `sigmine_nn.criteria`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from sigmine.exceptions import InputError

from .calibrate import calibrate
from .criteria import Criterion, Scoring, get_criterion
from .discovery import find_units
from .exceptions import CalibrationError
from .objective import batches
from .scores import ScoreTable
from .units import Kind, Units

__all__ = ["inputs_of", "look", "peeked", "score_by_criteria", "score_units"]


def score_units(
    model: nn.Module,
    data: Any = None,
    *,
    criterion: str | Criterion = "taylor",
    units: str | Units = "channel",
    loss: str | Callable[..., Tensor] | None = None,
    example_inputs: Any = None,
    ignore: Sequence[str] = (),
    n_batches: int | None = None,
    keep_samples: bool = True,
    seed: int = 0,
    progress: bool | None = False,
) -> ScoreTable:
    """Score the units of a model by a criterion.

    Parameters
    ----------
    model : Module
        The network; left exactly as it was found.
    data : iterable of batches, optional
        Calibration data, for criteria that need them.
    criterion : str or Criterion, default="taylor"
        Name of one of `sigmine_nn.criteria.CRITERIA`, or one of your own.
    units : str or Units, default="channel"
        What a unit is, or the units themselves.
    loss : str, callable or None, default=None
        As in `calibrate`.
    example_inputs : Tensor, tuple or mapping, optional
        What the network takes; by default the inputs of the first batch.
    ignore : sequence of str, default=()
        Layers whose units are not to be touched.
    n_batches : int, optional
        Batches at most.
    keep_samples : bool, default=True
        Keep the values of every sample, for resampling.
    seed : int, default=0
        For criteria that draw random numbers.
    progress : bool or None, default=False
        Whether to show a bar on stderr; None: on a terminal.

    Returns
    -------
    ScoreTable
        High scores are to be kept.

    Raises
    ------
    InputError, InputTypeError, ModelError, TracingError, CalibrationError
        If the criterion, the units, the data or the loss cannot be used.
    """
    tables = score_by_criteria(
        model,
        data,
        criteria=[criterion],
        units=units,
        loss=loss,
        example_inputs=example_inputs,
        ignore=ignore,
        n_batches=n_batches,
        keep_samples=keep_samples,
        seed=seed,
        progress=progress,
    )
    return next(iter(tables.values()))


def score_by_criteria(
    model: nn.Module,
    data: Any = None,
    *,
    criteria: Sequence[str | Criterion],
    units: str | Units = "channel",
    loss: str | Callable[..., Tensor] | None = None,
    example_inputs: Any = None,
    ignore: Sequence[str] = (),
    n_batches: int | None = None,
    keep_samples: bool = True,
    seed: int = 0,
    progress: bool | None = False,
) -> dict[str, ScoreTable]:
    """Score the units of a model by several criteria, with one pass over the data.

    Parameters
    ----------
    model : Module
        The network; left exactly as it was found.
    data : iterable of batches, optional
        Calibration data, for criteria that need them.
    criteria : sequence of str or Criterion
        At least one, with names that differ.
    units, loss, example_inputs, ignore, n_batches, keep_samples, seed, progress
        As in `score_units`.

    Returns
    -------
    dict of str to ScoreTable
        By the name of the criterion, in the order given.

    Raises
    ------
    InputError, InputTypeError, ModelError, TracingError, CalibrationError
        As in `score_units`.
    """
    chosen, scoring = look(
        model,
        data,
        criteria=criteria,
        units=units,
        loss=loss,
        example_inputs=example_inputs,
        ignore=ignore,
        n_batches=n_batches,
        keep_samples=keep_samples,
        seed=seed,
        progress=progress,
    )
    with torch.no_grad():
        return {criterion.name: criterion(scoring) for criterion in chosen}


def look(
    model: nn.Module,
    data: Any,
    *,
    criteria: Sequence[str | Criterion],
    units: str | Units,
    loss: str | Callable[..., Tensor] | None = None,
    example_inputs: Any = None,
    ignore: Sequence[str] = (),
    n_batches: int | None = None,
    keep_samples: bool = False,
    seed: int = 0,
    progress: bool | None = False,
) -> tuple[list[Criterion], Scoring]:
    """Collect all that several criteria may look at, with one pass over the data.

    Parameters
    ----------
    model : Module
        The network; left exactly as it was found.
    data : iterable of batches or None
        Calibration data, for criteria that need them.
    criteria : sequence of str or Criterion
        At least one, with names that differ.
    units, loss, example_inputs, ignore, n_batches, keep_samples, seed, progress
        As in `score_units`.

    Returns
    -------
    criteria : list of Criterion
    scoring : Scoring
        What each of them is called with.

    Raises
    ------
    InputError, InputTypeError, ModelError, TracingError, CalibrationError
        As in `score_units`.
    """
    chosen = [get_criterion(criterion) for criterion in criteria]
    names = [criterion.name for criterion in chosen]
    if not chosen or len(set(names)) < len(names):
        raise InputError(f"criteria are {names}; name at least one, and each once.")
    needed = frozenset().union(*(criterion.statistics for criterion in chosen))
    if data is None and needed:
        first = next(criterion.name for criterion in chosen if criterion.statistics)
        raise CalibrationError(
            f"criterion {first!r} looks at what the network does with data, and there are none; "
            "give batches, or a criterion of weights alone such as 'l2'."
        )
    if example_inputs is None and data is not None and _runs_before(units):
        batch, data = peeked(data)
        example_inputs = inputs_of(batch)
    if isinstance(units, str):
        units = find_units(model, units, example_inputs, ignore=ignore)
    calibration = None
    if needed:
        calibration = calibrate(
            model,
            data,
            units,
            needed,
            loss=loss,
            n_batches=n_batches,
            keep_samples=keep_samples or any(criterion.needs_samples for criterion in chosen),
            progress=progress,
        )
    return chosen, Scoring.of(model, units, calibration, seed, example_inputs)


def _runs_before(units: str | Units) -> bool:
    """Whether the network runs once before all else: to be traced, or to see its sequences."""
    if isinstance(units, str):
        return units in (Kind.CHANNEL, Kind.STATE)
    return any(group.kind is Kind.STATE for group in units)


def peeked(data: Any) -> tuple[Any, Iterable[Any]]:
    """Return the first batch, and data that still begin with it.

    Parameters
    ----------
    data : iterable of batches
        May be a generator.

    Returns
    -------
    batch : object
    data : iterable of batches

    Raises
    ------
    CalibrationError
        If there is no batch.
    InputTypeError
        If it is no iterable of batches.
    """
    iterator = batches(data)
    try:
        first = next(iterator)
    except StopIteration:
        raise CalibrationError("data holds no batch; give at least one.") from None
    if iter(data) is data:  # gone through only once
        return first, chain([first], iterator)
    return first, data


def inputs_of(batch: Any) -> Any:
    """Return what a network takes of a batch.

    Parameters
    ----------
    batch : object
        As in `sigmine_nn.objective`.

    Returns
    -------
    Tensor, tuple or mapping
    """
    if isinstance(batch, Mapping):
        return {key: value for key, value in batch.items() if key != "labels"}
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0]
    return batch
