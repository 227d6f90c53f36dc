"""States of state space layers: what is read from a layer, and which tensors hold a state.

An adapter answers for one kind of layer: `read` gives the discrete system behind it, `slices` what
belongs to a state (the slice that reads it, the output column, is its gate), `sequences` what the
system is driven with. `StateLayer` makes of that what can be asked of a layer: `read`, `gate`,
`states` and `shrink`. Layers whose states are stored as a table with a row a feature (S4D) are
first written as one long list (`flat_kernel`), since afterwards every feature may keep another
number.

Known are `S5` and `S4D` of this package, s5-pytorch, ``s4d.py`` of the S4 repository, and layers
with the parameters of the linear recurrent unit (lru-pytorch). Layers are known by their tensors,
not by their class.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.state_space`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..exceptions import ModelError
from ..state_space import S5, DiagonalSystem, FlatS4DKernel
from ..state_space.systems import Discretization, conjugate_pairs, discretize
from ..units import Indices, Role, Slice
from ._layers import joined

__all__ = ["ADAPTERS", "StateAdapter", "flat_kernel", "obstacle"]


class StateAdapter(Protocol):
    """What one kind of layer has to say about its states.

    Attributes
    ----------
    label : str
        What such layers are called.
    """

    label: str

    def matches(self, module: nn.Module) -> bool:
        """Whether a module is a layer of this kind."""

    def read(self, module: nn.Module) -> DiagonalSystem:
        """Return the discrete system of a layer, of masked parameters the masked values.

        Parameters
        ----------
        module : Module
            A layer that matches.

        Returns
        -------
        DiagonalSystem
            Detached, in complex128.
        """

    def slices(self, module: nn.Module, name: str, system: DiagonalSystem) -> list[Slice]:
        """Return what belongs to the states of a layer.

        Parameters
        ----------
        module : Module
            A layer that matches.
        name : str
            Its name in the model.
        system : DiagonalSystem
            From `read`.

        Returns
        -------
        list of Slice
            Those with `Role.IN` are the gate: multiplied by 0 the state is gone.
        """

    def sequences(self, module: nn.Module, inputs: Tensor) -> Tensor:
        """Return what the system is driven with, shape (n_sequences, length, n_features).

        Parameters
        ----------
        module : Module
            A layer that matches.
        inputs : Tensor
            The first input of the layer.

        Returns
        -------
        Tensor
        """


def _exact(tensor: Tensor) -> Tensor:
    """Return a tensor in complex128."""
    return tensor.detach().to(torch.complex128)


def _pairs(values: Tensor) -> Tensor:
    """Return complex numbers from real and imaginary parts along the last axis."""
    return torch.view_as_complex(values.detach().double().contiguous())


def _shapes(module: nn.Module, names: tuple[str, ...]) -> list[tuple[int, ...]] | None:
    """Return the shapes of some tensors of a module; None if one of them is missing."""
    tensors = [getattr(module, name, None) for name in names]
    found = [tuple(tensor.shape) for tensor in tensors if isinstance(tensor, Tensor)]
    return found if len(found) == len(names) else None


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the layer inside of the wrapper of s5-pytorch; any other module as it is.

    A model may call its layer ``seq`` too: the wrapper has a width, and nothing else in it.
    """
    inner = getattr(module, "seq", None)
    if not isinstance(inner, nn.Module) or not hasattr(module, "width"):
        return module
    alone = len(module._modules) == 1 and not module._parameters
    return inner if alone else module


def _columns(module: S5) -> Tensor:
    """Return the output columns of all directions of a layer."""
    names = ("C1", "C2") if module.bidirectional else ("C",)
    return torch.stack([_pairs(getattr(module, name)) for name in names])


def _index(system: DiagonalSystem) -> Indices | None:
    """Return the states of every unit; None if state i is unit i."""
    return None if system.members.shape[1] == 1 else system.members


