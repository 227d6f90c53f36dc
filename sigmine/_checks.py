"""Checks of single parameters at the borders: one wording for one mistake.

May import: `sigmine.exceptions`.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from .exceptions import InputError, InputTypeError

__all__ = ["one_of", "open_unit", "real_number", "whole_number"]


def whole_number(name: str, value: Any, low: int) -> int:
    """Return a whole number of at least `low`; True and 2.0 are none."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputTypeError(f"{name}={value!r} must be a whole number of at least {low}.")
    if value < low:
        raise InputError(f"{name}={value!r} must be at least {low}.")
    return int(value)


def real_number(name: str, value: Any, low: float, high: float, expected: str) -> float:
    """Return a number with low <= value <= high; `expected` ends the message."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputTypeError(f"{name}={value!r} is not a number; give {expected}.")
    number = float(value)
    if not low <= number <= high:  # NaN too
        raise InputError(f"{name}={value!r} is out of range; give {expected}.")
    return number


def open_unit(name: str, value: Any, usual: str) -> float:
    """Return a number in (0, 1); `usual` names a sensible one, such as "0.05"."""
    expected = f"a number in (0, 1), such as {usual}"
    number = real_number(name, value, 0.0, 1.0, expected)
    if number in (0.0, 1.0):
        raise InputError(f"{name}={value!r} is out of range; give {expected}.")
    return number


def one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    """Return one of the known words."""
    if not isinstance(value, str) or value not in known:
        raise InputError(f"{name}={value!r} is not known; choose one of {', '.join(known)}.")
    return value
