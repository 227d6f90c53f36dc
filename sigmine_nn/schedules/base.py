"""What a schedule is, and the counts that follow from it.

May import: `sigmine`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from sigmine._checks import real_number, whole_number
from sigmine.exceptions import InputError

__all__ = ["Schedule", "count_removed", "fraction_removed", "leaves_something"]


def count_removed(n: int, sparsity: float) -> int:
    """Return how many of n are removed at a sparsity: n x sparsity, rounded.

    Parameters
    ----------
    n : int
        At least 0.
    sparsity : float
        In [0, 1].

    Returns
    -------
    int
        Halves go to the even number. With ``1 - (1 - q) ** c`` for the sparsity this is
        round(n (1 - (1 - q)^c)), what c cycles leave out that each remove the fraction q of what
        remains; the rounding of one cycle does not reach the next.

    Examples
    --------
    >>> [count_removed(10, 1 - 0.8**cycle) for cycle in range(5)]
    [0, 2, 4, 5, 6]
    """
    n = whole_number("n", n, 0)
    return round(n * real_number("sparsity", sparsity, 0.0, 1.0, "a fraction in [0, 1]"))


class Schedule(ABC):
    """Which sparsity at which step.

    Attributes
    ----------
    start, end : int
        Steps of the first and of the last update.
    every : int
        Steps from one update to the next; the last one comes at `end` in any case.
    """

    start: int
    end: int
    every: int

    def _check(self) -> None:
        """Refuse steps that are none."""
        whole_number("start", self.start, 0)
        whole_number("end", self.end, 0)
        whole_number("every", self.every, 1)
        if self.end < self.start:
            raise InputError(
                f"end={self.end} comes before start={self.start}; give the steps of the first and "
                "of the last update."
            )

    @property
    def n_updates(self) -> int:
        """Number of updates."""
        return -(-(self.end - self.start) // self.every) + 1

    def is_update(self, step: int) -> bool:
        """Return whether masks change at a step.

        Parameters
        ----------
        step : int
            At least 0.

        Returns
        -------
        bool
        """
        step = whole_number("step", step, 0)
        if step == self.end:
            return True
        return self.start <= step < self.end and (step - self.start) % self.every == 0

    def sparsity_at(self, step: int) -> float:
        """Return the fraction that is removed after a step.

        Parameters
        ----------
        step : int
            At least 0.

        Returns
        -------
        float
            In [0, 1).
        """
        step = whole_number("step", step, 0)
        if step < self.start:
            return self._before
        return self._after(self._update_of(step))

    def count_at(self, step: int, n: int) -> int:
        """Return how many of n are removed after a step.

        Parameters
        ----------
        step : int
            At least 0.
        n : int
            At least 0.

        Returns
        -------
        int
            As `count_removed`.
        """
        return count_removed(n, self.sparsity_at(step))

    def levels_at(self, step: int) -> tuple[int, ...]:
        """Return the levels that a step goes through; none without an update.

        Parameters
        ----------
        step : int
            At least 0.

        Returns
        -------
        tuple of int
            How many times units were removed; the last one is what training goes on with.
        """
        return self.levels_of(self._update_of(step)) if self.is_update(step) else ()

    def levels_of(self, update: int) -> tuple[int, ...]:
        """Return the levels that an update goes through.

        Parameters
        ----------
        update : int
            Number of the update, from 0 to `n_updates` - 1.

        Returns
        -------
        tuple of int
            As `levels_at`.

        Raises
        ------
        InputError
            For an update that is none of the schedule.
        """
        update = whole_number("update", update, 0)
        if update >= self.n_updates:
            raise InputError(
                f"update={update} is none of the {self.n_updates} of the schedule; they are "
                f"numbered from 0 to {self.n_updates - 1}."
            )
        return self._levels_of(update)

    def _levels_of(self, update: int) -> tuple[int, ...]:
        return (update + 1,)

    @property
    def n_levels(self) -> int:
        """Number of times that units are removed."""
        return self.n_updates

    def sparsity_of(self, level: int) -> float:
        """Return the fraction that is removed at a level.

        Parameters
        ----------
        level : int
            From 0 (before the first update) to `n_levels`.

        Returns
        -------
        float
            In [0, 1).

        Raises
        ------
        InputError
            For a level that is none of the schedule.
        """
        level = whole_number("level", level, 0)
        if level > self.n_levels:
            raise InputError(
                f"level={level} is none of the schedule; it goes from 0 to {self.n_levels}."
            )
        return self._sparsity_of(level)

    def _sparsity_of(self, level: int) -> float:
        return self._before if level == 0 else self._after(level - 1)

    def _update_of(self, step: int) -> int:
        """Return the number of the last update at or before a step, from 0."""
        if step >= self.end:
            return self.n_updates - 1
        return (step - self.start) // self.every

    @property
    def _before(self) -> float:
        return 0.0

    @abstractmethod
    def _after(self, update: int) -> float:
        """Return the sparsity after an update, numbered from 0."""

    def _progress(self, update: int) -> float:
        """Return the share of the way from `start` to `end`; 1 if both are one step."""
        if update == self.n_updates - 1:
            return 1.0
        return update * self.every / (self.end - self.start)


def fraction_removed(name: str, value: float) -> None:
    """Refuse a fraction that is no number in [0, 1)."""
    if real_number(name, value, 0.0, 1.0, "a fraction, at least 0 and less than 1") == 1.0:
        raise InputError(f"{name}={value!r} would remove everything; give less than 1.")


def leaves_something(rate: float, times: int) -> None:
    """Refuse a rate that, so many times, leaves a fraction that rounds to 0."""
    if 1.0 - (1.0 - rate) ** times == 1.0:
        raise InputError(
            f"rate={rate!r} at each of {times} updates leaves nothing (the sparsity rounds to 1); "
            "give a smaller rate or fewer updates."
        )
