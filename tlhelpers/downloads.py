"""Bytes by name: mirror folder, then cache, then the official address.

A file is verified before its path is handed out, wherever it came from. Where the same content
exists in several containers (an ``.npz`` is a zip archive, so its bytes depend on who packed it),
the content is verified and not the container. Downloads run through :mod:`pooch`, are bounded in
bytes and in time, and appear in the cache folder whole or not at all.

``TLHELPERS_DATA`` names a mirror folder that is only read; the cache folder is that of
:mod:`tlhelpers.cache`.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import importlib.resources
import io
import json
import os
import struct
import sys
import tarfile
import threading
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from tlhelpers import cache
from tlhelpers._errors import unknown_name

if TYPE_CHECKING:  # only two tables need it at run time
    import pandas as pd

__all__ = ["RESOURCES", "DownloadError", "Resource", "data_folder", "describe", "fetch", "find"]

STALL_S = 30.0  # no byte for so long: the connection counts as dead
DEADLINE_S = 1800.0  # one download never takes longer, however slowly bytes trickle in

ANNOUNCED_BYTES = 50_000_000  # a longer download says its size before it starts

_CHUNK = 1 << 16  # bytes of a download at a time


class DownloadError(RuntimeError):
    """A file can't be had: the message says what was expected, what came, and what to do."""


# -- what is known about each file ---------------------------------------------------------------


@dataclass(frozen=True)
class Resource:
    """One file: where it officially lies, and how its content is told from anything else.

    Attributes
    ----------
    filename : str
        Name in the mirror folder and in the cache, and the name :func:`fetch` takes.
    urls : tuple of str
        Official addresses, tried in this order.
    check : callable
        Takes a path; raises ``ValueError`` saying what it expected and what it got if the content
        is not the one meant.
    licence, source : str
        For the page that uses the file.
    max_bytes : int
        A download longer than this is stopped.
    content : str
        What ``check`` makes sure of, in words.
    sha256 : str or None
        Of the official file; None where nobody has established it.
    size : int or None
        Of the official file, in bytes, where known.
    md5 : str or None
        Of the official file, where its makers publish this and no SHA-256.
    variants : mapping of str to str
        SHA-256 of files that are known *not* to be the official one, to a description of each.
    also : tuple of str
        Names under which the mirror folder may hold the same content in another file; looked for
        where it has no ``filename``. ``check`` takes each of them.
    """

    filename: str
    urls: tuple[str, ...]
    check: Callable[[Path], None]
    licence: str
    source: str
    max_bytes: int
    content: str
    sha256: str | None = None
    size: int | None = None
    md5: str | None = None
    variants: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()


# MD5 of the four uncompressed files of the original MNIST distribution, header included.
_MNIST_MD5 = {
    "x_train": "6bbc9ace898e44ae57da46a324031adb",
    "y_train": "a25bea736e30d166cdddb491f175f624",
    "x_test": "2646ac647ad5339dbf082846283269ea",
    "y_test": "27ae3e4e09519cfbb04c329615203637",
}


