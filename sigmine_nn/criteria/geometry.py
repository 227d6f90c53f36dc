"""Scores of where the weights of a unit lie among those of the others; no data.

May import: `sigmine_nn.criteria.base` and what lies below it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..scores import ScoreTable
from ..units import Kind, Role, UnitGroup
from .base import Scoring, Weights, criterion

__all__ = ["fermat", "geometric_median"]

# Numbers in the distances that are looked at together.
_ROOM = 2**24


@criterion(
    "geometric_median",
    formula="sum over the other units of the group of the Euclidean distance of their weights",
    source="Y. He, P. Liu, Z. Wang, Z. Hu, Y. Yang, Filter pruning via geometric median for deep "
    "convolutional neural networks acceleration, CVPR 2019, equation 8",
)
def geometric_median(scoring: Scoring, *, roles: Sequence[str] = ("out",)) -> ScoreTable:
    """Score units by their distance from all others of their group: near ones are replaceable.

    Parameters
    ----------
    scoring : Scoring
        The weights.
    roles : sequence of {"out", "in"}, default=("out",)
        Whose weights count, as in `l1`. Those of several layers are put side by side.

    Returns
    -------
    ScoreTable
        NaN for single elements, and for groups without such weights.

    Notes
    -----
    Distances are between the weights, not between their absolute values: a filter and its negative
    are far apart. Time is quadratic in the units of a group.
    """

    def total(weights: Tensor) -> Tensor:
        step = max(1, _ROOM // len(weights))
        # Differences, not products: equal filters have distance 0 exactly.
        return torch.cat(
            [
                torch.cdist(part, weights, compute_mode="donot_use_mm_for_euclid_dist").sum(dim=1)
                for part in torch.split(weights, step)
            ]
        )

    return _by_group(scoring, "geometric_median", roles, total)


@criterion(
    "fermat",
    formula="Euclidean distance of the unit's weights from the geometric median of its group",
    source="Z. Huang, W. Shao, X. Wang, L. Lin, P. Luo, Rethinking the pruning criteria for "
    "convolutional neural network, NeurIPS 2021; the median by E. Weiszfeld, 1937",
)
def fermat(
    scoring: Scoring, *, roles: Sequence[str] = ("out",), n_iterations: int = 100
) -> ScoreTable:
    """Score units by their distance from the Fermat point of the weights of their group.

    Parameters
    ----------
    scoring : Scoring
        The weights.
    roles : sequence of {"out", "in"}, default=("out",)
        As in `geometric_median`.
    n_iterations : int, default=100
        Of Weiszfeld's algorithm, at most; it ends when the point moves less than 1e-10 of the mean
        distance.

    Returns
    -------
    ScoreTable
        NaN for single elements, and for groups without such weights.

    Notes
    -----
    The Fermat point is the point with the smallest sum of distances from all units.
    """
    return _by_group(
        scoring,
        "fermat",
        roles,
        lambda weights: (weights - _fermat_point(weights, n_iterations)).norm(dim=1),
    )


def _fermat_point(points: Tensor, n_iterations: int) -> Tensor:
    """Return the point with the smallest sum of distances, shape (d,)."""
    point = points.mean(dim=0)
    for _ in range(n_iterations):
        distance = (points - point).norm(dim=1)
        scale = float(distance.mean())
        if scale == 0.0:  # all points are one
            return point
        # Weiszfeld's step is not defined at one of the points themselves.
        pull = 1.0 / distance.clamp(min=1e-12 * scale)
        following = (pull @ points) / pull.sum()
        moved = float((following - point).norm())
        point = following
        if moved <= 1e-10 * scale:
            break
    return point


def _by_group(
    scoring: Scoring, name: str, roles: Sequence[str], of_group: Callable[[Tensor], Tensor]
) -> ScoreTable:
    """Score every group by a function of its weights, shape (n_units, fan)."""
    wanted = [Role(role) for role in roles]
    parts = []
    for group in scoring.units:
        weights = _vectors(group, scoring.tensors, wanted)
        if weights is None:
            parts.append(torch.full((group.n_units,), torch.nan, dtype=torch.float64))
        else:
            parts.append(of_group(weights).cpu())
    device = next(iter(scoring.tensors.values())).device
    return ScoreTable(scoring.units, torch.cat(parts).to(device), name)


def _vectors(group: UnitGroup, tensors: Weights, roles: Sequence[Role]) -> Tensor | None:
    """Return the weights of every unit side by side, shape (n_units, fan), in float64."""
    if group.kind is Kind.ELEMENT:
        return None
    columns = []
    for piece in group.with_role(*roles):
        tensor = tensors.get(piece.parameter)
        if tensor is None or tensor.ndim < 2 or piece.axis is None:
            continue
        tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        rows = tensor.detach().double().movedim(piece.axis, 0).flatten(1)
        if piece.index is not None:
            rows = rows[torch.from_numpy(piece.index).to(rows.device)].flatten(1)
        columns.append(rows)
    return torch.cat(columns, dim=1) if columns else None
