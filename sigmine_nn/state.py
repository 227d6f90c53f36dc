"""A model in the hands of a guest: whatever happens, it is handed back as it was found.

May import: nothing of `sigmine_nn`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["kept_attributes", "leaf_parameters", "unchanged"]


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Restore modes, gradients and what in-place layers were told, on the way out.

    Parameters
    ----------
    model : Module
        The model. Its modes, ``requires_grad`` and ``grad`` of its parameters, its buffers (running
        statistics), the ``inplace`` attributes of its layers and tensors that layers keep as plain
        attributes may be changed inside, but not the values of its parameters.

    Yields
    ------
    None

    Notes
    -----
    On the way out means after an exception and after Ctrl-C too.
    """
    modules: dict[str, Any] = dict(model.named_modules())
    modes = {name: module.training for name, module in modules.items()}
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    buffers = {
        (name, attribute): (buffer, buffer.detach().clone())
        for name, module in modules.items()
        for attribute, buffer in module._buffers.items()
        if buffer is not None
    }
    in_place = {
        name: module.inplace
        for name, module in modules.items()
        if isinstance(getattr(module, "inplace", None), bool)
    }
    try:
        with kept_attributes(model):
            yield
    finally:
        for name, mode in modes.items():
            modules[name].training = mode
        for name, flag in in_place.items():
            modules[name].inplace = flag
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(wanted[name])
            parameter.grad = gradients[name]
        with torch.no_grad():
            for (name, attribute), (buffer, before) in buffers.items():
                modules[name]._buffers[attribute] = buffer
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


@contextmanager
def kept_attributes(model: nn.Module) -> Iterator[None]:
    """Restore the tensors that layers keep as plain attributes, as recurrent ones keep a state.

    An attribute that was None, or not there, before it held a tensor is so again.

    Parameters
    ----------
    model : Module
        The model.

    Yields
    ------
    None
    """
    kept = [(module, dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for module, before in kept:
            for name, value in list(vars(module).items()):
                if isinstance(value, Tensor) and name not in before:
                    del vars(module)[name]
            now = vars(module)
            for name, value in before.items():
                if isinstance(value, Tensor) or isinstance(now.get(name), Tensor):
                    now[name] = value


def leaf_parameters(model: nn.Module) -> dict[str, tuple[str, Tensor]]:
    """Return the parameters under the names that they had before anything was parametrized.

    Parameters
    ----------
    model : Module
        The model.

    Returns
    -------
    dict of str to (str, Parameter)
        The name that the model has for it now (``"conv.parametrizations.weight.original"`` where
        the weight is masked), and the parameter.

    Examples
    --------
    >>> from torch import nn
    >>> from torch.nn.utils import parametrize
    >>> layer = parametrize.register_parametrization(nn.Linear(2, 1), "weight", nn.Identity())
    >>> {name: now for name, (now, _) in sorted(leaf_parameters(layer).items())}
    {'bias': 'bias', 'weight': 'parametrizations.weight.original'}
    """
    found: dict[str, tuple[str, Tensor]] = {}
    for now, parameter in model.named_parameters():
        parts = now.split(".")
        if len(parts) > 2 and parts[-3] == "parametrizations" and parts[-1] == "original":
            parts = [*parts[:-3], parts[-2]]
        found[".".join(parts)] = now, parameter
    return found
