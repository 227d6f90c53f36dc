"""Scores of the size of weights; no data, and so no sampling distribution.

May import: `sigmine_nn.criteria.base` and what lies below it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sigmine.ranking import tail_normalise

from ..scores import ScoreTable
from ..units import Role
from .base import Scoring, criterion, sum_over_slices

__all__ = ["l1", "l2", "lamp"]


@criterion(
    "l1",
    formula="sum of |w| over the weights that compute the unit",
    source="H. Li, A. Kadav, I. Durdanovic, H. Samet, H. P. Graf, Pruning filters for efficient "
    "ConvNets, ICLR 2017",
)
def l1(scoring: Scoring, *, roles: Sequence[str] = ("out",)) -> ScoreTable:
    """Score units by the L1 norm of their weights.

    Parameters
    ----------
    scoring : Scoring
        The weights.
    roles : sequence of {"out", "in"}, default=("out",)
        Whose weights count: of the layers that compute the unit, and of those that read it.

    Returns
    -------
    ScoreTable
    """
    total = sum_over_slices(
        scoring.units, scoring.tensors, [Role(r) for r in roles], transform=torch.abs
    )
    return ScoreTable(scoring.units, total, "l1")


@criterion(
    "l2",
    formula="square root of the sum of w^2 over the weights that compute the unit",
    source="Y. He, G. Kang, X. Dong, Y. Fu, Y. Yang, Soft filter pruning, IJCAI 2018",
)
def l2(scoring: Scoring, *, roles: Sequence[str] = ("out",)) -> ScoreTable:
    """Score units by the L2 norm of their weights.

    Parameters
    ----------
    scoring : Scoring
        The weights.
    roles : sequence of {"out", "in"}, default=("out",)
        As in `l1`.

    Returns
    -------
    ScoreTable
    """
    return ScoreTable(scoring.units, _squares(scoring, roles).sqrt(), "l2")


@criterion(
    "lamp",
    formula="sum of w^2 over the unit / the same of it and all larger units of its group",
    source="J. Lee, S. Park, S. Mo, S. Ahn, J. Shin, Layer-adaptive sparsity for the "
    "magnitude-based pruning, ICLR 2021, equation 4",
)
def lamp(scoring: Scoring, *, roles: Sequence[str] = ("out",)) -> ScoreTable:
    """Score units by their squared weights, on a scale that layers share.

    Parameters
    ----------
    scoring : Scoring
        The weights.
    roles : sequence of {"out", "in"}, default=("out",)
        As in `l1`.

    Returns
    -------
    ScoreTable
        In [0, 1]; the order within a group is that of `l2`. NaN for units without weights.

    See Also
    --------
    sigmine.ranking.tail_normalise : the scale, for any score.
    """
    squares = _squares(scoring, roles)
    score = torch.full_like(squares, torch.nan)
    defined = {
        name: torch.from_numpy(units).to(squares.device)
        for name, units in scoring.units.scopes.items()
        if not bool(squares[units[0]].isnan())  # defined for all units of a group, or for none
    }
    for where in defined.values():
        score[where] = tail_normalise(squares[where])
    return ScoreTable(scoring.units, score, "lamp")


def _squares(scoring: Scoring, roles: Sequence[str]) -> Tensor:
    """Return the sum of the squared weights of every unit."""
    return sum_over_slices(
        scoring.units,
        scoring.tensors,
        [Role(r) for r in roles],
        transform=lambda weight: weight.abs().double().square(),
    )
