"""Scores of the change of the loss when a unit is removed, to first order.

May import: `sigmine_nn.criteria.base` and what lies below it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sigmine.exceptions import InputError

from ..calibrate import Statistic
from ..scores import Aggregate, ScoreTable
from ..units import Role
from .base import Scoring, criterion, sum_over_slices, table_of_statistic, times_weights

__all__ = [
    "gradient_norm",
    "snip",
    "taylor",
    "taylor_absolute",
    "taylor_squared",
    "taylor_weight",
]

_MOLCHANOV = (
    "P. Molchanov, S. Tyree, T. Karras, T. Aila, J. Kautz, Pruning convolutional neural networks "
    "for resource efficient inference, ICLR 2017, equation 8"
)
_MOLCHANOV_2019 = (
    "P. Molchanov, A. Mallya, S. Tyree, I. Frosio, J. Kautz, Importance estimation for neural "
    "network pruning, CVPR 2019"
)


@criterion(
    "taylor",
    formula="|mean over samples of the sum of activation x gradient where the unit is read|",
    source=_MOLCHANOV,
    statistics=[Statistic.TAYLOR],
    needs_loss=True,
)
def taylor(scoring: Scoring) -> ScoreTable:
    """Score units by how much the mean loss changes to first order when they are removed.

    Parameters
    ----------
    scoring : Scoring
        With `Statistic.TAYLOR`.

    Returns
    -------
    ScoreTable
        With a sampling distribution; NaN for units without gates that are no states.
    """
    return table_of_statistic(scoring, Statistic.TAYLOR, "taylor", Aggregate.ABSOLUTE)


@criterion(
    "taylor_absolute",
    formula="mean over samples of |sum of activation x gradient where the unit is read|",
    source=f"{_MOLCHANOV}, with the absolute value of every sample before the mean",
    statistics=[Statistic.ABSOLUTE_TAYLOR],
    needs_loss=True,
)
def taylor_absolute(scoring: Scoring) -> ScoreTable:
    """Score units by how much a sample's loss changes to first order, on average.

    Parameters
    ----------
    scoring : Scoring
        With `Statistic.ABSOLUTE_TAYLOR`.

    Returns
    -------
    ScoreTable
        With a sampling distribution; NaN for units without gates that are no states.

    See Also
    --------
    taylor : where changes of opposite signs in different samples cancel.
    """
    return table_of_statistic(scoring, Statistic.ABSOLUTE_TAYLOR, "taylor_absolute")


@criterion(
    "taylor_squared",
    formula="mean over samples of (sum of activation x gradient where the unit is read)^2",
    source=f"{_MOLCHANOV_2019}, equation 8, of a gate at the unit and of single samples",
    statistics=[Statistic.SQUARED_TAYLOR],
    needs_loss=True,
)
def taylor_squared(scoring: Scoring) -> ScoreTable:
    """Score units by the mean square of how much a sample's loss changes to first order.

    Parameters
    ----------
    scoring : Scoring
        With `Statistic.SQUARED_TAYLOR`.

    Returns
    -------
    ScoreTable
        With a sampling distribution; NaN for units without gates that are no states.
    """
    return table_of_statistic(scoring, Statistic.SQUARED_TAYLOR, "taylor_squared")


@criterion(
    "taylor_weight",
    formula="sum of |theta dL/dtheta|, or |sum of theta dL/dtheta|, over the unit's parameters",
    source=f"{_MOLCHANOV_2019}, equation 8 before squaring; E. S. Lubana, R. P. Dick, A gradient "
    "flow framework for analyzing network pruning, ICLR 2021",
    statistics=[Statistic.GRADIENT],
    needs_loss=True,
)
def taylor_weight(
    scoring: Scoring, *, form: str = "sum_of_absolutes", roles: Sequence[str] = ("out",)
) -> ScoreTable:
    """Score units by their weights times the mean gradient.

    Parameters
    ----------
    scoring : Scoring
        With `Statistic.GRADIENT`.
    form : {"sum_of_absolutes", "absolute_sum"}, default="sum_of_absolutes"
        Every parameter by itself, or the unit as a whole. For units that are read from the output
        of one layer the latter, with its bias, equals `taylor` there.
    roles : sequence of {"out", "in", "norm"}, default=("out",)
        Whose parameters count, biases among them.

    Returns
    -------
    ScoreTable
        NaN for units without such parameters.

    Raises
    ------
    InputError
        For an unknown form.
    """
    forms = ("sum_of_absolutes", "absolute_sum")
    if form not in forms:
        raise InputError(f"form={form!r} is not known; there are {', '.join(forms)}.")
    products = times_weights(scoring, Statistic.GRADIENT)
    each = torch.abs if form == "sum_of_absolutes" else None
    wanted = [Role(role) for role in roles]
    total = sum_over_slices(scoring.units, products, wanted, transform=each, biases=True)
    return ScoreTable(scoring.units, total.abs(), "taylor_weight")


@criterion(
    "snip",
    formula="sum over the unit of |theta dL/dtheta| / sum over all units",
    source="N. Lee, T. Ajanthan, P. H. S. Torr, SNIP, ICLR 2019, equation 6",
    statistics=[Statistic.GRADIENT],
    needs_loss=True,
)
def snip(scoring: Scoring, *, roles: Sequence[str] = ("out",)) -> ScoreTable:
    """Score units by the sensitivity of the loss to their connections.

    Parameters
    ----------
    scoring : Scoring
        With `Statistic.GRADIENT`.
    roles : sequence of {"out", "in"}, default=("out",)
        Whose weights count; biases are no connections.

    Returns
    -------
    ScoreTable
        Not negative, with sum 1 over the units that have a score (0 for all if no weight has a
        gradient); NaN for units without weights.
    """
    total = sum_over_slices(
        scoring.units,
        times_weights(scoring, Statistic.GRADIENT),
        [Role(role) for role in roles],
        transform=torch.abs,
    )
    whole = total.nansum()
    return ScoreTable(scoring.units, total / whole if bool(whole > 0) else total, "snip")


@criterion(
    "gradient_norm",
    formula="mean over samples of the norm of dL/d activation over the unit's positions",
    source="after C. Liu, H. Wu, Channel pruning based on mean gradient for accelerating "
    "convolutional neural networks, Signal Processing 156 (2019); the Euclidean norm is ours",
    statistics=[Statistic.GRADIENT_NORM],
    needs_loss=True,
)
def gradient_norm(scoring: Scoring) -> ScoreTable:
    """Score units by the mean norm of the gradient of the loss by their activations.

    Parameters
    ----------
    scoring : Scoring
        With `Statistic.GRADIENT_NORM`.

    Returns
    -------
    ScoreTable
        With a sampling distribution; NaN for units without gates.
    """
    return table_of_statistic(scoring, Statistic.GRADIENT_NORM, "gradient_norm")