def _check_mnist(path: Path) -> None:
    """Compare the four arrays with the original idx files, byte for byte."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > 60_000_000:  # the real one is 55 MB; do not unpack a bomb
        raise ValueError(f"expected about 55 MB of arrays, got {unpacked:,} bytes")
    with np.load(path, allow_pickle=False) as arrays:
        missing = sorted(set(_MNIST_MD5) - set(arrays.files))
        if missing:
            raise ValueError(f"expected the arrays {sorted(_MNIST_MD5)}, got {sorted(arrays.files)}")
        for name, expected in _MNIST_MD5.items():
            array = arrays[name]
            if array.dtype != np.uint8:
                raise ValueError(f"expected {name} to be uint8, got {array.dtype}")
            # An idx file: two zero bytes, 8 for "unsigned byte", the number of axes, their lengths.
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            digest = hashlib.md5(header + array.tobytes(), usedforsecurity=False)
            if digest.hexdigest() != expected:
                raise ValueError(f"expected {name} with idx md5 {expected}, got {digest.hexdigest()}")


def _check_mobilenet_v2(path: Path) -> None:
    """Check structure, shapes and finiteness of MobileNetV2 weights, alpha 1.0, without top."""
    import h5py

    shapes: list[tuple[int, ...]] = []
    kinds: Counter[str] = Counter()
    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        for layer in _texts(root.attrs["layer_names"]):
            for name in _texts(root[layer].attrs["weight_names"]):
                tensor = np.asarray(root[layer][name])
                kind = name.rsplit("/", 1)[-1].split(":")[0]
                shapes.append(tensor.shape)
                kinds["kernel" if kind.endswith("kernel") else kind] += 1
                if tensor.dtype != np.float32:
                    raise ValueError(f"expected {name} to be float32, got {tensor.dtype}")
                if not np.isfinite(tensor).all():
                    raise ValueError(f"expected finite weights, got NaN or infinity in {name}")
                if kind == "moving_variance" and tensor.min() < 0:
                    raise ValueError(f"expected variances of at least 0, got {tensor.min():g} in {name}")
    expected = dict.fromkeys(("kernel", "gamma", "beta", "moving_mean", "moving_variance"), 52)
    if dict(kinds) != expected:
        raise ValueError(f"expected 52 each of {list(expected)}, got {dict(kinds)}")
    parameters = sum(int(np.prod(shape)) for shape in shapes)
    if parameters != 2_257_984:
        raise ValueError(f"expected 2,257,984 parameters, got {parameters:,}")
    if shapes[0] != (3, 3, 3, 32):
        raise ValueError(f"expected the first kernel to be (3, 3, 3, 32), got {shapes[0]}")
    if Counter(shapes) != Counter(_mobilenet_v2_shapes()):
        raise ValueError("expected the tensor shapes of MobileNetV2 (alpha 1.0), got others")


def _mobilenet_v2_shapes() -> list[tuple[int, ...]]:
    """Shapes of all tensors, written down from table 2 of Sandler et al. (2018)."""
    shapes: list[tuple[int, ...]] = []

    def convolution(kernel: tuple[int, ...], channels: int) -> None:
        shapes.extend([kernel, *[(channels,)] * 4])  # four vectors of batch normalisation

    convolution((3, 3, 3, 32), 32)
    channels = 32
    rows = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]
    for expansion, out, repeats in rows:
        for _ in range(repeats):
            wide = channels * expansion
            if expansion > 1:
                convolution((1, 1, channels, wide), wide)
            convolution((3, 3, wide, 1), wide)
            convolution((1, 1, wide, out), out)
            channels = out
    convolution((1, 1, 320, 1280), 1280)
    return shapes


def _texts(values: Iterable[Any]) -> list[str]:
    """HDF5 attributes hold bytes or text, by who wrote them."""
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


@functools.cache
def flower_rows() -> tuple[dict[str, str], ...]:
    """List the photos of the data set "flowers" in its order, with what their licence asks for.

    Returns
    -------
    tuple of dict
        One for each photo: ``file`` (class folder and name), ``author``, ``url``, ``licence``,
        ``source_git_blob`` (SHA-1 of the original file as git hashes it) and ``change``.

    Examples
    --------
    >>> len(flower_rows()), flower_rows()[0]["licence"]
    (1000, 'CC BY 2.0')
    """
    table = importlib.resources.files("tlhelpers") / "flowers_ccby.csv"
    return _rows(table.read_bytes())


def _rows(table: bytes) -> tuple[dict[str, str], ...]:
    return tuple(csv.DictReader(io.StringIO(table.decode("utf-8"), newline="")))


def flower_photos(path: Path) -> Iterator[tuple[int, bytes]]:
    """Give the photos of the data set "flowers" out of either archive, one after another.

    Members are read by exact name, and nothing is written to disk.

    Parameters
    ----------
    path : pathlib.Path
        ``flower_photos.tgz``, or the small zip archive of the photos already cropped.

    Yields
    ------
    int, bytes
        Position in :func:`flower_rows`, and a JPEG file; in the order of the archive.

    Raises
    ------
    ValueError
        A photo is missing, or is not the one meant.

    Examples
    --------
    >>> for position, jpeg in flower_photos(fetch("flower_photos.tgz")):  # doctest: +SKIP
    ...     print(flower_rows()[position]["file"], len(jpeg))
    """
    return _photos_in_tar(path) if _is_gzip(path) else _photos_in_zip(path)


def _is_gzip(path: Path) -> bool:
    """Tell the official archive from the small one, whatever their names are."""
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] != b"\x1f\x8b" and start != b"PK\x03\x04":
        raise ValueError("expected a gzip or zip archive, got neither")
    return start[:2] == b"\x1f\x8b"


def _photos_in_tar(path: Path) -> Iterator[tuple[int, bytes]]:
    """Pick the photos out of the official archive, each by the hash of its bytes."""
    wanted = {f"flower_photos/{row['file']}": position for position, row in enumerate(flower_rows())}
    total = len(wanted)
    with tarfile.open(path, "r|gz") as archive:  # a stream: one member in memory at a time
        for member in archive:
            if member.offset_data + member.size > 400_000_000:  # the real one holds 230 MB
                raise ValueError("expected about 230 MB of photos, got over 400 MB")
            if member.name not in wanted or not member.isfile():
                continue
            file = archive.extractfile(member)
            data = file.read() if file is not None else b""
            position = wanted.pop(member.name)
            expected = flower_rows()[position]["source_git_blob"]
            digest = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
            if digest != expected:
                raise ValueError(f"expected {member.name} with git blob hash {expected}, got {digest}")
            yield position, data
    if wanted:
        raise ValueError(
            f"expected {total:,} photos, got {total - len(wanted):,}; one that is missing is {min(wanted)}"
        )


def _photos_in_zip(path: Path) -> Iterator[tuple[int, bytes]]:
    """Read the archive of cropped photos, which carries its own table of attributions."""
    table = "ATTRIBUTION.csv"
    files = [row["file"] for row in flower_rows()]
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = Counter(member.filename for member in members)
        for trouble, those in (
            ("without", Counter([*files, table]) - names),
            ("with", names - Counter([*files, table])),
        ):
            if those:
                raise ValueError(
                    f"expected {len(files):,} photos and {table}, got an archive {trouble} {min(those)}"
                )
        unpacked = sum(member.file_size for member in members)
        if unpacked > 40_000_000:  # the known one is 9 MB; do not unpack a bomb
            raise ValueError(f"expected about 9 MB of photos, got {unpacked:,} bytes")
        if _rows(archive.read(table)) != flower_rows():
            raise ValueError(f"expected the {table} of this package in it, got another")
        for position, file in enumerate(files):
            yield position, archive.read(file)


def _check_flowers(path: Path) -> None:
    """Check that all photos are there: original bytes by hash, cropped ones by name and size."""
    from PIL import Image

    original = _is_gzip(path)
    for position, data in flower_photos(path):
        file = flower_rows()[position]["file"]
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            if not original and (image.mode, image.size) != ("RGB", (160, 160)):
                raise ValueError(
                    f"expected {file} to be RGB of 160 by 160 pixels, got {image.mode} of "
                    f"{image.width} by {image.height}"
                )


# Number of images, and SHA-256 over the sorted keys (see pneumonia_parts) of each split.
_PNEUMONIA = {
    "train": (4708, "6923939e3f9b3720eb277351f5d43b9aabc0db319e6a88f88493708552dc443f"),
    "val": (524, "3a8657e17f07683f25843b4cebdb51338e3f2935f42efceaf81baebf9c22baed"),
    "test": (624, "ad56f18c4e0d7e655b399a0bfa31ce2a8d1233fe95a6616c519b223657f45354"),
}
_PNEUMONIA_MD5 = "28209eda62fecd6e6a2d98b1501bb15f"  # by MedMNIST, medmnist/info.py, 3.0.2


def pneumonia_parts(path: Path) -> dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
    """Read PneumoniaMNIST in an order that depends on the images alone.

    The official file and the rebuilt one hold the same images in different orders. Sorted by a key,
    the SHA-256 of an image's bytes followed by its label's, both come out alike; and as a hash knows
    nothing of what an image shows, classes are mixed.

    Parameters
    ----------
    path : pathlib.Path
        An ``.npz`` file with MedMNIST's array names.

    Returns
    -------
    dict of str to (numpy.ndarray, numpy.ndarray)
        For "train", "val" and "test": images uint8 (n, 28, 28) and labels uint8 (n,).

    Raises
    ------
    ValueError
        Arrays are missing, or of another shape, type or range.

    Examples
    --------
    >>> images, labels = pneumonia_parts(fetch("pneumoniamnist.npz"))["val"]  # doctest: +SKIP
    >>> images.shape, labels.shape  # doctest: +SKIP
    ((524, 28, 28), (524,))
    """
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > 6_000_000:  # the real one is 4.6 MB; do not unpack a bomb
        raise ValueError(f"expected about 4.6 MB of arrays, got {unpacked:,} bytes")
    parts = {}
    with np.load(path, allow_pickle=False) as arrays:
        expected = {f"{part}_{kind}" for part in _PNEUMONIA for kind in ("images", "labels")}
        if missing := sorted(expected - set(arrays.files)):
            raise ValueError(f"expected the arrays {sorted(expected)}, got none named {missing}")
        for part, (n, _) in _PNEUMONIA.items():
            images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
            for kind, array, shape in (("images", images, (n, 28, 28)), ("labels", labels, (n, 1))):
                if array.dtype != np.uint8 or array.shape != shape:
                    raise ValueError(
                        f"expected {part}_{kind} to be uint8 {shape}, got {array.dtype} {array.shape}"
                    )
            if labels.max() > 1:
                raise ValueError(f"expected {part}_labels of 0 and 1, got {labels.max()}")
            order = np.argsort(_pneumonia_keys(images, labels))
            parts[part] = (images[order], labels[order, 0])
    return parts


def _pneumonia_keys(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> list[str]:
    pairs = zip(images, labels, strict=True)
    return [hashlib.sha256(image.tobytes() + label.tobytes()).hexdigest() for image, label in pairs]


def _check_pneumonia(path: Path) -> None:
    """Compare images and labels with those known, in whatever order the file holds them."""
    official = _digest(path, "md5") == _PNEUMONIA_MD5
    for part, (images, labels) in pneumonia_parts(path).items():
        expected = _PNEUMONIA[part][1]
        digest = hashlib.sha256("".join(_pneumonia_keys(images, labels)).encode()).hexdigest()
        if digest == expected:
            continue
        found = (
            f"expected the images and labels of {part} with digest {expected[:16]}..., got {digest[:16]}..."
        )
        if not official:
            raise ValueError(found)
        # What its makers publish is right by definition, but the reader's figures will differ.
        warnings.warn(f"{path.name} is the official file, yet {found}", stacklevel=2)


# SHA-256 over the rows in the order of their ID, or sorted: what a copy's header and line ends leave alone.
# (clients, defaults, digest)
_CREDIT = (
    30_000,
    6_636,
    "7d0c12ad5a87c1ba4b09d18a85664be31614e173fe5fb6feca9bfb568e3f6749",
)
_GERMAN = "ec88cf5ad21f59e2557dc4be5755a8e1126dc7a1f519839459bfcf0dc4f4ffdf"
_UCI = "https://archive.ics.uci.edu/static/public"

_MONTHS = range(1, 7)
_CREDIT_COLUMNS = [
    *("ID", "LIMIT_BAL", "SEX", "EDUCATION", "MARRIAGE", "AGE"),
    *("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6"),
    *(f"BILL_AMT{month}" for month in _MONTHS),
    *(f"PAY_AMT{month}" for month in _MONTHS),
    "default",
]
_GERMAN_COLUMNS = [
    *("checking", "duration", "history", "purpose", "amount", "savings", "employment"),
    *("installment_rate", "status_sex", "debtors", "residence", "property", "age", "other_plans"),
    *("housing", "credits", "job", "dependents", "telephone", "foreign", "default"),
]


def credit_table(path: Path) -> pd.DataFrame:
    """Read the table of credit-card clients under the names of its makers, whatever its header says.

    UCI's own CSV file calls the columns ID, X1 to X23 and Y; other copies use the makers' names. Both have
    them in the makers' order.

    Parameters
    ----------
    path : pathlib.Path
        A CSV file with a header and 25 columns of whole numbers.

    Returns
    -------
    pandas.DataFrame
        int64 (30000, 24), index "ID" in order; the label is "default" (1) or not (0).

    Raises
    ------
    ValueError
        The columns are others, or hold something else than whole numbers.

    Examples
    --------
    >>> table = credit_table(fetch("default_of_credit_card_clients.csv"))  # doctest: +SKIP
    >>> table.shape, int(table["default"].sum())  # doctest: +SKIP
    ((30000, 24), 6636)
    """
    import pandas as pd

    table = pd.read_csv(path, low_memory=False)
    names = list(table.columns)
    numbered = ["ID", *(f"X{i}" for i in range(1, 24)), "Y"]
    if names != numbered and [name.upper() for name in names[:-1]] != _CREDIT_COLUMNS[:-1]:
        raise ValueError(
            f"expected the columns {', '.join(_CREDIT_COLUMNS[:3])}, ... or ID, X1, ..., Y; got "
            f"{', '.join(names[:3])}, ... ({len(names)} columns)"
        )
    table.columns = pd.Index(_CREDIT_COLUMNS)
    wrong = [name for name in table if not pd.api.types.is_integer_dtype(table[name])]
    if wrong:
        raise ValueError(f"expected whole numbers, got {table[wrong[0]].dtype} in column {wrong[0]}")
    return table.astype("int64").sort_values("ID").set_index("ID")


def _check_credit(path: Path) -> None:
    """Compare the whole content with the one known."""
    table = credit_table(path)
    clients, defaults, expected = _CREDIT
    if (len(table), table["default"].sum()) != (clients, defaults):
        raise ValueError(
            f"expected {clients:,} clients and {defaults:,} defaults, got {len(table):,} and "
            f"{table['default'].sum():,}"
        )
    digest = hashlib.sha256(table.reset_index().to_numpy("<i8").tobytes()).hexdigest()
    if digest != expected:
        raise ValueError(f"expected rows with digest {expected[:16]}..., got {digest[:16]}...")


def german_table(path: Path) -> pd.DataFrame:
    """Read the German credit table, as UCI's CSV file or as the original file without a header.

    Parameters
    ----------
    path : pathlib.Path
        21 columns, separated by commas (with a header) or by blanks (without).

    Returns
    -------
    pandas.DataFrame
        (1000, 21), sorted by content, so that both files give the same; numbers are int64, codes text; the
        label is "default" (1, a bad risk) or not (0).

    Raises
    ------
    ValueError
        There are no 21 columns, or the last holds something else than 1 and 2.

    Examples
    --------
    >>> table = german_table(fetch("german_credit.csv"))  # doctest: +SKIP
    >>> table.shape, int(table["default"].sum())  # doctest: +SKIP
    ((1000, 21), 300)
    """
    import pandas as pd

    rows = _german_rows(path)
    table = pd.DataFrame([row.split() for row in rows], columns=_GERMAN_COLUMNS)
    for name in table:
        if table[name].str.fullmatch(r"\d+").all():
            table[name] = table[name].astype("int64")
    if not table["default"].isin([1, 2]).all():
        raise ValueError("expected 1 (good) or 2 (bad) in the last column, got something else")
    return table.assign(default=table["default"] - 1)


def _german_rows(path: Path) -> list[str]:
    rows = [line.replace(",", " ").split() for line in path.read_text("utf-8").splitlines() if line.strip()]
    if rows and rows[0][-1] == "class":
        rows = rows[1:]
    lengths = {len(row) for row in rows}
    if lengths != {len(_GERMAN_COLUMNS)}:
        raise ValueError(f"expected rows of {len(_GERMAN_COLUMNS)} values, got {sorted(lengths) or 'no row'}")
    return sorted(" ".join(row) for row in rows)


def _check_german(path: Path) -> None:
    """Compare the rows with those known, in any order."""
    rows = _german_rows(path)
    digest = hashlib.sha256("\n".join(rows).encode()).hexdigest()
    if digest != _GERMAN:
        raise ValueError(
            f"expected 1,000 rows with digest {_GERMAN[:16]}..., got {len(rows):,} with {digest[:16]}..."
        )


# SHA-256 of the official weights, and over the tokens of the vocabulary, one a line.
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MINILM_TOKENS = (30_522, "0f052197aac305fe42f378b5c61554b7bacb34b8be4af83fec2cfdcdffbc9973")
_MINILM_CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 384,
    "intermediate_size": 1536,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 6,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "vocab_size": 30_522,
}


def _check_minilm_weights(path: Path) -> None:
    if (digest := _digest(path)) != _MINILM_SHA256:
        raise ValueError(f"expected sha256 {_MINILM_SHA256[:16]}..., got {digest[:16]}...")


def _check_minilm_vocabulary(path: Path) -> None:
    tokens = path.read_text(encoding="utf-8").split()
    digest = hashlib.sha256("\n".join(tokens).encode()).hexdigest()
    if (len(tokens), digest) != _MINILM_TOKENS:
        raise ValueError(
            f"expected {_MINILM_TOKENS[0]:,} tokens with digest {_MINILM_TOKENS[1][:16]}..., got "
            f"{len(tokens):,} with {digest[:16]}..."
        )


def _check_minilm_config(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    for key, expected in _MINILM_CONFIG.items():
        if config.get(key) != expected:
            raise ValueError(f"expected {key} to be {expected!r}, got {config.get(key)!r}")


Lines = dict[str, tuple[str, ...]]
"""By file name: its lines that are not empty, without space at their ends."""

# Names, number of lines, encoding, and SHA-256 over the lines of all files.
_REVIEWS: dict[str, tuple[tuple[str, ...], int, str, str]] = {
    "rt-polaritydata.tar.gz": (
        ("rt-polarity.neg", "rt-polarity.pos"),
        5331,
        "latin-1",
        "11f8ef6ceb60151aaa89278ef76fa1be250913e886c3ff83be41bc0b1f6a7475",
    ),
    "sentiment_labelled_sentences.zip": (
        ("amazon_cells_labelled.txt", "imdb_labelled.txt", "yelp_labelled.txt"),
        1000,
        "utf-8",
        "d493dbfa7ee92627c83c157f945efdf5ec02a2ee78a999bf023ae9d1d25a7cba",
    ),
}


def review_lines(name: str, path: Path) -> Lines:
    """Read the files of one of the two collections of review sentences, packed or not.

    Parameters
    ----------
    name : str
        "rt-polaritydata.tar.gz" or "sentiment_labelled_sentences.zip".
    path : pathlib.Path
        The official archive; or one of its files, with the others beside it.

    Returns
    -------
    dict of str to tuple of str
        By file name: its lines that are not empty, without space at their ends.

    Raises
    ------
    ValueError
        A file is missing or too large, or has another number of lines.

    Examples
    --------
    >>> name = "sentiment_labelled_sentences.zip"
    >>> list(review_lines(name, fetch(name)))  # doctest: +SKIP
    ['amazon_cells_labelled.txt', 'imdb_labelled.txt', 'yelp_labelled.txt']
    """
    names, n, encoding, _ = _REVIEWS[name]
    found: Lines = {}
    for file, data in _members(path, names):
        # By line feed alone: these files have characters that Python counts as ends of a line, too.
        lines = tuple(line.strip() for line in data.decode(encoding).split("\n") if line.strip())
        if len(lines) != n:
            raise ValueError(f"expected {n:,} lines in {file}, got {len(lines):,}")
        found[file] = lines
    if missing := [file for file in names if file not in found]:
        raise ValueError(f"expected {', '.join(names)}, got no {missing[0]}")
    return {file: found[file] for file in names}


def _members(path: Path, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Files of these names, wherever in an archive they lie, or beside a file that is none."""
    most = 2_000_000  # the largest has 0.6 MB; do not unpack a bomb
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                folder, _, file = info.filename.rpartition("/")
                if file in names and not folder.startswith("__MACOSX"):
                    if info.file_size > most:
                        raise ValueError(f"expected at most {most:,} bytes in {file}, got {info.file_size:,}")
                    yield file, archive.read(info)
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as tar:
            for member in tar:
                file = member.name.rpartition("/")[2]
                if file in names and member.isfile():
                    if member.size > most:
                        raise ValueError(f"expected at most {most:,} bytes in {file}, got {member.size:,}")
                    opened = tar.extractfile(member)
                    yield file, opened.read() if opened is not None else b""
    elif path.name in names:
        for file in names:
            if (path.parent / file).is_file():
                yield file, (path.parent / file).read_bytes()
    else:
        raise ValueError("expected an archive, got none")


