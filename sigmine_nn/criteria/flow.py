"""Scores of what removing a unit does to the flow of gradients, or of signals, in the network.

May import: `sigmine_nn.criteria.base` and what lies below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from sigmine.exceptions import InputError

from ..calibrate import Statistic
from ..scores import ScoreTable
from ..units import Role
from .base import Scoring, criterion, sum_over_slices, times_weights

__all__ = ["Direction", "grasp", "synflow"]


class Direction(StrEnum):
    """What removing units is to do to the norm of the gradient."""

    INCREASE = "increase"
    """Units go whose removal raises it most."""
    DECREASE = "decrease"
    """Units go whose removal lowers it most."""
    PRESERVE = "preserve"
    """Units go whose removal changes it least."""


@criterion(
    "grasp",
    formula="sum over the unit of theta (H g)_theta; its negative; or its absolute value",
    source="C. Wang, G. Zhang, R. Grosse, Picking winning tickets before training by preserving "
    "gradient flow, ICLR 2020, equation 8 (increase); E. S. Lubana, R. P. Dick, A gradient flow "
    "framework for analyzing network pruning, ICLR 2021 (preserve)",
    statistics=[Statistic.HESSIAN_GRADIENT],
    needs_loss=True,
)
def grasp(
    scoring: Scoring,
    *,
    direction: str = "increase",
    roles: Sequence[str] = ("out", "in", "norm"),
) -> ScoreTable:
    """Score units by the first-order change of the gradient's norm when they are removed.

    Parameters
    ----------
    scoring : Scoring
        With `Statistic.HESSIAN_GRADIENT`.
    direction : {"increase", "decrease", "preserve"}, default="increase"
        See `Direction`; "increase" is the sign of the paper.
    roles : sequence of {"out", "in", "norm"}, default=all
        Whose parameters count, biases among them: all that goes with the unit.

    Returns
    -------
    ScoreTable
        May be negative. NaN for units without parameters.

    Raises
    ------
    InputError
        For an unknown direction.

    Notes
    -----
    Removing a unit moves its parameters by -theta, and half the squared norm of the gradient by
    minus the sum of theta (H g)_theta to first order. The temperature of the paper's logits, and
    its fresh initialisation of linear layers, are left out: these scores are of the network given.
    """
    try:
        direction = Direction(direction)
    except ValueError:
        known = ", ".join(Direction)
        raise InputError(f"direction={direction!r} is not known; there are {known}.") from None
    total = sum_over_slices(
        scoring.units,
        times_weights(scoring, Statistic.HESSIAN_GRADIENT),
        [Role(role) for role in roles],
        biases=True,
    )
    if direction is Direction.PRESERVE:
        total = total.abs()
    return ScoreTable(scoring.units, -total if direction is Direction.DECREASE else total, "grasp")


@criterion(
    "synflow",
    formula="sum over the unit of |theta| dR/d|theta|, R the sum of outputs of the network of "
    "absolute weights for ones",
    source="H. Tanaka, D. Kunin, D. L. K. Yamins, S. Ganguli, Pruning neural networks without any "
    "data by iteratively conserving synaptic flow, NeurIPS 2020, equation 2",
    statistics=[Statistic.SYNAPTIC_FLOW],
)
def synflow(scoring: Scoring, *, roles: Sequence[str] = ("out",)) -> ScoreTable:
    """Score units by the synaptic flow through their weights.

    Parameters
    ----------
    scoring : Scoring
        With `Statistic.SYNAPTIC_FLOW`, for which one batch gives the shape of the inputs.
    roles : sequence of {"out", "in"}, default=("out",)
        Whose weights count; biases do not.

    Returns
    -------
    ScoreTable
        Not negative; NaN for units without weights.
    """
    flow = scoring.parameter_means(Statistic.SYNAPTIC_FLOW)
    total = sum_over_slices(scoring.units, flow, [Role(role) for role in roles])
    return ScoreTable(scoring.units, total, "synflow")
