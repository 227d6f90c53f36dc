"""Is a set of units safe to remove together? One test of a set, or nested sets in a fixed order.

That each of some units can be removed does not say that all of them can; these tests do.

May import: `sigmine`, `sigmine_nn.scores`, `sigmine_nn.significance`, `sigmine_nn.removal` and what
lies below them.
"""

# ruff: noqa: PT028 (functions that are named as tests are not tests of ours)

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from sigmine._checks import open_unit
from sigmine.exceptions import InputError
from sigmine.ranking import select
from sigmine.ranking import sparsity as sparsity_rule

from .noninferiority import NonInferiority, fixed_sequence, noninferiority
from .removal import checked_test, keep_mask, no_test_of_ours, removal_risks
from .risks import Metric
from .scores import ScoreTable
from .significance import scopes_of
from .units import Units

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "JointRemovalTest",
    "NestedRemovalTest",
    "nested_keeps",
    "test_joint_removal",
    "test_nested_removal",
]

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class JointRemovalTest:
    """Whether a set of units can be removed together for less than a margin.

    Attributes
    ----------
    n_samples, n_removed : int
        Test samples, and units of the set.
    metric, test : str
        What the risk was, and how it was tested.
    margin, level : float
        What may be lost, and the probability of being wrong.
    risk : float
        Mean risk of the whole network.
    increase, standard_error, ci_high, pvalue : float
        Mean increase, its standard error and upper confidence bound, and the p-value.
    removable : bool
        Whether it is shown to be below the margin.
    """

    n_samples: int
    n_removed: int
    metric: str
    test: str
    margin: float
    level: float
    risk: float
    increase: float
    standard_error: float
    ci_high: float
    pvalue: float
    removable: bool


@no_test_of_ours
def test_joint_removal(
    model: nn.Module,
    data: object,
    units: Units,
    keep: ArrayLike,
    *,
    margin: float,
    loss: str | Callable[..., Tensor] | None = None,
    metric: Metric = "loss",
    test: str | None = None,
    level: float = 0.05,
    seed: int = 0,
    n_batches: int | None = None,
) -> JointRemovalTest:
    """Test whether a set of units can be removed together for less than a margin.

    Parameters
    ----------
    model, data, units, margin, loss, metric, test, level, seed, n_batches
        As in `test_removal`. The data must be other data than those that chose the set.
    keep : array_like of bool, shape (n_units,)
        The units that stay.

    Returns
    -------
    JointRemovalTest

    Raises
    ------
    CalibrationError, InputError
        As `test_removal` does.

    Notes
    -----
    One hypothesis, so that there is nothing to correct: if the set in truth costs the margin or
    more, the probability of calling it removable is at most `level` (see `noninferiority` for what
    each test assumes).
    """
    mask = keep_mask(units, keep)
    test = checked_test(test, metric, "none", level)
    risks = removal_risks(model, data, units, [mask], metric=metric, loss=loss, n_batches=n_batches)
    found = noninferiority(
        risks.differences, margin, test=test, correction="none", level=level, seed=seed
    )
    return JointRemovalTest(
        n_samples=found.n_samples,
        n_removed=int((~mask).sum()),
        metric=risks.metric,
        test=test,
        margin=found.margin,
        level=level,
        risk=float(risks.before.mean()),
        increase=float(found.increase[0]),
        standard_error=float(found.standard_error[0]),
        ci_high=float(found.ci_high[0]),
        pvalue=float(found.pvalue[0]),
        removable=bool(found.accepted[0]),
    )


@dataclass(frozen=True, eq=False)
class NestedRemovalTest:
    """How far units can be removed together for less than a margin.

    Attributes
    ----------
    metric : str
        What the risk was.
    risk : float
        Mean risk of the whole network.
    keeps : tuple of ndarray of bool, each of shape (n_units,)
        The candidates, in the order in which they were tested.
    n_removed : ndarray of int64, shape (n_candidates,)
        Units that each removes.
    result : NonInferiority
        Increases, bounds and p-values of the candidates, each by itself.
    n_accepted : int
        Candidates before the first that was not shown to be below the margin.
    """

    metric: str
    risk: float
    keeps: tuple[Bools, ...] = field(repr=False)
    n_removed: NDArray[np.int64] = field(repr=False)
    result: NonInferiority = field(repr=False)
    n_accepted: int

    @property
    def keep(self) -> Bools:
        """Units that stay in the last accepted candidate; all if none was accepted."""
        if self.n_accepted == 0:
            return np.ones_like(self.keeps[0])
        return self.keeps[self.n_accepted - 1]

    def to_frame(self) -> pd.DataFrame:
        """Return a row a candidate.

        Returns
        -------
        DataFrame
            Columns ``n_removed``, ``increase``, ``standard_error``, ``ci_high``, ``pvalue``,
            ``accepted``. p-values behind the first that fails are shown and do not count.
        """
        import pandas as pd

        names = ("increase", "standard_error", "ci_high", "pvalue")
        columns = {name: getattr(self.result, name) for name in names}
        accepted = np.arange(len(self.keeps)) < self.n_accepted
        return pd.DataFrame({"n_removed": self.n_removed, **columns, "accepted": accepted})


