"""The Cup Curriculum: capacity goes down, cycle by cycle, and comes back in reverse.

The way of a training: `weights` says which weights may go and what each is worth, `cohorts` which
go and come back when, `values` with what they come back, `updates` how fast they learn then;
`context` puts these around a training loop, `training` is such a loop, `checkpoint` saves it,
`figures` draws it, and `evidence` compares many of them.

May import: everything of `sigmine_nn` but `cli`.
"""

from .context import CupCurriculum
from .updates import Updates
from .values import Rewind
from .weights import magnitude_increase, prunable_weights

__all__ = ["CupCurriculum", "Rewind", "Updates", "magnitude_increase", "prunable_weights"]
