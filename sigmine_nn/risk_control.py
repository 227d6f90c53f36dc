"""The largest sparsity whose risk is below a limit, with a guarantee: learn then test.

May import: `sigmine`, `sigmine_nn.noninferiority`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from sigmine._checks import open_unit, real_number
from sigmine.exceptions import InputError

from .noninferiority import fixed_sequence

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SparsityChoice", "choose_sparsity", "hoeffding_bentkus_pvalue"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SparsityChoice:
    """The candidates, their p-values, and the one that is chosen.

    Attributes
    ----------
    sparsity : float or None
        The largest sparsity that was reached; None if not even the first candidate was shown to be
        below the limit.
    risk_limit, level : float
        The risk of the choice is at most the limit with probability at least 1 - level.
    n_samples : int
        Samples behind each risk.
    sparsities, risk, pvalue : ndarray of float64, shape (n_candidates,)
        Candidates, their mean risks, and p-values against "the risk is above the limit".
    n_accepted : int
        Candidates before the first that failed.
    """

    sparsity: float | None
    risk_limit: float
    level: float
    n_samples: int
    sparsities: Floats = field(repr=False)
    risk: Floats = field(repr=False)
    pvalue: Floats = field(repr=False)
    n_accepted: int

    def to_frame(self) -> pd.DataFrame:
        """Return a row a candidate.

        Returns
        -------
        DataFrame
            Columns ``sparsity``, ``risk``, ``pvalue``, ``accepted``. p-values behind the first
            that fails are shown and do not count.
        """
        import pandas as pd

        accepted = np.arange(len(self.risk)) < self.n_accepted
        return pd.DataFrame(
            {
                "sparsity": self.sparsities,
                "risk": self.risk,
                "pvalue": self.pvalue,
                "accepted": accepted,
            }
        )


def choose_sparsity(
    risks: ArrayLike,
    sparsities: ArrayLike,
    risk_limit: float,
    level: float = 0.05,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> SparsityChoice:
    """Choose the largest sparsity whose risk is shown to be at most a limit.

    Parameters
    ----------
    risks : array_like, shape (n_samples, n_candidates)
        Risk of every sample with each candidate, inside `bounds`: mistakes (0 or 1), a loss that is
        cut at a value, or the increase of either over the whole network. On data that neither
        trained nor ranked anything; `sigmine_nn.removal.removal_risks` gives them.
    sparsities : array_like, shape (n_candidates,)
        Ascending; fixed before the data are seen.
    risk_limit : float
        Inside `bounds`.
    level : float, default=0.05
        Probability that may be left that the risk is above the limit, in (0, 1).
    bounds : tuple of float, default=(0.0, 1.0)
        Smallest and largest risk that a sample can have: known, not taken from the data.

    Returns
    -------
    SparsityChoice

    Raises
    ------
    InputError
        For risks outside the bounds, sparsities that do not ascend, or other shapes.

    Notes
    -----
    Learn then test [1]_: p-values of Hoeffding and Bentkus [2]_ for "the risk is above the limit",
    tested in the order of the sparsities at the full level until the first that fails (fixed
    sequence testing, section 2.3 there). P(risk of the choice <= limit) >= 1 - level for
    every distribution of independent samples, every number of them, and every network; the price
    is power: about log(1 / level) / n above what the data show.

    References
    ----------
    .. [1] A. N. Angelopoulos, S. Bates, E. J. Candès, M. I. Jordan and L. Lei, "Learn then test:
       calibrating predictive algorithms to achieve risk control", arXiv:2110.01052 (2021).
    .. [2] S. Bates, A. Angelopoulos, L. Lei, J. Malik and M. I. Jordan, "Distribution-free,
       risk-controlling prediction sets", Journal of the ACM 68 (2021) 43.

    Examples
    --------
    >>> mistakes = np.zeros((200, 3))
    >>> mistakes[:2, 1] = mistakes[:30, 2] = 1
    >>> choose_sparsity(mistakes, [0.3, 0.5, 0.7], risk_limit=0.05).sparsity
    0.5
    """
    level = open_unit("level", level, "0.05")
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"bounds={bounds!r} are no range; give two numbers, the smaller first.")
    limit = real_number("risk_limit", risk_limit, low, high, f"a risk in [{low:g}, {high:g}]")
    values = np.asarray(risks, dtype=np.float64)
    candidates = np.asarray(sparsities, dtype=np.float64)
    if values.ndim != 2 or not values.size or candidates.shape != values.shape[1:]:
        raise InputError(
            f"risks have shape {values.shape} and sparsities {candidates.shape}; they must be "
            "(n_samples, n_candidates) and (n_candidates,)."
        )
    if not ((values >= low) & (values <= high)).all():
        raise InputError(
            f"risks lie between {values.min():g} and {values.max():g}, outside the bounds "
            f"[{low:g}, {high:g}], which the guarantee rests on; cut them there or widen the "
            "bounds."
        )
    if (np.diff(candidates) <= 0).any():
        raise InputError(
            f"sparsities={candidates.tolist()} do not ascend; give the most careful first."
        )
    scaled = (values - low) / (high - low)
    n = len(values)
    pvalue = hoeffding_bentkus_pvalue(scaled.sum(axis=0), n, (limit - low) / (high - low))
    n_accepted = fixed_sequence(pvalue, level)
    chosen = float(candidates[n_accepted - 1]) if n_accepted else None
    return SparsityChoice(
        chosen, limit, level, n, candidates, values.mean(axis=0), pvalue, n_accepted
    )


def hoeffding_bentkus_pvalue(total: ArrayLike, n: int, limit: float) -> Floats:
    """Return p-values against a mean above a limit, for values in [0, 1].

    Parameters
    ----------
    total : array_like
        Sum of n independent values, for each hypothesis.
    n : int
        How many values.
    limit : float
        In [0, 1].

    Returns
    -------
    ndarray of float64
        In [0, 1]; valid for every n.

    Notes
    -----
    The smaller of exp(-n h(min(mean, limit), limit)), with h(a, b) = a log(a / b) +
    (1 - a) log((1 - a) / (1 - b)), and e P(Binomial(n, limit) <= ceil(n mean)): proposition 2 of
    [1]_.

    References
    ----------
    .. [1] S. Bates, A. Angelopoulos, L. Lei, J. Malik and M. I. Jordan, "Distribution-free,
       risk-controlling prediction sets", Journal of the ACM 68 (2021) 43.
    """
    totals = np.asarray(total, dtype=np.float64)
    below = np.minimum(totals / n, limit)
    # rel_entr(a, b) = a log(a / b), 0 at a = 0 and infinite at b = 0 < a, which has h = 0 below.
    entropy = special.rel_entr(below, limit) + special.rel_entr(1 - below, 1 - limit)
    hoeffding = np.exp(-n * np.maximum(entropy, 0.0))
    # Sums of whole numbers are whole up to rounding, which ceil would lift to the next.
    bentkus = math.e * stats.binom.cdf(np.ceil(totals - 1e-9 * n), n, limit)
    return np.asarray(np.minimum(np.minimum(hoeffding, bentkus), 1.0))
