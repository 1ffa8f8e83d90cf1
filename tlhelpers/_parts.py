"""Arrays on disk that are computed in parts: they survive interruption, notice damage, and share their rows.

One folder holds the arrays that one network makes. Beside each lies a journal: for each part the key of
the examples it was made of, the SHA-256 of what is kept, and a digest of each example. So a part whose bytes
match its line is kept, and an example that any array of the folder holds is not computed again: neither
after others were appended or removed, nor where another process or machine computed it. What is half done is
the same two files under another name.
"""

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .cache import content_key, storage

_LINE = re.compile(r"(\d+) (\d+) ([0-9a-f]{64}) ([0-9a-f]{64}) ([0-9a-f]*)\n")
_HEX = 32  # hexadecimal digits of an example's digest


Array = npt.NDArray[Any]


class Activations(np.memmap):
    """A read-only memory map that TensorFlow reads in place, where it would copy any other array twice."""

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        """Called by ``tf.convert_to_tensor``, and so by Keras' ``fit``, ``evaluate`` and ``predict``."""
        from ._backend import in_place

        return in_place(self.view(np.ndarray), dtype, name)


def digests(arrays: Sequence[Array]) -> list[str]:
    """A digest of each example of an array (n, ...), or of several that belong together."""
    arrays = [np.ascontiguousarray(each) for each in arrays]
    begin = hashlib.blake2b(digest_size=_HEX // 2)
    begin.update(str([(each.dtype.str, each.shape[1:]) for each in arrays]).encode())
    found = []
    for rows in zip(*arrays, strict=True):
        digest = begin.copy()
        for row in rows:
            digest.update(row.tobytes())
        found.append(digest.hexdigest())
    return found


class Store:
    """An array (n, *shape) of one folder: read, or made part by part, `rows` examples each."""

    def __init__(self, folder: Path, shape: tuple[int, ...], dtype: str, *, rows: int, batch: int) -> None:
        self.folder, self.shape, self.dtype, self.rows, self.batch = folder, shape, dtype, rows, batch
        self.begin = len(self.header(0))
        self.row_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize

    def find(self, name: str, keys: Sequence[str], number: int) -> Activations | None:
        """The array of that name if all its parts are as they were written; needs no right to write.

        `keys` name what it was made of, batch by batch.
        """
        path = self.folder / f"{name}.npy"
        return None if not path.exists() or self._bad(path, keys, number) else self.open(path)

    def open(self, path: Path) -> Activations:
        """A whole array."""
        # "c" maps privately, which TensorFlow needs to share it; for numpy it is read-only all the same.
        array: Activations = np.load(path, mmap_mode="c").view(Activations)
        array.flags.writeable = False
        return array

    def header(self, number: int) -> bytes:
        """The first bytes of a .npy file; numpy leaves room for any `number`, and the data aligned."""
        buffer = BytesIO()
        described = {"descr": np.lib.format.dtype_to_descr(np.dtype(self.dtype)), "fortran_order": False}
        np.lib.format.write_array_header_2_0(buffer, {**described, "shape": (number, *self.shape)})
        return buffer.getvalue()

    def _bad(self, path: Path, keys: Sequence[str], number: int) -> list[int]:
        """The parts that are missing, are of other examples, or whose bytes are not what the journal says."""
        lines = _journal(path)
        rows = next((rows for rows, *_ in lines.values()), self.rows)
        parts = range(-(-number // rows))
        with path.open("rb") as file:
            header = self.header(number)
            end = self.begin + number * self.row_bytes
            if file.read(len(header)) != header or path.stat().st_size > end:
                return [*parts]
        batches = rows // self.batch
        return [
            part
            for part in parts
            if self.read(path, lines, part, key_of(keys[part * batches : (part + 1) * batches])) is None
        ]

    def read(self, path: Path, lines: "dict[int, _Line]", part: int, key: str | None = None) -> Array | None:
        """A part's rows if they are whole (and of these examples), else None."""
        if part not in lines:
            return None
        rows, made_of, digest, examples = lines[part]
        number = len(examples) // _HEX
        with path.open("rb") as file:
            file.seek(self.begin + part * rows * self.row_bytes)
            data = file.read(number * self.row_bytes)
        if key not in (None, made_of) or digest != self.digest(made_of, examples, data):
            return None
        return np.frombuffer(data, self.dtype).reshape(number, *self.shape)

    def digest(self, key: str, examples: str, data: bytes) -> str:
        """Of a part; the folder is in it, so that another network's files are not taken for this one's."""
        digest = hashlib.sha256(f"{self.folder.name} {key} {examples} ".encode())
        digest.update(data)
        return digest.hexdigest()

    @contextmanager
    def making(self, name: str, keys: Sequence[str] = (), number: int = 0) -> Iterator["Making"]:
        """Go on with what is half done under a name, or damaged. The caller holds a lock on it.

        `keys` and `number` are the whole array's, where they are known before.
        """
        path, partial = self.folder / f"{name}.npy", self.folder / f"{name}.partial"
        journal = path.with_suffix(".parts")
        with storage(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            if path.exists():
                bad = len(self._bad(path, keys, number))
                warnings.warn(
                    f"{path} is damaged (changed or truncated) in {bad} of {-(-number // self.rows)} parts; "
                    "they are computed again.",
                    RuntimeWarning,
                    stacklevel=5,
                )
                path.replace(partial)
            lines = _journal(partial) if partial.exists() else {}
            if any(line[0] != self.rows for line in lines.values()):
                lines = {}
            if not lines:
                partial.unlink(missing_ok=True)
                journal.unlink(missing_ok=True)
        try:
            with storage(path):
                file, log = partial.open("r+b" if lines else "w+b"), journal.open("a")
            with file, log:
                yield Making(self, partial, lines, file, log)
        except BrokenExecutor:  # other workers go on from what is there
            raise
        except Exception:
            # An error would come again, and half a result must not keep a disk full. (What an
            # interruption leaves, which is no Exception, the next call goes on from.)
            with suppress(OSError):  # the array may be finished, the folder gone, or not empty
                partial.unlink()
                journal.unlink()
                self.folder.rmdir()
            raise


class Making:
    """An array that is being made, part by part."""

    def __init__(
        self, store: Store, partial: Path, lines: "dict[int, _Line]", file: IO[bytes], log: IO[str]
    ) -> None:
        self.store, self.partial, self.lines, self.file, self.log = store, partial, lines, file, log
        others = [*store.folder.glob("*.npy"), *store.folder.glob("*.partial")]
        self.others = {other: _journal(other) for other in sorted(others) if other != partial}
        self.elsewhere = {
            example: (other, part, row)
            for other, theirs in self.others.items()
            for part, (*_, examples) in theirs.items()
            for row, example in enumerate(_each(examples))
        }
        self.whole: dict[tuple[Path, int], bool] = {}
        self.later: dict[int, tuple[str, list[str]]] = {}
        with storage(partial):
            log.write("\n")  # it may end in a torn line
            log.flush()

    def has(self, part: int, key: str) -> bool:
        """Whether an interrupted call left this part, made of these examples."""
        return self.store.read(self.partial, self.lines, part, key) is not None

    def missing(self, examples: list[str]) -> npt.NDArray[np.bool_]:
        """Which of these examples no array here holds."""
        return np.array([not self._held(example) for example in examples])

    def _held(self, example: str) -> bool:
        if example not in self.elsewhere:
            return False
        path, part, _ = self.elsewhere[example]
        if (path, part) not in self.whole:
            self.whole[path, part] = self.store.read(path, self.others[path], part) is not None
        return self.whole[path, part]

    def _copied(self, example: str) -> Array:
        """An example's row in another array; read, since a map would count as memory in use."""
        store, (path, part, row) = self.store, self.elsewhere[example]
        offset = store.begin + (part * self.others[path][part][0] + row) * store.row_bytes
        row_at = np.fromfile(path, store.dtype, int(np.prod(store.shape)), offset=offset)
        return row_at.reshape(store.shape)

    def put_off(self, part: int, key: str, examples: list[str]) -> None:
        """Leave a part that other arrays hold for the end: it may be that the whole is there already."""
        self.later[part] = (key, examples)

    def write(self, part: int, key: str, examples: list[str], new: dict[int, Array]) -> None:
        """Keep a part, and the line that says so after it; what is not `new`, by place, is copied."""
        store, every = self.store, "".join(examples)
        rows = [new[at] if at in new else self._copied(each) for at, each in enumerate(examples)]
        data = np.ascontiguousarray(rows, store.dtype).tobytes()
        with storage(self.partial):
            # Plain writes and not a memory map: on a full disk a map would kill the process.
            self.file.seek(store.begin + part * store.rows * store.row_bytes)
            self.file.write(data)
            self.file.flush()
            self.log.write(f"{part} {store.rows} {key} {store.digest(key, every, data)} {every}\n")
            self.log.flush()

    def finish(self, name: str, keys: Sequence[str], number: int) -> Activations:
        """Give the array its name, all its parts being there; of two with the same name the first stays."""
        store, path = self.store, self.store.folder / f"{name}.npy"
        found = store.find(name, keys, number)
        if found is not None:  # the same array, made before from another source
            self.partial.unlink(missing_ok=True)
            self.partial.with_suffix(".parts").unlink(missing_ok=True)
            return found
        for part, (key, examples) in self.later.items():
            self.write(part, key, examples, {})
        with storage(path):
            self.file.seek(0)
            self.file.write(store.header(number))
            self.file.truncate(store.begin + number * store.row_bytes)
            self.file.close()
            self.log.close()
            self.partial.with_suffix(".parts").replace(path.with_suffix(".parts"))
            self.partial.replace(path)
        return store.open(path)


def key_of(keys: Sequence[str]) -> str:
    """One key for several."""
    return content_key(list(keys))


_Line = tuple[int, str, str, str]


def _journal(path: Path) -> dict[int, _Line]:
    """What was written into an array: by part, its rows at most, its key, its digest, its examples."""
    journal = path.with_suffix(".parts")
    if not journal.exists():
        return {}
    # A later line replaces an earlier one; a line torn by a kill has no end and is left out.
    found = _LINE.findall(journal.read_text(errors="replace"))
    return {int(part): (int(rows), key, digest, examples) for part, rows, key, digest, examples in found}


def _each(examples: str) -> list[str]:
    return [examples[at : at + _HEX] for at in range(0, len(examples), _HEX)]
