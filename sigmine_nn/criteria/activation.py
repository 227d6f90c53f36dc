"""Scores of what passes a unit: how much, how often, how much it varies. Data, but no loss.

May import: `sigmine_nn.criteria.base` and what lies below it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sigmine.exceptions import InputError

from ..calibrate import Statistic
from ..exceptions import CalibrationError
from ..scores import Aggregate, ScoreTable
from .base import Scoring, criterion, table_of_statistic

__all__ = ["activation", "apoz", "entropy", "hrank"]


@criterion(
    "activation",
    formula="mean over samples and positions of |activation| where the unit is read",
    source="P. Molchanov, S. Tyree, T. Karras, T. Aila, J. Kautz, Pruning convolutional neural "
    "networks for resource efficient inference, ICLR 2017, section 2.2 (behind a ReLU, where the "
    "absolute value changes nothing)",
    statistics=[Statistic.MAGNITUDE],
)
def activation(scoring: Scoring) -> ScoreTable:
    """Score units by their mean absolute activation.

    Parameters
    ----------
    scoring : Scoring
        With `Statistic.MAGNITUDE`.

    Returns
    -------
    ScoreTable
        With a sampling distribution; NaN for units without gates.
    """
    return table_of_statistic(scoring, Statistic.MAGNITUDE, "activation")


@criterion(
    "apoz",
    formula="- mean over samples and positions of [activation = 0]",
    source="H. Hu, R. Peng, Y.-W. Tai, C.-K. Tang, Network trimming, 2016, arXiv:1607.03250, "
    "equation 1",
    statistics=[Statistic.ZEROS],
)
def apoz(scoring: Scoring) -> ScoreTable:
    """Score units by their average percentage of zeros, few zeros being good.

    Parameters
    ----------
    scoring : Scoring
        With `Statistic.ZEROS`.

    Returns
    -------
    ScoreTable
        In [-1, 0], with a sampling distribution; NaN for units without gates. Nothing but ties at
        0 where activations are never exactly zero (GELU, SiLU).
    """
    return table_of_statistic(scoring, Statistic.ZEROS, "apoz", Aggregate.NEGATIVE)


@criterion(
    "hrank",
    formula="mean over samples of the rank of the unit's feature map",
    source="M. Lin, R. Ji, Y. Wang, Y. Zhang, B. Zhang, Y. Tian, L. Shao, HRank, CVPR 2020, "
    "equation 5",
    statistics=[Statistic.RANK],
)
def hrank(scoring: Scoring) -> ScoreTable:
    """Score units by the mean rank of their feature maps.

    Parameters
    ----------
    scoring : Scoring
        With `Statistic.RANK`.

    Returns
    -------
    ScoreTable
        With a sampling distribution; NaN for units that are not read as maps of two dimensions.
        Many ties where maps are small.
    """
    return table_of_statistic(scoring, Statistic.RANK, "hrank")


@criterion(
    "entropy",
    formula="- sum over bins of p log p, p the histogram over samples of the pooled activation",
    source="J.-H. Luo, J. Wu, An entropy-based pruning method for CNN compression, 2017, "
    "arXiv:1706.05791, equation 1",
    statistics=[Statistic.ACTIVATION],
    needs_samples=True,
)
def entropy(scoring: Scoring, *, n_bins: int = 32) -> ScoreTable:
    """Score units by the entropy of their pooled activations over the samples.

    Parameters
    ----------
    scoring : Scoring
        With `Statistic.ACTIVATION` and its samples kept.
    n_bins : int, default=32
        Bins of equal width between the smallest and the largest pooled activation of the unit.

    Returns
    -------
    ScoreTable
        In [0, log n_bins]; 0 for units with one value for all samples, NaN for units without
        gates. Not a mean over samples, so that it has no standard error here.

    Raises
    ------
    CalibrationError
        If the samples were not kept.
    InputError
        For fewer than two bins.
    """
    if isinstance(n_bins, bool) or not isinstance(n_bins, int) or n_bins < 2:
        raise InputError(f"n_bins={n_bins!r} must be a whole number of at least 2.")
    calibration = scoring.calibration
    if calibration is None or Statistic.ACTIVATION not in calibration.samples:
        raise CalibrationError(
            "criterion 'entropy' needs the activations of every sample, which were not kept; "
            "calibrate with statistic 'activation' and keep_samples=True."
        )
    samples = calibration.samples[Statistic.ACTIVATION]
    scores = torch.cat([_entropies(part, n_bins) for part in torch.split(samples, 4096, dim=1)])
    mean = calibration.of_units[Statistic.ACTIVATION].mean
    return ScoreTable(scoring.units, scores.to(mean.device), "entropy")


def _entropies(samples: Tensor, n_bins: int) -> Tensor:
    """Return the entropy of the histogram of every column, NaN where it holds NaN."""
    values = samples.double()
    low = values.amin(dim=0)
    width = values.amax(dim=0) - low
    scaled = (values - low) / width.where(width > 0, 1.0) * n_bins
    bins = scaled.nan_to_num(0.0).long().clamp(max=n_bins - 1)  # (n_samples, n_units)
    counts = torch.zeros((n_bins, values.shape[1]), dtype=torch.float64)
    counts.scatter_add_(0, bins, torch.ones_like(values))
    shares = counts / len(values)
    total = -torch.xlogy(shares, shares).sum(dim=0)
    return total.where(~width.isnan(), torch.nan)
