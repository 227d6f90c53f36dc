"""The search: every closed itemset that could be significant, depth first, and the threshold.

``prepare`` brings the data into the kernels' order, ``tasks`` cuts the search space, ``worker``
runs the kernels over tasks, ``rounds`` shares them among threads or processes, ``testability``
holds the on-line state of Tarone's procedure, ``driver`` leads from tasks to the answer,
``checkpoint`` keeps what was found so far, ``outcome`` is what comes back.
May import: association, problem, bitset and what lies below them.
"""

from .checkpoint import Checkpoint
from .driver import checked_time_limit, search_patterns
from .outcome import ProgressCallback, SearchOutcome, SearchProgress

__all__ = [
    "Checkpoint",
    "ProgressCallback",
    "SearchOutcome",
    "SearchProgress",
    "checked_time_limit",
    "search_patterns",
]
