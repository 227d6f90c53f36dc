"""The placebo: scores that know nothing.

May import: `sigmine_nn.criteria.base` and what lies below it.
"""

from __future__ import annotations

import numpy as np
import torch

from ..scores import ScoreTable
from .base import Scoring, criterion

__all__ = ["random"]


@criterion("random", formula="uniform on [0, 1), independent", source="the placebo")
def random(scoring: Scoring) -> ScoreTable:
    """Score units at random.

    Parameters
    ----------
    scoring : Scoring
        Its seed decides; the same on every device.

    Returns
    -------
    ScoreTable
    """
    drawn = np.random.default_rng(scoring.seed).random(scoring.units.n)
    return ScoreTable(scoring.units, torch.from_numpy(drawn), "random")
