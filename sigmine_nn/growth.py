"""Which entries come back, with which values, and what the optimiser remembers of them.

Everything here works on one tensor: the entries of a parameter, or the units of a model as a
vector. Functions return new tensors and leave their arguments as they are; only
`reset_optimizer_state` changes what it is given.

May import: `sigmine`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from sigmine import ranking
from sigmine._checks import whole_number
from sigmine.exceptions import InputError, InputTypeError

__all__ = [
    "Growth",
    "MaskHistory",
    "ValueSource",
    "choose_growth",
    "regrown_values",
    "reset_optimizer_state",
]

# What optimisers of torch remember of every entry, where 0 is how it begins.
_MOMENTS = (
    "momentum_buffer",
    "exp_avg",
    "exp_avg_sq",
    "max_exp_avg_sq",
    "exp_inf",
    "square_avg",
    "grad_avg",
    "acc_delta",
    "sum",
)


class Growth(StrEnum):
    """Which of the removed entries come back first."""

    REVERSE = "reverse"
    """Those that were removed last."""
    RANDOM = "random"
    """Any, all equally likely."""
    GRADIENT = "gradient"
    """Those with the largest absolute gradient of the loss [Evci et al., 2020, RigL]."""


class ValueSource(StrEnum):
    """Which values entries have when they come back."""

    LAST = "last"
    """Those that they had when they were removed."""
    BEST = "best"
    """Those of the best state of the cycle in which they were removed."""
    INITIAL = "initial"
    """Those of the initialisation."""
    RANDOM = "random"
    """Drawn anew, with replacement, from the initial values of the same tensor."""


@dataclass(frozen=True, eq=False)
class MaskHistory:
    """The cycle in which every entry was removed: all masks of a shrinking network in one tensor.

    Attributes
    ----------
    removed_in : Tensor of uint8
        Number of the cycle in which an entry went, from 1; `NEVER` for those that stay.
    n_cycles : int
        Cycles so far, at most 254.

    Notes
    -----
    The mask after cycle c is ``removed_in > c``. The masks are nested whatever the numbers, so that
    growing in reverse retraces them exactly. One byte an entry stands for all masks, and one tensor
    of values, in which every entry is written when it goes, for the values of all cycles:
    ``torch.where(history.cohort(c), weight, values)``.

    Examples
    --------
    >>> history = MaskHistory.start(torch.zeros(4))
    >>> history = history.then(torch.tensor([True, True, False, True]))
    >>> history = history.then(torch.tensor([False, True, False, True]))
    >>> [history.mask(cycle).int().tolist() for cycle in range(3)]
    [[1, 1, 1, 1], [1, 1, 0, 1], [0, 1, 0, 1]]
    """

    NEVER = 255

    removed_in: Tensor
    n_cycles: int = 0

    @classmethod
    def start(cls, like: Tensor) -> MaskHistory:
        """Return the history of a tensor of which nothing is removed.

        Parameters
        ----------
        like : Tensor
            Gives shape and device.

        Returns
        -------
        MaskHistory
        """
        return cls(torch.full(like.shape, cls.NEVER, dtype=torch.uint8, device=like.device))

    def then(self, mask: Tensor) -> MaskHistory:
        """Return the history with one cycle more.

        Parameters
        ----------
        mask : Tensor of bool
            True for entries that stay; same shape.

        Returns
        -------
        MaskHistory

        Raises
        ------
        InputTypeError
            If the mask is not boolean.
        InputError
            For a mask of another shape, one that brings removed entries back, or too many cycles.
        """
        _check_mask("mask", mask, self.removed_in.shape)
        here = self.mask(self.n_cycles)
        if back := int(torch.count_nonzero(mask & ~here)):
            raise InputError(
                f"mask keeps {back} entries that were removed before cycle {self.n_cycles + 1}; "
                "masks of a shrinking network are nested. Combine it with the mask before, or "
                "start a new history after growth."
            )
        if self.n_cycles + 1 >= self.NEVER:
            raise InputError(
                f"{self.n_cycles + 1} cycles are more than a byte can number ({self.NEVER - 1}); "
                "remove more in every cycle."
            )
        cycle = self.n_cycles + 1
        gone = torch.where(here & ~mask, cycle, self.removed_in).to(torch.uint8)
        return MaskHistory(gone, cycle)

    def mask(self, cycle: int) -> Tensor:
        """Return the mask after a cycle.

        Parameters
        ----------
        cycle : int
            From 0 (everything stays) to `n_cycles`.

        Returns
        -------
        Tensor of bool

        Raises
        ------
        InputError
            For a cycle that has not been.
        """
        return self.removed_in > self._cycle(cycle, 0)

    def cohort(self, cycle: int) -> Tensor:
        """Return which entries a cycle removed.

        Parameters
        ----------
        cycle : int
            From 1 to `n_cycles`.

        Returns
        -------
        Tensor of bool

        Raises
        ------
        InputError
            For a cycle that has not been.
        """
        return self.removed_in == self._cycle(cycle, 1)

    def _cycle(self, cycle: int, first: int) -> int:
        cycle = whole_number("cycle", cycle, first)
        if cycle > self.n_cycles:
            raise InputError(
                f"cycle={cycle} has not been; give one from {first} to {self.n_cycles}."
            )
        return cycle


def choose_growth(
    growth: Growth | str,
    n: int,
    removed: Tensor,
    *,
    history: MaskHistory | None = None,
    gradient: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose which of the removed entries come back.

    Parameters
    ----------
    growth : {"reverse", "random", "gradient"}
        The rule.
    n : int
        How many come back, at most as many as are removed.
    removed : Tensor of bool
        True for removed entries.
    history : MaskHistory, optional
        For "reverse".
    gradient : Tensor, optional
        Of the loss, same shape; for "gradient". It must be that of the entries as if they were
        there: a gradient that has gone through the mask is 0 at all of them.
    generator : Generator, optional
        For "random"; on the CPU, so that every device draws the same.

    Returns
    -------
    Tensor of bool
        True for the n entries that come back; of equal ones those that come first.

    Raises
    ------
    InputError, InputTypeError
        For another rule, a wrong shape, more than are removed, or what the rule needs and was not
        given.
    """
    _check_mask("removed", removed, None)
    if growth not in list(Growth):
        raise InputError(
            f"growth={growth!r} is not known; choose one of {', '.join(map(str, Growth))}."
        )
    where = torch.nonzero(removed.flatten()).flatten()
    if whole_number("n", n, 0) > len(where):
        raise InputError(
            f"n={n} entries are to come back, and {len(where)} are removed; give at most as many."
        )
    if growth == Growth.REVERSE:
        order = _needed("history", history, growth).removed_in
    elif growth == Growth.GRADIENT:
        order = _needed("gradient", gradient, growth).detach().abs()
    else:
        draws = torch.rand(
            removed.shape,
            generator=_needed("generator", generator, growth),
            dtype=torch.float64,
        )
        order = draws.to(removed.device)
    if order.shape != removed.shape:
        raise InputError(
            f"what {str(growth)!r} orders by has shape {tuple(order.shape)} and removed "
            f"{tuple(removed.shape)}; they must be of one tensor."
        )
    chosen = ranking.select(order.flatten()[where], ranking.top_k(n)).mask
    back = torch.zeros_like(removed).flatten()
    back[where] = chosen
    return back.view(removed.shape)