class _S5Adapter:
    """`sigmine_nn.state_space.S5`."""

    label = "S5"

    def matches(self, module: nn.Module) -> bool:
        return isinstance(module, S5)

    def read(self, module: nn.Module) -> DiagonalSystem:
        assert isinstance(module, S5)
        real = module.Lambda_re.detach().double()
        real = real.clamp(max=-1e-4) if module.clip_eigs else real
        continuous = torch.complex(real, module.Lambda_im.detach().double())
        eigenvalues, inputs = discretize(
            continuous,
            _pairs(module.B),
            module.log_step.detach().double().exp(),
            module.discretization,
        )
        return DiagonalSystem(eigenvalues, inputs, _columns(module))

    def slices(self, module: nn.Module, name: str, system: DiagonalSystem) -> list[Slice]:
        assert isinstance(module, S5)
        makers = ("Lambda_re", "Lambda_im", "B", "log_step")
        slices = [Slice(joined(name, maker), 0, Role.OUT) for maker in makers]
        columns = ("C1", "C2") if module.bidirectional else ("C",)
        slices += [Slice(joined(name, column), 1, Role.IN) for column in columns]
        return slices

    def sequences(self, module: nn.Module, inputs: Tensor) -> Tensor:
        return inputs


class _S5TorchAdapter:
    """``S5`` and ``S5SSM`` of s5-pytorch: all states stored, conjugates included."""

    label = "S5"

    def matches(self, module: nn.Module) -> bool:
        ssm: Any = _unwrapped(module)
        names = ("Lambda", "B", "C", "log_step")
        if not all(isinstance(getattr(ssm, name, None), Tensor) for name in names):
            return False
        n = ssm.Lambda.shape[0]
        fits = ssm.Lambda.is_complex() and ssm.B.ndim == 3 and ssm.B.shape[::2] == (n, 2)
        fits = fits and ssm.C.is_complex() and ssm.C.shape[1] in (n, 2 * n)
        return bool(fits and callable(getattr(ssm, "discretize", None)))

    def read(self, module: nn.Module) -> DiagonalSystem:
        ssm: Any = _unwrapped(module)
        method = Discretization.ZOH
        if "bilinear" in getattr(ssm.discretize, "__name__", ""):
            method = Discretization.BILINEAR
        step = ssm.log_step.detach().double().reshape(-1).exp()
        eigenvalues, inputs = discretize(_exact(ssm.Lambda), _pairs(ssm.B), step, method)
        n = len(eigenvalues)
        outputs = torch.stack(torch.split(_exact(ssm.C), n, dim=1))
        members = conjugate_pairs(eigenvalues)
        return DiagonalSystem(eigenvalues, inputs, outputs, conjugate=False, members=members)

    def slices(self, module: nn.Module, name: str, system: DiagonalSystem) -> list[Slice]:
        ssm: Any = _unwrapped(module)
        prefix = name if ssm is module else joined(name, "seq")
        index, n = _index(system), system.n_states
        slices = [
            Slice(joined(prefix, maker), 0, Role.OUT, index)
            for maker in ("Lambda", "B", "log_step")
        ]
        if len(system.outputs) == 2:  # the columns of both directions lie side by side
            index = np.hstack([system.members, system.members + n])
        slices.append(Slice(joined(prefix, "C"), 1, Role.IN, index))
        return slices

    def sequences(self, module: nn.Module, inputs: Tensor) -> Tensor:
        return inputs if inputs.ndim == 3 else inputs[None]


