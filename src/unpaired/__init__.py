"""Match unpaired samples of different instruments by the label they share.

The public names are listed once, in ``__init__.pyi``. They are imported when first used, so that ``import unpaired``
stays quick and the command line can answer before torch or anndata are loaded.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
