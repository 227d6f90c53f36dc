"""Calibration data until the ranking is settled.

May import: `sigmine`, `sigmine_nn.calibrate`, `sigmine_nn.criteria`, `sigmine_nn.significance`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sigmine._checks import real_number, whole_number
from sigmine.exceptions import InputError

from .calibrate import Calibration, calibrate
from .criteria import Criterion, Scoring, get_criterion
from .exceptions import CalibrationError
from .objective import batches
from .scores import ScoreTable
from .significance import RankUncertainty, check_sampled, rank_uncertainty
from .units import Units

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SettledCalibration", "StopReason", "calibrate_until", "joined"]


class StopReason(StrEnum):
    """Why no more data were taken."""

    MET = "met"
    """The share of undecided units fell to the limit."""
    DATA_ENDED = "data ended"
    """There were no more batches."""
    LIMIT = "limit"
    """As many batches as allowed were taken."""


@dataclass(frozen=True, eq=False)
class SettledCalibration:
    """What was calibrated, how far that settled the ranking, and why it stopped there.

    Attributes
    ----------
    calibration : Calibration
        Of all data that were taken.
    table : ScoreTable
        The scores.
    uncertainty : RankUncertainty
        Of the last look. Since the data decided when to look last, its intervals are somewhat too
        narrow and `share_undecided` somewhat too small: see `calibrate_until`.
    reason : StopReason
        Why it stopped.
    history : tuple of tuple
        ``(n_batches, n_samples, share_undecided)`` of every look.
    """

    calibration: Calibration = field(repr=False)
    table: ScoreTable = field(repr=False)
    uncertainty: RankUncertainty = field(repr=False)
    reason: StopReason
    history: tuple[tuple[int, int, float], ...]

    def to_frame(self) -> pd.DataFrame:
        """Return a row a look.

        Returns
        -------
        DataFrame
            Columns ``n_batches``, ``n_samples``, ``share_undecided``.
        """
        import pandas as pd

        return pd.DataFrame(self.history, columns=["n_batches", "n_samples", "share_undecided"])


def calibrate_until(
    model: nn.Module,
    data: object,
    units: Units,
    criterion: str | Criterion,
    sparsity: float,
    max_undecided: float = 0.05,
    *,
    loss: str | Callable[..., Tensor] | None = None,
    scope: str = "global",
    first: int = 1,
    growth: float = 1.5,
    n_batches: int | None = None,
    keep_samples: bool = True,
    seed: int = 0,
    **options: Any,
) -> SettledCalibration:
    """Add calibration data until few units are undecided.

    Parameters
    ----------
    model : Module
        The network; left as it was found.
    data : iterable of batches
        As in `calibrate`; taken as far as needed.
    units : Units
        Of this model.
    criterion : str or Criterion
        One that is computed from calibration data.
    sparsity : float
        Fraction of the units to be removed, in (0, 1).
    max_undecided : float, default=0.05
        Share of the units that may be undecided, in [0, 1].
    loss : str, callable or None, default=None
        As in `calibrate`.
    scope : {"global", "layer"}, default="global"
        Where units are ranked together.
    first : int, default=1
        Batches before the first look.
    growth : float, default=1.5
        The next look comes when there are so many times the batches of the last, at least 1 (a
        look after every batch). Few looks cost less and keep the intervals honest.
    n_batches : int or None, default=None
        Batches at most.
    keep_samples : bool, default=True
        Keep per-sample values, 4 bytes a sample and unit; without them means are taken to be normal
        and independent.
    seed : int, default=0
        Of the resampling (and the criterion).
    **options
        Others of `rank_uncertainty`.

    Returns
    -------
    SettledCalibration
        With the reason why it stopped: the share is met, the data ended, or the limit is reached.

    Raises
    ------
    CalibrationError
        If there is no batch, and as `calibrate` does.
    InputError
        If the criterion has no sampling distribution, or a parameter is out of its range.

    Notes
    -----
    A time to stop that the data decide is *optional stopping*. Stopping when the share looks small
    favours moments at which it is small by chance, so that the share at the stop is too low on
    average and the intervals hold less often than they say; the more looks, the more so. Nothing
    here corrects for that. To report intervals, take the number of samples from here and compute
    `rank_uncertainty` on as many fresh ones.
    """
    criterion = get_criterion(criterion)
    if not criterion.needs_data:
        raise InputError(
            f"criterion {criterion.name!r} looks at no calibration data, so that more of them "
            "settle nothing. Choose one that does, such as 'taylor'."
        )
    limit = real_number("max_undecided", max_undecided, 0.0, 1.0, "a share in [0, 1]")
    growth = real_number("growth", growth, 1.0, 1e6, "a factor of at least 1, such as 1.5")
    step = whole_number("first", first, 1)
    stream: Iterator[Any] = batches(data, n_batches)
    tensors = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    calibration: Calibration | None = None
    history: list[tuple[int, int, float]] = []
    while True:
        part = list(islice(stream, step))
        if not part:
            break
        new = calibrate(
            model, part, units, criterion.statistics, loss=loss, keep_samples=keep_samples
        )
        calibration = new if calibration is None else joined(calibration, new)
        table = criterion(Scoring(units, tensors, calibration, seed))
        check_sampled(table, "the share of undecided units")
        if table.n_samples < 2:  # one sample says nothing of its spread
            continue
        uncertainty = rank_uncertainty(table, sparsity, scope=scope, seed=seed, **options)
        share = uncertainty.share_undecided
        assert share is not None
        history.append((calibration.n_batches, table.n_samples, share))
        if share <= limit:
            return SettledCalibration(
                calibration, table, uncertainty, StopReason.MET, tuple(history)
            )
        step = max(1, int(calibration.n_batches * (growth - 1)))
    if not history or calibration is None:
        raise CalibrationError(
            "data holds fewer than 2 samples; a sampling distribution needs at least 2. Give more."
        )
    ended = n_batches is None or calibration.n_batches < n_batches
    reason = StopReason.DATA_ENDED if ended else StopReason.LIMIT
    return SettledCalibration(calibration, table, uncertainty, reason, tuple(history))


def joined(first: Calibration, second: Calibration) -> Calibration:
    """Return the calibration that both data sets together would have given.

    Parameters
    ----------
    first, second : Calibration
        Of the same units of the same model, and the same statistics; left as they are.

    Returns
    -------
    Calibration
        Means up to rounding.

    Raises
    ------
    InputError
        If units or statistics differ.
    """
    same = first.units.shapes == second.units.shapes and first.units.names == second.units.names
    if not same or first.of_units.keys() != second.of_units.keys():
        raise InputError(
            f"two calibrations have the statistics {sorted(first.of_units)} and "
            f"{sorted(second.of_units)}, of {first.units.n} and {second.units.n} units; only those "
            "of the same units and statistics can be joined."
        )
    total = first.n_samples + second.n_samples
    share = first.n_samples / total
    moments = {}
    for statistic, of_first in first.of_units.items():
        both = type(of_first)(of_first.count, of_first.mean, of_first.squares)
        both.merge(second.of_units[statistic])  # replaces its tensors, never writes into them
        moments[statistic] = both
    losses = (first.loss, second.loss)
    return Calibration(
        units=first.units,
        n_samples=total,
        n_batches=first.n_batches + second.n_batches,
        loss=None
        if losses[0] is None or losses[1] is None
        else share * losses[0] + (1 - share) * losses[1],
        of_units=moments,
        samples={
            statistic: torch.cat([values, second.samples[statistic]])
            for statistic, values in first.samples.items()
        },
        of_parameters={
            statistic: {
                name: share * mean + (1 - share) * second.of_parameters[statistic][name]
                for name, mean in means.items()
            }
            for statistic, means in first.of_parameters.items()
        },
    )
