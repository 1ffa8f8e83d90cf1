"""The experiments behind the measured tables: one module a study, on one skeleton."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
