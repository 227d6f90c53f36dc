"""The search space, cut into tasks of known weight: who searches what, and how much is done."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc

from ..association.evidence import log_pvalue_of_evidence
from ..settings import SearchSettings
from .layout import LIMIT, ONES
from .prepare import Prepared
from .worker import Task

__all__ = ["Plan", "plan_tasks", "predict_least", "root_weights"]

_TASKS_PER_WORKER = 48
_MOST_SHARES = 64
_GROUPS, _POINTS = 48, 128  # of items, and of numbers of rows, that the estimate tells apart
_FAR_BELOW = 4.0  # in log rows below `least`: nobody gets from there to the threshold by luck


@dataclass(frozen=True)
class Plan:
    """Tasks that cover the search space, and their weights.

    Attributes
    ----------
    tasks : list of Task
        Disjoint; light ones first, so that the threshold is known when the heavy ones begin.
    weights : ndarray of float64, shape (n_tasks,)
        Estimated share of the work, with sum 1.
    """

    tasks: list[Task]
    weights: NDArray[np.float64]


def root_weights(prepared: Prepared, least: int) -> NDArray[np.float64]:
    """Estimate the work in the subtree of every root item, up to a factor.

    Parameters
    ----------
    prepared : Prepared
        Items.
    least : int
        Rows below which nothing can be testable.

    Returns
    -------
    ndarray of float64, shape (n_items,)
        At least 1.

    Notes
    -----
    If items were independent, adding item j to a set of s rows would leave about s q_j, q_j being
    its density. Let F_j(s) be the number of sets that items 0, ..., j - 1 add to a set of s rows,
    counted as far as they keep `least` rows: F_0(s) is the probability that a Poisson variable of
    mean s reaches `least`, and F_{j+1}(s) = F_j(s) + F_j(s q_j). Root item i, of s_i rows, is
    extended by those before it, so its subtree has about F_i(s_i) sets. F is kept for some values
    of s, and items of about equal density are added together. On data that are far from
    independent the estimate is still of the right order, which is what it is used for: to cut the
    search into tasks, and to say how much is done.
    """
    ones = prepared.data.root_cand[:, ONES].astype(np.float64)
    return 1.0 + _subtree_sizes(ones, prepared.table.n_rows, least)[0]


def predict_least(prepared: Prepared, settings: SearchSettings) -> int:
    """Estimate the fewest rows of a testable hypothesis at the final threshold.

    Parameters
    ----------
    prepared : Prepared
        Items.
    settings : SearchSettings
        Level and test.

    Returns
    -------
    int
        At least 1. With s rows at least, there are about N(s) sets (see `root_weights`), and none
        with s rows has a p-value below p(s); the estimate is the smallest s with
        p(s) N(s) <= alpha.
    """
    ones = prepared.data.root_cand[:, ONES].astype(np.float64)
    log_p = log_pvalue_of_evidence(prepared.data.by_ones[:, LIMIT], settings)
    log_alpha = math.log(settings.alpha)

    def suffices(rows: int) -> bool:
        number = _subtree_sizes(ones, prepared.table.n_rows, rows)[1]
        return math.log(max(number, 1.0)) + float(log_p[min(rows, len(log_p) - 1)]) <= log_alpha

    most = 1  # it is a small number as a rule: look there first
    while most < prepared.table.n_rows and not suffices(most):
        most *= 2
    most = min(most, prepared.table.n_rows)
    least = most // 2 + 1
    while least < most:
        middle = (least + most) // 2
        if suffices(middle):
            most = middle
        else:
            least = middle + 1
    return max(least, settings.min_support)


def _subtree_sizes(
    ones: NDArray[np.float64], n_rows: int, least: int
) -> tuple[NDArray[np.float64], float]:
    """Return F_i(s_i) for every item, and how many sets there are in all."""
    n_items = len(ones)
    least = max(least, 1)
    grid = np.linspace(math.log(least) - _FAR_BELOW, math.log(n_rows + 1.0), _POINTS)
    sets = gammainc(least, np.exp(grid))
    log_ones = np.log(np.maximum(ones, 0.5))
    log_density = log_ones - math.log(n_rows + 1.0)
    sizes = np.zeros(n_items)
    borders = np.unique(np.linspace(0, n_items, min(_GROUPS, n_items) + 1).astype(np.int64))
    for first, last in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        density = float(log_density[first:last].mean())
        # The items of the group itself count by half, on average.
        here = _with_items(sets, grid, density, (last - first - 1) / 2)
        sizes[first:last] = np.interp(log_ones[first:last], grid, here, left=0.0)
        sets = _with_items(sets, grid, density, last - first)
    return sizes, float(sets[-1])


def _with_items(
    sets: NDArray[np.float64], grid: NDArray[np.float64], log_density: float, n_items: float
) -> NDArray[np.float64]:
    """Add items of one density: the sum over d of C(n_items, d) F(s q^d)."""
    total = sets.copy()
    ways = 1.0
    deepest = int(min(n_items, 1000.0))
    for d in range(1, deepest + 1):
        ways *= (n_items - d + 1) / d
        added = ways * np.interp(grid + d * log_density, grid, sets, left=0.0)
        total += added
        # Beyond any number that is worth telling apart, and far from the largest float.
        if added[-1] <= 1e-9 * total[-1] or total[-1] > 1e60:
            break
    return np.minimum(total, 1e60)


def plan_tasks(prepared: Prepared, n_workers: int, least: int = 1, *, split: bool = True) -> Plan:
    """Cut the search space into tasks of about equal weight.

    Parameters
    ----------
    prepared : Prepared
        What is searched.
    n_workers : int
        Who will share the tasks.
    least : int, default=1
        Rows below which nothing can be testable, as far as is known.
    split : bool, default=True
        Whether heavy root items are split.

    Returns
    -------
    Plan
        Consecutive light root items share a task; heavy ones are split by the children of the
        root. The answer of a search does not depend on it.
    """
    n_items = len(prepared.data.root_cand)
    if n_items == 0:
        return Plan([], np.empty(0))
    if n_workers <= 1 and not split:  # nothing to share, and nobody asks how much is done
        return Plan([Task(0, n_items)], np.ones(1))
    weights = root_weights(prepared, least)
    total = float(weights.sum())
    goal = total / (_TASKS_PER_WORKER * max(n_workers, 1))
    until = np.cumsum(weights)
    most = np.minimum(_MOST_SHARES if split else 1, np.arange(len(weights)))
    n_shares = np.minimum(weights / goal, most)
    tasks: list[Task] = []
    sizes: list[float] = []
    first = 0
    for heavy in [*np.flatnonzero(n_shares >= 2.0).tolist(), len(weights)]:
        while first < heavy:
            before = float(until[first - 1]) if first else 0.0
            last = int(np.searchsorted(until[:heavy], before + goal, side="right"))
            last = max(last, first + 1)
            tasks.append(Task(first, last))
            sizes.append(float(weights[first:last].sum()))
            first = last
        if heavy < len(weights):
            n = int(n_shares[heavy])
            tasks += [Task(heavy, heavy + 1, share, n) for share in range(n)]
            sizes += [float(weights[heavy]) / n] * n
            first = heavy + 1
    return Plan(tasks, np.array(sizes) / sum(sizes))
