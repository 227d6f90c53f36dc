"""`FullCapacity`: the same doors with no curriculum behind them, for baselines.

May import: `sigmine`, and `history` of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sigmine._checks import whole_number
from sigmine.exceptions import InputError

from .history import History

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FullCapacity"]

FORMAT, VERSION = "full capacity", 1


class FullCapacity:
    """Training with everything there: the baseline of a curriculum, with its doors.

    With the lowest loss of its history this is early stopping, with a budget as large as that of
    any curriculum: ``FullCapacity(model, optimizer, length=cup.length)``.

    Parameters
    ----------
    model : Module
        The network.
    optimizer : Optimizer
        Of its parameters.
    length : int
        Epochs or steps of training.

    Attributes
    ----------
    n_steps : int
        Steps of the optimiser so far.
    cycle : int
        1, and 2 when the training is over.
    history_ : DataFrame
        As that of `CupCurriculum`; the phase is "dense".
    """

    phase, level, capacity, n_cycles, n_pruned = "dense", 0, 1.0, 1, 0

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, *, length: int) -> None:
        self.model, self.optimizer = model, optimizer
        self.length = whole_number("length", length, 1)
        self.cycle, self.n_steps = 1, 0
        self._history = History()

    @property
    def finished(self) -> bool:
        """Whether the training is over."""
        return self.cycle > 1

    @property
    def history_(self) -> pd.DataFrame:
        """A row a validation."""
        return self._history.frame()

    def ends_cycle(self, time: int) -> bool:
        """Return whether the training ends after so many epochs or steps.

        Parameters
        ----------
        time : int
            Epochs or steps.

        Returns
        -------
        bool
        """
        return time == self.length

    def __enter__(self) -> FullCapacity:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End; there is nothing to put right."""

    def after_backward(self) -> None:
        """Leave gradients as they are."""

    def after_step(self) -> None:
        """Count a step."""
        self.n_steps += 1

    def after_validation(self, loss: float, train_loss: float | None = None) -> None:
        """Tell how good the network is.

        Parameters
        ----------
        loss : float
            On validation data.
        train_loss : float, optional
            For the history.
        """
        self._history.add(self, loss, train_loss)

    def end_of_cycle(self, data: Any = None, *, loss: Any = None, n_batches: Any = None) -> None:
        """End the training.

        Parameters
        ----------
        data, loss, n_batches
            Of no use here; for loops that know nothing of their curriculum.
        """
        self.cycle = 2

    def state_dict(self) -> dict[str, Any]:
        """Return where the training is, as plain values."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "length": self.length,
            "cycle": self.cycle,
            "n_steps": self.n_steps,
            "history": [dict(row) for row in self._history.rows],
        }

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Refuse a state that is not of such a training.

        Parameters
        ----------
        state : mapping
            As of `state_dict`.

        Raises
        ------
        InputError
            If it is of another curriculum, or another length.
        """
        found = (state.get("format"), state.get("version"), state.get("length"))
        if found != (FORMAT, VERSION, self.length):
            raise InputError(
                f"the state has format {found[0]!r}, version {found[1]!r}, length {found[2]!r}; "
                f"expected {FORMAT!r}, version {VERSION}, length {self.length}. Continue a "
                "training with the curriculum that it was begun with."
            )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where a training was.

        Parameters
        ----------
        state : mapping
            Of `state_dict`.

        Raises
        ------
        InputError
            As `check_state`.
        """
        self.check_state(state)
        self.cycle, self.n_steps = int(state["cycle"]), int(state["n_steps"])
        self._history = History(state["history"])
