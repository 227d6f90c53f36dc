"""Where the budget goes: which units are ranked together, and how much goes from each place.

Units that are ranked together form a *scope*: all of them, the units of a layer, or layers of equal
structure. An *allocation* says which fraction of every scope is removed. Both are settled here,
before any score is looked at; `selection` does the rest.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.scores`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sigmine import ranking
from sigmine._checks import real_number
from sigmine.exceptions import InputError, InputTypeError

from .exceptions import ModelError
from .scores import ScoreTable
from .units import Role, UnitGroup, Units

__all__ = [
    "Allocation",
    "AllocationLike",
    "Budget",
    "ScopeLike",
    "comparable_scores",
    "erk_densities",
    "fraction",
    "isomorphic_groups",
    "make_budget",
]


class Allocation(StrEnum):
    """How the budget is divided among layers."""

    UNIFORM = "uniform"
    """The same fraction of every layer."""
    ERK = "erk"
    """Erdos-Renyi-Kernel: small layers stay denser than large ones; see `erk_densities`."""
    ISOMORPHIC = "isomorphic"
    """The same fraction of all layers of equal structure, which are ranked together; see
    `isomorphic_groups`."""


ScopeLike: TypeAlias = str | Mapping[str, Sequence[str]]
AllocationLike: TypeAlias = str | Mapping[str, float] | None

_AMOUNT = "the fraction removed, at least 0 and less than 1, such as 0.5"


def fraction(name: str, value: object) -> float:
    """Return a fraction that may be removed.

    Parameters
    ----------
    name : str
        Of the parameter, for the message.
    value : float
        In [0, 1).

    Returns
    -------
    float

    Raises
    ------
    InputError, InputTypeError
        If it is none.
    """
    number = real_number(name, value, 0.0, 1.0, _AMOUNT)
    if number == 1.0:
        raise InputError(f"{name}={value!r} would remove everything; give {_AMOUNT}.")
    return number


@dataclass(frozen=True)
class Budget:
    """Scopes, and how a fraction of the whole is divided among them.

    Attributes
    ----------
    scopes : mapping of str to tuple of str
        Name of every scope and of its groups, in the order of the units.
    sizes : mapping of str to int
        Units of every scope.
    raw : mapping of str to float, or None
        Densities of the scopes up to a common factor (ERK); None for equal ones.
    fixed : mapping of str to float
        Fractions that do not follow the fraction of the whole.
    """

    scopes: Mapping[str, tuple[str, ...]]
    sizes: Mapping[str, int]
    raw: Mapping[str, float] | None = None
    fixed: Mapping[str, float] | None = None

    def amounts(self, amount: float) -> dict[str, float]:
        """Return the fraction to remove of every scope.

        Parameters
        ----------
        amount : float
            Of the whole, in [0, 1].

        Returns
        -------
        dict of str to float
            Each in [0, 1], none of which falls as `amount` grows.
        """
        if self.raw is not None:
            sizes = [self.sizes[name] for name in self.scopes]
            raw = [self.raw[name] for name in self.scopes]
            densities = _densities(np.array(raw), np.array(sizes), 1.0 - amount)
            return dict(zip(self.scopes, (1.0 - densities).tolist(), strict=True))
        return dict.fromkeys(self.scopes, amount) | dict(self.fixed or {})


def make_budget(
    units: Units, scope: ScopeLike = "global", allocation: AllocationLike = None
) -> Budget:
    """Settle the scopes and how the budget is divided among them.

    Parameters
    ----------
    units : Units
        The units.
    scope : {"global", "layer"}, or mapping of str to sequence of str, default="global"
        One ranking of all units; each group by itself; or names of scopes with the names of their
        groups, which together name every group once.
    allocation : {"uniform", "erk", "isomorphic"}, or mapping of str to float, optional
        The same fraction of every scope; each layer its own share; or, by name of a scope (with
        "global" and "layer": of a group), the fraction removed; those not named follow the common
        amount. None is "uniform", but leaves the scope "global" what it is; every other allocation
        divides it into layers.

    Returns
    -------
    Budget

    Raises
    ------
    InputError, InputTypeError
        For a scope or an allocation that is not known, or that do not go together.
    ModelError
        For a group that is not there.
    """
    by_layer: dict[str, tuple[str, ...]] = {name: (name,) for name in units.names}
    if isinstance(scope, Mapping):
        scopes = _named_scopes(units, scope)
    elif scope == "layer" or (scope == "global" and allocation is not None):
        scopes = by_layer
    elif scope == "global":
        scopes = {"global": tuple(units.names)}
    else:
        raise InputError(
            f"scope={scope!r} is not known; choose 'global', 'layer', or a mapping of names to "
            "names of groups."
        )
    if isinstance(allocation, Mapping):
        fixed = _fixed_amounts(scopes, allocation)
        return Budget(scopes, _sizes(units, scopes), fixed=fixed)
    if allocation is None or allocation == Allocation.UNIFORM:
        return Budget(scopes, _sizes(units, scopes))
    if allocation not in list(Allocation):
        raise InputError(
            f"allocation={allocation!r} is not known; choose one of "
            f"{', '.join(map(str, Allocation))}, or a mapping of names to fractions."
        )
    if isinstance(scope, Mapping):
        raise InputError(
            f"allocation={str(allocation)!r} makes scopes of its own, and scope names "
            f"{', '.join(scope)}; leave scope out, or use allocation='uniform'."
        )
    if allocation == Allocation.ISOMORPHIC:
        scopes = isomorphic_groups(units)
        return Budget(scopes, _sizes(units, scopes))
    raw = {group.name: _raw_density(_main_shape(units, group)) for group in units}
    return Budget(by_layer, _sizes(units, by_layer), raw=raw)


def _sizes(units: Units, scopes: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    return {
        name: sum(len(units.range_of(group)) for group in groups) for name, groups in scopes.items()
    }


def _named_scopes(units: Units, scope: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the scopes that a caller has named, groups in the order of the units."""
    named: list[str] = []
    for name, groups in scope.items():
        if isinstance(groups, str) or not groups:
            raise InputTypeError(
                f"scope {name!r} holds {groups!r}; give a list of at least one name of a group."
            )
        named += groups
    if unknown := sorted(set(named) - set(units.names)):
        units.range_of(unknown[0])  # says what there is
    if len(named) != len(units) or len(set(named)) != len(units):
        missing = sorted(set(units.names) - set(named))
        twice = sorted({name for name in named if named.count(name) > 1})
        raise InputError(
            "scopes must name every group once; "
            + (f"{', '.join(missing)} is missing" if missing else f"{', '.join(twice)} is repeated")
            + ". Put what is not to be cut into a scope of its own, with an allocation of 0."
        )
    return {name: tuple(g for g in units.names if g in set(scope[name])) for name in scope}


