"""What was fetched or computed, kept whole, under names made from content.

One folder holds it all: ``TLHELPERS_CACHE``, else the user's own cache folder.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "CacheError",
    "atomic_file",
    "atomic_folder",
    "cache_folder",
    "content_key",
    "library_digest",
    "lock",
]

_PIECE = 1 << 24  # bytes of an array at a time
_TEMPORARY = ".partial-"  # what is being written carries this name, and nobody reads such a name
_ABANDONED_S = 24 * 3600.0  # a temporary this old was left by a killed process
_FULL = {errno.ENOSPC, errno.EDQUOT}
_STORAGE_ERRORS = _FULL | {
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR),
    *(errno.EISDIR, errno.EFBIG, errno.ENAMETOOLONG),
}


class CacheError(RuntimeError):
    """The cache folder can't be used: it can't be written, it is full, or somebody holds its lock."""


def cache_folder() -> Path:
    """Name the folder for downloads and for what was computed from them.

    Returns
    -------
    pathlib.Path
        What ``TLHELPERS_CACHE`` names, else the user's cache folder of this system. It may not exist
        yet: :func:`atomic_file`, :func:`atomic_folder` and :func:`lock` make it.

    Examples
    --------
    >>> cache_folder().is_absolute()
    True
    """
    value = os.environ.get("TLHELPERS_CACHE", "")
    if value:
        return Path(value).expanduser().absolute()
    import pooch  # here, so that naming a folder of one's own needs no import

    return Path(pooch.os_cache("tlhelpers")).absolute()


# -- writing safely ------------------------------------------------------------------------------


def _storage_message(error: OSError, path: Path) -> str:
    if error.errno in _FULL:
        return (
            f"expected room for {path}, got a full disk ({error.strerror}); free some space, or name "
            "another folder in TLHELPERS_CACHE"
        )
    return (
        f"expected a folder to write to, got {error.strerror or error} at {error.filename or path}; "
        "correct its rights, or name another folder in TLHELPERS_CACHE"
    )


@contextmanager
def storage(path: Path, *, every: bool = False) -> Iterator[None]:
    """Turn what a disk refuses into one clear error; let all else pass, or nothing if ``every``."""
    try:
        yield
    except OSError as error:
        if every or error.errno in _STORAGE_ERRORS:
            raise CacheError(_storage_message(error, path)) from error
        raise


def _temporary_beside(path: Path) -> Path:
    """Make an empty folder beside ``path``; clear away those that killed processes left."""
    with storage(path, every=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f"{_TEMPORARY}*"):
            try:
                abandoned = time.time() - old.stat().st_mtime > _ABANDONED_S
            except FileNotFoundError:
                continue  # another process was quicker
            if abandoned:
                shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=path.parent))


def _to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Write a file that appears whole or not at all.

    Parameters
    ----------
    path : str or pathlib.Path
        Where the file is to be. Folders above it are made.

    Yields
    ------
    pathlib.Path
        Write here. The name's last part is that of ``path``; the place is beside it. On leaving the
        block the file is flushed to disk and moved to ``path``, over a file already there; after an
        error it is removed. If nothing was written, nothing is moved.

    Raises
    ------
    CacheError
        The folder can't be written, or is full.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with atomic_file(Path(folder.name) / "numbers.txt") as temporary:
    ...     _ = temporary.write_text("1 2 3")
    >>> [path.name for path in Path(folder.name).iterdir()]
    ['numbers.txt']
    >>> folder.cleanup()
    """
    path = Path(path).absolute()
    with storage(path):
        folder = _temporary_beside(path)
        try:
            yield folder / path.name
            if (folder / path.name).exists():
                _to_disk(folder / path.name)
                (folder / path.name).replace(path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Write a folder that appears whole or not at all.

    Parameters
    ----------
    path : str or pathlib.Path
        Where the folder is to be. Folders above it are made.

    Yields
    ------
    pathlib.Path
        An empty folder beside ``path``: write into it. On leaving the block its files are flushed to
        disk and it is moved to ``path``; after an error it is removed. Where ``path`` exists by then,
        it is kept and this one is dropped: use names that say the content (:func:`content_key`).

    Raises
    ------
    CacheError
        The folder can't be written, or is full.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with atomic_folder(Path(folder.name) / "features") as temporary:
    ...     _ = (temporary / "a.txt").write_text("1 2 3")
    >>> [path.name for path in Path(folder.name).rglob("*.txt")]
    ['a.txt']
    >>> folder.cleanup()
    """
    path = Path(path).absolute()
    with storage(path):
        folder = _temporary_beside(path)
        try:
            yield folder
            for file in folder.rglob("*"):
                if file.is_file():
                    _to_disk(file)
            try:
                folder.rename(path)
            except OSError:
                if not path.is_dir():
                    raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def lock(name: str, *, timeout_s: float = 3600.0) -> Iterator[None]:
    """Let one process at a time through, among all that use this cache folder.

    Parameters
    ----------
    name : str
        What is locked. The same name may be locked again by the same thread only after release.
    timeout_s : float
        How long to wait, in seconds. A lock whose holder died is free at once.

    Raises
    ------
    CacheError
        The cache folder can't be written, or the lock did not come free in time.

    Examples
    --------
    >>> import os, tempfile, unittest.mock
    >>> folder = tempfile.TemporaryDirectory()
    >>> with unittest.mock.patch.dict(os.environ, TLHELPERS_CACHE=folder.name), lock("features"):
    ...     print("alone")
    alone
    >>> folder.cleanup()
    """
    import filelock

    safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)
    path = cache_folder() / "locks" / f"{safe}.lock"
    with storage(path, every=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(path)
        try:
            held.acquire(timeout=timeout_s)
        except filelock.Timeout:
            raise CacheError(
                f"expected the lock on {name!r} within {timeout_s:g} s, got none: another process holds "
                f"{path}; wait for it, or end it"
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
        lists and tuples of all these.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits; the same in every process and on every machine.

    Raises
    ------
    TypeError
        A part of another type, or an array of Python objects.

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
            raise TypeError("expected an array of numbers or text, got one of objects; convert it first")
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
            raise TypeError(f"expected a mapping with str keys, got the keys {list(part)!r}")
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
            "expected arrays, texts, numbers, None, mappings or sequences of them, got "
            f"{type(part).__name__}; name it by a text instead"
        )


def library_digest() -> str:
    """Name the library's own source, so that results computed by other code are not reused.

    Returns
    -------
    str
        SHA-256 of every ``.py`` file of the package, names included, 64 hexadecimal digits.

    Examples
    --------
    >>> len(library_digest())
    64
    """
    return _LOADED


def _sources_digest(folder: Path) -> str:
    files = sorted(folder.rglob("*.py"))
    return content_key([[file.relative_to(folder).as_posix(), file.read_bytes()] for file in files])


# Taken at import: a file edited later is not what this process runs.
_LOADED = _sources_digest(Path(__file__).parent)
