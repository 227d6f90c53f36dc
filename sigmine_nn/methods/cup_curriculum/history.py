"""What happened in a training: a row a validation, as plain values and as a DataFrame.

May import: `sigmine`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "History"]

COLUMNS = {
    "validation": "int64",
    "cycle": "int64",
    "phase": "str",
    "level": "int64",
    "capacity": "float64",
    "step": "int64",
    "learning_rate": "float64",
    "train_loss": "float64",
    "validation_loss": "float64",
}
"""Columns of a history: number of the validation, from 1; number of the cycle, from 1 (0 is the
warm-up); "warmup", "down", "up" or "dense"; how many cycles' worth of entries is gone; fraction of
the prunable entries that is there; steps of the optimiser so far; learning rate of its first group;
mean loss on the training batches since the validation before (NaN if it was not told); loss on the
validation data."""


class _Watched(Protocol):
    """What a row tells of a curriculum."""

    optimizer: torch.optim.Optimizer
    cycle: int
    n_steps: int

    @property
    def phase(self) -> str: ...
    @property
    def level(self) -> int: ...
    @property
    def capacity(self) -> float: ...


class History:
    """Rows that grow with every validation.

    Parameters
    ----------
    rows : sequence of mapping, default=()
        Those of another history.

    Attributes
    ----------
    rows : list of dict
        A row a validation, by the names of `COLUMNS`; plain values, None is missing.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        self.rows = [{name: row[name] for name in COLUMNS} for row in rows]

    def add(self, curriculum: _Watched, loss: float, train_loss: float | None) -> None:
        """Add a validation.

        Parameters
        ----------
        curriculum : object
            Where training is.
        loss : float
            On validation data.
        train_loss : float or None
            On training data.
        """
        values = (
            len(self.rows) + 1,
            curriculum.cycle,
            curriculum.phase,
            curriculum.level,
            curriculum.capacity,
            curriculum.n_steps,
            float(curriculum.optimizer.param_groups[0]["lr"]),
            None if train_loss is None else float(train_loss),
            float(loss),
        )
        self.rows.append(dict(zip(COLUMNS, values, strict=True)))

    def frame(self) -> pd.DataFrame:
        """Return the rows as a table with the columns of `COLUMNS`."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=list(COLUMNS)).astype(COLUMNS)