def _fixed_amounts(
    scopes: Mapping[str, tuple[str, ...]], allocation: Mapping[str, float]
) -> dict[str, float]:
    if unknown := sorted(set(allocation) - set(scopes)):
        raise ModelError(
            f"allocation names {unknown[0]!r}, which is no scope; there are "
            f"{', '.join(list(scopes)[:20])}{', ...' if len(scopes) > 20 else ''}."
        )
    return {name: fraction(f"allocation[{name!r}]", value) for name, value in allocation.items()}


# -- Erdos-Renyi-Kernel ------------------------------------------------------------------------


def erk_densities(
    shapes: Sequence[Sequence[int]], density: float, sizes: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Return the share of every layer that stays under the Erdos-Renyi-Kernel allocation.

    Parameters
    ----------
    shapes : sequence of sequence of int
        Of the weight of every layer: out, in, and the kernel.
    density : float
        Share of all that stays, in (0, 1].
    sizes : sequence of int, optional
        What is counted in every layer; the entries of its weight by default.

    Returns
    -------
    ndarray of float64, shape (n_layers,)
        In (0, 1]; weighted by `sizes` their mean is `density`.

    Raises
    ------
    InputError
        For no layers, a weight with fewer than 1 entry or `sizes` of another length.

    Notes
    -----
    The density of a layer is proportional to the sum of the sizes of its weight over their product
    (Erdos and Renyi's random graphs for linear layers [1]_, with the kernel for convolutions
    [2]_). Where that exceeds 1 the layer stays whole, and the factor is found again for the rest.

    References
    ----------
    .. [1] D. C. Mocanu et al., "Scalable training of artificial neural networks with adaptive
       sparse connectivity inspired by network science", Nature Communications 9 (2018) 2383,
       arXiv:1707.04780.
    .. [2] U. Evci et al., "Rigging the lottery: making all tickets winners", ICML (2020),
       arXiv:1911.11134, section 3.

    Examples
    --------
    >>> erk_densities([(10, 10), (100, 100)], 0.1).round(3).tolist()
    [0.918, 0.092]
    """
    counts = [math.prod(shape) for shape in shapes] if sizes is None else list(sizes)
    if not counts or len(counts) != len(shapes) or min(math.prod(s) for s in shapes) < 1:
        raise InputError(
            f"shapes={[tuple(s) for s in shapes]} and sizes={sizes}; give the shape of the weight "
            "of at least one layer, no size of it 0, and as many sizes."
        )
    density = real_number("density", density, 0.0, 1.0, "the share that stays, in (0, 1]")
    return _densities(np.array([_raw_density(s) for s in shapes]), np.array(counts), density)


def _raw_density(shape: Sequence[int]) -> float:
    return sum(shape) / math.prod(shape)


def _densities(
    raw: NDArray[np.float64], sizes: NDArray[np.int64], density: float
) -> NDArray[np.float64]:
    """Return min(1, factor x raw), with the factor that gives the density of the whole."""
    dense = np.zeros(len(raw), dtype=bool)
    while True:
        # What is left for the layers that are not whole; at least one of them stays in the loop,
        # or all are.
        left = density * sizes.sum() - sizes[dense].sum()
        if dense.all():
            return np.ones(len(raw))
        factor = left / (raw * sizes)[~dense].sum()
        over = ~dense & (factor * raw > 1.0)
        if not over.any():
            return np.where(dense, 1.0, factor * raw)
        dense |= over


def _main_shape(units: Units, group: UnitGroup) -> tuple[int, ...]:
    """Return the shape of the weight that computes the units: of the layer the group is named by.

    The ends of a residual connection compute the same units; one of them has to stand for all.
    """
    pieces = sorted(
        (*group.with_role(Role.OUT), *group.slices),
        key=lambda piece: piece.parameter.rpartition(".")[0] != group.name,
    )
    shapes = [units.shapes[piece.parameter] for piece in pieces]
    return next((shape for shape in shapes if len(shape) >= 2), shapes[0])


# -- Equal structure ---------------------------------------------------------------------------


def isomorphic_groups(units: Units) -> dict[str, tuple[str, ...]]:
    """Return the groups of units by their structure.

    Parameters
    ----------
    units : Units
        The units.

    Returns
    -------
    dict of str to tuple of str
        Name of the first group of every structure, and the names of all groups that have it.

    Notes
    -----
    After [1]_: scores are compared only between units that the same operations compute and read,
    whatever their widths. Two groups have one structure here if they are of one kind and their
    slices agree in role, axis, number of axes, and name of the parameter within its layer.

    References
    ----------
    .. [1] G. Fang, X. Ma, M. B. Mi and X. Wang, "Isomorphic pruning for vision models", ECCV
       (2024), arXiv:2407.04616.
    """
    found: dict[object, list[str]] = {}
    for group in units:
        pieces = sorted(
            (
                str(piece.role),
                -1 if piece.axis is None else piece.axis,
                len(units.shapes[piece.parameter]),
                piece.parameter.rpartition(".")[2],
            )
            for piece in group.slices
        )
        structure = (group.kind, len(group.gates), len(group.norms), tuple(pieces))
        found.setdefault(structure, []).append(group.name)
    return {names[0]: tuple(names) for names in found.values()}


# -- Scales ------------------------------------------------------------------------------------


def comparable_scores(table: ScoreTable, normalise: str | None = None) -> Tensor:
    """Return the scores on scales on which groups can be compared.

    Parameters
    ----------
    table : ScoreTable
        The scores.
    normalise : {"sum", "mean", "max", "l2", "standard", "rank"}, optional
        What is done in every group; see `sigmine.ranking.normalise`. None leaves the scores as
        they are.

    Returns
    -------
    Tensor of float64, shape (n_units,)
        Undefined scores stay NaN, and take no part in the scales.

    Raises
    ------
    InputError
        For another `normalise`, or infinite scores where it cannot take them.
    """
    scores = table.score.detach()
    if normalise is None:
        return scores
    out = torch.full_like(scores, torch.nan, dtype=torch.float64)
    for name in table.units.names:
        where = table.units.range_of(name)
        values = scores[where.start : where.stop]
        defined = ~values.isnan()
        scaled: Tensor = ranking.normalise(values[defined], normalise)
        out[where.start : where.stop][defined] = scaled
    return out
