"""When units go, and how many: sparsity as a function of the training step.

A schedule is a value: it answers whether a step is one at which masks change (`is_update`), and
which fraction is removed once that step's change is made (`sparsity_at`), which holds until the
next one. At the last update the target is met exactly, not to rounding.

May import: `sigmine`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from sigmine._checks import real_number, whole_number
from sigmine.exceptions import InputError

__all__ = [
    "Cup",
    "Geometric",
    "Linear",
    "OneShot",
    "Polynomial",
    "ProgressiveSoft",
    "Schedule",
    "count_removed",
]


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


def _fraction(name: str, value: float) -> None:
    if real_number(name, value, 0.0, 1.0, "a fraction, at least 0 and less than 1") == 1.0:
        raise InputError(f"{name}={value!r} would remove everything; give less than 1.")


def _leaves_something(rate: float, times: int) -> None:
    if 1.0 - (1.0 - rate) ** times == 1.0:
        raise InputError(
            f"rate={rate!r} at each of {times} updates leaves nothing (the sparsity rounds to 1); "
            "give a smaller rate or fewer updates."
        )


@dataclass(frozen=True)
class OneShot(Schedule):
    """Everything at one step.

    Parameters
    ----------
    target : float
        Sparsity, in [0, 1).
    start : int, default=0
        The step.

    Examples
    --------
    >>> schedule = OneShot(0.5, start=10)
    >>> schedule.sparsity_at(9), schedule.sparsity_at(10), schedule.is_update(10)
    (0.0, 0.5, True)
    """

    target: float
    start: int = 0

    def __post_init__(self) -> None:
        _fraction("target", self.target)
        self._check()

    @property
    def end(self) -> int:  # type: ignore[override]
        """The same step."""
        return self.start

    @property
    def every(self) -> int:  # type: ignore[override]
        """1; there is one update."""
        return 1

    def _after(self, update: int) -> float:
        return self.target


@dataclass(frozen=True)
class Polynomial(Schedule):
    """Fast at first and slower towards the end.

    Parameters
    ----------
    target : float
        Sparsity at the end, in [0, 1).
    end : int
        Step of the last update.
    start : int, default=0
        Step of the first update, which leaves `initial`.
    every : int, default=1
        Steps between updates.
    initial : float, default=0.0
        Sparsity at the start and before, at most `target`.
    power : float, default=3.0
        At least 1; 3 is the cubic schedule.

    Notes
    -----
    target + (initial - target) (1 - p)^power, where p is the share of the steps from start to end
    that have passed: equation 1 of [1]_ for a power of 3.

    References
    ----------
    .. [1] M. Zhu and S. Gupta, "To prune, or not to prune: exploring the efficacy of pruning for
       model compression", arXiv:1710.01878 (2017).

    Examples
    --------
    >>> schedule = Polynomial(0.8, end=100, every=50)
    >>> [schedule.sparsity_at(step) for step in (0, 50, 99, 100, 200)]
    [0.0, 0.7..., 0.7..., 0.8, 0.8]
    """

    target: float
    end: int
    start: int = 0
    every: int = 1
    initial: float = 0.0
    power: float = 3.0

    def __post_init__(self) -> None:
        _fraction("target", self.target)
        _fraction("initial", self.initial)
        if self.initial > self.target:
            raise InputError(
                f"initial={self.initial!r} is above target={self.target!r}; sparsity grows here. "
                "Cup comes back."
            )
        real_number("power", self.power, 1.0, float("inf"), "a number of at least 1, such as 3")
        self._check()

    @property
    def _before(self) -> float:
        return self.initial

    def _after(self, update: int) -> float:
        left: float = (1.0 - self._progress(update)) ** self.power
        return self.target + (self.initial - self.target) * left


@dataclass(frozen=True)
class Linear(Polynomial):
    """The same share with every step.

    Parameters
    ----------
    target, end, start, every, initial
        As in `Polynomial`, of which this is the one with a power of 1.

    Examples
    --------
    >>> [Linear(0.8, end=2).sparsity_at(step) for step in range(4)]
    [0.0, 0.4, 0.8, 0.8]
    """

    power: float = field(default=1.0, init=False, repr=False)


@dataclass(frozen=True)
class Geometric(Schedule):
    """The same fraction of what remains at every update.

    Parameters
    ----------
    end : int
        Step of the last update.
    start : int, default=0
        Step of the first update, which removes already.
    every : int, default=1
        Steps between updates.
    rate : float, optional
        Fraction q of what remains that every update removes, in [0, 1); 0.2 if there is no target.
    target : float, optional
        Sparsity after the last update, in [0, 1), from which the rate follows.

    Notes
    -----
    After c updates the sparsity is 1 - (1 - q)^c: the schedule of iterative magnitude pruning [1]_.

    References
    ----------
    .. [1] J. Frankle and M. Carbin, "The lottery ticket hypothesis: finding sparse, trainable
       neural networks", ICLR (2019), arXiv:1803.03635.

    Examples
    --------
    >>> schedule = Geometric(end=20, every=10, rate=0.5)
    >>> [schedule.sparsity_at(step) for step in (0, 10, 20)]
    [0.5, 0.75, 0.875]
    """

    end: int
    start: int = 0
    every: int = 1
    rate: float | None = None
    target: float | None = None

    def __post_init__(self) -> None:
        self._check()
        if self.rate is not None and self.target is not None:
            raise InputError(
                f"rate={self.rate!r} and target={self.target!r} are both given; one follows from "
                "the other."
            )
        if self.rate is not None:
            _fraction("rate", self.rate)
            _leaves_something(self.rate, self.n_updates)
        if self.target is not None:
            _fraction("target", self.target)

    @property
    def per_update(self) -> float:
        """Fraction of what remains that every update removes."""
        if self.target is not None:
            return 1.0 - float((1.0 - self.target) ** (1.0 / self.n_updates))
        return 0.2 if self.rate is None else self.rate

    def _after(self, update: int) -> float:
        if self.target is not None and update == self.n_updates - 1:
            return self.target
        return 1.0 - (1.0 - self.per_update) ** (update + 1)


@dataclass(frozen=True)
class ProgressiveSoft(Schedule):
    """The units that go are faded out: their mask moves from 1 down to 0.

    Parameters
    ----------
    target : float
        Fraction of the units that are faded out, in [0, 1).
    end : int
        Step at which they are gone.
    start : int, default=0
        Step at which their masks still are 1.
    every : int, default=1
        Steps between updates.
    power : float, default=1.0
        Above 0. The mask is 1 - p^power where p is the share of the steps from start to end that
        have passed.

    Notes
    -----
    `sparsity_at` is the mean of 1 - mask over all units, `mask_at` the mask of those that go. Masks
    that move continuously, where filters were set to zero and could come back, are the idea of
    asymptotic soft filter pruning [1]_; the form of the curve is a choice of ours.

    References
    ----------
    .. [1] Y. He, X. Dong, G. Kang, Y. Fu, C. Yan and Y. Yang, "Asymptotic soft filter pruning for
       deep convolutional neural networks", IEEE Transactions on Cybernetics 50 (2020) 3594-3604,
       arXiv:1808.07471.

    Examples
    --------
    >>> schedule = ProgressiveSoft(0.5, end=4)
    >>> [schedule.mask_at(step) for step in range(5)]
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """

    target: float
    end: int
    start: int = 0
    every: int = 1
    power: float = 1.0

    def __post_init__(self) -> None:
        _fraction("target", self.target)
        self._check()
        if real_number("power", self.power, 0.0, float("inf"), "a number above 0") == 0.0:
            raise InputError("power=0 would remove everything at the start; give more than 0.")

    def mask_at(self, step: int) -> float:
        """Return the mask of the units that go, after a step.

        Parameters
        ----------
        step : int
            At least 0.

        Returns
        -------
        float
            In [0, 1].
        """
        step = whole_number("step", step, 0)
        return 1.0 if step < self.start else self._mask(self._update_of(step))

    def _mask(self, update: int) -> float:
        return 1.0 - float(self._progress(update) ** self.power)

    def _after(self, update: int) -> float:
        return self.target * (1.0 - self._mask(update))


@dataclass(frozen=True)
class Cup(Schedule):
    """Capacity shrinks, cycle by cycle, and grows back in reverse.

    Parameters
    ----------
    cycles : int, default=20
        Cycles C that prune, and then that grow.
    every : int, default=1
        Steps of training in a cycle.
    start : int, default=0
        Step of the first pruning; the published program trains a cycle before (``start=every``).
    rate : float, default=0.2
        Fraction q of what remains that a cycle removes, in (0, 1).
    sparsities : sequence of float, optional
        Any other way down: the fraction that is removed after each of the cycles, in [0, 1), none
        less than the one before. `cycles` is then their number, and there is no `rate`.

    Notes
    -----
    After [1]_ and its published program; the text of the paper was not available. Level c has the
    sparsity 1 - (1 - q)^c. The program trains, prunes to level 1, trains, and so on; at the turn it
    prunes to level C and grows back to C - 1 before it trains again, so that the emptiest network
    is never trained, and both changes are one update here (`levels_at`). After the last of 2 C - 1
    updates everything is back: the sparsity is exactly 0.

    References
    ----------
    .. [1] Scharr and Toborek, "Cup curriculum: curriculum learning on model capacity", workshop
       OPT at NeurIPS (2023), arXiv:2311.03956.

    Examples
    --------
    >>> schedule = Cup(cycles=3, start=10, every=10, rate=0.5)
    >>> [schedule.levels_at(step) for step in (0, 10, 20, 30, 40, 50)]
    [(), (1,), (2,), (3, 2), (1,), (0,)]
    >>> [schedule.sparsity_at(step) for step in (0, 10, 20, 30, 40, 50)]
    [0.0, 0.5, 0.75, 0.75, 0.5, 0.0]
    >>> schedule = Cup(sparsities=(0.5, 0.6), start=1)
    >>> [schedule.sparsity_at(step) for step in range(4)]
    [0.0, 0.5, 0.5, 0.0]
    """

    cycles: int = 20
    every: int = 1
    start: int = 0
    rate: float = 0.2
    sparsities: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.sparsities is not None:
            self._take_sparsities(self.sparsities)
        whole_number("cycles", self.cycles, 1)
        self._check()
        _fraction("rate", self.rate)
        if self.rate == 0.0:
            raise InputError("rate=0 removes nothing; give a fraction above 0, such as 0.2.")
        if self.sparsities is None:
            _leaves_something(self.rate, self.cycles)

    def _take_sparsities(self, given: Sequence[float]) -> None:
        """Check a list of sparsities, and set the number of cycles to its length."""
        values = tuple(given)
        for value in values:
            _fraction("sparsities", value)
        falls = [i for i in range(1, len(values)) if values[i] < values[i - 1]]
        if falls or not values:
            found = (
                f"fall from {values[falls[0] - 1]!r} to {values[falls[0]]!r}"
                if falls
                else "are none"
            )
            raise InputError(
                f"sparsities {found}; give the fraction removed after each cycle on the way down, "
                "each at least the one before. The way up mirrors it."
            )
        if self.cycles not in (20, len(values)) or self.rate != 0.2:
            raise InputError(
                f"{len(values)} sparsities are given, and cycles={self.cycles!r}, "
                f"rate={self.rate!r}; give either a list or these two."
            )
        object.__setattr__(self, "sparsities", values)  # the value stays hashable
        object.__setattr__(self, "cycles", len(values))

    @property
    def end(self) -> int:  # type: ignore[override]
        """Step at which everything is back."""
        return self.start + 2 * (self.cycles - 1) * self.every

    @property
    def n_levels(self) -> int:
        """Number of times that units are removed: one for each cycle of the way down."""
        return self.cycles

    @property
    def bottom(self) -> float:
        """The largest sparsity, at the turn."""
        return self._sparsity_of(self.cycles)

    def _levels_of(self, update: int) -> tuple[int, ...]:
        """Return the level after an update; two at the turn."""
        level = self._level(update)
        return (self.cycles, level) if update == self.cycles - 1 else (level,)

    def _level(self, update: int) -> int:
        if update < self.cycles - 1:
            return update + 1
        return 2 * (self.cycles - 1) - update

    def _sparsity_of(self, level: int) -> float:
        if self.sparsities is not None:
            return 0.0 if level == 0 else self.sparsities[level - 1]
        return 1.0 - (1.0 - self.rate) ** level

    def _after(self, update: int) -> float:
        return self._sparsity_of(self._level(update))
