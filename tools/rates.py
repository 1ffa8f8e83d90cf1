"""Several learning rates tried, and the one that validation keeps."""

from collections.abc import Mapping
from typing import Any


def kept(tried: Mapping[float, Mapping[str, Any]]) -> float:
    """The rate with the best validation accuracy; of equals, the lower one."""
    return max(tried, key=lambda rate: (tried[rate]["validation_accuracy"], -rate))


def as_text(tried: Mapping[float, Mapping[str, Any]]) -> str:
    """What validation said at each rate, for a column of a table."""
    return "; ".join(f"{rate:g}: {each['validation_accuracy']:.4f}" for rate, each in tried.items())
