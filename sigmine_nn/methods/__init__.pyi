# The recipes, and the file of each: read by type checkers, and by lazy_loader at run time.
from .balancing import balanced_truncation
from .last import LAST

__all__ = ["LAST", "balanced_truncation"]
