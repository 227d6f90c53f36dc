"""Who goes, and when: nested masks of several weights that go and come back together.

May import: `sigmine`, `sigmine_nn.growth`, `sigmine_nn.schedules`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import torch
from torch import Tensor

from sigmine import ranking
from sigmine.exceptions import InputError

from ...growth import MaskHistory
from ...schedules import count_removed

__all__ = ["Cohorts", "Scope"]


class Scope(StrEnum):
    """Which entries are ranked together."""

    TENSOR = "tensor"
    """Those of one weight: every weight loses the same fraction."""
    GLOBAL = "global"
    """Those of all weights."""


class Cohorts:
    """The entries of several weights by the cycle that removed them, and the level that holds.

    Parameters
    ----------
    weights : mapping of str to Tensor
        Give names, shapes and devices.

    Attributes
    ----------
    histories : dict of str to MaskHistory
        By name; one byte an entry.
    level : int
        The mask that holds is that of this cycle: ``histories[name].mask(level)``.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.histories = {name: MaskHistory.start(weight) for name, weight in weights.items()}
        self.level = 0

    @property
    def n_cycles(self) -> int:
        """Cycles that have removed entries."""
        return next(iter(self.histories.values())).n_cycles

    @property
    def n(self) -> int:
        """Entries in all."""
        return sum(history.removed_in.numel() for history in self.histories.values())

    @property
    def capacity(self) -> float:
        """Fraction of the entries that are there."""
        there = sum(int(torch.count_nonzero(mask)) for mask in self.masks().values())
        return there / self.n

    def masks(self) -> dict[str, Tensor]:
        """Return the masks that hold, True for entries that are there."""
        return {name: history.mask(self.level) for name, history in self.histories.items()}

    def prune(
        self, scores: Mapping[str, Tensor], sparsity: float, scope: Scope
    ) -> dict[str, Tensor]:
        """Remove the entries with the lowest scores.

        Parameters
        ----------
        scores : mapping of str to Tensor, shape (n_entries,)
            By name; high ones stay. Those of entries that are gone are not looked at.
        sparsity : float
            Fraction that is gone after this, at least as much as before; of n entries that are
            ranked together round(n x sparsity).
        scope : Scope
            Which are ranked together.

        Returns
        -------
        dict of str to Tensor of bool
            The entries that have gone now.

        Raises
        ------
        InputError
            If fewer were to be gone than are.
        """
        before = self.masks()
        if scope is Scope.TENSOR:
            kept = {
                name: _best({name: scores[name]}, {name: mask}, sparsity)[name]
                for name, mask in before.items()
            }
        else:
            kept = _best(scores, before, sparsity)
        self.histories = {name: h.then(kept[name]) for name, h in self.histories.items()}
        self.level = self.n_cycles
        return {name: mask & ~kept[name] for name, mask in before.items()}

    def grow(self, level: int) -> dict[str, Tensor]:
        """Bring entries back, those that went last first.

        Parameters
        ----------
        level : int
            At most the one that holds; 0 brings all back.

        Returns
        -------
        dict of str to Tensor of bool
            The entries that have come back now.
        """
        before = self.masks()
        self.level = level
        return {name: mask & ~before[name] for name, mask in self.masks().items()}


def _best(
    scores: Mapping[str, Tensor], masks: Mapping[str, Tensor], sparsity: float
) -> dict[str, Tensor]:
    """Return which entries stay of some weights that are ranked together."""
    here = torch.cat([mask.flatten() for mask in masks.values()])
    values = torch.cat([scores[name].flatten().to(here.device) for name in masks])
    n_kept = len(here) - count_removed(len(here), sparsity)
    n_here = int(torch.count_nonzero(here))
    if n_kept > n_here:
        raise InputError(
            f"{n_kept} of {len(here)} entries would have to stay at a sparsity of {sparsity!r}, "
            f"and {n_here} are there; the schedule must not fall on the way down."
        )
    stays = torch.zeros_like(here)
    stays[here] = ranking.select(values[here], ranking.top_k(n_kept)).mask
    parts: dict[str, Tensor] = {}
    first = 0
    for name, mask in masks.items():
        parts[name] = stays[first : first + mask.numel()].view(mask.shape)
        first += mask.numel()
    return parts
