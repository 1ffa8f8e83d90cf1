"""The one error that several modules word alike, for a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


def unknown_name(kind: str, got: object, valid: Iterable[str]) -> LookupError:
    """The error for a name that nothing goes by, with the nearest valid ones; `kind` says what was named.

    >>> print(unknown_name("data set", "minst", ["mnist", "digits"]))
    unknown data set 'minst': expected one of 'digits', 'mnist'; did you mean 'mnist'?
    """
    names = sorted(valid)
    near = difflib.get_close_matches(str(got), names, n=3, cutoff=0.5)
    shown = names if len(names) <= 12 else [*names[:12], f"... ({len(names)} names)"]
    listed = ", ".join(repr(name) if name in names else name for name in shown) or "nothing at all"
    hint = f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
    return LookupError(f"unknown {kind} {got!r}: expected one of {listed}{hint}")


def check_name(kind: str, got: object, valid: Collection[str]) -> None:
    """Raise `unknown_name` unless it is one of the valid ones."""
    if not isinstance(got, str) or got not in valid:
        raise unknown_name(kind, got, valid)
