"""When units go, and how many: sparsity as a function of the training step.

A schedule is a value: it answers whether a step is one at which masks change (`is_update`), and
which fraction is removed once that step's change is made (`sparsity_at`), which holds until the
next one. At the last update the target is met exactly, not to rounding.

May import: `sigmine`.
"""

from .base import Schedule, count_removed
from .cup import Cup
from .one_way import Geometric, Linear, OneShot, Polynomial, ProgressiveSoft

__all__ = [
    "Cup",
    "Geometric",
    "Linear",
    "OneShot",
    "Polynomial",
    "ProgressiveSoft",
    "Schedule",
    "count_removed",
]
