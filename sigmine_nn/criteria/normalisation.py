"""Scores of the scale and the shift that a batch normalisation gives a unit; no data.

May import: `sigmine_nn.criteria.base` and what lies below it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..scores import ScoreTable
from ..units import Role
from .base import Scoring, criterion, sum_over_slices

__all__ = ["bn_scale", "bn_shift"]


@criterion(
    "bn_scale",
    formula="mean of |gamma| over the batch normalisations of the unit",
    source="Z. Liu, J. Li, Z. Shen, G. Huang, S. Yan, C. Zhang, Learning efficient convolutional "
    "networks through network slimming, ICCV 2017",
)
def bn_scale(scoring: Scoring) -> ScoreTable:
    """Score units by the scale of their batch normalisation.

    Parameters
    ----------
    scoring : Scoring
        The weights and buffers: batch normalisations are known by their running variance.

    Returns
    -------
    ScoreTable
        NaN for units without batch normalisation (or with one that has no scale or no running
        statistics).
    """
    return _mean_of(scoring, "bn_scale", "weight", torch.abs)


@criterion(
    "bn_shift",
    formula="mean of |beta| over the batch normalisations of the unit",
    source="after Z. Huang, W. Shao, X. Wang, L. Lin, P. Luo, Rethinking the pruning criteria for "
    "convolutional neural network, NeurIPS 2021",
)
def bn_shift(scoring: Scoring, *, signed: bool = False) -> ScoreTable:
    """Score units by the shift of their batch normalisation.

    Parameters
    ----------
    scoring : Scoring
        The weights and buffers, as in `bn_scale`.
    signed : bool, default=False
        Whether the shift itself is the score, not its absolute value. Behind a ReLU a unit with a
        shift far below 0 is silent.

    Returns
    -------
    ScoreTable
        NaN for units without batch normalisation (or with one that has no shift or no running
        statistics).
    """
    return _mean_of(scoring, "bn_shift", "bias", None if signed else torch.abs)


def _mean_of(
    scoring: Scoring, name: str, attribute: str, transform: Callable[[Tensor], Tensor] | None
) -> ScoreTable:
    """Score units by the mean of a parameter of their batch normalisations."""
    values = {
        piece.parameter: scoring.tensors[piece.parameter]
        for group in scoring.units
        for piece in group.with_role(Role.NORM)
        if piece.parameter in scoring.tensors
        and piece.parameter.rpartition(".")[2] == attribute
        and _running(piece.parameter) in scoring.tensors
    }
    ones = {name: torch.ones_like(value) for name, value in values.items()}
    total = sum_over_slices(scoring.units, values, [Role.NORM], transform=transform, biases=True)
    count = sum_over_slices(scoring.units, ones, [Role.NORM], biases=True)
    return ScoreTable(scoring.units, total / count, name)


def _running(parameter: str) -> str:
    module, dot, _ = parameter.rpartition(".")
    return f"{module}{dot}running_var"
