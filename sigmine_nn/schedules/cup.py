"""The schedule by which units go and come back.

May import: `sigmine`, `.base`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sigmine._checks import whole_number
from sigmine.exceptions import InputError

from .base import Schedule, fraction_removed, leaves_something

__all__ = ["Cup"]


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
        fraction_removed("rate", self.rate)
        if self.rate == 0.0:
            raise InputError("rate=0 removes nothing; give a fraction above 0, such as 0.2.")
        if self.sparsities is None:
            leaves_something(self.rate, self.cycles)

    def _take_sparsities(self, given: Sequence[float]) -> None:
        """Check a list of sparsities, and set the number of cycles to its length."""
        values = tuple(given)
        for value in values:
            fraction_removed("sparsities", value)
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
