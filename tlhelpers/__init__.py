"""The chores behind the book *Transfer Learning, Measured*.

Plain Keras in, plain Keras out: the functions take and return keras models, numpy arrays, pandas
tables and matplotlib axes. Names load on first use, so that ``import tlhelpers`` is quick and loads
no TensorFlow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
