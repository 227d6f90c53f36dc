"""`ScoreTable`: what every criterion returns, a score for every unit and how sure it is.

High scores are kept, low ones go, whatever the criterion. A score that is not defined is NaN, never
a number made up for it.

May import: `sigmine`, `sigmine_nn.units`, `sigmine_nn.moments`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sigmine.exceptions import InputError

from .moments import Moments
from .units import Units

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Aggregate", "ScoreTable"]


class Aggregate(StrEnum):
    """How the mean of per-sample values becomes the score."""

    MEAN = "mean"
    """The mean itself."""
    ABSOLUTE = "absolute"
    """Its absolute value."""
    ROOT = "root"
    """Its square root (of values that are not negative)."""
    NEGATIVE = "negative"
    """The mean with its sign turned, where small values mean an important unit."""

    def of(self, mean: Tensor) -> Tensor:
        """Return the score of a mean.

        Parameters
        ----------
        mean : Tensor
            Any shape.

        Returns
        -------
        Tensor
            The same shape.
        """
        if self is Aggregate.ABSOLUTE:
            return mean.abs()
        if self is Aggregate.ROOT:
            return mean.clamp(min=0.0).sqrt()
        return -mean if self is Aggregate.NEGATIVE else mean

    def slope(self, mean: Tensor) -> Tensor:
        """Return the absolute derivative of the score by the mean: what scales standard errors.

        Parameters
        ----------
        mean : Tensor
            Any shape.

        Returns
        -------
        Tensor
            The same shape. 1 for `ABSOLUTE` also at 0, where the score is not differentiable and
            the standard error is an upper bound.
        """
        if self is Aggregate.ROOT:
            return 0.5 / mean.clamp(min=0.0).sqrt()
        return torch.ones_like(mean)


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """The score of every unit by one criterion, and the per-sample values that it is a mean of.

    Attributes
    ----------
    units : Units
        What was scored.
    score : Tensor of float64, shape (n_units,)
        High means keep. NaN where the criterion is not defined for a unit.
    criterion : str
        Name of the criterion.
    moments : Moments or None
        Of the per-sample values whose mean gives the score; None for criteria that have no
        sampling distribution (of weights alone, or random).
    aggregate : Aggregate
        How the mean gives the score.
    samples : Tensor of float32, shape (n_samples, n_units), or None
        The per-sample values, where they were kept.
    normaliser : Tensor of float64, shape (n_units,), or None
        What the aggregated mean was divided by, unit by unit; None for nothing. Resampled scores
        are divided by the same numbers.
    """

    units: Units
    score: Tensor
    criterion: str
    moments: Moments | None = None
    aggregate: Aggregate = Aggregate.MEAN
    samples: Tensor | None = field(default=None, repr=False)
    normaliser: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if tuple(self.score.shape) != (self.units.n,):
            raise InputError(
                f"criterion {self.criterion!r} gave scores of shape {tuple(self.score.shape)} for "
                f"{self.units.n} units; it must give one score a unit."
            )
        if self.samples is not None and self.samples.shape[1:] != self.score.shape:
            raise InputError(
                f"criterion {self.criterion!r} gave per-sample values of shape "
                f"{tuple(self.samples.shape)} for {self.units.n} units; it must give one column a "
                "unit."
            )

    @classmethod
    def of_samples(
        cls,
        units: Units,
        samples: Tensor,
        criterion: str,
        aggregate: Aggregate = Aggregate.MEAN,
    ) -> ScoreTable:
        """Make a table from per-sample values.

        Parameters
        ----------
        units : Units
            What was scored.
        samples : Tensor, shape (n_samples, n_units)
            Per-sample values.
        criterion : str
            Name of the criterion.
        aggregate : Aggregate, default=Aggregate.MEAN
            How their mean gives the score.

        Returns
        -------
        ScoreTable
        """
        moments = Moments.empty(units.n, samples.device)
        moments.add(samples)
        return cls(units, aggregate.of(moments.mean), criterion, moments, aggregate, samples)

    @property
    def has_sampling_distribution(self) -> bool:
        """Whether other calibration data would have given other scores."""
        return self.moments is not None

    @property
    def n_samples(self) -> int:
        """Calibration samples behind every score; 0 if there is no sampling distribution."""
        return 0 if self.moments is None else self.moments.count

    @property
    def standard_error(self) -> Tensor | None:
        """Standard error of every score by the delta method; None without a distribution."""
        if self.moments is None:
            return None
        error = self.moments.standard_error * self.aggregate.slope(self.moments.mean)
        return error if self.normaliser is None else error / self.normaliser.abs()

    def scores_of_means(self, means: Tensor) -> Tensor:
        """Return the scores that other means of the per-sample values would have given.

        Parameters
        ----------
        means : Tensor, shape (..., n_units)
            For example of resampled samples.

        Returns
        -------
        Tensor, shape (..., n_units)
        """
        scores = self.aggregate.of(means)
        return scores if self.normaliser is None else scores / self.normaliser

    def to_frame(self) -> pd.DataFrame:
        """Return a row a unit, with its score and standard error.

        Returns
        -------
        DataFrame
            Columns ``unit``, ``layer``, ``index``, ``kind``, ``score``, ``standard_error``.
        """
        frame = self.units.frame()
        frame["score"] = self.score.detach().cpu().numpy()
        error = self.standard_error
        frame["standard_error"] = float("nan") if error is None else error.detach().cpu().numpy()
        return frame
