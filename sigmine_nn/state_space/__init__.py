"""Diagonal state space models: the discrete system behind a layer, and layers that have one.

`systems` is mathematics on numbers alone; `layers` holds trainable layers (S5, S4D) that can be
pruned to ragged numbers of states and still be run, trained and saved; `reduction` is balanced
truncation, the classical way to make such systems small, as a point of reference.

May import: `sigmine`, `sigmine_nn.exceptions`.
"""

from .layers import S4D, S5, FlatS4DKernel, S4DKernel
from .systems import DiagonalSystem

__all__ = ["S4D", "S5", "DiagonalSystem", "FlatS4DKernel", "S4DKernel"]
