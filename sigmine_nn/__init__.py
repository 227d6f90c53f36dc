"""The place of the pruning engine: significance-ranked selection of the units of a neural network.

There is nothing to use here yet. The package is part of the distribution so that the name and the
direction of the imports (``sigmine_nn`` may import ``sigmine``, never the reverse) are settled; it
has no public names besides ``__version__`` and does not import torch.
"""

from sigmine._version import __version__

__all__ = ["__version__"]
