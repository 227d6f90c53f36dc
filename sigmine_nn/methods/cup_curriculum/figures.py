"""The cup, drawn: capacity and loss over the steps of a training.

May import: `history` of this package; matplotlib inside functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigmine.exceptions import InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["plot_cup"]


def plot_cup(history: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw capacity and loss over the steps of a training.

    Parameters
    ----------
    history : DataFrame
        The ``history_`` of a curriculum or a training.
    ax : matplotlib Axes, optional
        Where to draw the losses; a new figure without it.

    Returns
    -------
    matplotlib Axes
        The axes with the losses; the capacity is the shaded cup behind them, on axes of its own
        from 0 to 100 %. A mark shows the lowest validation loss.

    Raises
    ------
    InputError
        If there was no validation.
    """
    import matplotlib.pyplot as plt

    if len(history) == 0:
        raise InputError(
            "the history has no row; call after_validation during training, or use a trainer."
        )
    axes: Axes = plt.subplots(layout="constrained")[1] if ax is None else ax
    behind = axes.twinx()
    steps = [0, *history["step"]]
    capacity = [*history["capacity"], history["capacity"].iloc[-1]]
    # Between two validations the capacity was that of the second.
    behind.fill_between(steps, [100 * c for c in capacity], step="post", color="0.88", lw=0)
    behind.set_ylim(0, 100)
    behind.set_ylabel("weights that are there (%)")
    behind.spines[["top"]].set_visible(False)
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)
    if history["train_loss"].notna().any():
        axes.plot(history["step"], history["train_loss"], lw=1, color="C1", label="training")
    axes.plot(history["step"], history["validation_loss"], color="C0", label="validation")
    if history["validation_loss"].notna().any():
        best = history.loc[history["validation_loss"].idxmin()]
        axes.plot(best["step"], best["validation_loss"], "o", color="C0", label="lowest")
    axes.set_xlim(0, steps[-1])
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    axes.spines[["top"]].set_visible(False)
    return axes