class _S4DAdapter:
    """``S4D`` of this package and of ``s4d.py``: a kernel with a diagonal system a feature."""

    label = "S4D"

    def matches(self, module: nn.Module) -> bool:
        kernel = getattr(module, "kernel", None)
        return isinstance(kernel, nn.Module) and (
            isinstance(kernel, FlatS4DKernel) or _is_table(kernel)
        )

    def read(self, module: nn.Module) -> DiagonalSystem:
        kernel: Any = module.kernel
        channel = _channels(kernel)
        step = kernel.log_dt.detach().double().exp()[channel]
        real, imaginary = (
            tensor.detach().double().reshape(-1) for tensor in (kernel.log_A_real, kernel.A_imag)
        )
        ones = torch.ones(len(real), 1, dtype=torch.complex128, device=real.device)
        eigenvalues, inputs = discretize(torch.complex(-real.exp(), imaginary), ones, step)
        outputs = _pairs(kernel.C).reshape(1, 1, -1)
        return DiagonalSystem(eigenvalues, inputs, outputs, channel)

    def slices(self, module: nn.Module, name: str, system: DiagonalSystem) -> list[Slice]:
        prefix = joined(name, "kernel")
        makers = ("log_A_real", "A_imag")
        if isinstance(module.kernel, FlatS4DKernel):
            slices = [Slice(joined(prefix, maker), 0, Role.OUT) for maker in makers]
            slices.append(Slice(joined(prefix, "C"), 0, Role.IN))
            slices.append(Slice(joined(prefix, "channel"), 0, Role.LABEL))
            return slices
        slices = [Slice(joined(prefix, maker), None, Role.OUT) for maker in makers]
        both = np.arange(2 * system.n_states, dtype=np.int64).reshape(-1, 2)
        slices.append(Slice(joined(prefix, "C"), None, Role.IN, both))
        return slices

    def sequences(self, module: nn.Module, inputs: Tensor) -> Tensor:
        return inputs.mT if getattr(module, "transposed", False) else inputs


class _LRUAdapter:
    """Linear recurrent units, with the parameters that lru-pytorch gives them."""

    label = "LRU"

    def matches(self, module: nn.Module) -> bool:
        names = ("nu_log", "theta_log", "gamma_log", "B", "C")
        shapes = _shapes(module, names)
        if shapes is None:
            return False
        nu, theta, gamma, B, C = shapes
        return nu == theta == gamma == B[:1] == C[1:] and len(B) == len(C) == 2

    def read(self, module: nn.Module) -> DiagonalSystem:
        layer: Any = module
        modulus, angle, scale = (
            tensor.detach().double().exp()
            for tensor in (layer.nu_log, layer.theta_log, layer.gamma_log)
        )
        eigenvalues = torch.polar((-modulus).exp(), angle)
        inputs = scale[:, None] * _exact(layer.B)
        members = conjugate_pairs(eigenvalues)
        outputs = _exact(layer.C)[None]
        return DiagonalSystem(eigenvalues, inputs, outputs, conjugate=False, members=members)

    def slices(self, module: nn.Module, name: str, system: DiagonalSystem) -> list[Slice]:
        index = _index(system)
        makers = ("nu_log", "theta_log", "gamma_log", "B")
        slices = [Slice(joined(name, maker), 0, Role.OUT, index) for maker in makers]
        slices.append(Slice(joined(name, "C"), 1, Role.IN, index))
        state = getattr(module, "state", None)
        if isinstance(state, Tensor) and state.shape == system.eigenvalues.shape:
            # lru-pytorch keeps the last state, which is no parameter.
            slices.append(Slice(joined(name, "state"), 0, Role.LABEL, index))
        return slices

    def sequences(self, module: nn.Module, inputs: Tensor) -> Tensor:
        return inputs if inputs.ndim == 3 else inputs[None]


ADAPTERS: tuple[StateAdapter, ...] = (
    _S5Adapter(),
    _S5TorchAdapter(),
    _S4DAdapter(),
    _LRUAdapter(),
)


def _channels(kernel: nn.Module) -> Tensor:
    """Return the feature of every state of an S4D kernel."""
    imaginary: Any = kernel.A_imag
    if isinstance(kernel, FlatS4DKernel):
        return kernel.channel
    n, m = imaginary.shape
    return torch.arange(n, device=imaginary.device).repeat_interleave(m)


_TABLES = ("C", "log_A_real", "A_imag", "log_dt")


