"""One gate for each kind of input: what is right comes back in one form, what is wrong gets one error."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

LARGE = 1e15
"""Sums of squares of so large numbers are still right as float32."""
SEED = 2**32 - 1
"""The largest seed that NumPy takes."""


def array(
    name: str,
    value: Any,
    expected: str,
    advice: str,
    *,
    ndim: Collection[int],
    kinds: str = "biuf",
    n: int | None = None,
    low: float = -math.inf,
    high: float = math.inf,
) -> npt.NDArray[Any]:
    """An array that is not empty, of numbers of this machine's own types.

    `ndim`, `kinds` (NumPy's letters), `n` (its length), `low` and `high` say which; where one of the last two
    is finite, there is no NaN either. `expected` and `advice` say the same in words.
    """
    try:
        found = np.asarray(value)
    except Exception:  # each type fails in ways of its own
        found = np.asarray(None)
    fits = found.dtype.kind in kinds and found.ndim in ndim and found.size > 0 and n in (None, len(found))
    got = f"{found.dtype} {found.shape}" if found.ndim else type(value).__name__
    if np.ma.is_masked(value):  # NumPy drops the mask
        fits, got = False, f"{got} with masked values"
    if fits and not math.isinf(max(low, -high)):
        least, most = found.min(), found.max()  # NaN where there is one
        fits, got = bool(low <= float(least) and float(most) <= high), f"{got} from {least} to {most}"
    if not fits:
        raise ValueError(f"{name}: expected {expected}, got {got}. {advice}")
    own: Any = {"e": "f4", "g": "f8"}.get(found.dtype.char, found.dtype.newbyteorder("="))
    return found.astype(own, copy=False)


def labels(name: str, value: Any, n: int, k: int | None = None, *, kinds: str = "biu") -> npt.NDArray[Any]:
    """Class numbers from 0, and below `k`, for n examples; truth values are 0 and 1."""
    expected, advice = f"{n:,} whole numbers, one for each example", "For one-hot rows give .argmax(axis=1)."
    found = array(name, value, expected, advice, ndim=(1,), kinds=kinds, n=n)
    if found.min() < 0 or found.max() > (2**62 if k is None else k - 1):
        span = "0 or more" if k is None else f"0 to {k - 1}"
        raise ValueError(
            f"{name}: expected {span}, got {found.min()} to {found.max()}. Number the classes from 0."
        )
    return found.astype(np.int64, copy=False)


def features(name: str, value: Any, n: int | None = None) -> npt.NDArray[Any]:
    """Finite numbers for n examples, one row for each."""
    rows = "n" if n is None else f"{n:,}"
    expected = f"finite numbers of shape ({rows}, ...), up to {LARGE:g} in size"
    advice = "Give a row for each example, and check the pixel range."
    found = array(name, value, expected, advice, ndim=range(2, 65), n=n, low=-LARGE, high=LARGE)
    return found.reshape(len(found), -1)


def same_columns(name: str, first: Any, second: Any) -> None:
    """Two tables with the same columns in one order, where both have columns: NumPy takes them by place."""
    had, found = (getattr(each, "columns", None) for each in (first, second))
    if had is not None and found is not None and list(had) != list(found):
        raise ValueError(
            f"{name}: expected the columns {_some(had)}, got {_some(found)}. Give both tables the "
            "same ones in the same order, as table[list(other.columns)]."
        )


def listed(name: str, value: Any, expected: str, advice: str) -> list[Any]:
    """What has an order, and is no single text, as a list."""
    ordered = isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)
    try:
        if ordered or (getattr(value, "ndim", 0) == 1 and hasattr(value, "__array__")):
            return list(value)
    except Exception:  # as a tensor that stands for one to come
        pass
    raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}. {advice}")


def names(name: str, value: Any, n: int | None = None, *, different: bool = False) -> list[str]:
    """Texts, or numbers that are written as such: n of them, each once if need be."""
    advice = f"Give a list of {'n' if n is None else n}."
    given = listed(name, value, "a list of texts", advice)
    # What is missing, NaN, is not itself.
    if wrong := [each for each in given if not isinstance(each, str | numbers.Real) or each != each]:
        raise TypeError(f"{name}: expected a list of texts, got {_shown(wrong[0])} in it. {advice}")
    found = [str(each) for each in given]
    if n not in (None, len(found)) or (different and len(set(found)) < len(found)):
        wanted = f"{n} different ones" if different else f"{n}"
        got = f"{len(found)}, {len(set(found))} of them different"
        raise ValueError(f"{name}: expected {wanted}, got {got}. {advice}")
    return found


def whole(
    name: str, value: Any, least: int, most: int | None = None, advice: str = "Give another number."
) -> int:
    """A whole number in a range."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except Exception:
        number = None
    span = f"{least} or more" if most is None else f"{least} to {most}"
    if number is None:
        raise TypeError(f"{name}: expected a whole number, {span}, got {_shown(value)}. {advice}")
    if number < least or (most is not None and number > most):
        raise ValueError(f"{name}: expected {span}, got {number}. {advice}")
    return number


def real(name: str, value: Any, least: float = 0.0) -> float:
    """A finite number of at least so much."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected a number, got {_shown(value)}. Give a float.")
    number = float(value)
    if not least <= number < math.inf:
        raise ValueError(f"{name}: expected a finite number of {least:g} or more, got {value}. Give another.")
    return number


def word(name: str, value: Any, words: tuple[str, ...]) -> None:
    """One of a few words."""
    if not isinstance(value, str) or value not in words:
        *first, last = [f'"{each}"' for each in words]
        raise ValueError(f"{name}: expected {', '.join(first)} or {last}, got {_shown(value)}.")


def _some(columns: Any) -> str:
    return ", ".join(map(repr, list(columns)[:5])) + (", ..." if len(columns) > 5 else "")


def _shown(value: Any) -> str:
    """A value if that is short, else its type."""
    return repr(value) if isinstance(value, str | float | None) else type(value).__name__
