"""Bytes by official name: mirror folder, then cache, then the official address.

A file is checked before its path is handed out, wherever it came from: by the official file's digest; else
by what its mirror folder says; else by its content, which is the same in any container (an ``.npz`` is a zip
archive, so its bytes depend on who packed it). Where neither is known, `describe` says what was compared.

``TLHELPERS_DATA`` names a mirror folder, which is only read: files under their official names, and at will a
``mirror.toml`` that has for each its ``sha256``, how its ``content`` compares with the official one
(official, same, reordered, reduced, rebuilt), and a ``note`` for the page. What is said to be the same is
compared.
"""

import contextlib
import functools
import hashlib
import importlib.resources
import io
import os
import threading
import tomllib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tlhelpers import _formats, cache
from tlhelpers._errors import check_name

__all__ = ["RESOURCES", "DownloadError", "Resource", "describe", "fetch"]

STALL_S = 30.0  # no byte for so long: the connection counts as dead
DEADLINE_S = 1800.0  # one address never takes longer, however slowly bytes trickle in
RETRIES = 1  # how often an address is asked again that sent nothing more, or something else
PAUSE_S = 1.0  # before that
PIECE = 1 << 14  # bytes; what came of an unfinished piece is lost where a line breaks off


class DownloadError(RuntimeError):
    """A file can't be had: the message says what was expected, what came, and what to do."""


@dataclass(frozen=True)
class Resource:
    """One official file: where it lies, and how it is told from anything else.

    `filename` is its name in the mirror folder, in the cache, and for :func:`fetch`; `urls` are tried in
    their order, and what is longer than `max_bytes` is stopped. `size` in bytes and `sha256` or `md5` are the
    official file's, where known. `reader` names the function of ``_formats`` that gives the content, and
    `content` is the :func:`tlhelpers.cache.content_key` of that; without it the reader compares, and says in
    words what. `licence` and `source` are for the page.
    """

    filename: str
    urls: tuple[str, ...]
    licence: str
    source: str
    max_bytes: int
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    reader: str | None = None
    content: str | None = None


_REGISTRY = importlib.resources.files("tlhelpers") / "resources.toml"

#: Every file that can be fetched, by name.
#:
#: :meta hide-value:
RESOURCES: dict[str, Resource] = {
    name: Resource(name, tuple(entry.pop("urls")), **entry)
    for name, entry in tomllib.loads(_REGISTRY.read_text("utf-8")).items()
}


def data_folder() -> Path | None:
    """The mirror folder, which ``TLHELPERS_DATA`` names; None where it is unset or empty."""
    if not (value := os.environ.get("TLHELPERS_DATA")):
        return None
    try:
        folder = Path(value).expanduser().absolute()
    except RuntimeError:  # ~name of nobody here
        folder = Path(value)
    if not folder.is_dir():
        raise DownloadError(
            f"TLHELPERS_DATA: expected a folder, got {folder}, which is none. Correct the variable, or unset "
            "it to use the cache and the official addresses."
        )
    return folder


def fetch(name: str) -> Path:
    """Give the path of a file that this process checked; download it if this machine has none.

    Of several processes that ask at once, one downloads and the others wait.

    Parameters
    ----------
    name : str
        A key of :data:`RESOURCES`.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    LookupError, DownloadError
        No such name; the mirror folder's file has other content; every address failed, stopped sending,
        or sent too much or something else; the cache folder can't be written or is full.

    Notes
    -----
    Explained in the chapter "Prepare the data".

    Examples
    --------
    >>> fetch("minst.npz")
    Traceback (most recent call last):
        ...
    LookupError: unknown file 'minst.npz': expected one of ...; did you mean 'mnist.npz'...?
    """
    if found := find(name):
        return found[0]
    resource = RESOURCES[name]
    path = cache.cache_folder() / name
    try:
        # Whoever waits here lets the other finish: each address may take its whole time.
        with cache.lock(name, timeout_s=DEADLINE_S * len(resource.urls) + 60):
            with contextlib.suppress(OSError, ValueError):
                _verify(resource, path)  # somebody fetched it while we waited
                return path
            _download(resource, path)
            return path
    except cache.CacheError as error:
        raise DownloadError(f"{name} can't be kept: {error}") from error


