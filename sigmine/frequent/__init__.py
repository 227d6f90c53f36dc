"""Frequent itemsets, closed or all: the search without a test.

`frequent_itemsets` makes a table in the form that users of mlxtend know, `count_itemsets` and
`count_closed` only count. From the bottom up: `lattice` closes all subsets of a few items at once,
`narrow` mines frames of one word a row, `wide` (columns of bits) and `lists` (sparse data) lead
there, `roots` is what workers call, `source` prepares and `passes` runs it, `table` makes the
frozensets, and `itemsets` has the doors.

May import: `sigmine.exceptions`, `sigmine.memory`, `sigmine.parallel`, `sigmine.bitset`,
`sigmine._binary`, `sigmine._checks`, `sigmine._jit`.
"""

from .itemsets import count_closed, count_itemsets, frequent_itemsets
from .passes import MiningProgress

__all__ = ["MiningProgress", "count_closed", "count_itemsets", "frequent_itemsets"]
