"""How fast each weight learns while capacity grows back.

May import: `sigmine`, `sigmine_nn.growth`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from ...growth import MaskHistory

__all__ = ["Learning", "Updates", "learning_of"]


class Updates(StrEnum):
    """Which weights learn, and how fast, while capacity grows back."""

    IDENTICAL = "identical"
    """All that are there, alike."""
    DYNAMIC = "dynamic"
    """All that are there; the gradient of what came back j-th is multiplied by (1 / gamma)^j, so
    that newer weights learn faster."""
    FREEZING = "freezing"
    """What has come back last, and all that is never removed (biases)."""


@dataclass(frozen=True, eq=False)
class Learning:
    """How one weight learns at one level.

    Attributes
    ----------
    removed : Tensor of bool
        Entries that are 0.
    frozen : Tensor of bool or None
        Entries that are there and do not learn; None if there are none.
    rates : Tensor or None
        Factors of the gradient, in the dtype of the weight; None where all are 1.
    """

    removed: Tensor
    frozen: Tensor | None = None
    rates: Tensor | None = None


def learning_of(
    history: MaskHistory,
    level: int,
    updates: Updates,
    *,
    growing: bool,
    gamma: float,
    lag: int,
    dtype: torch.dtype,
) -> Learning:
    """Return how a weight learns.

    Parameters
    ----------
    history : MaskHistory
        When its entries were removed.
    level : int
        Entries that were removed in a later cycle than this are there again (or still).
    updates : Updates
        The scheme.
    growing : bool
        Whether capacity grows; on the way down all that is there learns alike.
    gamma : float
        Of "dynamic".
    lag : int
        0, or 1: as in the published program, what has just come back does not learn before the next
        cycle, except under "freezing".
    dtype : dtype
        Of the weight.

    Returns
    -------
    Learning

    Notes
    -----
    What a cycle c of C removed comes back (C - c + 1)-th, which is its age j here: 1 for what came
    back first, and for what was never removed 0.
    """
    removed = ~history.mask(level)
    if not growing:
        return Learning(removed)
    number = history.removed_in
    if updates is Updates.FREEZING:
        learns = number == level + 1
    else:
        learns = number > level + lag
    held = ~removed & ~learns
    frozen = held if bool(held.any()) else None
    rates = None
    if updates is Updates.DYNAMIC:
        # A table of the rates by the cycle of removal; those that never went have the rate 1.
        table = torch.ones(MaskHistory.NEVER + 1, dtype=torch.float64)
        for cycle in range(1, history.n_cycles + 1):
            table[cycle] = (1.0 / gamma) ** (history.n_cycles - cycle + 1)
        rates = table.to(number.device, dtype)[number.int()]
    return Learning(removed, frozen, rates)
