"""What can go: units, as slices of named parameters, and the coupled slices that go with them.

A *unit* is the smallest thing that is kept or removed: an element of a weight, a channel, an
attention head, a state. Units that go together because the shapes leave no choice (the channels of
the two ends of a residual connection) are one unit. Units of the same place form a `UnitGroup`,
which says with `Slice` objects which entries of which parameters belong to each of them, and with
`Gate` objects where their activations can be seen. Everything else (scores, masks, removal, costs)
follows from these, whatever the network is; only the providers and adapters that make groups know
about architectures.

Parameters and modules are named as ``model.named_parameters()`` and ``model.named_modules()`` name
them: a copy, a reloaded model or another process has the same names.

May import: `sigmine`, `sigmine_nn.exceptions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from sigmine.exceptions import InputError

from .exceptions import ModelError

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import nn

__all__ = ["Gate", "Kind", "Role", "SizeAttribute", "Slice", "UnitGroup", "Units", "find_tensor"]

Indices = NDArray[np.int64]
Values = TypeVar("Values", "NDArray[Any]", "torch.Tensor")


class Kind(StrEnum):
    """What a unit is."""

    ELEMENT = "element"
    """One entry of a weight; masked, never physically removed."""
    ROW = "row"
    """A row of a weight with its bias, without what reads it; masked only."""
    CHANNEL = "channel"
    """An output channel of a convolution or a linear layer, with all that is coupled to it."""
    HEAD = "head"
    """An attention head; with grouped queries, a key-value head and the queries that use it."""
    MLP_CHANNEL = "mlp_channel"
    """A hidden channel of the feed-forward part of a transformer block."""
    STATE = "state"
    """A state of a state space model."""


class Role(StrEnum):
    """What a slice has to do with its unit."""

    OUT = "out"
    """Computes the unit: rows and biases of the layers before."""
    IN = "in"
    """Reads the unit: columns of the layers behind. Zeroing them removes the unit exactly."""
    NORM = "norm"
    """Scale, shift or statistics of a normalisation between."""
    LABEL = "label"
    """Says where the unit belongs; goes with it, and is never computed with."""


@dataclass(frozen=True, eq=False)
class Slice:
    """The entries of one parameter or buffer that belong to the units of a group.

    Attributes
    ----------
    parameter : str
        Name of the parameter or buffer.
    axis : int or None
        Axis along which the entries lie; None: single entries of the flattened tensor.
    role : Role
        What the entries have to do with the unit.
    index : ndarray of int64, shape (n_units, width), or None
        Indices along the axis, a row for each unit; None: unit i has entry i, and nothing else. A
        row names an entry twice where its unit has fewer than others.
    """

    parameter: str
    axis: int | None
    role: Role
    index: Indices | None = None

    def entries(self, units: Indices) -> Indices:
        """Return the indices along the axis that belong to some units, ascending.

        Parameters
        ----------
        units : ndarray of int64
            Numbers of units in the group.

        Returns
        -------
        ndarray of int64
        """
        chosen = units if self.index is None else self.index[units].reshape(-1)
        return np.sort(np.asarray(chosen, dtype=np.int64))

    def spread(self, values: NDArray[Any], length: int, rest: float = 1.0) -> NDArray[Any]:
        """Return a value for every index along the axis from a value for every unit.

        Parameters
        ----------
        values : ndarray, shape (n_units,)
            One value a unit.
        length : int
            Size of the axis.
        rest : float, default=1.0
            Of the indices that belong to no unit.

        Returns
        -------
        ndarray, shape (length,)
        """
        if self.index is None:
            return values
        out = np.full(length, rest, dtype=values.dtype)
        out[self.index] = values[:, None]
        return out


@dataclass(frozen=True, eq=False)
class Gate:
    """A place in the forward pass where the activations of the units of a group are read.

    Multiplying the activations of a unit by 0 at all gates of its group is the same as removing the
    unit (but for normalisations that mix units, whose statistics change).

    Attributes
    ----------
    module : str
        Name of the module.
    side : {"output", "input"}
        Its output, or its first input.
    axis : int
        Axis of that tensor, negative counted from the end; the first axis is the batch.
    index : ndarray of int64, shape (n_units, width), or None
        Indices along the axis, as in `Slice`.
    """

    module: str
    side: str
    axis: int
    index: Indices | None = None


@dataclass(frozen=True)
class SizeAttribute:
    """An attribute of a module that shrinks with every unit removed, as ``num_heads`` does.

    Attributes
    ----------
    module, name : str
        The module and its attribute.
    per_unit : int
        What one unit takes off.
    """

    module: str
    name: str
    per_unit: int = 1


@dataclass(frozen=True, eq=False)
class UnitGroup:
    """Units of one place, ranked and removed one by one, with the same slices each.

    Attributes
    ----------
    name : str
        Name of the layer that users know it by; unique among the groups of a model.
    kind : Kind
        What the units are.
    n_units : int
        At least 1.
    slices : tuple of Slice
        All that goes with a unit. A parameter may occur in several slices.
    gates : tuple of Gate
        Where the activations of the units are read; several if several layers read them, none if
        they cannot be seen.
    norms : tuple of Gate
        Outputs of normalisations that mix the units (of layers, of groups of channels): masks have
        to take part in their statistics, or masking would not be the same as removing.
    sizes : tuple of SizeAttribute
        Attributes that follow from the number of units.
    removable : bool
        Whether removing units makes tensors smaller; False for units that can only be masked.
    blocks : int
        Blocks of neighbouring units, all of one size, of which the same number has to stay: a
        normalisation in groups or a grouped convolution would mix them otherwise.
    reason : str
        Why units cannot be removed, where `removable` is False and the kind does not say it.
    flattened : str
        Module that is written as one list of units before any of them goes (see
        `sigmine_nn.adapters.flat_kernel`), so that every row of its tables may lose another number;
        empty for none. Its slices have no axis.
    """

    name: str
    kind: Kind
    n_units: int
    slices: tuple[Slice, ...]
    gates: tuple[Gate, ...] = ()
    norms: tuple[Gate, ...] = ()
    sizes: tuple[SizeAttribute, ...] = ()
    removable: bool = True
    blocks: int = 1
    reason: str = ""
    flattened: str = ""

    def __post_init__(self) -> None:
        if self.n_units % self.blocks:
            raise InputError(
                f"group {self.name!r} has {self.n_units} units in {self.blocks} blocks; the blocks "
                "must be of one size."
            )
        pieces: tuple[Slice | Gate, ...] = (*self.slices, *self.gates, *self.norms)
        for index in (piece.index for piece in pieces):
            if index is not None and len(index) != self.n_units:
                raise InputError(
                    f"group {self.name!r} has {self.n_units} units and an index of shape "
                    f"{index.shape}; the index needs one row a unit."
                )

    def with_role(self, *roles: Role) -> tuple[Slice, ...]:
        """Return the slices that have one of some roles."""
        return tuple(piece for piece in self.slices if piece.role in roles)


@dataclass(frozen=True, eq=False)
class Units(Sequence[UnitGroup]):
    """All units of a model that are ranked together: groups in a fixed order.

    Units are numbered through all groups, from 0 to `n` - 1.

    Parameters
    ----------
    groups : tuple of UnitGroup
        At least one, with names that differ.
    shapes : mapping of str to tuple of int
        Shape of every parameter and buffer that occurs.
    left_out : mapping of str to str
        Layers that have such units in principle but are not among the groups, and why.
    """

    groups: tuple[UnitGroup, ...]
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)
    left_out: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        names = [group.name for group in self.groups]
        if len(set(names)) < len(names):
            raise InputError(f"groups with the same name: {sorted(names)}; names must differ.")
        if not names:
            raise ModelError(
                "no units were found; name another kind of unit, or leave fewer layers out."
            )

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self.groups)

    @overload
    def __getitem__(self, index: int) -> UnitGroup: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[UnitGroup, ...]: ...

    def __getitem__(self, index: int | slice) -> UnitGroup | tuple[UnitGroup, ...]:
        """Return a group, or several."""
        return self.groups[index]

    def __iter__(self) -> Iterator[UnitGroup]:
        """Go through the groups."""
        return iter(self.groups)

    @property
    def n(self) -> int:
        """Number of units."""
        return int(self.ends[-1])

    @property
    def names(self) -> list[str]:
        """Names of the groups."""
        return [group.name for group in self.groups]

    @cached_property
    def ends(self) -> Indices:
        """Number behind the last unit of every group, shape (n_groups,)."""
        return np.cumsum([group.n_units for group in self.groups])

    def range_of(self, name: str) -> range:
        """Return the numbers of the units of a group.

        Parameters
        ----------
        name : str
            The group.

        Returns
        -------
        range

        Raises
        ------
        ModelError
            If there is no such group.
        """
        if name not in self._places:
            raise ModelError(
                f"there is no group of units {name!r}; there are {', '.join(self.names[:20])}"
                f"{', ...' if len(self) > 20 else ''}."
            )
        place = self._places[name]
        return range(int(self.ends[place]) - self.groups[place].n_units, int(self.ends[place]))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    @cached_property
    def scopes(self) -> dict[str, Indices]:
        """Numbers of the units of every group, as `sigmine.ranking.select` takes them."""
        ranges = map(self.range_of, self.names)
        return {
            name: np.arange(r.start, r.stop) for name, r in zip(self.names, ranges, strict=True)
        }

    def split(self, values: Values) -> dict[str, Values]:
        """Cut values of all units into those of every group.

        Parameters
        ----------
        values : ndarray or Tensor, shape (n, ...)
            Units along the first axis.

        Returns
        -------
        dict of str to ndarray or Tensor
        """
        ranges = {name: self.range_of(name) for name in self.names}
        return {name: values[r.start : r.stop] for name, r in ranges.items()}

    def name_of(self, unit: int) -> str:
        """Return the name of a unit: its group and its number there, as ``"conv1.3"``."""
        place = int(np.searchsorted(self.ends, unit, side="right"))
        group = self.groups[place]
        return f"{group.name}.{unit - (int(self.ends[place]) - group.n_units)}"

    def frame(self) -> pd.DataFrame:
        """Return a row a unit: its name, group, number within the group, and kind.

        Returns
        -------
        DataFrame
            Columns ``unit``, ``layer``, ``index``, ``kind``.
        """
        import pandas as pd

        sizes = [group.n_units for group in self.groups]
        layer = np.repeat(self.names, sizes)
        index = np.concatenate([np.arange(size) for size in sizes])
        return pd.DataFrame(
            {
                "unit": [f"{a}.{b}" for a, b in zip(layer, index, strict=True)],
                "layer": pd.Categorical(layer, categories=self.names),
                "index": index,
                "kind": np.repeat([str(group.kind) for group in self.groups], sizes),
            }
        )

    def check(self, model: nn.Module) -> None:
        """Refuse a model that these units do not describe.

        Parameters
        ----------
        model : Module
            The model.

        Raises
        ------
        ModelError
            If a parameter is missing or has another shape.
        """
        for name, shape in self.shapes.items():
            tensor = find_tensor(model, name)
            if tensor is None or tuple(tensor.shape) != shape:
                found = "no such tensor" if tensor is None else f"shape {tuple(tensor.shape)}"
                raise ModelError(
                    f"the units were found in a model whose {name!r} has shape {shape}; this one "
                    f"has {found}. Find the units of this model."
                )


def find_tensor(model: nn.Module, name: str) -> torch.Tensor | None:
    """Return a parameter or buffer by name; where it is masked, the masked one.

    Parameters
    ----------
    model : Module
        The model.
    name : str
        As ``named_parameters`` named it before anything was parametrized.

    Returns
    -------
    Tensor or None
        None if there is none.
    """
    import torch

    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(model.get_submodule(module), attribute, None)
    except AttributeError:
        return None
    return found if isinstance(found, torch.Tensor) else None
