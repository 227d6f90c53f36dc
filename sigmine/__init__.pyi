# The public names, and where each one is: read by type checkers, and by lazy_loader at run time.
from . import (
    association,
    correction,
    datasets,
    exceptions,
    files,
    frequent,
    memory,
    metrics,
    preprocessing,
    ranking,
    report,
    simulate,
    streaming,
)
from ._version import __version__
from .exceptions import (
    DataWarning,
    FileFormatError,
    InputError,
    InputTypeError,
    InsufficientMemoryError,
    SearchInterrupted,
    SigmineError,
    SigmineWarning,
    StatisticalWarning,
)
from .frequent import frequent_itemsets
from .miner import FACS
from .mining import mine_matrix, mine_patterns
from .results import PatternResults
from .settings import SearchSettings

__all__ = [
    "FACS",
    "DataWarning",
    "FileFormatError",
    "InputError",
    "InputTypeError",
    "InsufficientMemoryError",
    "PatternResults",
    "SearchInterrupted",
    "SearchSettings",
    "SigmineError",
    "SigmineWarning",
    "StatisticalWarning",
    "__version__",
    "association",
    "correction",
    "datasets",
    "exceptions",
    "files",
    "frequent",
    "frequent_itemsets",
    "memory",
    "metrics",
    "mine_matrix",
    "mine_patterns",
    "preprocessing",
    "ranking",
    "report",
    "simulate",
    "streaming",
]
