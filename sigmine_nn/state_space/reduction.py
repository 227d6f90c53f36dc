"""Balanced truncation: the classical way to make a linear system small.

It is no selection of states: the system is brought into coordinates in which every state is as easy
to reach as to see, the states that are hard in both are cut off, and what is left is diagonal again
in coordinates of its own. It needs no data, and shows what a selection gives away.

May import: `sigmine`, `sigmine_nn.state_space.systems`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sigmine._checks import whole_number
from sigmine.exceptions import InputError

from .systems import DiagonalSystem

__all__ = ["Balanced", "balance"]


@dataclass(frozen=True, eq=False)
class Balanced:
    """A system in balanced coordinates, or several of one channel each.

    Attributes
    ----------
    system : DiagonalSystem
        The system that was balanced.
    parts : tuple of tuples
        For every independent part of it (one, or one a channel): its channel or None, its Hankel
        singular values (descending), and the maps into and out of balanced coordinates.
    """

    system: DiagonalSystem
    parts: tuple[tuple[int | None, Tensor, Tensor, Tensor], ...]

    @property
    def singular_values(self) -> Tensor:
        """Hankel singular values of all parts, one part behind the other, shape (n,)."""
        return torch.cat([values for _, values, _, _ in self.parts])

    def truncated(self, orders: list[int]) -> DiagonalSystem:
        """Return the system with a number of states left in every part.

        Parameters
        ----------
        orders : list of int
            One a part; at least 1 without channels, and 0 or more with them.

        Returns
        -------
        DiagonalSystem
            Diagonal in new coordinates.

        Raises
        ------
        InputError
            For another number of orders, or orders out of range.
        """
        if len(orders) != len(self.parts):
            raise InputError(f"{len(orders)} orders for {len(self.parts)} parts; give one each.")
        found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for order, (channel, values, into, out) in zip(orders, self.parts, strict=True):
            if not 0 <= whole_number("orders", order, 0) <= len(values):
                raise InputError(f"order {order} of a part with {len(values)} states.")
            where = self._states(channel)
            eigenvalues = self.system.eigenvalues[where]
            left, right = into[:order], out[:, :order]
            eigenvalues, vectors = torch.linalg.eig((left * eigenvalues) @ right)
            inputs = torch.linalg.solve(vectors, left @ self.system.inputs[where])
            outputs = self.system.outputs[:, :, where] @ right @ vectors
            label = torch.full((order,), -1 if channel is None else channel, dtype=torch.int64)
            found.append((eigenvalues, inputs, outputs, label))
        labels = torch.cat([part[3] for part in found])
        return DiagonalSystem(
            torch.cat([part[0] for part in found]),
            torch.cat([part[1] for part in found]),
            torch.cat([part[2] for part in found], dim=2),
            None if self.system.channel is None else labels,
            self.system.conjugate,
        )

    def _states(self, channel: int | None) -> Tensor:
        return _states_of(self.system, channel)


def balance(system: DiagonalSystem) -> Balanced:
    """Bring a stable diagonal system into balanced coordinates.

    Parameters
    ----------
    system : DiagonalSystem
        Of states that stand for conjugate pairs, half of every pair is balanced: the other half is
        its conjugate.

    Returns
    -------
    Balanced

    Raises
    ------
    InputError
        If a state is unstable.

    Notes
    -----
    B. C. Moore, Principal component analysis in linear systems, IEEE Transactions on Automatic
    Control 26 (1981), by the square roots of the Gramians (A. J. Laub, M. T. Heath, C. C. Paige,
    R. C. Ward, 1987). Of a diagonal system the Gramians are known: (B B^H)_ij / (1 - lambda_i
    conj(lambda_j)) and (C^H C)_ij / (1 - conj(lambda_i) lambda_j). Columns of both directions of a
    bidirectional layer are stacked.
    """
    if len(system.unstable()):
        raise InputError(
            f"state {int(system.unstable()[0])} is unstable, and its Gramians are infinite; only "
            "stable systems can be balanced."
        )
    channels: list[int | None] = [None]
    if system.channel is not None:
        channels = [int(c) for c in np.unique(system.channel.cpu().numpy())]
    parts = []
    for channel in channels:
        where = _states_of(system, channel)
        eigenvalues, inputs = system.eigenvalues[where], system.inputs[where]
        columns = system.outputs[:, :, where].flatten(0, 1)
        decay = 1.0 - torch.outer(eigenvalues, eigenvalues.conj())
        reach = _root((inputs @ inputs.mH) / decay)
        seen = _root((columns.mH @ columns) / decay.conj())
        u, values, vh = torch.linalg.svd(seen.mH @ reach)
        # Directions that are not reached or not seen at all have no balanced coordinates.
        scale = values.clamp(min=float(values.max()) * 1e-15 + 1e-300).rsqrt()
        into = (scale[:, None] * u.mH) @ seen.mH
        parts.append((channel, values, into, (reach @ vh.mH) * scale))
    return Balanced(system, tuple(parts))


def _states_of(system: DiagonalSystem, channel: int | None) -> Tensor:
    if channel is None or system.channel is None:
        return torch.arange(system.n_states, device=system.eigenvalues.device)
    return torch.nonzero(system.channel == channel)[:, 0]


def _root(gramian: Tensor) -> Tensor:
    """Return R with R R^H = G of a positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(0.5 * (gramian + gramian.mH))
    root: Tensor = vectors * values.clamp(min=0.0).sqrt()
    return root