def _check_reviews(name: str) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        lines = review_lines(name, path)
        digest = hashlib.sha256("\n".join(line for each in lines.values() for line in each).encode())
        if digest.hexdigest() != _REVIEWS[name][3]:
            raise ValueError(
                f"expected the sentences with digest {_REVIEWS[name][3][:16]}..., got "
                f"{digest.hexdigest()[:16]}..."
            )

    return check


WORD_VECTORS = 5_000
"""How many word vectors are read: those of the most frequent words."""


def word_vectors(path: Path) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """Read the vectors of the most frequent words from GloVe's archive, or from the small JSON file.

    Parameters
    ----------
    path : pathlib.Path
        ``glove.6B.zip``, of which only the beginning of ``glove.6B.50d.txt`` is unpacked, or a JSON file of
        a list of numbers by word.

    Returns
    -------
    tuple of str, numpy.ndarray
        `WORD_VECTORS` words, the most frequent first, and float32 (words, 50).

    Raises
    ------
    ValueError
        The file is too short, or a row is no word with 50 finite numbers.

    Examples
    --------
    >>> words, vectors = word_vectors(fetch("glove.6B.zip"))  # doctest: +SKIP
    >>> words[:3], vectors.shape  # doctest: +SKIP
    (('the', ',', '.'), (5000, 50))
    """
    rows: list[tuple[str, list[float]]]
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive, archive.open("glove.6B.50d.txt") as file:
            parts = [file.readline(10_000).decode("utf-8").split() for _ in range(WORD_VECTORS)]
        rows = [(part[0], [float(number) for number in part[1:]]) for part in parts if part]
    else:
        rows = list(json.loads(path.read_text(encoding="utf-8")).items())[:WORD_VECTORS]
    if len(rows) < WORD_VECTORS:
        raise ValueError(f"expected {WORD_VECTORS:,} words, got {len(rows):,}")
    words = tuple(word for word, _ in rows)
    wrong = [word for word, numbers in rows if len(numbers) != 50 or not np.isfinite(numbers).all()]
    if wrong:
        raise ValueError(f"expected 50 finite numbers for each word, got others for {wrong[0]!r}")
    if words[:3] != ("the", ",", ".") or len(set(words)) < len(words):
        raise ValueError(f"expected words by frequency, 'the', ',' and '.' first, got {words[:3]}")
    return words, np.array([numbers for _, numbers in rows], np.float32)


