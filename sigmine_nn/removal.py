"""Is a unit safe to remove? Paired one-sided tests with units masked, one by one.

The risk of every sample (its loss, or whether its class is wrong) is taken with and without a unit.
The null hypothesis is that removal costs the margin or more on average; what rejects it is safe to
remove, at a stated error rate.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.masks`, `sigmine_nn.risks`,
`sigmine_nn.noninferiority`.
"""

# ruff: noqa: PT028 (functions that are named as tests are not tests of ours)

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from sigmine._checks import one_of, open_unit
from sigmine.exceptions import InputError

from .exceptions import CalibrationError
from .masks import Masks
from .noninferiority import CORRECTIONS, TESTS, NonInferiority, noninferiority
from .objective import batches, moved
from .risks import Metric, RiskOf
from .state import unchanged
from .units import Units

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "RemovalRisks",
    "RemovalTest",
    "checked_test",
    "keep_mask",
    "no_test_of_ours",
    "removal_risks",
    "test_removal",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Function = TypeVar("Function", bound=Callable[..., Any])


def no_test_of_ours(function: Function) -> Function:
    """Tell pytest that a function is not one of its tests, for all its name.

    Parameters
    ----------
    function : callable
        Whose name begins with ``test_``.

    Returns
    -------
    callable
        The same.
    """
    function.__test__ = False  # type: ignore[attr-defined]
    return function


# -- With and without ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RemovalRisks:
    """The risk of every sample with the whole network, and with units removed.

    Attributes
    ----------
    metric : str
        What the risk is.
    before : ndarray of float64, shape (n_samples,)
        Of the whole network.
    after : ndarray of float64, shape (n_samples, n_removals)
        With each set of units removed.
    """

    metric: str
    before: Floats = field(repr=False)
    after: Floats = field(repr=False)

    @property
    def differences(self) -> Floats:
        """What each sample costs more, shape (n_samples, n_removals)."""
        return self.after - self.before[:, None]


def removal_risks(
    model: nn.Module,
    data: object,
    units: Units,
    keeps: Sequence[ArrayLike],
    *,
    metric: Metric = "loss",
    loss: str | Callable[..., Tensor] | None = None,
    n_batches: int | None = None,
    progress: bool | None = False,
) -> RemovalRisks:
    """Return the risk of every sample with and without sets of units.

    Parameters
    ----------
    model : Module
        The network, asked in evaluation mode; left exactly as it was found.
    data : iterable of batches
        As in `calibrate`; taken once.
    units : Units
        Of this model.
    keeps : sequence of array_like of bool, each of shape (n_units,)
        The units that stay, for each set.
    metric : {"loss", "accuracy"} or callable, default="loss"
        As in `RiskOf`.
    loss : str, callable or None, default=None
        As in `calibrate`; for "loss".
    n_batches : int or None, default=None
        Batches at most.
    progress : bool or None, default=False
        Whether to show a bar on stderr; None: on a terminal.

    Returns
    -------
    RemovalRisks

    Raises
    ------
    CalibrationError
        If there is no batch, or a risk is no finite number.
    InputError
        If there is no set, or one is not a truth value for every unit.

    Notes
    -----
    Time: a forward pass of every batch for each set, and one more. Memory: 8 bytes a sample and
    set.
    """
    sets = [keep_mask(units, keep) for keep in keeps]
    if not sets:
        raise InputError("there is no set of units to remove; give at least one.")
    return _risks(model, data, units, sets, RiskOf(metric, loss), n_batches, progress)


