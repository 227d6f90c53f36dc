"""The units that are ranked together, and which of them stay.

May import: `sigmine`, `sigmine_nn.units`.
"""

from __future__ import annotations

import math
import sys

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sigmine import ranking
from sigmine.exceptions import InputError

from ._ladder import Ladder, lowest
from .units import Units

__all__ = ["Scope", "count_kept"]


def count_kept(amount: float, n: int) -> int:
    """Return how many of n stay when a fraction goes, as `sigmine.ranking.sparsity` counts.

    Parameters
    ----------
    amount : float
        In [0, 1].
    n : int
        At least 0.

    Returns
    -------
    int
    """
    # 0.29 x 100 is 28.999999999999996 in floats and must remove 29.
    return n - min(n, math.floor(amount * n + 4 * sys.float_info.epsilon * n))


class Scope:
    """The units that are ranked together.

    Parameters
    ----------
    name : str
        Of the scope, for messages.
    units : Units
        All units.
    groups : tuple of str
        Names of the groups in the scope, in the order of the units.
    scores : Tensor, shape (n_units,)
        Of all units, on one scale; NaN only where `forced`.
    forced : Tensor of bool, shape (n_units,)
        Units that stay in any case.
    minimum, round_to : int
        As in `select_units`.

    Attributes
    ----------
    n : int
        Units in the scope.
    threshold : float
        Lowest score that is kept by its rank; NaN if none is, or nothing is chosen yet.
    """

    def __init__(
        self,
        name: str,
        units: Units,
        groups: tuple[str, ...],
        scores: Tensor,
        forced: Tensor,
        minimum: int,
        round_to: int,
    ) -> None:
        self.name = name
        self._minimum, self._round_to = minimum, round_to
        places = [units.names.index(group) for group in groups]
        self._ranges = [units.range_of(group) for group in groups]
        self._blocks = [units[place].blocks for place in places]
        self._values = self._gathered(scores)
        self._forced = self._gathered(forced)
        self.n = len(self._values)
        self.threshold = math.nan
        self._mask: Tensor | None = None
        self._in_order = True  # no unit is kept while a better one goes
        self._ladder: Ladder | None = None

    def _gathered(self, values: Tensor) -> Tensor:
        """Return the values of the scope's units: without a copy if they are neighbours."""
        first, last = self._ranges[0].start, self._ranges[-1].stop
        if sum(map(len, self._ranges)) == last - first:
            return values[first:last]
        return torch.cat([values[where.start : where.stop] for where in self._ranges])

    def _slices(self) -> list[slice]:
        ends = np.cumsum([len(where) for where in self._ranges]).tolist()
        return [slice(end - len(r), end) for end, r in zip(ends, self._ranges, strict=True)]

    @property
    def ladder(self) -> Ladder:
        """The candidates, in the order in which they are kept."""
        if self._ladder is None:
            self._ladder = Ladder(
                self._values,
                self._forced,
                self._slices(),
                self._blocks,
                self._minimum,
                self._round_to,
            )
        return self._ladder

    def cut(self, amount: float) -> None:
        """Remove a fraction of the units.

        Parameters
        ----------
        amount : float
            In [0, 1].

        Raises
        ------
        InputError
            If that many cannot go.
        """
        k = count_kept(amount, self.n)
        if self._cut_at_once(k):
            return
        least = self.ladder.kept(0)
        if k < least:
            self._refuse(self.n - k, self.n - least)
        self.stand_on(self.ladder.reach(k))

    def _cut_at_once(self, k: int) -> bool:
        """Keep k units by one cut of the scores; False if that leaves a group too small.

        The best units of a group come first in any order, so if the cut leaves enough of every
        group, it has kept those that the minimum would have kept.
        """
        n_forced = int(torch.count_nonzero(self._forced))
        if self._round_to > 1 or max(self._blocks) > 1 or k < n_forced:
            return False
        if n_forced == 0:
            cut = ranking.select(self._values, ranking.top_k(k))
            mask: Tensor = cut.mask
        else:
            free = ~self._forced
            cut = ranking.select(self._values[free], ranking.top_k(k - n_forced))
            mask = self._forced.clone()
            mask[free] = cut.mask
        for where in self._slices():
            part = mask[where]
            if int(torch.count_nonzero(part)) < min(self._minimum, len(part)):
                return False
        self._mask, self.threshold = mask, cut.threshold
        return True

    def stand_on(self, rung: int) -> None:
        """Keep the candidates below a rung of the ladder.

        Parameters
        ----------
        rung : int
            See `Ladder`.
        """
        self._mask, self._in_order = self.ladder.mask(rung), False

    def _refuse(self, asked: int, possible: int) -> None:
        n_forced = int(torch.count_nonzero(self._forced))
        share = math.floor(1e4 * possible / self.n) / 1e4
        place = "" if self.name == "global" else f" of {self.name!r}"
        raise InputError(
            f"{asked} of {self.n} units{place} would have to be removed, and at most {possible} "
            f"can be (a fraction of {share:g}): {n_forced} are undefined or kept by the caller, "
            f"and minimum={self._minimum} of each of {len(self._ranges)} groups stay"
            f"{f', in multiples of {self._round_to}' if self._round_to > 1 else ''}. Remove less, "
            "divide the budget in another way, or leave the group out with ignore."
        )

    def write(self, keep: NDArray[np.bool_]) -> None:
        """Write the mask of the scope's units into that of all.

        Parameters
        ----------
        keep : ndarray of bool, shape (n_units,)
            Changed in place.
        """
        assert self._mask is not None
        mask = self._mask.cpu().numpy()
        for where, part in zip(self._ranges, self._slices(), strict=True):
            keep[where.start : where.stop] = mask[part]

    def explain(self, reason: NDArray[np.uint8], code: int) -> None:
        """Find the threshold, and write a code for units that stay against their rank.

        Parameters
        ----------
        reason : ndarray of uint8, shape (n_units,)
            Changed in place.
        code : int
            What is written.
        """
        assert self._mask is not None
        if self._in_order:
            return
        worse = self._worse_than_removed(self._mask)
        ranked = self._mask & ~self._forced
        self.threshold = lowest(self._values[ranked & ~worse])
        protected = (ranked & worse).cpu().numpy()
        for where, part in zip(self._ranges, self._slices(), strict=True):
            mine = reason[where.start : where.stop]
            mine[protected[part]] = code

    def _worse_than_removed(self, mask: Tensor) -> Tensor:
        """Return which units come after the best of those that are removed."""
        removed = torch.nonzero(~mask).flatten()
        if len(removed) == 0:
            return torch.zeros_like(mask)
        best = removed[int(ranking.order(self._values[removed])[0])]
        number = torch.arange(self.n, device=mask.device)
        edge = self._values[best]
        return (self._values < edge) | ((self._values == edge) & (number > best))
