"""From a network to the miner: which combinations of active units go with an error, by class.

The activations of units are made into items (high, or not), the samples are the rows, what happened
to a sample is the outcome and its class is the stratum. What comes out is a result of the miner,
with its guarantee: the chance of any false combination is at most alpha.

May import: `sigmine`, and everything of `sigmine_nn` but `cli`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sigmine.exceptions import InputError, InputTypeError

from .calibrate import Statistic, calibrate
from .discovery import find_units
from .exceptions import CalibrationError
from .objective import batches
from .units import Units

if TYPE_CHECKING:
    from sigmine.results import PatternResults

__all__ = ["mine_units"]

Outcome = Callable[[Tensor, Tensor], Tensor]


def mine_units(
    model: nn.Module,
    data: object,
    *,
    units: Units | str = "channel",
    outcome: str | Outcome | Sequence[bool] | NDArray[Any] = "error",
    strata: str | Sequence[Any] | NDArray[Any] | None = "class",
    quantile: float = 0.5,
    example_inputs: Any = None,
    n_batches: int | None = None,
    max_length: int | None = 2,
    **options: Any,
) -> PatternResults:
    """Find combinations of highly active units that go with an outcome, given the class.

    Parameters
    ----------
    model : Module
        A network whose outputs are scores of classes, shape (n_samples, n_classes), or anything
        that `outcome` understands; left as it was.
    data : iterable of batches
        Pairs of (inputs, targets); samples that the network has not been trained on.
    units : Units or str, default="channel"
        The units, or what a unit is (see `find_units`).
    outcome : {"error"}, callable or array_like of bool, default="error"
        What is to be explained: that the class with the largest output is not the target; a
        function of (outputs, targets) that returns a truth value for every sample of a batch; or
        one value for every sample.
    strata : {"class"}, None or array_like, default="class"
        What is conditioned on: the target; nothing; or one value for every sample.
    quantile : float, default=0.5
        A unit counts as highly active in a sample if its mean activation over positions is above
        this quantile of the samples.
    example_inputs : Tensor, tuple or mapping, optional
        For `find_units`; by default the inputs of the first batch.
    n_batches : int, optional
        Batches at most.
    max_length : int or None, default=2
        Most units in a combination. Half of the samples have each item, so that longer ones are
        very many.
    **options
        Of `sigmine.mine_matrix`: ``alpha``, ``method``, ``n_jobs``, ``time_limit``, ...

    Returns
    -------
    PatternResults
        Items are named after the units, as ``"conv1.3 high"``.

    Raises
    ------
    CalibrationError
        If the batches are no pairs, or there are none.
    InputError, InputTypeError
        If a value cannot be used, or the outcome is the same for all samples.
    ModelError, TracingError
        As `find_units`.

    Notes
    -----
    The family-wise error rate is controlled at alpha for independence of the activations and the
    outcome within each stratum, given the samples: they must be independent of each other, and of
    the training of the network.
    """
    if not 0.0 < quantile < 1.0:
        raise InputError(f"quantile={quantile!r} must lie between 0 and 1, for example 0.5.")
    held = list(batches(data, n_batches))
    if not held:
        raise CalibrationError("data holds no batch; give at least one.")
    for batch in held:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise CalibrationError(
                f"a batch is a {type(batch).__name__}; mine_units needs pairs of (inputs, targets)."
            )
    if isinstance(units, str):
        first = held[0][0] if example_inputs is None else example_inputs
        units = find_units(model, units, first)
    outcomes: list[Tensor] = []
    listen = callable(outcome) or isinstance(outcome, str)
    function = _outcome_function(outcome) if listen else None

    def watched() -> Iterator[Any]:
        for batch in held:
            targets[:] = [batch[1]]
            yield batch

    targets: list[Tensor] = []

    def note(_: nn.Module, __: Any, output: Tensor) -> None:
        if function is not None:
            found = torch.as_tensor(function(output.detach().cpu(), targets[0].cpu()))
            outcomes.append(found.reshape(-1).bool())

    handle = model.register_forward_hook(note)
    try:
        calibration = calibrate(model, watched(), units, [Statistic.ACTIVATION], keep_samples=True)
    finally:
        handle.remove()
    values = calibration.samples[Statistic.ACTIVATION].numpy()
    y = np.asarray(outcome) if function is None else torch.cat(outcomes).numpy()
    z = _strata(strata, held)
    for name, column in (("outcome", y), ("strata", z)):
        if column is not None and len(column) != len(values):
            raise InputError(
                f"{name} has {len(column)} values for {len(values)} samples; give one a sample."
            )
    columns = {"error" if isinstance(outcome, str) else "outcome": y}
    if z is not None:
        columns["class" if isinstance(strata, str) else "strata"] = z
    return _mined(units, values, columns, quantile, {**options, "max_length": max_length})


def _outcome_function(outcome: Any) -> Outcome:
    if callable(outcome):
        return outcome  # type: ignore[no-any-return]
    if outcome != "error":
        raise InputTypeError(
            f"outcome={outcome!r} is not known; use 'error', a function of (outputs, targets), or "
            "one truth value a sample."
        )

    def is_error(outputs: Tensor, targets: Tensor) -> Tensor:
        if outputs.ndim != 2 or targets.shape != outputs.shape[:1]:
            raise InputError(
                f"outputs have shape {tuple(outputs.shape)} and targets {tuple(targets.shape)}; "
                "outcome='error' needs scores of classes, (n_samples, n_classes), and a class a "
                "sample. Give a function of (outputs, targets) instead."
            )
        return outputs.argmax(dim=1) != targets

    return is_error


def _strata(strata: Any, held: list[Any]) -> NDArray[Any] | None:
    if strata is None:
        return None
    if isinstance(strata, str):
        if strata != "class":
            raise InputTypeError(
                f"strata={strata!r} is not known; use 'class', None, or one value a sample."
            )
        return torch.cat([batch[1].reshape(-1).cpu() for batch in held]).numpy()
    return np.asarray(strata)


def _mined(
    units: Units,
    values: NDArray[np.float32],
    columns: dict[str, NDArray[Any]],
    quantile: float,
    options: dict[str, Any],
) -> PatternResults:
    """Make items of the activations and mine them; the columns are outcome and strata."""
    import pandas as pd

    from sigmine import mine_matrix

    seen = ~np.isnan(values).any(axis=0)
    if not seen.any():
        raise CalibrationError(
            "no unit has activations that can be seen; use units with gates, such as 'channel'."
        )
    numbers = np.flatnonzero(seen)
    high = values[:, seen] > np.quantile(values[:, seen], quantile, axis=0)
    names = [f"{units.name_of(int(unit))} high" for unit in numbers]
    outcome, *strata = (pd.Series(column, name=name) for name, column in columns.items())
    return mine_matrix(
        high, outcome, strata=strata[0] if strata else None, item_names=names, **options
    )