def _check_word_vectors(path: Path) -> None:
    word_vectors(path)


_KERAS = "https://storage.googleapis.com/tensorflow"
_MINILM = "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main"
_MINILM_SOURCE = "all-MiniLM-L6-v2, by the sentence-transformers project"

#: Every file that can be fetched, by name.
#:
#: :meta hide-value:
RESOURCES: dict[str, Resource] = {
    resource.filename: resource
    for resource in (
        Resource(
            filename="mnist.npz",
            urls=(f"{_KERAS}/tf-keras-datasets/mnist.npz",),
            check=_check_mnist,
            licence="CC BY-SA 3.0",
            source="Yann LeCun, Corinna Cortes, Christopher J. C. Burges, as packed by Keras",
            max_bytes=16_000_000,
            content="the bytes of the four original idx files",
            sha256="731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
            size=11_490_434,
        ),
        Resource(
            filename="mobilenet_v2_1.00_224_no_top.h5",
            urls=(
                (
                    f"{_KERAS}/keras-applications/mobilenet_v2/"
                    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
                ),
            ),
            check=_check_mobilenet_v2,
            licence="Apache-2.0",
            source="Google, as packed by Keras",
            max_bytes=16_000_000,
            content="number, shapes and finiteness of all tensors",
            variants={
                "970fdb4635b975ba855fd196b9062ae6a857ec16a34e981985bebefd481b6079": (
                    "rebuilt from the TFLite release, not Keras' own file: the same function in inference "
                    "mode, other BatchNorm numbers"
                ),
            },
        ),
        Resource(
            filename="flower_photos.tgz",
            urls=("https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz",),
            check=_check_flowers,
            licence="CC BY 2.0 for each photo; name its author where you show it",
            source=(
                "1,000 of the photos in tf_flowers, collected from Flickr by the TensorFlow team; authors in "
                "the package's flowers_ccby.csv"
            ),
            max_bytes=240_000_000,
            content="the presence of the 1,000 photos, each by the hash of its original file,",
            # As TensorFlow Datasets records them (tf_flowers, checksums.tsv).
            sha256="4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c",
            size=228_813_984,
            variants={
                "af1fb06bdaaf7f153519afc798d1c78d8b6215572eb1b4f05f07ac78fc2decd7": (
                    "not the official file: the 1,000 photos cropped to 160 pixels and saved as JPEG once "
                    "more"
                ),
            },
            also=("flowers_ccby_160px_1000.zip",),
        ),
        Resource(
            filename="pneumoniamnist.npz",
            urls=("https://zenodo.org/records/10519652/files/pneumoniamnist.npz?download=1",),
            check=_check_pneumonia,
            licence="CC BY 4.0",
            source=(
                "PneumoniaMNIST of MedMNIST v2 (Yang et al. 2023), made from the chest X-rays of Kermany et "
                "al. (2018)"
            ),
            max_bytes=6_000_000,
            content="images and labels of each split, in any order,",
            md5=_PNEUMONIA_MD5,
            variants={
                "894d69a682023928bc3aeb84a25bbd647992600f53fffe1b503c9eb543eead80": (
                    "rebuilt, not the official file: its images in another order, which does not matter here"
                ),
            },
            also=("pneumoniamnist_rebuilt.npz",),
        ),
        Resource(
            filename="default_of_credit_card_clients.csv",
            # UCI offers the makers' Excel file as well, which pandas can't read without another package.
            urls=(f"{_UCI}/350/data.csv",),
            check=_check_credit,
            licence="CC BY 4.0",
            source="I-Cheng Yeh (2009), Default of Credit Card Clients, UCI Machine Learning Repository",
            max_bytes=6_000_000,
            content="all 30,000 rows, in any order and under either set of column names,",
            variants={
                "064a95ce6173ae2a69f186fa0ce5e6ea2e88e9dac097aee4ea2d712109082d03": (
                    "not UCI's own file: the same rows with the makers' column names"
                ),
            },
            also=("credit_default_taiwan.csv",),
        ),
        Resource(
            filename="german_credit.csv",
            urls=(f"{_UCI}/144/data.csv",),
            check=_check_german,
            licence="CC BY 4.0",
            source="Hans Hofmann (1994), Statlog (German Credit Data), UCI Machine Learning Repository",
            max_bytes=500_000,
            content="all 1,000 rows, in any order, with or without a header,",
            variants={
                "b21f3d81db8071257d5ff1deaeba1fd4303b62712e6fcc9715c7a86202cb5871": (
                    "the original german.data, not UCI's CSV file: the same rows without a header"
                ),
            },
            also=("german.data",),
        ),
        Resource(
            filename="all-MiniLM-L6-v2/model.safetensors",
            urls=(f"{_MINILM}/model.safetensors",),
            check=_check_minilm_weights,
            licence="Apache-2.0",
            source=_MINILM_SOURCE,
            max_bytes=100_000_000,
            content="every byte",
            sha256=_MINILM_SHA256,
            size=90_868_376,
        ),
        Resource(
            filename="all-MiniLM-L6-v2/vocab.txt",
            urls=(f"{_MINILM}/vocab.txt",),
            check=_check_minilm_vocabulary,
            licence="Apache-2.0",
            source=_MINILM_SOURCE,
            max_bytes=1_000_000,
            content="every token",
        ),
        Resource(
            filename="all-MiniLM-L6-v2/config.json",
            urls=(f"{_MINILM}/config.json",),
            check=_check_minilm_config,
            licence="Apache-2.0",
            source=_MINILM_SOURCE,
            max_bytes=100_000,
            content="the numbers that make the network",
        ),
        Resource(
            filename="rt-polaritydata.tar.gz",
            urls=("https://www.cs.cornell.edu/people/pabo/movie-review-data/rt-polaritydata.tar.gz",),
            check=_check_reviews("rt-polaritydata.tar.gz"),
            licence="unstated; used here and not passed on",
            source="sentence polarity dataset v1.0, Bo Pang and Lillian Lee (2005), Cornell University",
            max_bytes=3_000_000,
            content="all sentences",
            also=("rt-polarity.pos",),
        ),
        Resource(
            filename="sentiment_labelled_sentences.zip",
            urls=("https://archive.ics.uci.edu/static/public/331/sentiment+labelled+sentences.zip",),
            check=_check_reviews("sentiment_labelled_sentences.zip"),
            licence="CC BY 4.0",
            source="Sentiment Labelled Sentences, Dimitrios Kotzias et al. (2015), UCI",
            max_bytes=1_000_000,
            content="all sentences and labels",
            also=("sentiment_labelled/amazon_cells_labelled.txt",),
        ),
        Resource(
            filename="glove.6B.zip",
            urls=("https://nlp.stanford.edu/data/glove.6B.zip",),
            check=_check_word_vectors,
            licence="PDDL 1.0",
            source="GloVe 6B, Jeffrey Pennington, Richard Socher and Christopher Manning (2014)",
            max_bytes=900_000_000,
            size=862_182_613,
            content="form of the 5,000 most frequent words' vectors of 50 numbers",
            variants={
                "11489e65be581a8315d48ba2efa55067c9216359d11390d3337a292780274517": (
                    "not the official file: the vectors of 5,000 frequent words, rounded"
                ),
            },
            also=("glove-50d-5k.json",),
        ),
    )
}


