"""What comes in: types, reading, preprocessing, examples."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["examples", "simulate"])
