"""Null data with strong confounding: what the FWER study and its test simulate.

Rows fall into strata whose case rates run from 0.02 to 0.9, and every item is frequent in the
strata where cases are frequent. Inside a stratum items and outcome are independent, so every
discovery of a search that knows the strata is false; a search that does not know them sees items
and cases rise together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from sigmine.problem import Problem, build_problem
from sigmine.search import SearchOutcome, search_patterns
from sigmine.settings import SearchSettings
from sigmine.strata import Strata

ALPHA = 0.05
SHARES = (0.5, 0.3, 0.1, 0.03)
N_STRATA = (1, 2, 4, 8, 16, 32)
N_ITEMS = 14

# Frequency of an item in the first and in the last stratum: drawn for every item, linear between.
FIRST_STRATUM = (0.05, 0.20)
LAST_STRATUM = (0.45, 0.70)

ARMS = ("exact", "asymptotic", "no strata")
"""The default; the chi-squared approximation; the default on the same data without the strata."""


@dataclass(frozen=True)
class _Scale:
    """How many rows a share of cases gets, and how case rates climb over its strata."""

    n_rows: int
    low: float
    high: float
    smallest: int  # rows of the smallest stratum
    geometric: bool


# With 3 % cases in all, rates of 0.02 and 0.9 would leave 1 % of the rows for the upper strata; the
# lowest rate is 0.005 there, which makes room for them.
_SCALES = {
    0.5: _Scale(500, 0.02, 0.9, 4, geometric=False),
    0.3: _Scale(500, 0.02, 0.9, 4, geometric=False),
    0.1: _Scale(600, 0.02, 0.9, 3, geometric=True),
    0.03: _Scale(1000, 0.005, 0.9, 3, geometric=True),
}


@dataclass(frozen=True, eq=False)
class NullDesign:
    """One configuration of the study.

    Attributes
    ----------
    share : float
        Share of cases over all rows.
    sizes : ndarray of int64, shape (n_strata,)
        Rows of every stratum.
    case_rates : ndarray of float64, shape (n_strata,)
        Probability of a case in every stratum, rising.
    n_items : int
        Items.
    """

    share: float
    sizes: NDArray[np.int64]
    case_rates: NDArray[np.float64]
    n_items: int

    @property
    def n_strata(self) -> int:
        """Number of strata."""
        return len(self.sizes)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.sizes.sum())

    def draw(self, run: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
        """Simulate the table of one run: items, outcome and strata; the run is the seed."""
        rng = np.random.default_rng([round(1000 * self.share), self.n_strata, self.n_items, run])
        strata = np.repeat(np.arange(self.n_strata), self.sizes)
        cases = self._outcome(strata, rng)
        first = rng.uniform(*FIRST_STRATUM, self.n_items)
        last = rng.uniform(*LAST_STRATUM, self.n_items)
        position = strata / (self.n_strata - 1) if self.n_strata > 1 else np.full(self.n_rows, 0.5)
        frequency = first + (last - first) * position[:, np.newaxis]  # (n_rows, n_items)
        return rng.random(frequency.shape) < frequency, cases, strata

    def _outcome(self, strata: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
        """Draw the outcome, again if no stratum has both classes (1 run in 2,500 with 3 % cases).

        The test is conditional on the cases in every stratum, so this leaves its level alone.
        """
        while True:
            cases = rng.random(self.n_rows) < self.case_rates[strata]
            n_cases = np.bincount(strata[cases], minlength=self.n_strata)
            if ((n_cases > 0) & (n_cases < self.sizes)).any():
                return cases

    def problem(self, run: int) -> Problem:
        """Simulate one run and make it ready for the search."""
        matrix, cases, codes = self.draw(run)
        strata = Strata(codes, tuple(str(k) for k in range(self.n_strata)), ("stratum",))
        names = [f"x{j}" for j in range(self.n_items)]
        return build_problem(matrix, cases, strata, item_names=names)


def null_design(share: float, n_strata: int, n_items: int = N_ITEMS) -> NullDesign:
    """Return the design with a share of cases and a number of strata.

    Parameters
    ----------
    share : float
        One of `SHARES`.
    n_strata : int
        At least 1; a single stratum has no confounding.
    n_items : int, default=14
        Items.

    Returns
    -------
    NullDesign

    Notes
    -----
    The case rates are fixed, from the lowest to 0.9, linear or geometric. The sizes make the share
    come out: a few rows for every stratum, the others in proportion to exp(tilt k), with the tilt
    that solves for the share.
    """
    scale = _SCALES[share]
    if n_strata == 1:
        return NullDesign(share, np.array([scale.n_rows]), np.array([share]), n_items)
    space = np.geomspace if scale.geometric else np.linspace
    rates = space(scale.low, scale.high, n_strata)

    def sizes(tilt: float) -> NDArray[np.float64]:
        exponent = tilt * np.linspace(0.0, 1.0, n_strata)
        weight = np.exp(exponent - exponent.max())
        free = scale.n_rows - n_strata * scale.smallest
        return np.asarray(scale.smallest + free * weight / weight.sum())

    tilt = brentq(lambda t: sizes(t) @ rates - share * scale.n_rows, -100.0, 100.0)
    return NullDesign(share, _rounded(sizes(tilt)), rates, n_items)


def _rounded(sizes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Round to whole rows without changing their number (largest remainders)."""
    whole = np.floor(sizes).astype(np.int64)
    left = round(float(sizes.sum())) - int(whole.sum())
    whole[np.argsort(whole - sizes, kind="stable")[:left]] += 1
    return whole


def search_arm(problem: Problem, arm: str, max_length: int | None = None) -> SearchOutcome:
    """Search one simulated table in one of the `ARMS`.

    Parameters
    ----------
    problem : Problem
        From `NullDesign.problem`.
    arm : str
        One of `ARMS`.
    max_length : int or None, default=None
        Most items of a pattern.

    Returns
    -------
    SearchOutcome
    """
    if arm == "no strata":
        problem = problem.without_strata()
    method = "asymptotic" if arm == "asymptotic" else "exact"
    settings = SearchSettings(alpha=ALPHA, method=method, max_length=max_length)
    return search_patterns(problem, settings)
