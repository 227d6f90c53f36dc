"""Statistically significant combinations of features, conditional on covariates.

Given binary features, a binary outcome and a categorical covariate (the *strata*), sigmine tests
every combination of features for association with the outcome inside the strata, and reports the
combinations that are significant at a family-wise error rate of `alpha` over all of them.

The doors are `mine_patterns` (any data frame), `mine_matrix` (a 0/1 matrix) and `FACS` (a
scikit-learn estimator); each gives a `PatternResults`. On the command line: ``sigmine --help``.

Names are loaded on first use: ``import sigmine`` alone imports neither numba nor pandas nor scipy.
"""

import lazy_loader as _lazy

from ._version import __version__ as __version__

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
