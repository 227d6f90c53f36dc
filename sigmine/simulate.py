"""Simulated tables with known truth: null data, and data with planted patterns.

In both, rows fall into strata and the share of cases differs between strata, so that whatever
depends on the stratum is associated with the outcome when the strata are ignored, and is not
inside them. `simulate_null` has nothing to find. `simulate_planted` has *associated* sets, which
depend on the outcome inside the strata, and *confounded* sets, which depend on the stratum alone:
a method that conditions on the strata finds the first and leaves the second.

May import: `sigmine.exceptions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import whole_number
from .exceptions import InputError, InputTypeError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Planted", "SimulatedData", "simulate_null", "simulate_planted"]

RandomState: TypeAlias = "int | np.random.Generator | np.random.SeedSequence | None"
Itemset: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Planted:
    """The itemsets that were planted, as sorted column indices.

    Attributes
    ----------
    associated : tuple of tuples of int
        Depend on the outcome inside the strata.
    confounded : tuple of tuples of int
        Depend on the stratum only: independent of the outcome given the stratum.
    """

    associated: tuple[Itemset, ...] = ()
    confounded: tuple[Itemset, ...] = ()


@dataclass(frozen=True, eq=False)
class SimulatedData:
    """One simulated table.

    Attributes
    ----------
    X : ndarray of int8, shape (n_rows, n_items)
        0/1 items.
    y : ndarray of int8, shape (n_rows,)
        0/1 outcome.
    strata : ndarray of int64, shape (n_rows,)
        Codes 0..n_strata-1.
    planted : Planted
        The truth.
    case_rates : ndarray of float64, shape (n_strata,)
        Probability of a case in every stratum.
    """

    X: NDArray[np.int8] = field(repr=False)
    y: NDArray[np.int8] = field(repr=False)
    strata: NDArray[np.int64] = field(repr=False)
    planted: Planted
    case_rates: NDArray[np.float64]

    @property
    def item_names(self) -> tuple[str, ...]:
        """Names of the items: "item_0", "item_1", ... padded to one width."""
        width = len(str(max(0, self.X.shape[1] - 1)))
        return tuple(f"item_{j:0{width}d}" for j in range(self.X.shape[1]))

    def to_frame(self) -> pd.DataFrame:
        """Return the simulated table as a data frame.

        Returns
        -------
        pandas.DataFrame
            A column an item, then "y" and "stratum".
        """
        import pandas as pd

        frame = pd.DataFrame(self.X, columns=list(self.item_names))
        return frame.assign(y=self.y, stratum=self.strata)


def _probabilities(name: str, value: ArrayLike) -> NDArray[np.float64]:
    try:
        array = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"{name}={value!r} must hold numbers in [0, 1].") from error
    if array.ndim != 1 or not ((array >= 0) & (array <= 1)).all():
        raise InputError(f"{name}={value!r} must hold probabilities, in [0, 1].")
    return array


def _density(density: ArrayLike, n_items: int) -> NDArray[np.float64]:
    array = _probabilities("density", density)
    if array.size not in (1, n_items):
        raise InputError(
            f"density has {array.size} entries for {n_items} items; give one number, or one per "
            "item."
        )
    return np.broadcast_to(array, (n_items,))


def _case_rates(case_rates: ArrayLike, n_strata: int) -> NDArray[np.float64]:
    """Return P(case) of every stratum."""
    array = _probabilities("case_rates", case_rates)
    if array.size == n_strata:
        return array
    if array.size == 1:
        return np.full(n_strata, array[0])
    if array.size == 2:
        low, high = array
        return np.linspace(low, high, n_strata) if n_strata > 1 else np.array([(low + high) / 2])
    raise InputError(
        f"case_rates has {array.size} entries for {n_strata} strata; give one rate, (low, high), "
        "or one rate per stratum."
    )


def _rows(
    n_rows: int, rates: NDArray[np.float64], generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return strata of sizes that differ by at most one, shuffled, and the outcome."""
    strata = generator.permutation(np.arange(n_rows, dtype=np.int64) % len(rates))
    return strata, generator.random(n_rows) < rates[strata]


def simulate_null(
    n_rows: int = 500,
    n_items: int = 100,
    n_strata: int = 4,
    *,
    density: float | Sequence[float] | NDArray[np.float64] = 0.2,
    case_rates: float | Sequence[float] | NDArray[np.float64] = (0.25, 0.75),
    rng: RandomState = None,
) -> SimulatedData:
    """Simulate a table with nothing to find: items are independent of the outcome.

    Parameters
    ----------
    n_rows : int, default=500
        At least 1.
    n_items : int, default=100
        At least 1.
    n_strata : int, default=4
        From 1 to n_rows; their sizes differ by at most one.
    density : float or sequence of float, shape (n_items,), default=0.2
        Probability that a row has the item.
    case_rates : float, (low, high), or sequence of float, shape (n_strata,), default=(0.25, 0.75)
        Probability of a case in every stratum; (low, high) rises linearly over the strata (one
        stratum gets the middle).
    rng : int, Generator, SeedSequence or None, optional
        Seed; None is different every time.

    Returns
    -------
    SimulatedData
        With no planted sets.

    Raises
    ------
    InputError
        A size below its minimum, more strata than rows, a probability outside [0, 1], or a number
        of probabilities that does not fit.
    InputTypeError
        A size that is not a whole number, or probabilities that are not numbers.

    Notes
    -----
    Every item is independent of (outcome, stratum), so the null hypothesis of conditional
    independence holds for every itemset, with or without strata. A stratum with extreme rates can
    come out with one class.

    Examples
    --------
    >>> data = simulate_null(100, 5, 2, case_rates=(0.0, 1.0), rng=0)
    >>> data.X.shape, bool((data.y == data.strata).all()), data.planted.associated
    ((100, 5), True, ())
    """
    n_rows, n_items = whole_number("n_rows", n_rows, 1), whole_number("n_items", n_items, 1)
    n_strata = _strata_count(n_strata, n_rows)
    rates, densities = _case_rates(case_rates, n_strata), _density(density, n_items)
    generator = np.random.default_rng(rng)
    strata, cases = _rows(n_rows, rates, generator)
    matrix = generator.random((n_rows, n_items)) < densities
    return SimulatedData(matrix.astype(np.int8), cases.astype(np.int8), strata, Planted(), rates)


