"""What serves the book's pages: editions, published results, colours, the model in the browser."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