def _resource(name: str) -> Resource:
    try:
        return RESOURCES[name]
    except (KeyError, TypeError):
        raise unknown_name("file", name, RESOURCES) from None


# -- the places -----------------------------------------------------------------------------------


def data_folder() -> Path | None:
    """Name the mirror folder, if there is one.

    Returns
    -------
    pathlib.Path or None
        What ``TLHELPERS_DATA`` names; None where it is unset or empty. The folder is only read.

    Raises
    ------
    DownloadError
        The variable is set and is not a folder.

    Examples
    --------
    >>> folder = data_folder()
    >>> folder is None or folder.is_dir()
    True
    """
    value = os.environ.get("TLHELPERS_DATA", "")
    if not value:
        return None
    folder = Path(value).expanduser().absolute()
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing there"
        raise DownloadError(
            f"TLHELPERS_DATA: expected a folder, got {got} at {folder}; correct the variable, or unset it "
            "to use the cache and the official addresses"
        )
    return folder


def find(name: str) -> Path | None:
    """Look for a file on this machine, without any network.

    Parameters
    ----------
    name : str
        A key of :data:`RESOURCES`.

    Returns
    -------
    pathlib.Path or None
        A verified file in the mirror folder, else in the cache folder; None where neither has it.
        In the mirror folder it may go by one of the resource's other names.

    Raises
    ------
    LookupError
        No such name.
    DownloadError
        The mirror folder holds a file of this name with other content.

    Warns
    -----
    UserWarning
        The cache holds a file of this name with other content; it is not used.

    Examples
    --------
    >>> path = find("mnist.npz")
    >>> path is None or path.name == "mnist.npz"
    True
    """
    resource = _resource(name)
    mirror = data_folder()
    if mirror is not None:
        for path in (mirror / filename for filename in (resource.filename, *resource.also)):
            if not path.is_file():
                continue
            try:
                _verify(resource, path)
            except ValueError as error:
                raise DownloadError(
                    f"{path}: {error}; replace or remove that file in the folder that TLHELPERS_DATA names"
                ) from error
            return path
    path = cache.cache_folder() / resource.filename
    try:
        _verify(resource, path)
    except OSError:  # not there, or no right to look: fetching will say why
        return None
    except ValueError as error:
        warnings.warn(f"{path} is not used: {error}; it will be fetched again", stacklevel=2)
        return None
    return path