def describe(name: str) -> str:
    """Say which variant of a file is used here, for a page to print.

    Parameters
    ----------
    name : str
        A key of :data:`RESOURCES`.

    Returns
    -------
    str
        Name, digest, and how the file compares with the official one. No path of this machine is in it.

    Raises
    ------
    LookupError, DownloadError
        No such name; the mirror folder holds a file of this name with other content.

    Notes
    -----
    Explained in the chapter "Read sentiment".

    Examples
    --------
    >>> describe("mnist.npz").split(":")[0]
    'mnist.npz'
    """
    if (found := find(name)) is None:
        return f"{name}: not on this machine yet"
    path, words = found
    return f"{name}: sha256 {_digest(path)[:8]}..., {words}"


# -- verification --------------------------------------------------------------------------------


def find(name: str) -> tuple[Path, str] | None:
    """A checked file on this machine, and how it compares with the official one; no network is used.

    A mirror's file with other content is an error; the cache's is left out with a warning.
    """
    check_name("file", name, RESOURCES)
    mirror = data_folder()
    if mirror is not None and os.path.lexists(path := mirror / name):
        try:
            return path, _verify(RESOURCES[name], path, _mirrored(mirror).get(name))
        except (OSError, ValueError) as error:
            raise DownloadError(
                f"{path}: {error}. Replace or remove that file in the folder that TLHELPERS_DATA names."
            ) from error
    path = cache.cache_folder() / name
    try:
        return path, _verify(RESOURCES[name], path)
    except OSError:  # not there, or no right to look: fetching will say why
        return None
    except ValueError as error:
        warnings.warn(f"{path} is not used: {error}. It will be fetched again.", stacklevel=3)
        return None


def _mirrored(folder: Path) -> dict[str, tuple[str, str, str]]:
    """SHA-256, kind of content and note of each file that a mirror folder says something of."""
    path = folder / "mirror.toml"
    try:
        if not os.path.lexists(path):
            return {}
        entries = tomllib.loads(_regular(path).read_text("utf-8"))
        return {name: (e["sha256"].lower(), e["content"], e["note"]) for name, e in entries.items()}
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise DownloadError(
            f"{path}: expected sha256, content and note for each file, got {error!r}. Correct it."
        ) from error


def _verify(resource: Resource, path: Path, mirrored: tuple[str, str, str] | None = None) -> str:
    """Say how a file compares with the official one; raise ValueError where it is not what it should be."""
    state = _regular(path).stat()
    if state.st_size > resource.max_bytes:
        raise ValueError(f"expected at most {resource.max_bytes:,} bytes, got {state.st_size:,}")
    try:
        return _compare(resource, path, mirrored, (state.st_ino, state.st_size, state.st_mtime_ns))
    except (MemoryError, PermissionError):
        raise  # says nothing about the file
    except Exception as error:  # a broken file makes zip, HDF5 and numpy fail in many ways
        what = f"got {state.st_size:,} bytes with sha256 {_digest(path)[:16]}..."
        raise ValueError(f"wrong content: {str(error) or type(error).__name__} ({what})") from error


def _regular(path: Path) -> Path:
    """Refuse what is no file: a pipe, for one, would be waited for."""
    if path.exists() and not path.is_file():
        raise ValueError("expected a file, got a folder or something else")
    return path


@functools.cache  # once per process for a file that has not changed since
def _compare(resource: Resource, path: Path, mirrored: tuple[str, str, str] | None, state: object) -> str:
    official = resource.sha256 or resource.md5
    if official and _digest(path, "sha256" if resource.sha256 else "md5") == official:
        return "the official file"
    if mirrored is not None:
        expected, kind, note = mirrored
        if (got := _digest(path)) != expected:
            raise ValueError(f"expected sha256 {expected[:16]}... (mirror.toml), got {got[:16]}...")
        words = "the official file, says the mirror" if kind == "official" else "not the official file"
        if kind not in ("same", "reordered") or not resource.content:
            return f"{words}: {note}"
    if official and not resource.content:
        raise ValueError(f"expected the official file with digest {official[:16]}..., got another")
    found = getattr(_formats, str(resource.reader))(path)
    if not resource.content:
        return str(found)
    if hasattr(found, "reset_index"):  # a table is its columns
        found = {name: np.array(column.tolist()) for name, column in found.reset_index().items()}
    if (key := cache.content_key(found)) != resource.content:
        raise ValueError(f"expected content {resource.content[:16]}..., got {key[:16]}...")
    if mirrored:
        return f"{words}: {note}"
    if official:
        return "same content as the official file in another container"
    return "the official content; the official file's digest is unknown"


