"""Candidates of a scope in the order in which they are kept: nested sets for every budget.

A candidate is a unit, or one unit of every block of a group that needs equal numbers in its blocks.
Keeping the candidates below a rung, and what must stay in any case, gives sets that only grow with
the rung.

May import: `sigmine`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sigmine import ranking

__all__ = ["Ladder", "lowest"]


def lowest(values: Tensor) -> float:
    """Return the smallest value; NaN if there is none.

    Parameters
    ----------
    values : Tensor, shape (n,)
        Not NaN.

    Returns
    -------
    float
    """
    return float(values.min()) if len(values) else math.nan


@dataclass(frozen=True, eq=False)
class _Group:
    """The units of a group in their order.

    Attributes
    ----------
    position : Tensor of int64, shape (blocks, size)
        Place of every unit in the order of its block: those that must stay, then the best ones.
    least : int
        Units of every block that stay in any case.
    scores : Tensor, shape (size - least,)
        Of the candidates, best first.
    step : int
        The number that stays of a block is raised to a multiple of this.
    """

    position: Tensor
    least: int
    scores: Tensor
    step: int

    def rounded(self, count: int) -> int:
        """Return how many stay of a block where `count` would without rounding."""
        return min(self.position.shape[1], -(-count // self.step) * self.step)


def _group(values: Tensor, forced: Tensor, blocks: int, minimum: int, round_to: int) -> _Group:
    """Order the units of a group within its blocks."""
    size = len(values) // blocks
    by_block, must = values.view(blocks, size), forced.view(blocks, size)
    position = torch.empty((blocks, size), dtype=torch.int64, device=values.device)
    places = torch.arange(size, device=values.device)
    orders = []
    for block in range(blocks):
        free = torch.nonzero(~must[block]).flatten()
        ranked = free[ranking.order(by_block[block, free])]
        order = torch.cat([torch.nonzero(must[block]).flatten(), ranked])
        position[block, order] = places
        orders.append(order)
    least = max(int(must.sum(dim=1).max()), min(size, -(-minimum // blocks)))
    total = by_block[0, orders[0][least:]]
    for block in range(1, blocks):  # one by one: sums of ordered values stay ordered
        total = total + by_block[block, orders[block][least:]]
    if blocks > 1:
        # Infinite scores of both signs cancel: above all that have -inf, below all that have inf.
        total = torch.where(total.isnan(), 0.0, total / blocks)
    return _Group(position, least, total, round_to // math.gcd(round_to, blocks))


class Ladder:
    """The candidates of a scope, rung by rung.

    Parameters
    ----------
    values : Tensor, shape (n,)
        Scores; NaN only where `forced`.
    forced : Tensor of bool, shape (n,)
        Units that stay in any case.
    slices : sequence of slice
        The units of every group, in order.
    blocks : sequence of int
        Of every group.
    minimum, round_to : int
        As in `select_units`.
    """

    def __init__(
        self,
        values: Tensor,
        forced: Tensor,
        slices: Sequence[slice],
        blocks: Sequence[int],
        minimum: int,
        round_to: int,
    ) -> None:
        self._groups = [
            _group(values[where], forced[where], number, minimum, round_to)
            for where, number in zip(slices, blocks, strict=True)
        ]
        # Candidates of a group are in the order of score and number already, so that the order of
        # all of them is again (score, number of the unit).
        order = ranking.order(torch.cat([group.scores for group in self._groups]))
        rungs = torch.empty_like(order)
        rungs[order] = torch.arange(len(order), device=order.device)
        sizes = [len(group.scores) for group in self._groups]
        parts = np.split(rungs.cpu().numpy(), np.cumsum(sizes)[:-1])
        # Rungs of every group's candidates, ascending: its counts are a search in them.
        self._rungs: list[NDArray[np.int64]] = parts
        self.height = sum(sizes)

    def _counts(self, rung: int) -> list[int]:
        """Return how many units of each block of every group stay."""
        return [
            group.rounded(group.least + int(np.searchsorted(rungs, rung)))
            for group, rungs in zip(self._groups, self._rungs, strict=True)
        ]

    def kept(self, rung: int) -> int:
        """Return how many units stay on a rung.

        Parameters
        ----------
        rung : int
            From 0 (what must stay) to `height` (everything).

        Returns
        -------
        int
        """
        counts = self._counts(rung)
        return sum(g.position.shape[0] * c for g, c in zip(self._groups, counts, strict=True))

    def reach(self, k: int) -> int:
        """Return the lowest rung on which at least k units stay.

        Parameters
        ----------
        k : int
            At most the number of units.

        Returns
        -------
        int
        """
        low, high = -1, self.height  # fewer than k stay on `low`, or it is below the ladder
        while high - low > 1:
            middle = (low + high) // 2
            if self.kept(middle) >= k:
                high = middle
            else:
                low = middle
        return high

    def mask(self, rung: int) -> Tensor:
        """Return which units stay on a rung.

        Parameters
        ----------
        rung : int
            From 0 to `height`.

        Returns
        -------
        Tensor of bool, shape (n,)
        """
        counts = self._counts(rung)
        return torch.cat(
            [(g.position < c).flatten() for g, c in zip(self._groups, counts, strict=True)]
        )
