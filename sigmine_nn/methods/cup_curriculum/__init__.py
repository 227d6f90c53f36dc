"""The Cup Curriculum: capacity goes down, cycle by cycle, and comes back in reverse.

The way of a training: `weights` says which weights may go and what each is worth, `cohorts` which
go and come back when, `values` with what they come back, `updates` how fast they learn then;
`context` puts these around a training loop, `full_capacity` is the same without a curriculum,
`training` is such a loop, `checkpoint` saves it, `history` and `figures` show it, and `evidence`
compares many of them.

May import: everything of `sigmine_nn` but `cli`.
"""

from .checkpoint import load_training, save_training
from .context import CupCurriculum
from .evidence import Difference, compare_strategies, estimate_difference, expected_best
from .figures import plot_cup
from .full_capacity import FullCapacity
from .training import TrainingRun, train_curriculum
from .updates import Updates
from .values import Rewind
from .weights import magnitude_increase, prunable_weights

__all__ = [
    "CupCurriculum",
    "Difference",
    "FullCapacity",
    "Rewind",
    "TrainingRun",
    "Updates",
    "compare_strategies",
    "estimate_difference",
    "expected_best",
    "load_training",
    "magnitude_increase",
    "plot_cup",
    "prunable_weights",
    "save_training",
    "train_curriculum",
]
