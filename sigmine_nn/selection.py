"""From scores and a budget to the units that stay.

Every order and every cut is made by `sigmine.ranking`; this module says what is ordered. Most
selections are one cut of the scores. Where units are bound to others (equal numbers in blocks,
multiples for the hardware) or the budget is one of parameters or multiply-adds, the units of a
scope become a *ladder*: candidates in the order in which they would be kept, so that the kept sets
of all budgets are nested, costs grow along the ladder, and the right rung is found by bisection.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.scores`, `sigmine_nn.costs`,
`sigmine_nn.allocation`, `sigmine_nn._scope`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sigmine._checks import whole_number
from sigmine.exceptions import DataWarning, InputError, InputTypeError

from ._scope import Scope, count_kept
from .allocation import (
    AllocationLike,
    Budget,
    ScopeLike,
    comparable_scores,
    fraction,
    make_budget,
)
from .costs import Costs
from .scores import ScoreTable
from .units import Units

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Reason", "Target", "UnitSelection", "select_units"]

Mask = NDArray[np.bool_]


class Reason(StrEnum):
    """Why a unit is kept or removed."""

    RANKED = "ranked"
    """By its rank."""
    PROTECTED = "protected"
    """Kept although a better one of its scope is removed: its group would be too small, unequal
    in its blocks, or of a size that the hardware does not like."""
    UNDEFINED = "undefined"
    """Kept because its score is not defined."""
    USER = "user"
    """Kept because the caller asked for it."""


_REASONS = list(Reason)


class Target(StrEnum):
    """What a budget counts."""

    UNITS = "units"
    """Units."""
    PARAMETERS = "parameters"
    """Parameters of the model."""
    FLOPS = "flops"
    """Multiply-adds of one pass."""


@dataclass(frozen=True, eq=False)
class UnitSelection:
    """Which units stay, and why.

    Attributes
    ----------
    units : Units
        The units.
    score : Tensor of float64, shape (n_units,)
        Their scores as the criterion gave them; NaN is undefined.
    keep : ndarray of bool, shape (n_units,)
        True for units that stay.
    reason : ndarray of uint8, shape (n_units,)
        Place of the reason in ``list(Reason)``.
    target : Target
        What the budget counts.
    requested : float
        Fraction of it that was to be removed.
    achieved : mapping of str to float
        Fraction that is removed of units and, where costs are known, of parameters and flops.
    scopes : mapping of str to tuple of str
        What was ranked together: name of every scope, and names of its groups.
    thresholds : mapping of str to float
        By scope, the lowest score that was kept by its rank, on the scale on which groups were
        compared; NaN if none was.
    """

    units: Units
    score: Tensor = field(repr=False)
    keep: Mask = field(repr=False)
    reason: NDArray[np.uint8] = field(repr=False)
    target: Target
    requested: float
    achieved: Mapping[str, float]
    scopes: Mapping[str, tuple[str, ...]] = field(repr=False)
    thresholds: Mapping[str, float] = field(repr=False)

    @property
    def n_kept(self) -> int:
        """Units that stay."""
        return int(np.count_nonzero(self.keep))

    @property
    def n_undefined(self) -> int:
        """Units whose score is not defined."""
        return int(torch.count_nonzero(self.score.isnan()))

    @property
    def threshold(self) -> float:
        """The threshold of the only scope; NaN if there are several."""
        return next(iter(self.thresholds.values())) if len(self.thresholds) == 1 else math.nan

    def reason_of(self, unit: int) -> Reason:
        """Return why a unit is kept or removed.

        Parameters
        ----------
        unit : int
            Its number.

        Returns
        -------
        Reason
        """
        return _REASONS[int(self.reason[unit])]

    def to_frame(self) -> pd.DataFrame:
        """Return a row a unit.

        Returns
        -------
        DataFrame
            Columns ``unit``, ``layer``, ``index``, ``kind``, ``score``, ``keep``, ``reason``.
        """
        import pandas as pd

        frame = self.units.frame()
        frame["score"] = self.score.detach().cpu().numpy()
        frame["keep"] = self.keep
        frame["reason"] = pd.Categorical.from_codes(self.reason, list(map(str, _REASONS)))
        return frame

    def by_layer(self) -> pd.DataFrame:
        """Return a row a group.

        Returns
        -------
        DataFrame
            Columns ``layer``, ``kind``, ``n_units``, ``n_kept``, ``sparsity`` (fraction removed),
            ``n_protected``, ``n_undefined``, ``n_user``, ``lowest_kept`` (by its rank) and
            ``highest_removed`` (scores; NaN if there are none).
        """
        import pandas as pd

        scores = self.score.detach().cpu().numpy()
        rows = []
        for group in self.units:
            where = self.units.range_of(group.name)
            score, keep, reason = (
                values[where.start : where.stop] for values in (scores, self.keep, self.reason)
            )
            ranked = score[keep & (reason == _REASONS.index(Reason.RANKED))]
            counts = {
                f"n_{word}": int(np.count_nonzero(reason == code))
                for code, word in enumerate(_REASONS)
                if word is not Reason.RANKED
            }
            rows.append(
                {
                    "layer": group.name,
                    "kind": str(group.kind),
                    "n_units": group.n_units,
                    "n_kept": int(np.count_nonzero(keep)),
                    "sparsity": float(np.mean(~keep)),
                    **counts,
                    "lowest_kept": float(ranked.min()) if len(ranked) else math.nan,
                    "highest_removed": float(score[~keep].max()) if not keep.all() else math.nan,
                }
            )
        return pd.DataFrame(rows)


def select_units(
    table: ScoreTable,
    amount: float = 0.5,
    *,
    scope: ScopeLike = "global",
    allocation: AllocationLike = None,
    normalise: str | None = None,
    params: float | None = None,
    flops: float | None = None,
    costs: Costs | None = None,
    minimum: int = 1,
    round_to: int = 1,
    keep: Any = None,
) -> UnitSelection:
    """Choose the units that stay.

    Parameters
    ----------
    table : ScoreTable
        The scores; high ones are kept.
    amount : float, default=0.5
        Fraction of the units to remove, in [0, 1): floor(amount x n) of n units of a scope.
    scope : {"global", "layer"}, or mapping of str to sequence of str, default="global"
        What is ranked together; see `sigmine_nn.allocation.make_budget`.
    allocation : {"uniform", "erk", "isomorphic"}, or mapping of str to float, optional
        How the budget is divided; see there.
    normalise : {"sum", "mean", "max", "l2", "standard", "rank"}, optional
        How scores of different groups are made comparable; by default they are compared as they
        are.
    params, flops : float, optional
        Instead of `amount`: fraction of the model's parameters or multiply-adds to remove, in
        [0, 1). At most one of them; they need `costs`.
    costs : Costs, optional
        Of the same units; also used to report what is achieved.
    minimum : int, default=1
        Units of every group that stay at least: its best ones.
    round_to : int, default=1
        The number of units that stay of a group is raised to a multiple of this, or to all.
    keep : array_like of bool, shape (n_units,), or collection of str, optional
        Units that stay in any case, as a mask or by names of groups and units (``"conv1.3"``).

    Returns
    -------
    UnitSelection

    Raises
    ------
    InputError
        For an argument out of range, or a budget that cannot be met; the message says what can.
    ModelError
        For a name that is not there.
    InputTypeError
        For an argument of a wrong type.

    Warns
    -----
    DataWarning
        If most scores are not defined.

    Notes
    -----
    Units are ordered by score, equal scores by their numbers, and exactly as many are removed as
    asked, whatever the ties. Units with undefined scores (NaN) are not ranked and stay. In groups
    with blocks the best of every block are one candidate, then the second best, and so on; the
    score of a candidate is the mean of the scores of its units. Where units can only go several at
    a time, no more are removed than asked.

    The kept sets of different amounts are nested, so parameters and multiply-adds never grow with
    the amount: the amount at which they come nearest to the target is found by bisection.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sigmine_nn.discovery import find_units
    >>> units = find_units(nn.Linear(2, 2, bias=False), "element")
    >>> table = ScoreTable(units, torch.tensor([0.3, 0.1, 0.4, 0.2]).double(), "given")
    >>> select_units(table, 0.5).keep.tolist()
    [True, False, True, False]
    """
    if not isinstance(table, ScoreTable):
        raise InputTypeError(f"table is a {type(table).__name__}; give a ScoreTable.")
    units = table.units
    target, requested = _target(amount, params, flops)
    if costs is not None and costs.units is not units:
        raise InputError("costs were counted for other units; use Costs.of with table.units.")
    if target is not Target.UNITS and costs is None:
        raise InputError(
            f"a budget of {target} needs costs=; give Costs.of(model, units, example_inputs)."
        )
    limits = (whole_number("minimum", minimum, 1), whole_number("round_to", round_to, 1))
    scores = comparable_scores(table, normalise)
    user = _asked_for(units, keep)
    forced = scores.isnan()
    _warn_of_undefined(units, forced)
    reason = np.zeros(units.n, dtype=np.uint8)
    if bool(forced.any()):
        reason[forced.cpu().numpy()] = _REASONS.index(Reason.UNDEFINED)
    if user is not None:
        reason[user] = _REASONS.index(Reason.USER)
        forced = forced | torch.from_numpy(user).to(forced.device)

    budget = make_budget(units, scope, allocation)
    parts = {
        name: Scope(name, units, groups, scores, forced, *limits)
        for name, groups in budget.scopes.items()
    }
    if target is Target.UNITS:
        for name, share in budget.amounts(requested).items():
            parts[name].cut(share)
    else:
        assert costs is not None
        _meet(costs, target, requested, budget, parts, units)
    chosen = np.empty(units.n, dtype=bool)
    for part in parts.values():
        part.write(chosen)
        part.explain(reason, _REASONS.index(Reason.PROTECTED))
    return UnitSelection(
        units=units,
        score=table.score,
        keep=chosen,
        reason=reason,
        target=target,
        requested=requested,
        achieved=_achieved(units, chosen, costs),
        scopes=budget.scopes,
        thresholds={name: part.threshold for name, part in parts.items()},
    )


# -- Arguments ---------------------------------------------------------------------------------


def _target(amount: float, params: float | None, flops: float | None) -> tuple[Target, float]:
    """Return what is counted, and the fraction of it."""
    if params is not None and flops is not None:
        raise InputError(f"params={params!r} and flops={flops!r} are both given; give one budget.")
    if params is not None:
        return Target.PARAMETERS, fraction("params", params)
    if flops is not None:
        return Target.FLOPS, fraction("flops", flops)
    return Target.UNITS, fraction("amount", amount)


def _asked_for(units: Units, keep: Any) -> Mask | None:
    """Return the mask of the units that the caller wants to stay."""
    if keep is None:
        return None
    if isinstance(keep, str):
        raise InputTypeError(f"keep={keep!r} is a string; give a list of names, or a mask.")
    words = isinstance(keep, Collection) and all(isinstance(name, str) for name in keep)
    if not words:
        mask = np.asarray(keep.detach().cpu() if isinstance(keep, Tensor) else keep)
        if mask.dtype != bool or mask.shape != (units.n,):
            raise InputError(
                f"keep has shape {mask.shape} and dtype {mask.dtype}; give a boolean for each of "
                f"{units.n} units, or names of groups or units."
            )
        return mask
    asked = np.zeros(units.n, dtype=bool)
    for name in keep:
        group, _, number = name.rpartition(".")
        if name not in units.names and group in units.names and number.isdecimal():
            where = units.range_of(group)
            if int(number) >= len(where):
                raise InputError(
                    f"keep names {name!r}, and {group!r} has {len(where)} units; number them from "
                    "0."
                )
            asked[where.start + int(number)] = True
        else:
            where = units.range_of(name)
            asked[where.start : where.stop] = True
    return asked


def _warn_of_undefined(units: Units, undefined: Tensor) -> None:
    count = int(torch.count_nonzero(undefined))
    if 2 * count <= units.n:
        return
    parts = units.split(undefined)
    names = [name for name in units.names if bool(parts[name].any())]
    warnings.warn(
        f"the scores of {count} of {units.n} units are not defined (in {', '.join(names[:5])}"
        f"{', ...' if len(names) > 5 else ''}); these units stay, and only the others are ranked. "
        "Use another criterion, or calibration data that reach them.",
        DataWarning,
        stacklevel=3,
    )


# -- Budgets of parameters and multiply-adds ---------------------------------------------------


def _meet(
    costs: Costs,
    target: Target,
    requested: float,
    budget: Budget,
    parts: Mapping[str, Scope],
    units: Units,
) -> None:
    """Put every scope on the rung at which the costs come nearest to the target."""
    count = costs.parameters if target is Target.PARAMETERS else costs.flops
    keep = np.empty(units.n, dtype=bool)

    def cost(rungs: Mapping[str, int]) -> int:
        for name, part in parts.items():
            part.stand_on(rungs[name])
            part.write(keep)
        return count(keep)

    def rungs_at(amount: float) -> dict[str, int]:
        shares = budget.amounts(amount)
        return {
            name: part.ladder.reach(count_kept(shares[name], part.n))
            for name, part in parts.items()
        }

    full = count()
    wanted = (1.0 - requested) * full
    low, high = 0.0, 1.0  # fractions of units; the cost at `low` is above the target
    more, fewer = rungs_at(low), rungs_at(high)
    if cost(fewer) > wanted:
        share = math.floor(1e4 * (1.0 - cost(fewer) / full)) / 1e4
        raise InputError(
            f"{requested:g} of the {target} were to be removed, and at most {share:g} can be: the "
            "rest belongs to layers without units, or to units that must stay. Ask for less, or "
            "find more units."
        )
    while high - low > 1e-13 and sum(more[name] - fewer[name] for name in parts) > 1:
        middle = (low + high) / 2
        rungs = rungs_at(middle)
        if cost(rungs) > wanted:
            low, more = middle, rungs
        else:
            high, fewer = middle, rungs
    for name, rung in _nearest(cost, wanted, more, fewer).items():
        parts[name].stand_on(rung)


def _nearest(
    cost: Any, wanted: float, more: Mapping[str, int], fewer: Mapping[str, int]
) -> dict[str, int]:
    """Return the rungs nearest to the target between two that are next to each other.

    Several scopes lose a candidate at the same fraction; they do so one after the other here, so
    that the steps are single candidates.
    """
    steps = [name for name in more for _ in range(more[name] - fewer[name])]

    def after(number: int) -> dict[str, int]:
        rungs = dict(more)
        for name in steps[:number]:
            rungs[name] -= 1
        return rungs

    low, high = 0, len(steps)
    while high - low > 1:
        middle = (low + high) // 2
        if cost(after(middle)) > wanted:
            low = middle
        else:
            high = middle
    too_many, enough = cost(after(low)), cost(after(high))
    return after(low) if abs(too_many - wanted) <= abs(enough - wanted) else after(high)


def _achieved(units: Units, keep: Mask, costs: Costs | None) -> dict[str, float]:
    """Return the fractions that are removed."""
    achieved = {str(Target.UNITS): 1.0 - int(np.count_nonzero(keep)) / units.n}
    if costs is not None:
        achieved[str(Target.PARAMETERS)] = 1.0 - costs.parameters(keep) / costs.parameters()
        if costs.uses is not None and costs.flops():
            achieved[str(Target.FLOPS)] = 1.0 - costs.flops(keep) / costs.flops()
    return achieved
