"""An array on disk that is computed in parts: it survives interruption and notices damage.

Beside the array lies a journal with the SHA-256 of each part, its array's name included. What is half done is
the same two files under another name, so one rule serves all: a part whose bytes match its line is kept, any
other is computed.
"""

import hashlib
import itertools
import re
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .cache import storage

_LINE = re.compile(r"(\d+) ([0-9a-f]{64})\n")


class Activations(np.memmap):
    """A read-only memory map that TensorFlow reads in place, where it would copy any other array twice."""

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        """Called by ``tf.convert_to_tensor``, and so by Keras' ``fit``, ``evaluate`` and ``predict``."""
        import tensorflow as tf

        array = self.view(np.ndarray)
        aligned = array.flags.c_contiguous and array.ctypes.data % 64 == 0
        if not aligned or self.ndim == 0 or (dtype is not None and tf.as_dtype(dtype) != array.dtype):
            return tf.constant(np.array(array), dtype=dtype, name=name)
        # DLPack takes no read-only array. The map is private: not even a write would reach the file.
        array.flags.writeable = True
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def build(
    path: Path,
    shape: tuple[int, ...],
    dtype: str,
    *,
    rows: int,
    start: Callable[[int], Callable[[int, int], npt.NDArray[Any]]],
) -> Activations:
    """Open the array at `path`, computing what is missing or damaged.

    The caller holds a lock on it. `start` is told how many rows are to be computed, if any, and returns
    a function from (first, last + 1) to these rows; `rows` is how many make a part.
    """
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial, journal = path.with_suffix(".partial"), path.with_suffix(".parts")
        if path.exists():
            bad = _unfinished(path, journal, shape, dtype, rows)
            if not bad:
                return _open(path)
            warnings.warn(
                f"{path} is damaged (changed or truncated) in {len(bad)} of {-(-shape[0] // rows)} parts; "
                "they are computed again.",
                RuntimeWarning,
                stacklevel=4,
            )
            path.replace(partial)
        todo = _unfinished(partial, journal, shape, dtype, rows)
        try:
            _compute(partial, journal, shape, dtype, rows, todo, start)
        except Exception:
            # An error would come again, and half a result must not keep a disk full. (What an
            # interruption leaves, which is no Exception, the next call goes on from.)
            partial.unlink(missing_ok=True)
            journal.unlink(missing_ok=True)
            raise
        partial.replace(path)
        return _open(path)


def whole(path: Path, shape: tuple[int, ...], dtype: str, *, rows: int) -> Activations | None:
    """The array at `path` if it is there with all parts as they were written; needs no right to write."""
    if path.exists() and not _unfinished(path, path.with_suffix(".parts"), shape, dtype, rows):
        return _open(path)
    return None


def _digest(path: Path, data: bytes) -> str:
    """Of a part: its bytes, and the name, so that another array's files are not taken for this one's."""
    return hashlib.sha256(path.stem.encode() + data).hexdigest()


def _open(path: Path) -> Activations:
    # "c" maps privately, which TensorFlow needs to share it; for numpy it is read-only all the same.
    array: Activations = np.load(path, mmap_mode="c").view(Activations)
    array.flags.writeable = False
    return array


def _header(shape: tuple[int, ...], dtype: str) -> bytes:
    """The first bytes of a .npy file; padded to 64, so that the numbers are aligned in memory."""
    buffer = BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
    np.lib.format.write_array_header_2_0(buffer, {**described, "shape": shape})
    return buffer.getvalue()


def _places(shape: tuple[int, ...], dtype: str, rows: int) -> list[tuple[int, int, int, int]]:
    """For each part its first row, the row after its last, its first byte and its length."""
    row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize
    begin = len(_header(shape, dtype))
    cuts = [*range(0, shape[0], rows), shape[0]]
    return [(a, b, begin + a * row_bytes, (b - a) * row_bytes) for a, b in itertools.pairwise(cuts)]


def _unfinished(path: Path, journal: Path, shape: tuple[int, ...], dtype: str, rows: int) -> list[int]:
    """The parts that are missing or whose bytes are not what the journal says."""
    places = _places(shape, dtype, rows)
    every = list(range(len(places)))
    if not path.exists() or not journal.exists():
        return every
    # A later line replaces an earlier one; a line torn by a kill has no end and is left out.
    digests = {int(number): digest for number, digest in _LINE.findall(journal.read_text(errors="replace"))}
    header = _header(shape, dtype)
    with path.open("rb") as file:
        if file.read(len(header)) != header or path.stat().st_size > places[-1][2] + places[-1][3]:
            return every
        bad = []
        for number, (_, _, offset, length) in enumerate(places):
            file.seek(offset)
            if digests.get(number) != _digest(path, file.read(length)):
                bad.append(number)
    return bad


def _compute(
    partial: Path,
    journal: Path,
    shape: tuple[int, ...],
    dtype: str,
    rows: int,
    todo: list[int],
    start: Callable[[int], Callable[[int, int], npt.NDArray[Any]]],
) -> None:
    places = _places(shape, dtype, rows)
    compute = start(sum(places[number][1] - places[number][0] for number in todo))
    if len(todo) == len(places):
        partial.unlink(missing_ok=True)
        journal.unlink(missing_ok=True)
    with (
        partial.open("r+b" if partial.exists() else "w+b") as file,
        journal.open("a") as lines,
    ):
        # The journal may end in a torn line.
        lines.write("\n")
        # Plain writes and not a memory map: on a full disk a map would kill the process.
        file.write(_header(shape, dtype))
        for number in todo:
            first, end, offset, _ = places[number]
            data = np.ascontiguousarray(compute(first, end), dtype=dtype).tobytes()
            file.seek(offset)
            file.write(data)
            file.flush()
            lines.write(f"{number} {_digest(partial, data)}\n")
            lines.flush()
