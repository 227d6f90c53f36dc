"""Trainable diagonal state space layers, whose states can be pruned.

`S5` is one system for all features of a sequence; `S4D` is one system a feature. Their parameters
have the names and shapes that the field uses, so that code which knows those layers knows these.
Nothing in them repeats the number of states: a layer whose tensors were cut simply runs on.

May import: `sigmine`, `sigmine_nn.state_space.systems`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sigmine._checks import one_of, whole_number
from sigmine.exceptions import InputError

from .systems import Discretization, discretize

__all__ = ["S4D", "S5", "FlatS4DKernel", "S4DKernel", "hippo_normal", "scan"]


def scan(eigenvalues: Tensor, driven: Tensor) -> Tensor:
    """Run x_k = lambda x_(k-1) + v_k from x = 0 over a sequence, for all steps at once.

    Parameters
    ----------
    eigenvalues : Tensor of complex, shape (n,)
        lambda of every state.
    driven : Tensor of complex, shape (..., length, n)
        v_k.

    Returns
    -------
    Tensor of complex, shape (..., length, n)
        x_k.

    Notes
    -----
    Recursive doubling: after round r each x_k holds the last 2^r terms of its sum, so that log2 of
    the length rounds suffice. Only powers of lambda are ever multiplied, and nothing is divided:
    stable for any modulus below 1. In every round v_k goes on alone where there is no earlier term.
    """
    length = driven.shape[-2]
    shift, power = 1, eigenvalues
    while shift < length:
        earlier = nn.functional.pad(driven[..., :-shift, :], (0, 0, shift, 0))
        driven = driven + power * earlier
        shift, power = 2 * shift, power * power
    return driven


def hippo_normal(n: int) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and eigenvectors of the normal part of the HiPPO-LegS matrix.

    Parameters
    ----------
    n : int
        Size of the matrix, at least 1.

    Returns
    -------
    eigenvalues : Tensor of complex128, shape (n,)
        With real part -1/2, by imaginary part, the largest first.
    vectors : Tensor of complex128, shape (n, n)
        Unitary; columns are eigenvectors.

    Notes
    -----
    J. T. H. Smith, A. Warrington, S. W. Linderman, Simplified state space layers for sequence
    modeling, ICLR 2023, appendix B.1: A = -1/2 I + S with S skew-symmetric, S_ij = -sqrt(i + 1/2)
    sqrt(j + 1/2) below the diagonal.
    """
    root = (torch.arange(n, dtype=torch.float64) + 0.5).sqrt()
    outer = torch.outer(root, root)
    skew = outer.triu(1) - outer.tril(-1)
    imaginary, vectors = torch.linalg.eigh(-1j * skew.to(torch.complex128))
    eigenvalues = torch.complex(torch.full_like(imaginary, -0.5), imaginary)
    return eigenvalues.flip(0), vectors.flip(1)


def _log_steps(n: int, dt_min: float, dt_max: float) -> Tensor:
    if not 0.0 < dt_min <= dt_max < math.inf:
        raise InputError(
            f"dt_min={dt_min!r} and dt_max={dt_max!r}; step sizes must be positive and in order. "
            "For sequences of length L take some 1 / L to 100 / L."
        )
    low, high = math.log(dt_min), math.log(dt_max)
    return low + (high - low) * torch.rand(n)


