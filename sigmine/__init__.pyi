# The public names, and where each one is: read by type checkers, and by lazy_loader at run time.
from . import (
    association,
    correction,
    datasets,
    exceptions,
    files,
    metrics,
    preprocessing,
    ranking,
    report,
    simulate,
)
from ._version import __version__
from .exceptions import (
    DataWarning,
    FileFormatError,
    InputError,
    InputTypeError,
    SearchInterrupted,
    SigmineError,
    SigmineWarning,
    StatisticalWarning,
)
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
    "metrics",
    "mine_matrix",
    "mine_patterns",
    "preprocessing",
    "ranking",
    "report",
    "simulate",
]
