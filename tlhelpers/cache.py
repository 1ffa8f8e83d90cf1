"""What was fetched or computed, kept whole, under names made from content.

One folder holds it all: ``TLHELPERS_CACHE``, else the user's own cache folder.
"""

from __future__ import annotations

import ast
import errno
import functools
import hashlib
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

__all__ = ["CacheError", "cache_folder", "content_key"]

_PIECE = 1 << 24  # bytes of an array at a time
_TEMPORARY = ".partial-"  # what is being written carries this name, and nobody reads such a name
_ABANDONED_S = 24 * 3600.0  # a temporary this old was left by a killed process
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR}
_REFUSED |= {errno.EISDIR, errno.EFBIG, errno.ENAMETOOLONG, errno.ESTALE}
WAITING_S = 10.0  # how long a lock is waited for in silence


class CacheError(RuntimeError):
    """The cache folder can't be used: it can't be written, it is full, or somebody holds its lock."""


def cache_folder() -> Path:
    """Name the folder for downloads and for what was computed from them.

    Returns
    -------
    pathlib.Path
        What ``TLHELPERS_CACHE`` names, else the user's cache folder of this system. It may not exist yet.

    Raises
    ------
    CacheError
        ``TLHELPERS_CACHE`` begins with the home folder (``~name``) of nobody here.

    Notes
    -----
    Explained in the reading guide.

    Examples
    --------
    >>> cache_folder().is_absolute()
    True
    """
    value = os.environ.get("TLHELPERS_CACHE", "")
    if value:
        try:
            return Path(value).expanduser().absolute()
        except RuntimeError as error:
            raise CacheError(
                f"TLHELPERS_CACHE: expected a folder, got {value!r}: {error} Correct it, or unset it."
            ) from error
    import pooch  # here, so that naming a folder of one's own needs no import

    return Path(pooch.os_cache("tlhelpers")).absolute()


# -- writing safely ------------------------------------------------------------------------------


