"""What is remembered of weights: their beginning, their best state, and with what they come back.

May import: `sigmine`, `sigmine_nn.growth`, and `weights` of this package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from sigmine.exceptions import InputError

from ...growth import ValueSource, regrown_values
from .weights import seed_of

__all__ = ["Rewind", "ValueStore", "tensors_of"]

Tensors = dict[str, Tensor]


class Rewind(StrEnum):
    """Where what stays goes back to when entries were removed."""

    INIT = "init"
    """To the initialisation, biases and buffers too; not at the turn."""
    BEST = "best"
    """To the best state of the cycle; at the turn too."""
    NONE = "none"
    """Nowhere: training goes on."""
    WARMUP = "warmup"
    """To the state after the warm-up; not at the turn."""


def tensors_of(model: nn.Module) -> Tensors:
    """Return the parameters and buffers of a model by name, each once.

    Parameters
    ----------
    model : Module
        The network.

    Returns
    -------
    dict of str to Tensor
        The tensors themselves.
    """
    found: Tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}
    found.update(model.named_buffers())
    return found


class ValueStore:
    """Values by entry and by state, as few as the choices of a curriculum need.

    Parameters
    ----------
    model : Module
        At its initialisation.
    weights : mapping of str to Parameter
        Those that may lose entries.
    values : ValueSource
        With which values entries come back.
    rewind : Rewind
        Where what stays goes back to.
    seed : int
        Of random values.

    Attributes
    ----------
    kept : dict of str to Tensor
        One tensor a weight. An entry that is there has its initial value in it, until capacity
        grows; then the value that it must keep while it is frozen. An entry that is gone has the
        value in it with which it will come back.
    start : dict of str to Tensor or None
        Where rewinding goes back to: with `Rewind.INIT` only what `kept` does not hold.
    best : dict of str to Tensor or None
        The best state of the cycle.
    best_loss : float
        Its loss; infinite if there is none yet.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Mapping[str, nn.Parameter],
        values: ValueSource,
        rewind: Rewind,
        seed: int,
    ) -> None:
        self._model, self._weights, self._seed = model, weights, seed
        self._values, self._rewind = values, rewind
        self.kept = {name: weight.detach().clone() for name, weight in weights.items()}
        self.start = self._copies(lambda name: name not in weights) if rewind == "init" else None
        self.best: Tensors | None = None
        self.best_loss = math.inf

    @property
    def needs_best(self) -> bool:
        """Whether the best state of a cycle is needed on the way down."""
        return self._values is ValueSource.BEST or self._rewind is Rewind.BEST

    def _copies(self, wanted: Callable[[str], bool]) -> Tensors:
        return {
            name: tensor.detach().clone()
            for name, tensor in tensors_of(self._model).items()
            if wanted(name)
        }

    def observe(self, loss: float) -> None:
        """Take the state as the best of the cycle if its loss is lower than before.

        Parameters
        ----------
        loss : float
            NaN is never lower.
        """
        if self.needs_best and loss < self.best_loss:
            self.best_loss = float(loss)
            everything = self._rewind is Rewind.BEST
            self.best = self._copies(lambda name: everything or name in self._weights)

    def end_warmup(self) -> None:
        """Take the state as the one after the warm-up."""
        if self._rewind is Rewind.WARMUP:
            self.start = self._copies(lambda name: True)

    def check_best(self, cycle: int) -> None:
        """Refuse to go on without the best state of a cycle, where it is needed.

        Parameters
        ----------
        cycle : int
            For the message.

        Raises
        ------
        InputError
            If no finite loss was observed.
        """
        if self.needs_best and math.isinf(self.best_loss):
            raise InputError(
                f"cycle {cycle} ends without a finite validation loss, and 'best' goes by it; call "
                "after_validation in every cycle, and look for NaN if you did."
            )

    def store(self, gone: Mapping[str, Tensor]) -> None:
        """Keep the values with which entries will come back, before they are set to 0.

        Parameters
        ----------
        gone : mapping of str to Tensor of bool
            The entries that go.
        """
        if self._values not in (ValueSource.LAST, ValueSource.BEST):
            return
        source: Mapping[str, Tensor] = self._weights
        if self._values is ValueSource.BEST:
            assert self.best is not None
            source = self.best
        for name, entries in gone.items():
            self.kept[name] = torch.where(entries, source[name].detach(), self.kept[name])

    @torch.no_grad()
    def go_back(self, *, turning: bool) -> bool:
        """Rewind the model, entries that are gone included.

        Parameters
        ----------
        turning : bool
            Whether capacity grows from now on.

        Returns
        -------
        bool
            Whether anything was rewound.
        """
        if self._rewind is Rewind.BEST:
            assert self.best is not None
            target: Mapping[str, Tensor] = self.best
        elif self._rewind is Rewind.NONE or turning:
            return False
        else:
            assert self.start is not None
            target = {**self.kept, **self.start}
        for name, tensor in tensors_of(self._model).items():
            tensor.copy_(target[name])
        return True

    def draw(self, masks: Mapping[str, Tensor]) -> None:
        """Draw the values with which entries come back, at the turn, if they are random.

        Parameters
        ----------
        masks : mapping of str to Tensor of bool
            True for entries that are there.

        Notes
        -----
        Nothing has overwritten the initial values then, from which is drawn.
        """
        if self._values is not ValueSource.RANDOM:
            return
        for number, (name, mask) in enumerate(masks.items()):
            generator = torch.Generator().manual_seed(seed_of(self._seed, 1, number))
            known = {"initial": self.kept[name]}
            self.kept[name] = regrown_values(
                ValueSource.RANDOM, self.kept[name], ~mask, known, generator=generator
            )

    @torch.no_grad()
    def hold(self, masks: Mapping[str, Tensor]) -> None:
        """Keep the values that entries have which are there: while capacity grows.

        Parameters
        ----------
        masks : mapping of str to Tensor of bool
            True for entries that are there.
        """
        for name, mask in masks.items():
            self.kept[name] = torch.where(mask, self._weights[name].detach(), self.kept[name])

    def release(self) -> None:
        """Forget everything."""
        self.kept, self.start, self.best = {}, None, None

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered, as tensors and plain values."""
        return {
            "kept": dict(self.kept),
            "start": self.start,
            "best": self.best,
            "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` has returned.

        Parameters
        ----------
        state : mapping
            Its tensors are copied.

        Raises
        ------
        InputError
            If it is of another model.
        """
        there = tensors_of(self._model)
        taken: dict[str, Tensors | None] = {}
        for part in ("kept", "start", "best"):
            given = state[part]
            if given is None:
                taken[part] = None
                continue
            for name, tensor in given.items():
                known = there.get(name)
                if known is None or not isinstance(tensor, Tensor) or tensor.shape != known.shape:
                    found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor)
                    expected = "no such tensor" if known is None else f"shape {tuple(known.shape)}"
                    raise InputError(
                        f"the state remembers {name!r} with shape {found}, and the model has "
                        f"{expected}; load the state into the model that it was saved from."
                    )
            taken[part] = {n: t.detach().to(there[n], copy=True) for n, t in given.items()}
        self.kept, self.start, self.best = taken["kept"] or {}, taken["start"], taken["best"]
        loss = state["best_loss"]
        self.best_loss = math.inf if loss is None else float(loss)
