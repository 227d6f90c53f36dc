"""Published methods as recipes: a file a paper, made of the parts of the engine.

Names are loaded on first use.

May import: everything of `sigmine_nn` but `cli`.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