def regrown_values(
    source: ValueSource | str,
    weight: Tensor,
    back: Tensor,
    values: Mapping[str, Tensor],
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return a tensor in which entries that come back have their new values.

    Parameters
    ----------
    source : {"last", "best", "initial", "random"}
        Where the values come from.
    weight : Tensor
        As it is.
    back : Tensor of bool
        True for entries that come back; same shape.
    values : mapping of str to Tensor
        Tensors of the same shape by source; "random" draws from "initial".
    generator : Generator, optional
        For "random"; on the CPU, so that every device draws the same.

    Returns
    -------
    Tensor
        A new one; all other entries are those of `weight`, bit by bit.

    Raises
    ------
    InputError, InputTypeError
        For another source, or one whose values or generator are missing or of another shape.
    """
    if source not in list(ValueSource):
        raise InputError(
            f"source={source!r} is not known; choose one of {', '.join(map(str, ValueSource))}."
        )
    _check_mask("back", back, weight.shape)
    name = str(ValueSource.INITIAL if source == ValueSource.RANDOM else source)
    given = _needed(f"values[{name!r}]", values.get(name), source)
    if given.shape != weight.shape:
        raise InputError(
            f"values[{name!r}] has shape {tuple(given.shape)} and weight {tuple(weight.shape)}; "
            "they must be of one tensor."
        )
    if source == ValueSource.RANDOM:
        drawn = torch.randint(
            given.numel(), tuple(given.shape), generator=_needed("generator", generator, source)
        )
        given = given.flatten()[drawn.to(given.device)]
    return torch.where(back, given.detach().to(weight), weight.detach())


def reset_optimizer_state(
    optimizer: torch.optim.Optimizer, parameter: nn.Parameter, entries: Tensor
) -> None:
    """Make an optimiser forget some entries of a parameter: their moments become 0.

    Parameters
    ----------
    optimizer : Optimizer
        SGD, Adam, AdamW, NAdam, RAdam, Adamax, RMSprop, Adagrad, Adadelta, and others that keep
        moments under the same names. One that has not seen the parameter yet has nothing to forget.
    parameter : Parameter
        One of the optimiser's own; of a masked layer, the original.
    entries : Tensor of bool
        True for entries that were removed or have come back; same shape.

    Raises
    ------
    InputError
        If the optimiser does not have the parameter, or for another shape.
    InputTypeError
        If `entries` is not boolean.

    Notes
    -----
    Without this a removed weight keeps moving by its momentum, and one that has come back is pushed
    by gradients of a network that is no more. A removed weight that is 0 and whose gradients are 0
    then stays exactly 0, under weight decay too.

    Adam counts the steps of a whole parameter, and that count stays: the first update of an entry
    that has come back is up to (1 - beta1) / sqrt(1 - beta2) learning rates long, 3.2 with the
    usual values.
    """
    _check_mask("entries", entries, parameter.shape)
    known = [p for group in optimizer.param_groups for p in group["params"]]
    if not any(p is parameter for p in known):
        raise InputError(
            f"the optimiser has {len(known)} parameters, and one of shape "
            f"{tuple(parameter.shape)} is not among them; give the parameter that it was made "
            "with (of a masked layer, parametrizations.weight.original)."
        )
    state = optimizer.state.get(parameter, {})
    for name in _MOMENTS:
        moment = state.get(name)
        if isinstance(moment, Tensor):
            moment[entries.to(moment.device)] = 0.0


def _check_mask(name: str, mask: Any, shape: torch.Size | None) -> None:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        found = f"of dtype {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise InputTypeError(f"{name} is {found}; give a boolean tensor.")
    if shape is not None and mask.shape != shape:
        raise InputError(
            f"{name} has shape {tuple(mask.shape)}; it must have the shape {tuple(shape)} of its "
            "tensor."
        )


def _needed(name: str, value: Any, what: Growth | ValueSource | str) -> Any:
    if value is None:
        raise InputError(f"{str(what)!r} needs {name}, which was not given.")
    return value