def _strata_count(n_strata: Any, n_rows: int) -> int:
    count = whole_number("n_strata", n_strata, 1)
    if count > n_rows:
        raise InputError(f"n_strata={n_strata} is more than n_rows={n_rows}; ask for fewer strata.")
    return count


def simulate_planted(
    n_rows: int = 500,
    n_items: int = 100,
    n_strata: int = 4,
    *,
    density: float | Sequence[float] | NDArray[np.float64] = 0.2,
    case_rates: float | Sequence[float] | NDArray[np.float64] = (0.25, 0.75),
    pattern_length: int = 4,
    n_associated: int = 1,
    n_confounded: int = 2,
    carrier_rates: tuple[float, float] = (0.05, 0.35),
    rng: RandomState = None,
) -> SimulatedData:
    """Simulate a table with associated and with confounded itemsets.

    Parameters
    ----------
    n_rows, n_items, n_strata, density, case_rates
        As in `simulate_null`.
    pattern_length : int, default=4
        Items of every planted set, at least 1. The sets share no item.
    n_associated : int, default=1
        Sets whose carriers are more often cases, in every stratum.
    n_confounded : int, default=2
        Sets whose share of carriers rises over the strata and does not depend on the outcome
        inside them.
    carrier_rates : (float, float), default=(0.05, 0.35)
        (low, high), low <= high. Share of carriers of an associated set among controls and among
        cases, and of a confounded set in the first and in the last stratum. With one stratum a
        confounded set has the low share.
    rng : int, Generator, SeedSequence or None, optional
        As in `simulate_null`.

    Returns
    -------
    SimulatedData
        The table, with the planted sets.

    Raises
    ------
    InputError
        As in `simulate_null`; carrier rates in the wrong order; more planted items than items.
    InputTypeError
        As in `simulate_null`.

    Notes
    -----
    Items start independent. Then exactly the carriers of a planted set get all its items: a row
    that has all of them and is not a carrier loses one, drawn at random. Items of a set are
    thereby elevated too, and so are its subsets.

    Examples
    --------
    >>> data = simulate_planted(400, 30, rng=0)
    >>> [len(s) for s in data.planted.associated], [len(s) for s in data.planted.confounded]
    ([4], [4, 4])
    >>> carriers = data.X[:, data.planted.associated[0]].all(axis=1)
    >>> bool(data.y[carriers].mean() > data.y[~carriers].mean())
    True
    """
    n_rows, n_items = whole_number("n_rows", n_rows, 1), whole_number("n_items", n_items, 1)
    n_strata = _strata_count(n_strata, n_rows)
    rates, densities = _case_rates(case_rates, n_strata), _density(density, n_items)
    length = whole_number("pattern_length", pattern_length, 1)
    n_sets = whole_number("n_associated", n_associated, 0) + whole_number(
        "n_confounded", n_confounded, 0
    )
    if n_sets * length > n_items:
        raise InputError(
            f"{n_sets} planted sets of {length} items need {n_sets * length} of n_items={n_items}; "
            "ask for more items or for fewer or shorter sets."
        )
    low, high = _carrier_rates(carrier_rates)

    generator = np.random.default_rng(rng)
    strata, cases = _rows(n_rows, rates, generator)
    matrix = generator.random((n_rows, n_items)) < densities
    chosen = generator.permutation(n_items)[: n_sets * length].reshape(n_sets, length)
    position = strata / max(1, n_strata - 1)  # 0 in the first stratum, 1 in the last
    for j, columns in enumerate(chosen):
        share = np.where(cases, high, low) if j < n_associated else low + (high - low) * position
        _plant(matrix, columns, generator.random(n_rows) < share, generator)
    sets = tuple(tuple(sorted(int(column) for column in columns)) for columns in chosen)
    return SimulatedData(
        matrix.astype(np.int8),
        cases.astype(np.int8),
        strata,
        Planted(associated=sets[:n_associated], confounded=sets[n_associated:]),
        rates,
    )


def _carrier_rates(carrier_rates: Any) -> tuple[float, float]:
    array = _probabilities("carrier_rates", carrier_rates)
    if array.size != 2 or array[0] > array[1]:
        raise InputError(f"carrier_rates={carrier_rates!r} must be (low, high) with low <= high.")
    return float(array[0]), float(array[1])


def _plant(
    matrix: NDArray[np.bool_],
    columns: NDArray[np.int64],
    carriers: NDArray[np.bool_],
    generator: np.random.Generator,
) -> None:
    """Give exactly the carriers all items of one set, in place."""
    matrix[np.ix_(carriers, columns)] = True
    accidental = np.flatnonzero(~carriers & matrix[:, columns].all(axis=1))
    matrix[accidental, generator.choice(columns, size=accidental.size)] = False