def nested_keeps(
    table: ScoreTable,
    sparsities: Sequence[float] | NDArray[np.float64],
    *,
    scope: str = "global",
) -> list[Bools]:
    """Return the masks that a ranking gives at several sparsities, each inside the one before.

    Parameters
    ----------
    table : ScoreTable
        The ranking; units without a score stay.
    sparsities : sequence of float
        Ascending fractions of the units that are removed, in (0, 1).
    scope : {"global", "layer"}, default="global"
        Where units are ranked together.

    Returns
    -------
    list of ndarray of bool, each of shape (n_units,)
        The units that stay.

    Raises
    ------
    InputError
        For sparsities that do not ascend or are out of range.
    """
    if len(sparsities) == 0 or any(np.diff(np.asarray(sparsities, dtype=float)) <= 0):
        raise InputError(
            f"sparsities={list(sparsities)} do not ascend; give at least one, the smallest first."
        )
    score = table.score.detach().cpu().double().numpy()
    scopes = scopes_of(table.units, scope, ~np.isnan(score))
    out = []
    for value in sparsities:
        rule = sparsity_rule(open_unit("sparsities", float(value), "0.5"))
        keep = np.ones(table.units.n, dtype=bool)
        for where in scopes.values():
            keep[where] = select(score[where], rule).mask
        out.append(keep)
    return out


@no_test_of_ours
def test_nested_removal(
    model: nn.Module,
    data: object,
    units: Units,
    keeps: Sequence[ArrayLike],
    *,
    margin: float,
    loss: str | Callable[..., Tensor] | None = None,
    metric: Metric = "loss",
    test: str | None = None,
    level: float = 0.05,
    seed: int = 0,
    n_batches: int | None = None,
    progress: bool | None = False,
) -> NestedRemovalTest:
    """Find how far units can be removed together for less than a margin.

    Parameters
    ----------
    model, data, units, margin, loss, metric, test, level, seed, n_batches, progress
        As in `test_removal`. The data must be other data than those that ranked the units.
    keeps : sequence of array_like of bool, each of shape (n_units,)
        Candidates, the most careful first, as `nested_keeps` gives them. Their order has to be
        fixed before the data are seen.

    Returns
    -------
    NestedRemovalTest
        Its `keep` is the last candidate that was accepted.

    Raises
    ------
    CalibrationError, InputError
        As `test_removal` does.

    Notes
    -----
    The fixed-sequence procedure [1]_: each candidate is tested at the full `level`, and the first
    that fails ends it. If the chosen set costs the margin or more, the first such candidate in the
    order was rejected falsely, and that is one test: its probability is at most `level`, without
    any correction. So the risk of what is chosen is within the margin with probability 1 - `level`,
    as far as the test holds (exactly for metric "accuracy").

    References
    ----------
    .. [1] W. Maurer, L. A. Hothorn and W. Lehmacher, "Multiple comparisons in drug clinical trials
       and preclinical assays: a-priori ordered hypotheses", in: J. Vollmar (ed.), "Biometrie in der
       chemisch-pharmazeutischen Industrie" 6 (1995) 3-18.
    """
    masks = tuple(keep_mask(units, keep) for keep in keeps)
    test = checked_test(test, metric, "none", level)
    risks = removal_risks(
        model, data, units, masks, metric=metric, loss=loss, n_batches=n_batches, progress=progress
    )
    found = noninferiority(
        risks.differences, margin, test=test, correction="none", level=level, seed=seed
    )
    n_accepted = fixed_sequence(found.pvalue, level)
    n_removed = np.array([int((~mask).sum()) for mask in masks], dtype=np.int64)
    mean = float(risks.before.mean())
    return NestedRemovalTest(risks.metric, mean, masks, n_removed, found, n_accepted)
