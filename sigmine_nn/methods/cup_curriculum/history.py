"""What happened in a training: a row a validation, as plain values and as a DataFrame.

May import: `sigmine`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "frame_of"]

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
warm-up); "warmup", "down", "up" or "dense"; how often entries were removed; fraction of the
prunable entries that is there; steps of the optimiser so far; learning rate of its first group;
mean loss on the training batches since the validation before (NaN if it was not told); loss on the
validation data."""


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return a history as a table.

    Parameters
    ----------
    rows : list of dict
        A row a validation, with the keys of `COLUMNS`; None is missing.

    Returns
    -------
    DataFrame
        With these columns.
    """
    import pandas as pd

    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