def fetch(name: str) -> Path:
    """Give the path of a verified file; download it if this machine has none.

    Looked for in the mirror folder (``TLHELPERS_DATA``), then in the cache folder, then at the
    official addresses. Of several processes that ask at once, one downloads and the others wait.

    Parameters
    ----------
    name : str
        A key of :data:`RESOURCES`.

    Returns
    -------
    pathlib.Path
        A file whose content was verified by this process.

    Raises
    ------
    LookupError
        No such name.
    DownloadError
        The file can't be had: wrong content in the mirror folder; every address failed, stopped
        sending, sent too much or something else; the cache folder can't be written or is full.

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
    resource = _resource(name)
    found = find(name)
    if found is not None:
        return found
    try:
        # Whoever waits here lets the other finish: each address may take its whole time.
        with cache.lock(name, timeout_s=DEADLINE_S * len(resource.urls) + 60):
            path = cache.cache_folder() / resource.filename
            with contextlib.suppress(OSError, ValueError):
                _verify(resource, path)  # somebody fetched it while we waited
                return path
            _download_any(resource, path)
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
        Name, digest, and what the digest tells. No path of this machine is in it.

    Raises
    ------
    LookupError, DownloadError
        As :func:`find`.

    Examples
    --------
    >>> describe("mnist.npz").split(":")[0]
    'mnist.npz'
    """
    resource = _resource(name)
    path = find(name)
    if path is None:
        return f"{name}: not on this machine yet"
    digest = _digest(path)
    read = f"{path.name}: sha256 {digest[:8]}..."
    if digest == resource.sha256 or (resource.md5 and _digest(path, "md5") == resource.md5):
        return f"{read}, the official file"
    official = resource.sha256 or resource.md5
    if digest in resource.variants:
        known = resource.variants[digest]
    elif official:
        known = f"same content as the official file in another container ({resource.content} verified)"
    else:
        known = f"{resource.content} verified"
    return f"{read}, {known}{'' if official else '; official digest unknown'}"


