"""Where to cut a numeric column, and what to call the pieces.

Edges are chosen so that they can be read: with as few digits as put the same rows on the same
side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._frames import as_text
from .exceptions import InputError

__all__ = ["Edges", "bin_names", "given_edges", "quantile_edges", "width_edges"]

# An edge that needs no more digits than this is left as it is in the data.
_READABLE_DIGITS = 4


@dataclass(frozen=True)
class Edges:
    """Cut points in ascending order; a bin holds its upper edge.

    Parameters
    ----------
    values : ndarray of shape (n_edges,)
        The cut points, of a type that compares with the column.
    texts : tuple of str of length n_edges
        The same, for names.
    """

    values: NDArray[Any]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.values)


def quantile_edges(values: NDArray[Any], bins: int) -> Edges:
    """Cut at quantiles: the smallest values with at least j / bins of the rows below or at them.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
        Finite numbers or dates, at least two different ones.
    bins : int
        Number of bins, at least 2; there are fewer where values are tied.

    Returns
    -------
    Edges
        Each below the largest value, so that no bin is empty.
    """
    ordinals, kind = _ordinals(values)
    n = len(ordinals)
    # Order statistics are values of the data: no interpolation, no rows torn from their ties.
    ranks = np.unique([-(-j * n // bins) - 1 for j in range(1, bins)])
    cuts = np.unique(np.partition(ordinals, ranks)[ranks])
    top = ordinals.max()
    if cuts[-1] == top:
        # The largest value fills the last bin; what lies below it is the edge.
        cuts = np.unique(np.append(cuts[:-1], ordinals[ordinals < top].max()))
    return _readable(cuts, ordinals, kind)


def width_edges(values: NDArray[Any], bins: int) -> Edges:
    """Cut the range of the values into bins of equal width, at rounded numbers.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
        Finite numbers or dates, at least two different ones.
    bins : int
        Number of bins, at least 2.

    Returns
    -------
    Edges
        Rounded to about a hundredth of the width; whole if the values are.
    """
    ordinals, kind = _ordinals(values)
    low, high = ordinals.min(), ordinals.max()
    # Fractions of both ends: high - low would overflow for numbers near the largest.
    shares = np.arange(1, bins) / bins
    raw = low * (1 - shares) + high * shares
    if kind != "number":
        cuts = np.unique(np.floor(raw).astype(np.int64))
        return Edges(*_texts_of(cuts[(cuts >= low) & (cuts < high)], kind))
    width = Decimal(float(high)) / bins - Decimal(float(low)) / bins
    unit = Decimal(1).scaleb(width.adjusted() - 1)
    rounded = [_to_unit(Decimal(float(edge)), unit, ROUND_FLOOR) for edge in raw]
    return Edges(
        np.array([float(edge) for edge in rounded], dtype=ordinals.dtype),
        tuple(map(_plain, rounded)),
    )


def given_edges(values: NDArray[Any], edges: Sequence[Any], name: str) -> Edges:
    """Check edges that a user gave.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
        Numbers or dates to be cut.
    edges : sequence of numbers, dates or texts of dates
        At least one; strictly ascending.
    name : str
        Name of the column, for messages.

    Returns
    -------
    Edges

    Raises
    ------
    InputError
        If there are no edges, or they do not ascend, or are not finite numbers (dates).
    """
    is_time = values.dtype.kind == "M"
    # In the type of the column, so that an edge of 0.1 meets the 0.1 of a float32 column.
    number = values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)
    try:
        array = np.asarray(edges, dtype="datetime64[us]" if is_time else number)
    except (TypeError, ValueError):
        array = np.empty(0)
    finite = ~np.isnat(array) if array.dtype.kind == "M" else np.isfinite(array)
    if array.ndim != 1 or not len(array) or not finite.all() or (array[1:] <= array[:-1]).any():
        expected = "dates" if is_time else "finite numbers"
        raise InputError(
            f"edges={edges!r} of column {name!r} cannot be used; expected one or more {expected} "
            "in ascending order, such as [35, 50] for three bins."
        )
    return Edges(array, tuple(as_text(edge) for edge in array))


def bin_names(name: str, edges: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names of the bins, and of their opposites.

    Parameters
    ----------
    name : str
        Name of the column.
    edges : sequence of str
        Texts of the edges, at least one.

    Returns
    -------
    names, opposites : list of str of length n_edges + 1

    Examples
    --------
    >>> bin_names("age", ["35", "50"])
    (['age<=35', '35<age<=50', 'age>50'], ['age>35', 'not 35<age<=50', 'age<=50'])
    """
    first, last = edges[0], edges[-1]
    between = [f"{low}<{name}<={high}" for low, high in pairwise(edges)]
    names = [f"{name}<={first}", *between, f"{name}>{last}"]
    return names, [f"{name}>{first}", *(f"not {text}" for text in between), f"{name}<={last}"]


def _ordinals(values: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Return numbers that sort as the values do, and what they are.

    Whole numbers stay whole in any type; dates become days if none has a time of day, else
    microseconds.
    """
    if values.dtype.kind == "M":
        days = values.astype("datetime64[D]")
        unit = "D" if (days == values).all() else "us"
        return values.astype(f"datetime64[{unit}]").astype(np.int64), f"datetime64[{unit}]"
    if values.dtype.kind in "iu":
        return values, "whole"
    return values, "number"


def _texts_of(cuts: NDArray[Any], kind: str) -> tuple[NDArray[Any], tuple[str, ...]]:
    if kind != "whole":
        cuts = cuts.astype(kind)
    return cuts, tuple(as_text(cut) for cut in cuts)


def _readable(cuts: NDArray[Any], values: NDArray[Any], kind: str) -> Edges:
    """Shorten edges taken from the data without moving a row to another bin."""
    if kind != "number":
        return Edges(*_texts_of(cuts, kind))
    dtype = values.dtype.type  # comparisons are in the type of the column: 0.1 is float32's 0.1
    numbers = [
        _shortest(cut, values[values > cut].min(), dtype)
        for cut in cuts + dtype(0)  # turns -0.0 into 0.0
    ]
    return Edges(np.array([dtype(number) for number in numbers]), tuple(map(_plain, numbers)))


def _shortest(low: Any, high: Any, dtype: Any) -> Decimal:
    """Return the number in [low, high) that has the fewest digits, in the type of the column."""
    written = Decimal(str(low))
    n_digits = len(written.normalize().as_tuple().digits)
    if n_digits > _READABLE_DIGITS:
        for digits in range(1, n_digits):
            unit = Decimal(1).scaleb(written.adjusted() - digits + 1)
            candidate = _to_unit(written, unit, ROUND_CEILING)
            if low <= dtype(candidate) < high:
                return candidate
    return written


def _to_unit(number: Decimal, unit: Decimal, rounding: str) -> Decimal:
    """Round to a multiple of a power of ten, exactly (floats cannot hold 0.1)."""
    return (number / unit).to_integral_value(rounding=rounding) * unit


def _plain(number: Decimal) -> str:
    """Write a number without needless zeros; in powers of ten only where it is very long."""
    number = number.normalize()
    if -6 <= number.adjusted() < 15:
        return f"{number:f}"
    return str(number).replace("E+", "e").replace("E", "e")
