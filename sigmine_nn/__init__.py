"""Neural-network pruning as significance-ranked selection.

A network becomes a table of scored units; one engine ranks, tests, selects and explains; the
selection becomes masks, then really smaller tensors.

The door is `Pruner`; `score_units`, `select_units`, `apply_masks` and `remove_units` are the steps
behind it, and `mine_units` finds combinations of units that go with an error. On the command line:
``sigmine-nn --help``.

Names are loaded on first use: ``import sigmine_nn`` alone does not import torch.
"""

import lazy_loader as _lazy

from sigmine._version import __version__ as __version__

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