_verified: set[tuple[str, str, int, int, int]] = set()


def _verify(resource: Resource, path: Path) -> None:
    """Check the content; once per process for a file that has not changed since."""
    state = path.stat()
    known = (resource.filename, str(path), state.st_ino, state.st_size, state.st_mtime_ns)
    if known in _verified:
        return
    try:
        resource.check(path)
    except MemoryError:
        raise  # says nothing about the file
    except Exception as error:  # a broken file makes zip, HDF5 and numpy fail in many ways
        digest = ""
        with contextlib.suppress(OSError):
            digest = f" with sha256 {_digest(path)[:16]}..."
        raise ValueError(
            f"wrong content: {str(error) or type(error).__name__} (got {state.st_size:,} bytes{digest})"
        ) from error
    _verified.add(known)


def _digest(path: Path, kind: str = "sha256") -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


# -- downloading ---------------------------------------------------------------------------------


class _BoundedFile:
    """A file that takes no more than ``limit`` bytes, and none once ``stop`` is set."""

    def __init__(self, file: IO[bytes], limit: int, stop: threading.Event) -> None:
        self.file, self.limit, self.stop, self.written = file, limit, stop, 0

    def write(self, data: bytes) -> int:
        self.written += len(data)
        if self.stop.is_set():
            raise TimeoutError("stopped")
        if self.written > self.limit:
            raise DownloadError(f"expected at most {self.limit:,} bytes, got more; stopped")
        return self.file.write(data)

    def flush(self) -> None:
        pass  # pooch flushes after each piece; closing does it once