def _digest(path: Path, kind: str = "sha256") -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


# -- downloading ---------------------------------------------------------------------------------


def _download(resource: Resource, path: Path) -> None:
    """Put the checked file at `path` from the first address that serves it."""
    failures = []
    for url in resource.urls:
        with cache.atomic_file(path) as temporary:
            path.unlink(missing_ok=True)  # whatever lies there has other content
            try:
                _download_from(url, resource, temporary)
                return
            except (DownloadError, ValueError) as error:
                failures.append(f"\n  {url}: {error}")
    raise DownloadError(
        f"{resource.filename} can't be downloaded:{''.join(failures)}\nTry again later, or put the file into "
        "a folder and name that folder in TLHELPERS_DATA, or set TLHELPERS_EDITION=pocket, which needs no "
        f"network. Nothing was kept in {path.parent}."
    )


class _Bounded(io.BufferedWriter):
    """A file to add to that takes no more than `most` bytes, and none once `stop` is set."""

    def __init__(self, path: Path, most: int, stop: threading.Event) -> None:
        super().__init__(io.FileIO(path, "a"))
        self.most, self.stop = most, stop

    def write(self, data: Any, /) -> int:
        if self.stop.is_set():
            raise TimeoutError("stopped")
        if self.tell() + len(data) > self.most:
            raise DownloadError(f"expected at most {self.most:,} bytes, got more; stopped")
        return super().write(data)


def _stay_safe(answer: Any, **_: Any) -> None:
    """Refuse to be led from https to http."""
    target = answer.headers.get("location", "")
    if answer.url.startswith("https:") and target.startswith("http:"):
        raise DownloadError(f"expected to stay with https, got sent on to {target}")


def _download_from(url: str, resource: Resource, target: Path) -> None:
    """Download within the module's limits, and ask again for what is missing where a line breaks off."""
    import requests
    from tqdm import tqdm

    stop = threading.Event()
    failure: list[BaseException] = []
    part = target.with_name("part")

    def attempt(had: int) -> None:
        asked = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={had}-"} if had else {})
        how: Any = {"headers": asked, "stream": True, "timeout": STALL_S, "hooks": {"response": _stay_safe}}
        with requests.get(url, **how) as answer, _Bounded(part, resource.max_bytes, stop) as file:
            if answer.status_code == 416:
                raise ValueError(f"expected more than {had:,} bytes, got none")
            answer.raise_for_status()
            if answer.status_code != 206:  # all of it once more
                had = file.truncate(file.seek(0))
            size = had + int(answer.headers.get("content-length", 0)) or resource.size
            name = f"{target.name} from {urlsplit(url).hostname}"
            with tqdm(desc=name, total=size, initial=had, unit="B", unit_scale=True) as bar:
                for piece in answer.iter_content(PIECE):
                    bar.update(file.write(piece))
        _verify(resource, part)
        part.replace(target)

    def work() -> None:
        most = tries = 0
        while tries <= RETRIES:
            if failure:
                stop.wait(PAUSE_S)
            try:
                attempt(part.stat().st_size if part.exists() else 0)
                failure.clear()
                return
            except BaseException as error:  # handed to the thread that waits
                failure[:] = [error]
                if not isinstance(error, requests.RequestException | ValueError):
                    return
                if isinstance(error, ValueError):  # these bytes are no beginning
                    part.unlink(missing_ok=True)
            had = part.stat().st_size if part.exists() else 0
            tries = 0 if had > most else tries + 1
            most = max(most, had)

    # A thread of its own, so that the deadline also holds where name resolution hangs or a server
    # sends one byte now and then. When given up, it ends with its next piece or the process.
    worker = threading.Thread(target=work, name=f"download {target.name}", daemon=True)
    worker.start()
    try:
        worker.join(DEADLINE_S)
    finally:
        stop.set()
    if worker.is_alive():
        raise DownloadError(f"expected an end within {DEADLINE_S:g} s, got none; stopped")
    for error in failure:
        # An OSError without a number is requests' own, as of a missing file of certificates.
        if isinstance(error, requests.RequestException) or getattr(error, "errno", 0) is None:
            raise DownloadError(f"expected the file, got {type(error).__name__}: {error}") from error
        raise error
