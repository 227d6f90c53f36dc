"""The search: every closed itemset that could be significant, depth first, and the threshold.

``testability`` holds the on-line state of Tarone's procedure, ``itemsets`` the enumeration kernel,
``driver`` runs the two passes over it, ``outcome`` is what comes back.
May import: association, problem, bitset and what lies below them.
"""

from .driver import search_patterns
from .outcome import ProgressCallback, SearchOutcome, SearchProgress

__all__ = ["ProgressCallback", "SearchOutcome", "SearchProgress", "search_patterns"]