def _risks(
    model: nn.Module,
    data: object,
    units: Units,
    sets: Sequence[Bools | int],
    risk_of: RiskOf,
    n_batches: int | None,
    progress: bool | None,
) -> RemovalRisks:
    """Return the risks; a set is a mask of what stays, or the number of the one unit that goes."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    before, after = [], []
    whole = np.ones(units.n, dtype=bool)
    with unchanged(model), _masked(model, units) as masks, _bar(progress) as step:
        for batch in batches(data, n_batches):
            batch = moved(batch, device)
            masks.set(whole)
            before.append(risk_of(model, batch))
            columns = []
            for removed in sets:
                keep = removed
                if isinstance(keep, int):
                    keep = whole.copy()
                    keep[removed] = False
                masks.set(keep)
                columns.append(risk_of(model, batch))
            after.append(np.stack(columns, axis=1))
            step(len(sets))
    if not before:
        raise CalibrationError("data holds no batch; give at least one.")
    return RemovalRisks(risk_of.name, np.concatenate(before), np.concatenate(after))


@contextmanager
def _masked(model: nn.Module, units: Units) -> Iterator[Masks]:
    model.eval()
    masks = Masks(model, units)
    try:
        yield masks
    finally:
        masks.remove()


@contextmanager
def _bar(progress: bool | None) -> Iterator[Callable[[int], object]]:
    if progress is False:
        yield lambda _: None
        return
    from tqdm import tqdm

    disable = None if progress is None else not progress
    with tqdm(desc="removing", unit="removal", file=sys.stderr, disable=disable) as bar:
        yield bar.update


def keep_mask(units: Units, keep: ArrayLike) -> Bools:
    """Check what stays.

    Parameters
    ----------
    units : Units
        The units.
    keep : array_like of bool, shape (n_units,)
        Whether each stays.

    Returns
    -------
    ndarray of bool, shape (n_units,)

    Raises
    ------
    InputError
        If it is none.
    """
    values = np.asarray(keep)
    if values.shape != (units.n,) or values.dtype != np.bool_:
        raise InputError(
            f"keep has shape {values.shape} and dtype {values.dtype}; it must hold True or False "
            f"for each of {units.n} units."
        )
    return values


# -- One by one -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RemovalTest:
    """Which units can be removed, each by itself, for less than a margin.

    Attributes
    ----------
    units : Units
        The units of the model.
    tested : ndarray of int64, shape (n_tested,)
        Numbers of those that were tested.
    metric : str
        What the risk was.
    risk : float
        Mean risk of the whole network on the test data.
    result : NonInferiority
        Increases, bounds and p-values, in the order of `tested`.
    """

    units: Units = field(repr=False)
    tested: NDArray[np.int64] = field(repr=False)
    metric: str
    risk: float
    result: NonInferiority

    @property
    def removable(self) -> Bools:
        """Whether removing the unit alone is shown to cost less than the margin, (n_units,)."""
        out = np.zeros(self.units.n, dtype=bool)
        out[self.tested] = self.result.accepted
        return out

    def to_frame(self) -> pd.DataFrame:
        """Return a row for every unit that was tested.

        Returns
        -------
        DataFrame
            Columns ``unit``, ``layer``, ``index``, ``kind``, ``increase``, ``standard_error``,
            ``ci_high``, ``pvalue``, ``pvalue_adjusted``, ``removable``.
        """
        frame = self.units.frame().iloc[self.tested].reset_index(drop=True)
        for name in ("increase", "standard_error", "ci_high", "pvalue", "pvalue_adjusted"):
            frame[name] = getattr(self.result, name)
        frame["removable"] = self.result.accepted
        return frame


@no_test_of_ours
def test_removal(
    model: nn.Module,
    data: object,
    units: Units,
    *,
    margin: float,
    loss: str | Callable[..., Tensor] | None = None,
    metric: Metric = "loss",
    which: Sequence[int] | NDArray[np.int64] | None = None,
    test: str | None = None,
    correction: str = "holm",
    level: float = 0.05,
    n_flips: int = 10_000,
    seed: int = 0,
    n_batches: int | None = None,
    progress: bool | None = False,
) -> RemovalTest:
    """Test for every unit whether removing it costs less than a margin.

    Parameters
    ----------
    model : Module
        The network, asked in evaluation mode; left exactly as it was found.
    data : iterable of batches
        Other data than those that chose the units in `which`: see `split_data`.
    units : Units
        Of this model.
    margin : float
        Mean increase of the risk per sample that would be too much; in the unit of the metric (for
        "accuracy", 0.01 is one percentage point).
    loss : str, callable or None, default=None
        As in `calibrate`; for metric "loss".
    metric : {"loss", "accuracy"} or callable, default="loss"
        The risk of a sample, as in `RiskOf`.
    which : sequence of int, optional
        Numbers of the units to test; all by default. Fewer tests are corrected for less.
    test : {"t", "sign-flip", "exact"}, optional
        As in `noninferiority`; "exact" for metric "accuracy" and "t" for others by default.
    correction : {"holm", "benjamini-hochberg", "bonferroni", "westfall-young", "none"}
        As in `noninferiority`; default "holm".
    level : float, default=0.05
        Of the error rate, in (0, 1).
    n_flips, seed : int
        Of sign flips, where they are used.
    n_batches : int or None, default=None
        Batches at most.
    progress : bool or None, default=False
        Whether to show a bar on stderr; None: on a terminal.

    Returns
    -------
    RemovalTest

    Raises
    ------
    CalibrationError
        If there is no batch, or a risk is no finite number.
    InputError
        If a parameter cannot be used.

    See Also
    --------
    test_nested_removal : how many units can be removed *together*.

    Notes
    -----
    Each test is about one unit removed from the whole network. That all removable units can be
    removed together is **not** implied: two that stand in for each other are removable each, and
    not both. `test_joint_removal` and `test_nested_removal` are about sets.

    Time: a forward pass of all data for each unit that is tested.
    """
    numbers = _checked_units(units, which)
    test = checked_test(test, metric, correction, level)
    risks = _risks(model, data, units, numbers, RiskOf(metric, loss), n_batches, progress)
    result = noninferiority(
        risks.differences, margin, test=test, correction=correction, level=level,
        n_flips=n_flips, seed=seed,
    )  # fmt: skip
    mean = float(risks.before.mean())
    return RemovalTest(units, np.asarray(numbers, dtype=np.int64), risks.metric, mean, result)


def _checked_units(units: Units, which: Sequence[int] | NDArray[np.int64] | None) -> list[int]:
    if which is None:
        return list(range(units.n))
    numbers = np.asarray(which)
    whole = numbers.ndim == 1 and numbers.size > 0 and np.issubdtype(numbers.dtype, np.integer)
    if not whole or (numbers < 0).any() or (numbers >= units.n).any():
        raise InputError(
            f"which={which!r} cannot be used; name the units by their numbers, from 0 to "
            f"{units.n - 1}, at least one."
        )
    if len(np.unique(numbers)) < len(numbers):
        raise InputError("which names a unit twice; name each once.")
    return [int(number) for number in numbers]


def checked_test(test: str | None, metric: Metric, correction: str, level: float) -> str:
    """Check what would otherwise be found out only after the work.

    Parameters
    ----------
    test : str or None
        Name of a test, or the one that goes with the metric.
    metric, correction, level
        As in `test_removal`.

    Returns
    -------
    str
        The test.

    Raises
    ------
    InputError
        For what is not known or out of range.
    """
    one_of("correction", correction, CORRECTIONS)
    open_unit("level", level, "0.05")
    if test is None:
        exact = metric == "accuracy" and correction != "westfall-young"
        return "exact" if exact else "t"
    return one_of("test", test, TESTS)
