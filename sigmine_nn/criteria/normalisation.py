"""Scores of the scale that a batch normalisation gives a unit; no data.

May import: `sigmine_nn.criteria.base` and what lies below it.
"""

from __future__ import annotations

import torch

from ..scores import ScoreTable
from ..units import Role
from .base import Scoring, criterion, sum_over_slices

__all__ = ["bn_scale"]


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
    scales = {
        piece.parameter: scoring.tensors[piece.parameter]
        for group in scoring.units
        for piece in group.with_role(Role.NORM)
        if piece.parameter in scoring.tensors
        and piece.parameter.rpartition(".")[2] == "weight"
        and _running(piece.parameter) in scoring.tensors
    }
    ones = {name: torch.ones_like(scale) for name, scale in scales.items()}
    total = sum_over_slices(scoring.units, scales, [Role.NORM], transform=torch.abs, biases=True)
    count = sum_over_slices(scoring.units, ones, [Role.NORM], biases=True)
    return ScoreTable(scoring.units, total / count, "bn_scale")


def _running(weight: str) -> str:
    module, dot, _ = weight.rpartition(".")
    return f"{module}{dot}running_var"
