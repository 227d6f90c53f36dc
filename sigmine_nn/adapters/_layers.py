"""Layers by name, and their slices.

May import: `sigmine_nn.units`.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from ..units import Indices, Role, Slice

__all__ = ["biased", "columns", "joined", "linear_at", "rows", "windows"]


def joined(module: str, name: str) -> str:
    """Return the full name of something in a module; the model itself is called ``""``."""
    return f"{module}.{name}" if module else name


def linear_at(module: nn.Module, path: str) -> nn.Linear | None:
    """Return the linear layer at a path below a module; None if there is none."""
    try:
        found = module.get_submodule(path)
    except AttributeError:
        return None
    return found if isinstance(found, nn.Linear) else None


def windows(n_units: int, width: int) -> Indices:
    """Return the entries of units that lie one behind the other, shape (n_units, width)."""
    return np.arange(n_units * width, dtype=np.int64).reshape(n_units, width)


def rows(name: str, layer: nn.Linear, index: Indices | None) -> list[Slice]:
    """Return the slices of the outputs of a layer."""
    found = [Slice(f"{name}.weight", 0, Role.OUT, index)]
    return found + ([Slice(f"{name}.bias", 0, Role.OUT, index)] if biased(layer) else [])


def columns(name: str, index: Indices | None) -> Slice:
    """Return the slice of the inputs of a layer."""
    return Slice(f"{name}.weight", 1, Role.IN, index)


def biased(layer: nn.Linear) -> bool:
    """Whether a layer has a bias."""
    return getattr(layer, "bias", None) is not None
