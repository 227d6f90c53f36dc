"""Scores of the change of the loss when a unit is removed, to second order.

May import: `sigmine_nn.criteria.base` and what lies below it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..calibrate import Statistic
from ..scores import ScoreTable
from ..units import Role
from .base import Scoring, criterion, sum_over_slices, times_weights

__all__ = ["obd", "obd_ggn"]

_LECUN = "Y. LeCun, J. S. Denker, S. A. Solla, Optimal brain damage, NeurIPS 1989, equation 5"


@criterion(
    "obd",
    formula="sum over the unit of theta^2 h / 2, h the mean squared per-sample gradient",
    source=f"{_LECUN}, with the diagonal of the empirical Fisher information for the Hessian",
    statistics=[Statistic.FISHER],
    needs_loss=True,
)
def obd(scoring: Scoring, *, roles: Sequence[str] = ("out",)) -> ScoreTable:
    """Score units by their saliency under a diagonal curvature.

    Parameters
    ----------
    scoring : Scoring
        With `Statistic.FISHER`.
    roles : sequence of {"out", "in", "norm"}, default=("out",)
        Whose parameters count, biases among them.

    Returns
    -------
    ScoreTable
        Not negative; NaN for units without parameters.

    Notes
    -----
    The saliency assumes a minimum (no gradient) and takes parameters as if they did not interact.
    """
    return _saliency(scoring, "obd", Statistic.FISHER, roles)


@criterion(
    "obd_ggn",
    formula="sum over the unit of theta^2 h / 2, h the diagonal of the Gauss-Newton matrix",
    source=f"{_LECUN}, with the generalised Gauss-Newton matrix for the Hessian",
    statistics=[Statistic.GGN],
    needs_loss=True,
)
def obd_ggn(scoring: Scoring, *, roles: Sequence[str] = ("out",)) -> ScoreTable:
    """Score units as `obd` does, with the diagonal of the generalised Gauss-Newton matrix.

    Parameters
    ----------
    scoring : Scoring
        With `Statistic.GGN`, which needs cross entropy or squared error.
    roles : sequence of {"out", "in", "norm"}, default=("out",)
        As in `obd`.

    Returns
    -------
    ScoreTable
        Not negative; NaN for units without parameters.
    """
    return _saliency(scoring, "obd_ggn", Statistic.GGN, roles)


def _saliency(
    scoring: Scoring, name: str, statistic: Statistic, roles: Sequence[str]
) -> ScoreTable:
    products = times_weights(scoring, statistic, power=2)
    total = sum_over_slices(scoring.units, products, [Role(role) for role in roles], biases=True)
    return ScoreTable(scoring.units, total / 2.0, name)