@contextmanager
def storage(path: Path, *, every: bool = False) -> Iterator[None]:
    """Turn what a disk refuses into one clear error; let all else pass, or nothing if `every`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise CacheError(
                f"{path}: expected room on the disk, got a full disk ({error.strerror}). Free some space, or "
                "name another folder in TLHELPERS_CACHE."
            ) from error
        gone = error.errno == errno.ENOENT and not path.parent.exists()
        if every or gone or error.errno in _REFUSED:
            raise CacheError(
                f"{path}: expected a folder to write to, got {error.strerror or error} at "
                f"{error.filename or path}. Was it removed meanwhile, or may it not be written? Correct "
                "that, or name another folder in TLHELPERS_CACHE."
            ) from error
        raise


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, for a while. Those that killed processes left are cleared away."""
    with storage(path):
        with storage(path, every=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            for old in path.parent.glob(f"{_TEMPORARY}*"):
                with suppress(FileNotFoundError):  # another process was quicker
                    if time.time() - old.stat().st_mtime > _ABANDONED_S:
                        shutil.rmtree(old, ignore_errors=True)
            folder = TemporaryDirectory(prefix=_TEMPORARY, dir=path.parent, ignore_cleanup_errors=True)
        with folder as name:
            yield Path(name)


def _to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Where to write a file that appears at `path` at the end of the block, whole, or not at all.

    It replaces a file that is there. Where nothing was written, nothing is replaced. What the disk refuses
    is a `CacheError`.
    """
    path = Path(path).absolute()
    with _beside(path) as folder:
        yield folder / path.name
        if (folder / path.name).exists():
            _to_disk(folder / path.name)
            (folder / path.name).replace(path)


@contextmanager
def lock(name: str, *, timeout_s: float = 3600.0) -> Iterator[None]:
    """Let one process at a time through, among all that use this cache folder.

    A lock whose holder died is free at once. One that does not come free in time is a `CacheError`.
    """
    import filelock

    safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)
    path = cache_folder() / "locks" / f"{safe}.lock"
    with storage(path, every=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(path)
        try:
            try:
                held.acquire(timeout=min(WAITING_S, timeout_s))
            except filelock.Timeout:
                if timeout_s <= WAITING_S:
                    raise
                warnings.warn(
                    f"{name}: another process computes or fetches it; waiting up to {timeout_s:g} s.",
                    RuntimeWarning,
                    stacklevel=4,
                )
                held.acquire(timeout=timeout_s - WAITING_S)
        except filelock.Timeout:
            raise CacheError(
                f"{name}: expected the lock within {timeout_s:g} s, got none: another process holds {path}. "
                "Wait for it, or end it."
            ) from None
    try:
        yield
    finally:
        held.release()


# -- keys by content -----------------------------------------------------------------------------


def content_key(*parts: object) -> str:
    """Give one stable name to any mixture of arrays, texts, numbers and settings.

    Parameters
    ----------
    *parts : object
        numpy arrays (memory maps are read piece by piece) and numpy numbers; str, bytes, bool, int,
        float, None; paths (by their text, not their content); mappings with str keys, in any order;
        lists and tuples of all these. Anything else is a ``TypeError``.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits; the same in every process and on every machine.

    Notes
    -----
    Explained in the reading guide.

    Examples
    --------
    >>> import numpy as np
    >>> key = content_key(np.arange(3, dtype="uint8"), {"batch": 32, "at": "block_2_add"})
    >>> key == content_key(np.arange(3, dtype="uint8"), {"at": "block_2_add", "batch": 32})
    True
    >>> key == content_key(np.arange(3, dtype="int16"), {"at": "block_2_add", "batch": 32})
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        _feed(digest, part)
    return digest.hexdigest()


def _feed(digest: Any, part: object) -> None:
    """Add one part, with its type and length in front, so that no two mixtures read the same."""
    if isinstance(part, np.ndarray | np.generic):
        array = np.asanyarray(part)
        if array.dtype.hasobject:
            raise TypeError(
                "parts: expected arrays of numbers or text, got one of objects. Convert it first."
            )
        digest.update(f"array {array.dtype.str} {array.dtype.descr} {array.shape};".encode())
        array = np.atleast_1d(array)
        rows = max(1, _PIECE // max(1, array[:1].nbytes))  # it may be a memory map larger than memory
        for start in range(0, len(array), rows):
            digest.update(array[start : start + rows].tobytes())
    elif isinstance(part, str | bytes | Path):
        data = part if isinstance(part, bytes) else str(part).encode()
        kind = "path" if isinstance(part, Path) else type(part).__name__
        digest.update(f"{kind} {len(data)};".encode())
        digest.update(data)
    elif part is None or isinstance(part, bool | int | float):
        digest.update(f"{type(part).__name__} {part!r};".encode())
    elif isinstance(part, Mapping):
        if not all(isinstance(name, str) for name in part):
            raise TypeError(f"parts: expected mappings with str keys, got {list(part)!r}. Use str(key).")
        digest.update(f"mapping {len(part)};".encode())
        for name in sorted(part):
            _feed(digest, name)
            _feed(digest, part[name])
    elif isinstance(part, list | tuple):
        digest.update(f"sequence {len(part)};".encode())
        for item in part:
            _feed(digest, item)
    else:
        raise TypeError(
            "parts: expected arrays, texts, numbers, None, mappings or sequences of them, got "
            f"{type(part).__name__}. Name it by a text instead."
        )


_PACKAGE = Path(__file__).parent
# Read at import: a file edited later is not what this process runs.
_SOURCES = {
    path.relative_to(_PACKAGE).with_suffix("").as_posix(): path.read_bytes()
    for path in _PACKAGE.rglob("*.py")
}
COMPUTES = (
    "_backend",
    "_forward",
    "_graph",
    "_parts",
    "_pointwise",
    "_sources",
    "_trial",
    "_workers",
    "decoders",
    "encoders",
    "features",
    "prefix",
)
"""The modules that decide what a cached activation is. Results that rest on more name more."""


def code_key(*modules: str) -> str:
    """Name what some modules of this package compute, so that results of other code are not reused.

    Comments, docstrings and the layout of the source don't count. `modules` are named besides `COMPUTES`, as
    ``"studies/recipes"`` or ``"tlhelpers.studies.recipes"``.
    """
    names = {name.removeprefix("tlhelpers.").replace(".", "/") for name in modules}
    return content_key([[name, _statements(_SOURCES[name])] for name in sorted(names | {*COMPUTES})])


@functools.cache
def _statements(source: bytes) -> str:
    """A module's source as far as it does something."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            words = [n for n in body if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
            node.body = [n for n in body if n not in words] or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)
