"""Balanced truncation of all state space layers of a network, as a point of reference for LAST.

May import: everything of `sigmine_nn` but `cli`.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn

from sigmine._checks import real_number
from sigmine.exceptions import InputError
from sigmine.ranking import order, select, top_k

from ..adapters import StateLayer, flat_kernel, state_layers
from ..exceptions import ModelError
from ..state_space import S5, DiagonalSystem, FlatS4DKernel
from ..state_space.reduction import Balanced, balance
from ..state_space.systems import Discretization

__all__ = ["balanced_truncation"]


def balanced_truncation(model: nn.Module, amount: float) -> nn.Module:
    """Reduce every state space layer of a network as a whole, with the same loss of energy each.

    Parameters
    ----------
    model : Module
        The network, with layers `S5` (of this package) or S4D; left as it was.
    amount : float
        Fraction of all states that go, in [0, 1): floor(amount x n).

    Returns
    -------
    Module
        A copy with fewer states. They are no states of the original: the result is another
        parametrisation, with step sizes of 1 for `S5`, and without its ``clip_eigs``.

    Raises
    ------
    ModelError
        If there is no such layer, or one that cannot be rewritten.
    InputError
        If the amount is out of range or a state is unstable.

    Notes
    -----
    In every layer the Hankel singular values are divided by their sum, and a state is worth the
    share that it and all smaller ones have: states go from the lowest share up, so that all layers
    lose about the same share. Every layer keeps one state at least.

    See Also
    --------
    sigmine_nn.state_space.reduction.balance : the mathematics, and its source.
    """
    real_number("amount", amount, 0.0, 1.0, "a fraction in [0, 1)")
    small = copy.deepcopy(model)
    layers = state_layers(small)
    if not layers:
        raise ModelError(
            f"{type(model).__name__} has no state space layer that is known; balanced truncation "
            "rewrites S5 and S4D layers."
        )
    balanced = {layer.name: balance(layer.read()) for layer in layers}
    shares = torch.cat([_shares(balanced[layer.name].singular_values) for layer in layers])
    n_keep = len(shares) - math.floor(amount * len(shares))
    if not len(layers) <= n_keep:
        raise InputError(
            f"amount={amount!r} leaves {n_keep} states for {len(layers)} layers; every layer keeps "
            "one at least."
        )
    keep = np.asarray(select(shares.numpy(), top_k(n_keep)).mask)
    start = 0
    for layer in layers:
        found = balanced[layer.name]
        n = len(found.singular_values)
        _rewrite(layer, found.truncated(_orders(found, keep[start : start + n])))
        start += n
    return small


def _shares(values: Tensor) -> Tensor:
    """Return the share of each value and all smaller ones; the largest has more than 1."""
    ascending = order(values.cpu(), largest=False)
    shares = torch.empty(len(values), dtype=values.dtype)
    sums = values.cpu()[ascending].cumsum(0)
    shares[ascending] = sums / sums[-1] if sums[-1] > 0 else sums
    shares[ascending[-1]] = 2.0  # a layer keeps its best state
    return shares


def _orders(balanced: Balanced, keep: np.ndarray) -> list[int]:
    """Return how many states stay in every part."""
    orders, start = [], 0
    for _, values, _, _ in balanced.parts:
        orders.append(int(keep[start : start + len(values)].sum()))
        start += len(values)
    return orders


@torch.no_grad()
def _rewrite(layer: StateLayer, system: DiagonalSystem) -> None:
    """Give a layer the parameters of another system."""
    module = layer.module
    if isinstance(module, S5):
        _rewrite_s5(module, system)
    elif layer.adapter.label == "S4D":
        _rewrite_s4d(module, system)
    else:
        raise ModelError(
            f"{layer.name!r} is a {type(module).__name__}, which balanced truncation cannot "
            "rewrite; it is there for S5 of this package and for S4D."
        )


def _rewrite_s5(module: S5, system: DiagonalSystem) -> None:
    continuous = system.eigenvalues.log()  # zero-order hold with steps of 1
    inputs = system.inputs * (continuous / (system.eigenvalues - 1.0))[:, None]
    module.discretization = Discretization.ZOH
    # The bound is on the continuous eigenvalues, which steps of 1 bring closer to 0.
    module.clip_eigs = False

    def put(name: str, values: Tensor) -> None:
        old: nn.Parameter = getattr(module, name)
        new = nn.Parameter(values.to(old).contiguous(), old.requires_grad)
        setattr(module, name, new)

    put("Lambda_re", continuous.real)
    put("Lambda_im", continuous.imag)
    put("log_step", torch.zeros(system.n_states))
    put("B", torch.view_as_real(inputs.contiguous()))
    for name, columns in zip(
        ("C1", "C2") if module.bidirectional else ("C",), system.outputs, strict=True
    ):
        put(name, torch.view_as_real(columns.contiguous()))


def _rewrite_s4d(module: nn.Module, system: DiagonalSystem) -> None:
    kernel = module.kernel
    assert isinstance(kernel, nn.Module)
    assert system.channel is not None
    old = kernel if isinstance(kernel, FlatS4DKernel) else flat_kernel(kernel)
    step = old.log_dt.double().exp()[system.channel]
    continuous = system.eigenvalues.log() / step
    # The layer computes c (lambda - 1) / a lambda^k.
    weights = system.outputs[0, 0] * system.inputs[:, 0]
    weights = weights * continuous / (system.eigenvalues - 1.0)
    module.kernel = FlatS4DKernel(
        torch.view_as_real(weights.contiguous()).to(old.C),
        (-continuous.real).log().to(old.C),
        continuous.imag.to(old.C),
        old.log_dt.detach().clone(),
        system.channel,
    )