def _download_any(resource: Resource, path: Path) -> None:
    """Put the verified file at ``path`` from the first address that serves it."""
    failures = []
    expected_bytes = resource.size or resource.max_bytes
    if expected_bytes > ANNOUNCED_BYTES:
        print(
            f"{resource.filename}: about {expected_bytes / 1e6:,.0f} MB will be downloaded from "
            f"{urlsplit(resource.urls[0]).hostname}, once, and kept in the cache folder.",
            file=sys.stderr,
            flush=True,
        )
    for url in resource.urls:
        with cache.atomic_file(path) as temporary:
            path.unlink(missing_ok=True)  # whatever lies there has other content
            try:
                _download(url, temporary, limit=resource.max_bytes)
                _verify(resource, temporary)
                return
            except (DownloadError, ValueError) as error:
                failures.append(f"{url}: {error}")
                # Leave the block without a file: nothing is put in place.
                temporary.unlink(missing_ok=True)
    size = f" ({resource.size:,} bytes)" if resource.size else ""
    raise DownloadError(
        f"{resource.filename}{size} can't be downloaded:\n  "
        + "\n  ".join(failures)
        + f"\nTry again later, or put the file into a folder and name that folder in TLHELPERS_DATA, or set "
        f"TLHELPERS_EDITION=pocket, which needs no network. Nothing was kept in {path.parent}."
    )


def _download(url: str, target: Path, *, limit: int) -> None:
    """Download to ``target``, at most ``limit`` bytes, within the module's two time limits."""
    import pooch
    import requests
    from tqdm import tqdm

    stop = threading.Event()
    failure: list[BaseException] = []

    def work() -> None:
        try:
            with (
                target.open("wb") as file,
                # The total is a first guess, corrected by the answer; pooch takes no bar without one.
                tqdm(desc=target.name, total=limit, unit="B", unit_scale=True) as bar,
            ):
                download = pooch.HTTPDownloader(progressbar=bar, chunk_size=_CHUNK, timeout=STALL_S)
                download(url, _BoundedFile(file, limit, stop), None)
        except BaseException as error:  # handed to the thread that waits
            failure.append(error)

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
    if not failure:
        return
    error = failure[0]
    if isinstance(error, DownloadError):
        raise error
    if isinstance(error, requests.HTTPError):
        answer = f"{error.response.status_code} {error.response.reason or ''}".rstrip()
        raise DownloadError(f"expected HTTP 200, got {answer}") from error
    if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
        raise DownloadError(f"expected data within {STALL_S:g} s, got none") from error
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        raise DownloadError(f"expected the whole file, got a part: the connection broke ({error})") from error
    if isinstance(error, requests.RequestException):
        raise DownloadError(f"expected an answer, got {type(error).__name__}: {error}") from error
    raise error
