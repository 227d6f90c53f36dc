"""A diagonal linear system in discrete time, and how much each of its states can amplify.

    x_k = lambda x_(k-1) + B u_k,        y_k = f Re(C x_k)

with f = 2 where every stored state stands for itself and its complex conjugate, and f = 1 where all
states are stored. Everything is in complex128 or float64, whatever the layer computes in: what a
slow state lacks of modulus 1 is lost in single precision.

May import: `sigmine`, `sigmine_nn.exceptions`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sigmine._checks import whole_number
from sigmine.exceptions import InputError

__all__ = ["DiagonalSystem", "Discretization", "Norm", "conjugate_pairs", "discretize"]


class Discretization(StrEnum):
    """How a continuous system becomes a discrete one."""

    ZOH = "zoh"
    """Zero-order hold: the input is constant over a step."""
    BILINEAR = "bilinear"
    """Bilinear transform (Tustin): the trapezoidal rule."""


class Norm(StrEnum):
    """How large the response of a state is."""

    HINF = "hinf"
    """The largest amplification of a sinusoid."""
    H2 = "h2"
    """The energy of the impulse response."""


def discretize(
    eigenvalues: Tensor, inputs: Tensor, step: Tensor, method: Discretization | str = "zoh"
) -> tuple[Tensor, Tensor]:
    """Return the discrete eigenvalues and input rows of a continuous diagonal system.

    Parameters
    ----------
    eigenvalues : Tensor of complex, shape (n,)
        Of the continuous system.
    inputs : Tensor of complex, shape (n, n_inputs)
        Its input rows.
    step : Tensor of real, shape (n,) or ()
        Length of a time step.
    method : {"zoh", "bilinear"}, default="zoh"
        See `Discretization`.

    Returns
    -------
    eigenvalues : Tensor of complex, shape (n,)
    inputs : Tensor of complex, shape (n, n_inputs)

    Notes
    -----
    J. T. H. Smith, A. Warrington, S. W. Linderman, Simplified state space layers for sequence
    modeling, ICLR 2023, section 2.1 (zero-order hold); A. Gu, K. Goel, C. Re, Efficiently modeling
    long sequences with structured state spaces, ICLR 2022, equation 3 (bilinear).
    """
    if Discretization(method) is Discretization.BILINEAR:
        inverse = 1.0 / (1.0 - 0.5 * step * eigenvalues)
        factor = inverse * step
        return inverse * (1.0 + 0.5 * step * eigenvalues), factor[..., None] * inputs
    discrete = torch.exp(eigenvalues * step)
    # (exp(a h) - 1) / a tends to h as a tends to 0.
    still = eigenvalues == 0
    divisor = torch.where(still, torch.ones_like(eigenvalues), eigenvalues)
    factor = torch.where(still, step + 0.0 * discrete, (discrete - 1.0) / divisor)
    return discrete, factor[..., None] * inputs


def conjugate_pairs(eigenvalues: Tensor, tolerance: float = 1e-4) -> NDArray[np.int64]:
    """Return the states of every unit, so that complex conjugates are one unit.

    Parameters
    ----------
    eigenvalues : Tensor of complex, shape (n,)
        Of the discrete system, all of them stored.
    tolerance : float, default=1e-4
        How far log lambda of a partner may be from the conjugate, relative to its modulus: training
        in single precision lets them drift.

    Returns
    -------
    ndarray of int64, shape (n_units, 2) or (n_units, 1)
        In the order of their first states. With two columns, a state without a partner is named
        twice; with one, no state has a partner.

    Notes
    -----
    A pair has one real response; one half of it alone would have a complex one, of which the layer
    takes the real part: another system. Real eigenvalues have no partner.

    log lambda is the continuous eigenvalue times the step. With small steps all lambda are close to
    1, and to each other; their logarithms are not.
    """
    values = eigenvalues.detach().to(torch.complex128).cpu().numpy()
    logs = np.log(np.where(values == 0, 1.0, values))  # 0 is real
    size = np.abs(logs)
    partner = np.full(len(values), -1)
    upper = [i for i in np.argsort(-logs.imag, kind="stable") if logs[i].imag > tolerance * size[i]]
    lower = np.flatnonzero(logs.imag < -tolerance * size)
    for i in upper:
        free = lower[partner[lower] < 0]
        if len(free) == 0:
            break
        distance = np.abs(logs[free] - logs[i].conjugate())
        best = free[int(np.argmin(distance))]
        if distance.min() <= tolerance * size[i]:
            partner[i], partner[best] = best, i
    if (partner < 0).all():
        return np.arange(len(values), dtype=np.int64)[:, None]
    units = [
        (i, i if partner[i] < 0 else int(partner[i]))
        for i in range(len(values))
        if partner[i] < 0 or i < partner[i]
    ]
    return np.array(units, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class DiagonalSystem:
    """A diagonal system in discrete time, or many with one input and one output each.

    Attributes
    ----------
    eigenvalues : Tensor of complex128, shape (n,)
        Of every stored state.
    inputs : Tensor of complex128, shape (n, n_inputs)
        Rows of B; of one column if there are channels.
    outputs : Tensor of complex128, shape (n_directions, n_outputs, n)
        Columns of C; two directions where the layer runs over the sequence both ways; one output if
        there are channels.
    channel : Tensor of int64, shape (n,), or None
        The channel of every state where each channel has a system of its own (S4D); None for one
        system with all inputs and outputs (S5, LRU).
    conjugate : bool
        Whether a stored state stands for itself and its conjugate (f = 2).
    members : ndarray of int64, shape (n_units, width)
        The states of every unit: one each, or conjugate pairs (see `conjugate_pairs`).
    """

    eigenvalues: Tensor
    inputs: Tensor = field(repr=False)
    outputs: Tensor = field(repr=False)
    channel: Tensor | None = field(default=None, repr=False)
    conjugate: bool = True
    members: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 1), int), repr=False)

    def __post_init__(self) -> None:
        if len(self.members) == 0:
            single = np.arange(len(self.eigenvalues), dtype=np.int64)[:, None]
            object.__setattr__(self, "members", single)

    @property
    def n_states(self) -> int:
        """Number of stored states."""
        return len(self.eigenvalues)

    @property
    def n_units(self) -> int:
        """Number of states that are kept or removed by themselves."""
        return len(self.members)

    @property
    def factor(self) -> float:
        """The factor f of the real part."""
        return 2.0 if self.conjugate else 1.0

    @property
    def input_energy(self) -> Tensor:
        """Squared norm of the input row of every state, shape (n,)."""
        return self.inputs.abs().square().sum(dim=-1)

    @property
    def output_energy(self) -> Tensor:
        """Squared norm of the output column of every state, over both directions, shape (n,)."""
        return self.outputs.abs().square().sum(dim=(0, 1))

    @property
    def time_constants(self) -> Tensor:
        """Steps after which a state has decayed to 1/e, shape (n,); inf at modulus 1 and above."""
        modulus = self.eigenvalues.abs()
        return torch.where(modulus < 1.0, -1.0 / modulus.log(), torch.inf)

    @property
    def median_time_constant(self) -> float:
        """The median of the time constants, in steps; inf if half of the states are unstable."""
        return float(np.median(self.time_constants.cpu().numpy()))

    def unstable(self) -> NDArray[np.int64]:
        """Return the states whose eigenvalue has modulus 1 or more, or is not a number."""
        return np.flatnonzero(~(self.eigenvalues.abs() < 1.0).cpu().numpy())

    def amplification(self, norm: Norm | str = "hinf", horizon: int | None = None) -> Tensor:
        """Return how much every state amplifies its input over time.

        Parameters
        ----------
        norm : {"hinf", "h2"}, default="hinf"
            See `Norm`.
        horizon : int or None, default=None
            Steps that are looked at; None for all time.

        Returns
        -------
        Tensor of float64, shape (n,)
            With L the horizon and m the modulus of lambda: (1 - m^L) / (1 - m) for "hinf", the root
            of (1 - m^(2 L)) / (1 - m^2) for "h2"; without horizon m^L is 0.

        Raises
        ------
        InputError
            If states are not stable, or the horizon is not positive.
        """
        if len(self.unstable()):
            first = int(self.unstable()[0])
            raise InputError(
                f"state {first} has an eigenvalue of modulus "
                f"{float(self.eigenvalues.abs()[first]):.6g}, whose response never ends; the "
                "modulus must be below 1."
            )
        modulus = self.eigenvalues.abs()
        power = 2.0 if Norm(norm) is Norm.H2 else 1.0
        rest = torch.ones_like(modulus)
        if horizon is not None:
            steps = whole_number("horizon", horizon, 1)
            rest = -torch.expm1(power * steps * modulus.log())  # 1 - m^(p L), and 1 at m = 0
        total = rest / (1.0 - modulus**power)
        return total if power == 1.0 else total.sqrt()

    def gain(self, norm: Norm | str = "hinf", horizon: int | None = None) -> Tensor:
        """Return the norm of the subsystem of every state.

        Parameters
        ----------
        norm, horizon
            As in `amplification`.

        Returns
        -------
        Tensor of float64, shape (n,)
            norm(c) norm(b) times the amplification. Without horizon and with "hinf" it is the exact
            H-infinity norm of c b^T / (z - lambda), which is attained at the angle of lambda.

        Raises
        ------
        InputError
            As `amplification`.
        """
        energy = self.output_energy * self.input_energy
        return energy.sqrt() * self.amplification(norm, horizon)

    def of_units(self, values: Tensor) -> Tensor:
        """Add up values of states over the members of every unit, a state once.

        Parameters
        ----------
        values : Tensor, shape (..., n)
            One a state.

        Returns
        -------
        Tensor, shape (..., n_units)
        """
        total = torch.zeros(
            *values.shape[:-1], self.n_units, dtype=values.dtype, device=values.device
        )
        for column in range(self.members.shape[1]):
            before = self.members[:, :column] == self.members[:, [column]]
            first = torch.from_numpy(~before.any(axis=1)).to(values)
            where = torch.from_numpy(self.members[:, column]).to(values.device)
            total = total + first * values[..., where]
        return total

    def frequency_response(self, angles: Tensor) -> Tensor:
        """Return c b^T / (z - lambda) of every state at points of the unit circle.

        Parameters
        ----------
        angles : Tensor of float64, shape (n_angles,)
            Angles of z, in radians.

        Returns
        -------
        Tensor of complex128, shape (n_angles, n, n_directions * n_outputs, n_inputs)
        """
        z = torch.polar(torch.ones_like(angles), angles)
        columns = self.outputs.flatten(0, 1).mT  # (n, n_directions * n_outputs)
        residue = columns[:, :, None] * self.inputs[:, None, :]
        return residue / (z[:, None] - self.eigenvalues)[:, :, None, None]

    def mean_squares(self, sequences: Tensor) -> Tensor:
        """Run the system over sequences, and return how large each state becomes in the output.

        Parameters
        ----------
        sequences : Tensor of real, shape (n_sequences, length, n_inputs)
            With channels, as many inputs as channels.

        Returns
        -------
        Tensor of float64, shape (n_sequences, n)
            The mean over the steps of abs(x)^2, times norm(c)^2; of both directions, added up.
            States of every sequence start at 0.
        """
        sequences = sequences.detach().to(self.eigenvalues.device)
        length = sequences.shape[1]
        column_energy = self.outputs.abs().square().sum(dim=1)  # (n_directions, n)
        total = torch.zeros(
            (len(sequences), self.n_states), dtype=torch.float64, device=self.eigenvalues.device
        )
        for direction, energy in enumerate(column_energy):
            state = torch.zeros(
                (len(sequences), self.n_states), dtype=torch.complex128, device=total.device
            )
            steps = range(length) if direction == 0 else range(length - 1, -1, -1)
            for k in steps:
                state = self.eigenvalues * state + self._driven(sequences[:, k])
                total += energy * state.abs().square()
        return total / max(length, 1)

    def _driven(self, values: Tensor) -> Tensor:
        """Return B u for inputs of one step, shape (n_sequences, n)."""
        values = values.to(torch.complex128)
        if self.channel is None:
            return values @ self.inputs.mT
        return values[:, self.channel] * self.inputs[:, 0]
