"""Scores of weights together with what they are multiplied by.

May import: `sigmine_nn.criteria.base` and what lies below it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..calibrate import Statistic
from ..scores import ScoreTable
from ..units import Role
from .base import Scoring, criterion, sum_over_slices

__all__ = ["wanda"]


@criterion(
    "wanda",
    formula="sum over the unit's weights of |w_ij| times the root mean square of input j",
    source="M. Sun, Z. Liu, A. Bair, J. Z. Kolter, A simple and effective pruning approach for "
    "large language models, ICLR 2024, equation 1 (a root mean square for the norm of all inputs)",
    statistics=[Statistic.INPUT_SQUARE],
)
def wanda(scoring: Scoring, *, roles: Sequence[str] = ("out",)) -> ScoreTable:
    """Score weights by their size times that of their input; units by the sum of it.

    Parameters
    ----------
    scoring : Scoring
        With `Statistic.INPUT_SQUARE`.
    roles : sequence of {"out", "in"}, default=("out",)
        Whose weights count.

    Returns
    -------
    ScoreTable
        Not negative; NaN for units without weights of linear layers or convolutions.

    Notes
    -----
    The paper compares the elements of a row of a weight with each other only: elements of one row
    have one scale, those of different layers do not.
    """
    squares = scoring.parameter_means(Statistic.INPUT_SQUARE)
    products = {
        name: scoring.tensors[name].double().abs() * _of_weight(square, scoring.tensors[name])
        for name, square in squares.items()
        if name in scoring.tensors
    }
    total = sum_over_slices(scoring.units, products, [Role(role) for role in roles])
    return ScoreTable(scoring.units, total, "wanda")


def _of_weight(square: Tensor, weight: Tensor) -> Tensor:
    """Return the root mean square of the input of every weight, in a shape like the weight's."""
    root = square.sqrt()
    n_groups = len(root) // weight.shape[1]  # rows of a grouped convolution read their own inputs
    by_row = root.view(n_groups, 1, -1).expand(-1, len(weight) // n_groups, -1).flatten(0, 1)
    return torch.reshape(by_row, (*weight.shape[:2], *[1] * (weight.ndim - 2)))