class S5(nn.Module):
    """A diagonal system with many inputs and outputs.

    x_k = exp(Lambda Delta) x_(k-1) + B_bar u_k and y_k = 2 Re(C x_k) + D u_k: of every pair of
    complex conjugate states one is stored, and one is a unit for pruning.

    Parameters
    ----------
    d_model : int
        Features of the sequence.
    n_states : int
        Stored states, each for a pair.
    blocks : int, default=1
        Blocks of equal size that the states begin in.
    init : {"hippo", "s4d-lin"}, default="hippo"
        The eigenvalues at the start, of every block: those of the normal part of HiPPO-LegS, or
        -1/2 + i pi n, which makes the layer an S4D with many inputs and outputs.
    dt_min, dt_max : float, default=0.001 and 0.1
        Range of the step sizes at the start. States remember some 2 / Delta steps: for sequences of
        length L, 1 / L to 100 / L suits.
    discretization : {"zoh", "bilinear"}, default="zoh"
        See `sigmine_nn.state_space.systems.Discretization`.
    bidirectional : bool, default=False
        Whether the same states also run over the reversed sequence, with output columns of their
        own (`C1`, `C2`).
    clip_eigs : bool, default=False
        Keep the real parts of the eigenvalues at -1e-4 or below, so that no state can become
        unstable.

    Attributes
    ----------
    Lambda_re, Lambda_im : Parameter, shape (n_states,)
        The continuous eigenvalues.
    B : Parameter, shape (n_states, d_model, 2)
        Real and imaginary parts of the input rows.
    C, or C1 and C2 : Parameter, shape (d_model, n_states, 2)
        Of the output columns.
    D : Parameter, shape (d_model,)
        What passes by.
    log_step : Parameter, shape (n_states,)
        Logarithm of Delta.

    Notes
    -----
    J. T. H. Smith, A. Warrington, S. W. Linderman, Simplified state space layers for sequence
    modeling, ICLR 2023; "s4d-lin" after A. Gu, K. Goel, A. Gupta, C. Re, NeurIPS 2022, equation 9.
    Random numbers are those of torch's default generator.

    Examples
    --------
    >>> import torch
    >>> layer = S5(d_model=3, n_states=8, dt_min=0.01, dt_max=1.0)
    >>> layer(torch.randn(2, 50, 3)).shape
    torch.Size([2, 50, 3])
    """

    def __init__(
        self,
        d_model: int,
        n_states: int,
        *,
        blocks: int = 1,
        init: str = "hippo",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        discretization: str = "zoh",
        bidirectional: bool = False,
        clip_eigs: bool = False,
    ) -> None:
        super().__init__()
        d_model = whole_number("d_model", d_model, 1)
        n_states, blocks = whole_number("n_states", n_states, 1), whole_number("blocks", blocks, 1)
        if n_states % blocks:
            raise InputError(
                f"{n_states} states in {blocks} blocks; blocks must be of one size. Take a number "
                "of states that is a multiple of the blocks."
            )
        self.discretization = Discretization(discretization)
        self.bidirectional, self.clip_eigs = bidirectional, clip_eigs
        size = n_states // blocks
        # Of a block of twice the size, the half with positive imaginary parts is stored.
        eigenvalues, vectors = hippo_normal(2 * size)
        half, basis = eigenvalues[:size], vectors[:, :size]
        if one_of("init", init, ("hippo", "s4d-lin")) == "s4d-lin":
            imaginary = math.pi * torch.arange(size, dtype=torch.float64)
            half = torch.complex(torch.full_like(imaginary, -0.5), imaginary)
        self.Lambda_re = nn.Parameter(half.real.float().repeat(blocks))
        self.Lambda_im = nn.Parameter(half.imag.float().repeat(blocks))
        drawn = torch.randn(blocks, 2 * size, d_model, dtype=torch.float64) / math.sqrt(d_model)
        rows = (basis.mH @ drawn.to(torch.complex128)).reshape(n_states, d_model)
        self.B = nn.Parameter(torch.view_as_real(rows).float())
        for name in ("C1", "C2") if bidirectional else ("C",):
            self.register_parameter(name, nn.Parameter(_columns(d_model, basis, blocks)))
        self.D = nn.Parameter(torch.randn(d_model))
        self.log_step = nn.Parameter(_log_steps(n_states, dt_min, dt_max))

    @property
    def n_states(self) -> int:
        """Stored states that are left."""
        return len(self.Lambda_re)

    def discrete(self, step_scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return the discrete eigenvalues and input rows.

        Parameters
        ----------
        step_scale : float, default=1.0
            Factor of all step sizes, for sequences sampled at another rate.

        Returns
        -------
        eigenvalues : Tensor of complex, shape (n_states,)
        inputs : Tensor of complex, shape (n_states, d_model)
        """
        real = self.Lambda_re.clamp(max=-1e-4) if self.clip_eigs else self.Lambda_re
        eigenvalues = torch.complex(real, self.Lambda_im)
        step = step_scale * self.log_step.exp()
        return discretize(eigenvalues, torch.view_as_complex(self.B), step, self.discretization)

    def columns(self) -> tuple[Tensor, ...]:
        """Return the complex output columns of every direction, each of shape (d_model, n)."""
        names = ("C1", "C2") if self.bidirectional else ("C",)
        return tuple(torch.view_as_complex(getattr(self, name).contiguous()) for name in names)

    def forward(self, u: Tensor, step_scale: float = 1.0) -> Tensor:
        """Run the layer over sequences.

        Parameters
        ----------
        u : Tensor, shape (batch, length, d_model)
            The sequences.
        step_scale : float, default=1.0
            As in `discrete`.

        Returns
        -------
        Tensor, shape (batch, length, d_model)
        """
        eigenvalues, inputs = self.discrete(step_scale)
        driven = u.to(inputs.dtype) @ inputs.mT
        columns = self.columns()
        y = (scan(eigenvalues, driven) @ columns[0].mT).real
        if self.bidirectional:
            backward = scan(eigenvalues, driven.flip(-2)).flip(-2)
            y = y + (backward @ columns[1].mT).real
        return 2.0 * y + self.D * u

    def initial_state(self, batch: int) -> Tensor:
        """Return the state before the first step.

        Parameters
        ----------
        batch : int
            Sequences.

        Returns
        -------
        Tensor of complex, shape (batch, n_states)
        """
        eigenvalues, _ = self.discrete()
        return torch.zeros(batch, self.n_states, dtype=eigenvalues.dtype, device=eigenvalues.device)

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Go one step, as when a sequence arrives value by value.

        Parameters
        ----------
        u : Tensor, shape (batch, d_model)
            The values.
        state : Tensor of complex, shape (batch, n_states)
            From `initial_state` or the step before.

        Returns
        -------
        y : Tensor, shape (batch, d_model)
        state : Tensor of complex, shape (batch, n_states)

        Raises
        ------
        InputError
            If the layer is bidirectional.
        """
        if self.bidirectional:
            raise InputError(
                "a bidirectional layer needs the whole sequence; run forward, or train a layer "
                "with bidirectional=False."
            )
        eigenvalues, inputs = self.discrete()
        state = eigenvalues * state + u.to(inputs.dtype) @ inputs.mT
        return 2.0 * (state @ self.columns()[0].mT).real + self.D * u, state


def _columns(d_model: int, basis: Tensor, blocks: int) -> Tensor:
    """Draw output columns, in the basis of the eigenvectors, shape (d_model, n_states, 2)."""
    rows, size = basis.shape
    drawn = torch.randn(d_model, blocks, rows, dtype=torch.float64) / math.sqrt(blocks * rows)
    columns = (drawn.to(torch.complex128) @ basis).reshape(d_model, blocks * size)
    return torch.view_as_real(columns).float().contiguous()


class S4DKernel(nn.Module):
    """The convolution kernels of `S4D`: a diagonal system a feature, with B = 1.

    Parameters
    ----------
    d_model : int
        Features.
    n_states : int
        Stored states a feature, each for a pair.
    dt_min, dt_max : float, default=0.001 and 0.1
        As in `S5`.

    Attributes
    ----------
    C : Parameter, shape (d_model, n_states, 2)
        Real and imaginary parts of the output weights.
    log_dt : Parameter, shape (d_model,)
        Logarithm of the step sizes.
    log_A_real, A_imag : Parameter, shape (d_model, n_states)
        The continuous eigenvalues are -exp(log_A_real) + i A_imag.

    Notes
    -----
    A. Gu, K. Goel, A. Gupta, C. Re, On the parameterization and initialization of diagonal state
    space models, NeurIPS 2022: S4D-Lin (equation 9), zero-order hold.
    """

    def __init__(
        self, d_model: int, n_states: int, *, dt_min: float = 1e-3, dt_max: float = 1e-1
    ) -> None:
        super().__init__()
        d_model, n_states = (
            whole_number("d_model", d_model, 1),
            whole_number("n_states", n_states, 1),
        )
        drawn = torch.randn(d_model, n_states, 2) / math.sqrt(2.0)
        self.C = nn.Parameter(drawn)
        self.log_dt = nn.Parameter(_log_steps(d_model, dt_min, dt_max))
        self.log_A_real = nn.Parameter(torch.full((d_model, n_states), math.log(0.5)))
        imaginary = math.pi * torch.arange(n_states, dtype=torch.float32)
        self.A_imag = nn.Parameter(imaginary.repeat(d_model, 1))

    def forward(self, L: int) -> Tensor:
        """Return the kernels.

        Parameters
        ----------
        L : int
            Steps.

        Returns
        -------
        Tensor, shape (d_model, L)
        """
        step = self.log_dt.exp()[:, None]
        return _kernels(self.C, self.log_A_real, self.A_imag, step, L).sum(dim=1)

    def system(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return eigenvalues, input and output weights of the discrete system, and no channels.

        Returns
        -------
        eigenvalues, inputs, outputs : Tensor of complex, shape (d_model * n_states,)
            Feature by feature.
        """
        step = self.log_dt.exp()[:, None].expand_as(self.A_imag)
        found = _discrete(self.C, self.log_A_real, self.A_imag, step)
        eigenvalues, inputs, outputs = (part.reshape(-1) for part in found)
        return eigenvalues, inputs, outputs

    def channels(self) -> Tensor:
        """Return the feature of every state, shape (d_model * n_states,)."""
        n, m = self.A_imag.shape
        return torch.arange(n, device=self.A_imag.device).repeat_interleave(m)


class FlatS4DKernel(nn.Module):
    """The kernels of `S4D` with another number of states for every feature.

    Parameters
    ----------
    C : Tensor, shape (n, 2)
        Output weights of all states, in the order of `channel`.
    log_A_real, A_imag : Tensor, shape (n,)
        As in `S4DKernel`.
    log_dt : Tensor, shape (d_model,)
        As in `S4DKernel`.
    channel : Tensor of int64, shape (n,)
        The feature of every state. A feature without states has the kernel 0.

    See Also
    --------
    S4DKernel : what it is made from; with all states both give the same kernels.
    """

    channel: Tensor

    def __init__(
        self, C: Tensor, log_A_real: Tensor, A_imag: Tensor, log_dt: Tensor, channel: Tensor
    ) -> None:
        super().__init__()
        self.C, self.log_dt = nn.Parameter(C), nn.Parameter(log_dt)
        self.log_A_real, self.A_imag = nn.Parameter(log_A_real), nn.Parameter(A_imag)
        self.register_buffer("channel", channel)

    def forward(self, L: int) -> Tensor:
        """Return the kernels, shape (d_model, L); see `S4DKernel.forward`."""
        step = self.log_dt.exp()[self.channel]
        of_states = _kernels(self.C, self.log_A_real, self.A_imag, step, L)
        kernels = torch.zeros(len(self.log_dt), L, dtype=of_states.dtype, device=of_states.device)
        return kernels.index_add(0, self.channel, of_states)

    def system(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the discrete system; see `S4DKernel.system`."""
        return _discrete(self.C, self.log_A_real, self.A_imag, self.log_dt.exp()[self.channel])

    def channels(self) -> Tensor:
        """Return the feature of every state, shape (n,)."""
        return self.channel


def _discrete(
    C: Tensor, log_A_real: Tensor, A_imag: Tensor, step: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return eigenvalues, input weights and output weights of every state."""
    continuous = torch.complex(-log_A_real.exp(), A_imag)
    ones = torch.ones_like(continuous)[..., None]
    eigenvalues, inputs = discretize(continuous, ones, step)
    return eigenvalues, inputs[..., 0], torch.view_as_complex(C.contiguous())


def _kernels(C: Tensor, log_A_real: Tensor, A_imag: Tensor, step: Tensor, length: int) -> Tensor:
    """Return 2 Re(c b lambda^k) of every state at steps 0 to length - 1."""
    continuous = torch.complex(-log_A_real.exp(), A_imag)
    _, inputs, outputs = _discrete(C, log_A_real, A_imag, step + torch.zeros_like(A_imag))
    steps = torch.arange(length, dtype=step.dtype, device=step.device)
    powers = ((continuous * step)[..., None] * steps).exp()
    return 2.0 * ((inputs * outputs)[..., None] * powers).real


class S4D(nn.Module):
    """A diagonal system for every feature, run as a convolution.

    Parameters
    ----------
    d_model : int
        Features of the sequence.
    n_states : int
        Stored states a feature, each for a pair of complex conjugates; each is a unit for pruning.
    dt_min, dt_max : float, default=0.001 and 0.1
        As in `S5`.
    transposed : bool, default=False
        Whether sequences come as (batch, d_model, length).

    Attributes
    ----------
    kernel : S4DKernel or FlatS4DKernel
        The systems.
    D : Parameter, shape (d_model,)
        What passes by.

    Notes
    -----
    A. Gu, K. Goel, A. Gupta, C. Re, On the parameterization and initialization of diagonal state
    space models, NeurIPS 2022.

    Examples
    --------
    >>> import torch
    >>> layer = S4D(d_model=3, n_states=4, dt_min=0.01, dt_max=1.0)
    >>> layer(torch.randn(2, 50, 3)).shape
    torch.Size([2, 50, 3])
    """

    kernel: S4DKernel | FlatS4DKernel

    def __init__(
        self,
        d_model: int,
        n_states: int,
        *,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self.kernel = S4DKernel(d_model, n_states, dt_min=dt_min, dt_max=dt_max)
        self.D = nn.Parameter(torch.randn(whole_number("d_model", d_model, 1)))
        self.transposed = transposed

    def forward(self, u: Tensor) -> Tensor:
        """Run the layer over sequences.

        Parameters
        ----------
        u : Tensor, shape (batch, length, d_model), or (batch, d_model, length) if transposed
            The sequences.

        Returns
        -------
        Tensor
            Of the shape of `u`.
        """
        rows = u if self.transposed else u.mT
        length = rows.shape[-1]
        # Twice the length: the convolution must not wrap around.
        kernels = torch.fft.rfft(self.kernel(length), n=2 * length)
        found = torch.fft.irfft(torch.fft.rfft(rows, n=2 * length) * kernels, n=2 * length)
        y: Tensor = found[..., :length] + self.D[:, None] * rows
        return y if self.transposed else y.mT

    def initial_state(self, batch: int) -> Tensor:
        """Return the state before the first step.

        Parameters
        ----------
        batch : int
            Sequences.

        Returns
        -------
        Tensor of complex, shape (batch, n)
            n is the number of all states of all features.
        """
        eigenvalues, _, _ = self.kernel.system()
        return torch.zeros(batch, len(eigenvalues), dtype=eigenvalues.dtype, device=self.D.device)

    def step(self, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Go one step, as when a sequence arrives value by value.

        Parameters
        ----------
        u : Tensor, shape (batch, d_model)
            The values.
        state : Tensor of complex, shape (batch, n)
            From `initial_state` or the step before.

        Returns
        -------
        y : Tensor, shape (batch, d_model)
        state : Tensor of complex, shape (batch, n)
        """
        eigenvalues, inputs, outputs = self.kernel.system()
        channel = self.kernel.channels()
        state = eigenvalues * state + inputs * u[:, channel]
        y = torch.zeros_like(u).index_add(1, channel, 2.0 * (outputs * state).real)
        return y + self.D * u, state