def _is_table(kernel: nn.Module) -> bool:
    """Whether a module holds the states of an S4D layer, a row a feature."""
    shapes = _shapes(kernel, _TABLES)
    if shapes is None:
        return False
    C, log_A_real, A_imag, log_dt = shapes
    return len(A_imag) == 2 and log_A_real == A_imag and (*A_imag, 2) == C and log_dt == A_imag[:1]


def flat_kernel(kernel: nn.Module) -> FlatS4DKernel:
    """Write the kernel of an S4D layer as one list of states, with their features.

    Parameters
    ----------
    kernel : Module
        With parameters (or buffers) C, log_dt, log_A_real, A_imag; see `S4DKernel`.

    Returns
    -------
    FlatS4DKernel
        Which returns the same kernels. Its parameters are copies, and keep what other code has
        noted on the originals; what was a buffer (``s4d.py`` without training of a part) is one.

    Raises
    ------
    ModelError
        If the kernel has no such tensors.
    """
    if not _is_table(kernel):
        raise ModelError(
            f"{type(kernel).__name__} is not the kernel of an S4D layer with a row of states a "
            "feature (C, log_dt, log_A_real, A_imag); the plan is for another model."
        )
    tensors = {name: getattr(kernel, name).detach().clone() for name in _TABLES}
    flat = {name: tensors[name].flatten(0, 1) for name in _TABLES[:3]}
    new = FlatS4DKernel(**flat, log_dt=tensors["log_dt"], channel=_channels(kernel))
    for name in _TABLES:
        parameter, old = getattr(new, name), getattr(kernel, name)
        if name in kernel._buffers:
            delattr(new, name)
            kept = name not in kernel._non_persistent_buffers_set
            new.register_buffer(name, parameter.detach(), persistent=kept)
            continue
        parameter.requires_grad_(old.requires_grad)
        vars(parameter).update(vars(old))
    return new


# -- What is refused ----------------------------------------------------------------------------

_LOW_RANK = (
    "its state matrix is diagonal plus low rank (S4, DPLR): states are coupled, and none of them "
    "has a response of its own; train a diagonal model (S4D, S5) or reduce the system as a whole"
)
_SHARED = (
    "its states are shared among features and stored under transforms (SSMKernelDiag); the "
    "stand-alone S4D of s4d.py is known"
)
_SELECTIVE = (
    "its input and output matrices and its step sizes depend on the input (Mamba): a state has no "
    "fixed response, and so no H-infinity norm"
)
_ONE_EIGENVALUE = (
    "all states of a head share one eigenvalue (Mamba-2), so that the H-infinity norm would rank "
    "them by the norms of weights alone, and these depend on the input"
)
_LIQUID = "its eigenvalues depend on the input (liquid S5): a state has no fixed response"
_FACTORS = (
    "its input and output matrices are stored as factors of low rank, which states share; train it "
    "with bcInit='dense'"
)


def obstacle(module: nn.Module) -> str | None:
    """Return why a layer with states is not known, or None."""
    ssm: Any = _unwrapped(module)

    def has(*names: str) -> bool:
        return all(isinstance(getattr(ssm, name, None), Tensor) for name in names)

    if has("Lambda") and getattr(ssm, "liquid", False) is True:
        return _LIQUID
    if has("Lambda") and (degree := getattr(ssm, "degree", 1)) != 1:
        return f"its input matrix is raised to the power of {degree}, which is not read"
    if has("Lambda", "BP", "CP"):
        return _FACTORS
    if has("_p", "_q", "_lambda_") or (has("P", "B", "C") and has("A_imag")):
        return _LOW_RANK
    if has("B", "C", "A_imag") and (has("inv_A_real") or has("A_real") or has("inv_dt")):
        return _SHARED
    if has("A_log", "D") and has("dt_bias"):
        return _ONE_EIGENVALUE
    if has("A_log", "D") and isinstance(getattr(module, "x_proj", None), nn.Module):
        return _SELECTIVE
    return None
