"""A model as a function of its parameters: asked with others in their place, never written to.

Parameters are named as before anything was parametrized.

May import: `sigmine_nn.state`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from .state import leaf_parameters

__all__ = [
    "LossModule",
    "call_with",
    "device_of",
    "flattened",
    "plain_attention",
    "prepare",
    "real_leaves",
    "wide",
]

Tensors = dict[str, Tensor]


class LossModule(nn.Module):
    """A model and what is asked of it as one module, so that its parameters can be replaced.

    Parameters
    ----------
    model : Module
        The model; its parameters are named ``"model.<name>"`` here.
    ask : callable
        From the model and a batch to a tensor.
    """

    def __init__(self, model: nn.Module, ask: Callable[[nn.Module, Any], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.ask = ask

    def forward(self, batch: Any) -> Tensor:
        """Return what is asked for, for a batch."""
        return self.ask(self.model, batch)


def call_with(
    losses: LossModule, now: Mapping[str, str], parameters: Mapping[str, Tensor], batch: Any
) -> Tensor:
    """Ask a model with other tensors in the place of its parameters.

    Parameters
    ----------
    losses : LossModule
        The model and the question.
    now : mapping of str to str
        The names that the model has for its parameters now, see `leaf_parameters`.
    parameters : mapping of str to Tensor
        Those to be replaced, under the names from before.
    batch : object
        The batch.

    Returns
    -------
    Tensor
    """
    named = {f"model.{now[name]}": tensor for name, tensor in parameters.items()}
    answer: Tensor = functional_call(losses, named, (batch,))
    return answer


def real_leaves(model: nn.Module) -> Tensors:
    """Return the parameters that have derivatives, detached."""
    return {
        name: leaf.detach()
        for name, (_, leaf) in leaf_parameters(model).items()
        if leaf.is_floating_point()
    }


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in single precision or more."""
    return tensor.float() if tensor.dtype.itemsize < 4 else tensor


def flattened(batch: Any) -> tuple[list[Tensor], Callable[[list[Tensor]], Any]]:
    """Return the tensors of a batch, and how to put others in their place."""
    leaves, spec = torch.utils._pytree.tree_flatten(batch)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def rebuild(tensors: list[Tensor]) -> Any:
        filled = list(leaves)
        for place, tensor in zip(places, tensors, strict=True):
            filled[place] = tensor
        return torch.utils._pytree.tree_unflatten(filled, spec)

    return [leaves[i] for i in places], rebuild


@contextmanager
def plain_attention() -> Iterator[None]:
    """Run attention in operations that can be differentiated twice and over many samples."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the first parameter of a model; the CPU for none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def prepare(model: nn.Module, gradients: bool = False) -> None:
    """Set a model up for derivatives: no dropout, nothing overwritten, no needless gradients.

    Parameters
    ----------
    model : Module
        Inside of `sigmine_nn.state.unchanged`.
    gradients : bool, default=False
        Whether gradients of its parameters are wanted.
    """
    model.eval()
    for module in model.modules():
        if isinstance(getattr(module, "inplace", None), bool):
            module.inplace = False  # type: ignore[assignment]
    for parameter in model.parameters():
        parameter.requires_grad_(gradients and parameter.is_floating_point())
        parameter.grad = None
