"""Schedules by which units only go.

May import: `sigmine`, `.base`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sigmine._checks import real_number, whole_number
from sigmine.exceptions import InputError

from .base import Schedule, fraction_removed, leaves_something

__all__ = ["Geometric", "Linear", "OneShot", "Polynomial", "ProgressiveSoft"]


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
        fraction_removed("target", self.target)
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
        fraction_removed("target", self.target)
        fraction_removed("initial", self.initial)
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
            fraction_removed("rate", self.rate)
            leaves_something(self.rate, self.n_updates)
        if self.target is not None:
            fraction_removed("target", self.target)

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
        fraction_removed("target", self.target)
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
