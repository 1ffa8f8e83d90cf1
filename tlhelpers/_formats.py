"""Parsers of official files: a path in, arrays, tables or lines out.

Each raises ``ValueError`` where the file is not of its form. None writes to disk, and none unpacks much
more than the real file holds, whatever an archive says of itself.
"""

from __future__ import annotations

import csv
import functools
import gzip
import hashlib
import importlib.resources
import io
import json
import math
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # only two tables need it at run time
    import pandas as pd

Bytes = npt.NDArray[np.uint8]
Lines = dict[str, tuple[str, ...]]
"""By file name: its lines that are not empty, without space at their ends."""


# -- images --------------------------------------------------------------------------------------

_MNIST = {"x_train": (60_000, 28, 28), "y_train": (60_000,), "x_test": (10_000, 28, 28), "y_test": (10_000,)}


def mnist(path: Path) -> dict[str, Bytes]:
    """Keras' four arrays: uint8 images (n, 28, 28) and labels (n,) of train and test."""
    return _arrays(path, _MNIST)


_PNEUMONIA = {"train": 4708, "val": 524, "test": 624}


def pneumonia_parts(path: Path) -> dict[str, tuple[Bytes, Bytes]]:
    """PneumoniaMNIST, images (n, 28, 28) and labels (n,) of "train", "val" and "test".

    The order is that of a hash over each image and its label. So copies in another order come out alike;
    and as a hash knows nothing of what an image shows, classes are mixed.
    """
    shapes: dict[str, tuple[int, ...]] = {f"{part}_images": (n, 28, 28) for part, n in _PNEUMONIA.items()}
    arrays = _arrays(path, shapes | {f"{part}_labels": (n, 1) for part, n in _PNEUMONIA.items()})
    parts = {}
    for part in _PNEUMONIA:
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        if labels.max() > 1:
            raise ValueError(f"{part}_labels: expected 0 and 1, got {labels.max()}")
        pairs = zip(images, labels, strict=True)
        order = np.argsort([hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest() for x, y in pairs])
        parts[part] = (images[order], labels[order, 0])
    return parts


def _arrays(path: Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, Bytes]:
    """Arrays of bytes out of an .npz file. A header is looked at before it gets room."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        _check_size(archive, most=2 * sum(math.prod(shape) + 1024 for shape in shapes.values()))
        if missing := [name for name in shapes if f"{name}.npy" not in archive.namelist()]:
            raise ValueError(f"expected the arrays {', '.join(shapes)}, got none named {missing[0]}")
        for name, shape in shapes.items():
            with archive.open(f"{name}.npy") as file:
                first = np.lib.format.read_magic(file) == (1, 0)
                read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
                got, by_column, dtype = read(file)
                if dtype != np.uint8 or got != shape:
                    raise ValueError(f"{name}: expected uint8 {shape}, got {dtype} {got}")
                numbers = np.frombuffer(file.read(), np.uint8)
            arrays[name] = numbers.reshape(shape, order="F" if by_column else "C")
    return arrays


def _check_size(archive: zipfile.ZipFile, *, most: int) -> None:
    if (unpacked := sum(member.file_size for member in archive.infolist())) > most:
        raise ValueError(f"expected at most {most:,} bytes in the archive, got {unpacked:,}")


@functools.cache
def flower_rows() -> tuple[dict[str, str], ...]:
    """The photos of the data set "flowers" in its order, with what their licence asks for.

    Each has ``file`` (class folder and name), ``author``, ``url``, ``licence``, ``change``, and
    ``source_git_blob``, SHA-1 of the original file as git hashes it.
    """
    table = importlib.resources.files("tlhelpers") / "flowers_ccby.csv"
    return tuple(csv.DictReader(io.StringIO(table.read_bytes().decode("utf-8"), newline="")))


def flower_photos(path: Path) -> tuple[bytes, ...]:
    """The JPEG files of `flower_rows`, in that order, out of ``flower_photos.tgz``."""
    found = {f"flower_photos/{row['file']}": b"" for row in flower_rows()}
    for name, data in _files_in_tar(path, most=400_000_000):  # the real one holds 230 MB
        if name in found:
            found[name] = data
    if missing := [name for name, data in found.items() if not data]:
        raise ValueError(
            f"expected {len(found):,} photos, got none called {missing[0]} ({len(missing):,} fail)"
        )
    return tuple(found.values())


def flower_blobs(path: Path) -> tuple[str, ...]:
    """What git calls each photo: tells the original files from others of the same names."""
    whole = (b"blob %d\0" % len(data) + data for data in flower_photos(path))
    return tuple(hashlib.sha1(data, usedforsecurity=False).hexdigest() for data in whole)


def faces(path: Path) -> Bytes:
    """The Database of Faces: uint8 (40 people, 10 photos of each, 112, 92)."""
    head, size = b"P5\n92 112\n255\n", 112 * 92
    names = [f"s{person}/{photo}.pgm" for person in range(1, 41) for photo in range(1, 11)]
    with zipfile.ZipFile(path) as archive:
        _check_size(archive, most=5_000_000)
        held = {"/".join(name.split("/")[-2:]): name for name in archive.namelist()}  # in whatever folder
        if missing := [name for name in names if name not in held]:
            raise ValueError(f"expected 400 photos, got none called {missing[0]} ({len(missing)} fail)")
        files = {name: archive.read(held[name]) for name in names}
    if wrong := [
        n for n, data in files.items() if not data.startswith(head) or len(data) != len(head) + size
    ]:
        raise ValueError(f"{wrong[0]}: expected a grey PGM file of 92 by 112 pixels, got something else")
    pixels = b"".join(data[len(head) :] for data in files.values())
    return np.frombuffer(pixels, np.uint8).reshape(40, 10, 112, 92)


_CELLS = {"train": 205, "val": 87, "test": 72}
_CELL_NAMES = ("RBC", "WBC", "Platelets")
_CELL_PHOTO = (640, 480)  # width and height


def blood_cells(path: Path) -> dict[str, tuple[tuple[bytes, ...], tuple[npt.NDArray[np.int16], ...]]]:
    """BCCD's JPEG files and their boxes, of "train", "val" and "test", in the order of its lists.

    Boxes are int16, (k, 5): a place in "RBC", "WBC", "Platelets", then left, top, right and bottom in pixels.
    Two are a single point, as in the file.
    """
    # Whatever the folder on top is called.
    files = {name.partition("/BCCD/")[2]: data for name, data in _files_in_tar(path, most=60_000_000)}
    parts, seen = {}, set[str]()
    for part, number in _CELLS.items():
        names = files.get(f"ImageSets/Main/{part}.txt", b"").decode().split()
        if len(names) != number or len(set(names) - seen) != number:
            raise ValueError(
                f"{part}: expected {number} photos, none in two lists, got {len(set(names) - seen)}"
            )
        seen |= set(names)
        if missing := [n for n in names for f in _cell_files(n) if f not in files]:
            raise ValueError(f"expected a photo and its boxes of each name, got none of {missing[0]}")
        pairs = [[files[file] for file in _cell_files(name)] for name in names]
        boxes = tuple(_cell_boxes(name, text) for name, (_, text) in zip(names, pairs, strict=True))
        parts[part] = tuple(jpeg for jpeg, _ in pairs), boxes
    return parts


def _cell_files(name: str) -> tuple[str, str]:
    return f"JPEGImages/{name}.jpg", f"Annotations/{name}.xml"


def _cell_boxes(name: str, text: bytes) -> npt.NDArray[np.int16]:
    """The boxes of one photo. A declaration, with which a text could grow without end, is refused."""
    if b"<!" in text:
        raise ValueError(f"{name}.xml: expected elements alone, got a declaration")
    try:
        things = ElementTree.fromstring(text).iter("object")
    except ElementTree.ParseError as error:
        raise ValueError(f"{name}.xml: expected XML, got {error}") from error
    rows = []
    for thing in things:
        kind = thing.findtext("name", "")
        ends = [thing.findtext(f"bndbox/{end}", "") for end in ("xmin", "ymin", "xmax", "ymax")]
        if kind not in _CELL_NAMES or not all(re.fullmatch(r"[0-9]{1,4}", end) for end in ends):
            names = ", ".join(_CELL_NAMES)
            raise ValueError(f"{name}.xml: expected one of {names} and four pixels, got {kind!r}, {ends}")
        left, top, right, bottom = map(int, ends)
        if left > right or top > bottom or right > _CELL_PHOTO[0] or bottom > _CELL_PHOTO[1]:
            raise ValueError(f"{name}.xml: expected a box within 640 by 480 pixels, got {ends}")
        rows.append((_CELL_NAMES.index(kind), left, top, right, bottom))
    return np.array(rows, np.int16).reshape(-1, 5)


_SCANS, _LONGEST = 260, 64  # scans with a mask, and voxels along any side at most
_VOXELS = {2: "<u1", 16: "<f4"}  # the two of NIfTI-1's kinds of numbers that occur


def hippocampus_scans(path: Path) -> dict[int, tuple[npt.NDArray[np.float32], Bytes]]:
    """The Decathlon's scans that have a mask, by the number in their names: float32 and uint8, (x, y, z).

    In a mask 1 is the front of the hippocampus, 2 its back, 0 all else.
    """
    found: dict[str, dict[int, bytes]] = {"imagesTr": {}, "labelsTr": {}}
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            name = re.fullmatch(r".*?(imagesTr|labelsTr)/hippocampus_([0-9]{3})\.nii\.gz", member.name)
            if name and member.isreg() and (file := archive.extractfile(member)) is not None:
                if member.issparse() or member.size > 1_000_000:
                    raise ValueError(f"{name[0]}: expected a plain file of at most 1,000,000 bytes")
                found[name[1]][int(name[2])] = file.read()
    images, masks = found["imagesTr"], found["labelsTr"]
    both = sorted(images.keys() & masks.keys())
    if len(both) != _SCANS:
        raise ValueError(f"expected {_SCANS} scans with a mask, got {len(both)}")
    scans = {}
    for number in both:
        scan = _nifti(f"imagesTr/hippocampus_{number:03}", images[number])
        mask = _nifti(f"labelsTr/hippocampus_{number:03}", masks[number])
        if mask.shape != scan.shape or not np.isin(mask, (0, 1, 2)).all():
            raise ValueError(
                f"labelsTr/hippocampus_{number:03}: expected 0, 1 and 2 in the scan's shape {scan.shape}, "
                f"got {np.unique(mask)[:5]} in {mask.shape}"
            )
        scans[number] = scan, mask.astype(np.uint8)
    return scans


def _nifti(name: str, packed: bytes) -> npt.NDArray[np.float32]:
    """The voxels of one gzipped NIfTI-1 file, of the kind that this archive holds: nothing to be rescaled."""
    most = 352 + 4 * _LONGEST**3
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            data = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name}: expected a gzipped file, got {error}") from error
    if len(data) < 352 or data[:4] != struct.pack("<i", 348) or data[344:348] != b"n+1\0":
        raise ValueError(f"{name}: expected NIfTI-1 in one file, got {len(data):,} bytes of something else")
    axes, *shape = struct.unpack("<4h", data[40:48])
    (kind,) = struct.unpack("<h", data[70:72])
    start, slope, offset = struct.unpack("<3f", data[108:120])
    if axes != 3 or not all(0 < side <= _LONGEST for side in shape) or kind not in _VOXELS:
        raise ValueError(
            f"{name}: expected three sides of 1 to {_LONGEST} and numbers of kind 2 or 16, got {axes} axes, "
            f"{shape}, kind {kind}"
        )
    if (start, slope, offset) != (352, 1, 0):
        raise ValueError(f"{name}: expected voxels as they are from byte 352, got {start}, {slope}, {offset}")
    if len(data) != 352 + math.prod(shape) * np.dtype(_VOXELS[kind]).itemsize:
        raise ValueError(f"{name}: expected {math.prod(shape):,} voxels, got {len(data) - 352:,} bytes")
    voxels = np.frombuffer(data, _VOXELS[kind], offset=352).reshape(shape, order="F").astype(np.float32)
    if not np.isfinite(voxels).all():
        raise ValueError(f"{name}: expected finite numbers")
    return voxels


class _Bounded(gzip.GzipFile):
    """Not more than `most` bytes are unpacked: headers, too, can claim to be long."""

    most = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if self.tell() > self.most + tarfile.RECORDSIZE:  # padding at the end
            raise ValueError(f"expected at most {self.most:,} bytes in the archive, got more")
        return data


def _files_in_tar(path: Path, *, most: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents, read as a stream that ends with an error after `most` bytes."""
    with _Bounded(path) as whole:
        whole.most = most
        with tarfile.open(fileobj=whole, mode="r|") as archive:
            for member in archive:
                if member.isfile() and (file := archive.extractfile(member)) is not None:
                    yield member.name, file.read()


# -- tables --------------------------------------------------------------------------------------

_CREDIT_COLUMNS = [
    *("ID", "LIMIT_BAL", "SEX", "EDUCATION", "MARRIAGE", "AGE"),
    *("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6"),
    *(f"BILL_AMT{month}" for month in range(1, 7)),
    *(f"PAY_AMT{month}" for month in range(1, 7)),
    "default",
]
_GERMAN_COLUMNS = [
    *("checking", "duration", "history", "purpose", "amount", "savings", "employment"),
    *("installment_rate", "status_sex", "debtors", "residence", "property", "age", "other_plans"),
    *("housing", "credits", "job", "dependents", "telephone", "foreign", "default"),
]


def credit_table(path: Path) -> pd.DataFrame:
    """UCI's table of credit-card clients under the names of its makers: int64, by "ID"; label "default"."""
    import pandas as pd

    table = pd.read_csv(path, low_memory=False)
    _check_header(list(table.columns), ["ID", *(f"X{i}" for i in range(1, 24)), "Y"])
    table.columns = pd.Index(_CREDIT_COLUMNS)
    for name in table:
        if not pd.api.types.is_integer_dtype(table[name]):
            raise ValueError(f"{name}: expected whole numbers, got {table[name].dtype}")
    return table.astype("int64").sort_values("ID").set_index("ID")


def german_table(path: Path) -> pd.DataFrame:
    """UCI's table of German loans, sorted by content: numbers int64, codes text; "default" is 1 if bad."""
    import pandas as pd

    header, *rows = [line.split(",") for line in path.read_text("utf-8").splitlines() if line] or [[]]
    _check_header(header, [*(f"Attribute{i}" for i in range(1, 21)), "class"])
    if lengths := {len(row) for row in rows} - {len(_GERMAN_COLUMNS)}:
        raise ValueError(f"expected rows of {len(_GERMAN_COLUMNS)} values, got one of {min(lengths)}")
    table = pd.DataFrame(sorted(rows), columns=_GERMAN_COLUMNS)
    for name in table:
        if table[name].str.fullmatch(r"\d+").all():
            table[name] = table[name].astype("int64")
    if not table["default"].isin([1, 2]).all():
        raise ValueError("class: expected 1 (good) or 2 (bad), got something else")
    return table.assign(default=table["default"] - 1)


def _check_header(got: list[str], expected: list[str]) -> None:
    if got != expected:
        wanted, found = (f"{', '.join(names[:3])}, ... ({len(names)})" for names in (expected, got))
        raise ValueError(f"expected the columns {wanted}, got {found}")


# -- sentences and words -------------------------------------------------------------------------


def polarity_sentences(path: Path) -> Lines:
    """Film reviews of Pang and Lee: 5,331 sentences of blame, then as many of praise, by file name."""
    names = ("rt-polarity.neg", "rt-polarity.pos")
    return _lines(_files_in_tar(path, most=5_000_000), names, 5_331, "latin-1")


def labelled_sentences(path: Path) -> Lines:
    """UCI's labelled sentences: 1,000 lines, text and label parted by a tab, of each of three files."""
    names = ("amazon_cells_labelled.txt", "imdb_labelled.txt", "yelp_labelled.txt")
    with zipfile.ZipFile(path) as archive:
        _check_size(archive, most=2_000_000)
        found = [(name, archive.read(name)) for name in archive.namelist()]
    return _lines(found, names, 1_000, "utf-8")


def _lines(found: Iterable[tuple[str, bytes]], names: tuple[str, ...], number: int, encoding: str) -> Lines:
    """Lines of the files of these names, in whatever folder of the archive they lie."""
    files = {name.rpartition("/")[2]: data for name, data in found if not name.startswith("__MACOSX")}
    result = {}
    for name in names:
        if name not in files:
            raise ValueError(f"expected {', '.join(names)}, got no {name}")
        # By line feed alone: these files have characters that Python counts as ends of a line, too.
        stripped = (line.strip() for line in files[name].decode(encoding).split("\n"))
        result[name] = tuple(line for line in stripped if line)
        if len(result[name]) != number:
            raise ValueError(f"{name}: expected {number:,} lines, got {len(result[name]):,}")
    return result


def fables(path: Path) -> tuple[tuple[str, str], ...]:
    """Title and text of each fable in Townsend's Aesop as Project Gutenberg has it, its ebook 21.

    Cut off are Gutenberg's header and footer, lists of contents, the life of Aesop, the preface and the
    notes. Quotation marks are made straight, and white space is one space; so older and newer electronic
    texts come out nearly alike.
    """
    text = path.read_text("utf-8-sig").translate(_STRAIGHT)
    text = re.split(r"\n\*\*\* ?END OF [^\n]*", re.split(r"\*\*\* ?START OF [^\n]*\n", text)[-1])[0]
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    found: list[tuple[str, list[str]]] = []
    for part, following in zip(paragraphs, [*paragraphs[1:], ""], strict=True):
        if part == "LIFE OF AESOP" and found:
            break
        if _TITLE.fullmatch(part) and _BEGINNING.match(following) and len(following) > len(part):
            found.append((part, []))
        elif found:
            found[-1][1].append(" ".join(part.split()))
    if len(found) < LEAST_FABLES:
        raise ValueError(f"expected {LEAST_FABLES} fables or more, each with a title, got {len(found)}")
    return tuple((title, " ".join(parts)) for title, parts in found)


LEAST_FABLES = 300
_STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
_TITLE = re.compile(r"[A-Z][^\n]{2,70}[^\n.:;,?!\"]")
_BEGINNING = re.compile(r"[A-Z][A-Z'-]+\b|(A|AN|O) [A-Z]{2}")
"""A fable's first word, or the one after its article, is in capitals."""


def fables_counted(path: Path) -> str:
    """Say what was found, as the official file has no digest: Gutenberg mends its texts now and then."""
    return f"{len(fables(path))} fables under their titles; the official file's digest is unknown"


Question = tuple[str, int, str]
"""A question, and where in the paragraph its answer begins, and the answer."""


def questions(path: Path) -> tuple[tuple[str, str, tuple[Question, ...]], ...]:
    """Paragraphs in the form of SQuAD: the article's title, the text, and its questions, one answer each."""
    try:
        articles = json.loads(path.read_text("utf-8"))["data"]
        return tuple(
            (
                str(article["title"]),
                _some_text("a paragraph", article["title"], paragraph["context"]),
                tuple(_question(paragraph["context"], each) for each in paragraph["qas"]),
            )
            for article in articles
            for paragraph in article["paragraphs"]
        )
    except (KeyError, TypeError, IndexError, RecursionError, json.JSONDecodeError) as error:
        got = f"{type(error).__name__} ({str(error)[:80]})"
        raise ValueError(
            f"expected JSON with data, paragraphs, context, qas, question and answers, got {got}"
        ) from error


def _question(paragraph: str, entry: dict[str, Any]) -> Question:
    question = _some_text("a question", paragraph[:40], entry["question"])
    start, answer = entry["answers"][0]["answer_start"], entry["answers"][0]["text"]
    found = _some_text("an answer", question, answer)
    if type(start) is not int or start < 0 or paragraph[start : start + len(found)] != found:
        raise ValueError(
            f"{question!r}: expected the answer {found!r} at {start!r} in its paragraph, got none"
        )
    return question, start, found


def _some_text(what: str, where: str, text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where!r}: expected {what} with words in it, got {text!r}")
    return text


def sentence_pairs(path: Path) -> tuple[tuple[str, str, str], ...]:
    """English sentences, Swedish translations of them and who wrote both, from Tatoeba.

    One English sentence may come with several translations. As manythings.org packs them, in the order there.
    """
    with zipfile.ZipFile(path) as archive:
        _check_size(archive, most=30_000_000)
        if "swe.txt" not in archive.namelist():
            raise ValueError("expected a file swe.txt in the archive, got none")
        text = archive.read("swe.txt").decode("utf-8")
    lines = [line.split("\t") for line in text.split("\n") if line.strip()]
    for number, line in enumerate(lines, start=1):
        if len(line) != 3 or not all(part.strip() for part in line):
            got = "\t".join(line)[:60]
            raise ValueError(
                f"expected two sentences and their authors in each line, got {got!r} as {number}"
            )
    if len(lines) < LEAST_PAIRS:
        raise ValueError(f"expected {LEAST_PAIRS:,} pairs or more, got {len(lines):,}")
    return tuple((english.strip(), swedish.strip(), who.strip()) for english, swedish, who in lines)


LEAST_PAIRS = 20_000


def pairs_counted(path: Path) -> str:
    """Say what was found, as the file is made anew under the same name now and then."""
    return f"{len(sentence_pairs(path)):,} pairs; the official file has no version and no known digest"


WORD_VECTORS = 5_000
"""How many word vectors are read: those of the most frequent words."""


def word_vectors(path: Path) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
    """GloVe's `WORD_VECTORS` most frequent words, and float32 (words, 50); only these are unpacked."""
    with zipfile.ZipFile(path) as archive, archive.open("glove.6B.50d.txt") as file:
        rows = [file.readline(10_000).decode("utf-8").split() for _ in range(WORD_VECTORS)]
    words = tuple(row[0] for row in rows if row)
    if words[:3] != ("the", ",", ".") or len(set(words)) < WORD_VECTORS:
        got = f"{len(set(words)):,}, the first {', '.join(map(repr, words[:3]))}"
        raise ValueError(f"expected {WORD_VECTORS:,} words, the first 'the', ',' and '.', got {got}")
    if wrong := [row[0] for row in rows if len(row) != 51]:
        raise ValueError(f"expected 50 numbers for each word, got others for {wrong[0]!r}")
    vectors = np.array([row[1:] for row in rows], np.float32)
    if not np.isfinite(vectors).all():
        raise ValueError("expected finite numbers, got NaN or infinity")
    return words, vectors


# -- networks ------------------------------------------------------------------------------------

_BERT = (
    *("hidden_act", "hidden_size", "intermediate_size", "layer_norm_eps", "max_position_embeddings"),
    *("model_type", "num_attention_heads", "num_hidden_layers", "pad_token_id", "type_vocab_size"),
    "vocab_size",
)


def bert_config(path: Path) -> dict[str, Any]:
    """What of a BERT's configuration makes the network."""
    config = json.loads(path.read_text("utf-8"))
    if missing := [name for name in _BERT if name not in config]:
        raise ValueError(f"expected {', '.join(_BERT)}, got no {missing[0]}")
    return {name: config[name] for name in _BERT}


def tokens(path: Path) -> tuple[str, ...]:
    """A vocabulary, one token a line."""
    return tuple(path.read_text("utf-8").split())


LLAMA = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")


def llama_weights(path: Path) -> tuple[dict[str, int], dict[str, npt.NDArray[np.float32]]]:
    """A decoder as llama2.c writes it: the seven numbers that make the network, and its arrays by name.

    Kernels are (layers, outputs, inputs). The table of angles at the file's end follows from the numbers.
    """
    data = path.read_bytes()
    shape = dict(zip(LLAMA, np.frombuffer(data[:28], "<i4").tolist(), strict=False))
    if len(shape) < len(LLAMA) or not 0 < min(shape.values()) <= max(shape.values()) < 1 << 16:
        raise ValueError(f"expected {', '.join(LLAMA)} from 1 to 65,535 at the beginning, got {shape}")
    dim, hidden, layers, heads, groups, words, places = shape.values()
    if heads % groups or dim % (2 * heads):
        raise ValueError(f"expected heads that share dim and groups of heads evenly, got {shape}")
    keys = dim // heads * groups
    sizes: dict[str, tuple[int, ...]] = {
        **{"embedding": (words, dim), "attention_norm": (layers, dim)},
        **{"query": (layers, dim, dim), "key": (layers, keys, dim), "value": (layers, keys, dim)},
        **{"output": (layers, dim, dim), "feed_forward_norm": (layers, dim), "gate": (layers, hidden, dim)},
        **{"down": (layers, dim, hidden), "up": (layers, hidden, dim), "norm": (dim,)},
    }
    ends = np.cumsum([math.prod(size) for size in sizes.values()])
    expected = 28 + 4 * (int(ends[-1]) + places * dim // heads)
    if len(data) != expected:
        raise ValueError(f"expected {expected:,} bytes for {shape}, got {len(data):,}")
    numbers = np.frombuffer(data, "<f4", offset=28)
    if not np.isfinite(numbers).all():
        raise ValueError("expected finite numbers, got NaN or infinity")
    parts = np.split(numbers, ends)[:-1]
    return shape, {name: part.reshape(sizes[name]) for name, part in zip(sizes, parts, strict=True)}


def llama_tokens(path: Path) -> tuple[tuple[bytes, ...], npt.NDArray[np.float32]]:
    """A vocabulary as llama2.c writes it: each token's bytes, and the scores by which pairs are joined."""
    data = path.read_bytes()
    longest = int.from_bytes(data[:4], "little")
    pieces, scores, place = list[bytes](), list[float](), 4
    while place < len(data):
        score, length = (
            np.frombuffer(data[place : place + 8].ljust(8, b"\0"), kind) for kind in ("<f4", "<i4")
        )
        end = place + 8 + int(length[1])
        if not 0 < length[1] <= longest or end > len(data):
            raise ValueError(f"expected tokens of 1 to {longest} bytes, got another at byte {place:,}")
        pieces.append(data[place + 8 : end])
        scores.append(float(score[0]))
        place = end
    # Any text can be written: there is a token for each byte. And words can be cut into tokens one by one.
    if pieces[3:259] != [b"<0x%02X>" % byte for byte in range(256)]:
        raise ValueError(
            f"expected 259 tokens or more, from the fourth on the 256 bytes, got {len(pieces):,}"
        )
    if inside := [piece for piece in pieces if b" " in piece[1:]]:
        raise ValueError(f"expected spaces at the beginning of tokens only, got {inside[0]!r}")
    return tuple(pieces), np.array(scores, np.float32)


def keras_weights(path: Path) -> list[list[npt.NDArray[Any]]]:
    """Weights of each layer that has some, in the order of the file as Keras reads it: names have changed."""
    import h5py

    layers = []
    with h5py.File(path, "r") as file:
        if link := file.visititems_links(lambda name, it: None if isinstance(it, h5py.HardLink) else name):
            raise ValueError(f"{link}: expected numbers, got a link to somewhere else")
        for layer in file.attrs["layer_names"]:
            arrays = [file[layer][name] for name in file[layer].attrs["weight_names"]]
            for array in arrays:
                if array.nbytes > 2_000_000 or array.external or array.is_virtual:
                    raise ValueError(f"{array.name}: expected at most 2,000,000 bytes, all in this file")
            if arrays:
                layers.append([array[()] for array in arrays])
    return layers


@functools.cache
def _published_sums() -> tuple[dict[str, str], ...]:
    table = importlib.resources.files("tlhelpers") / "weights" / "mobilenet_v2_imagenet.csv"
    return tuple(csv.DictReader(table.read_text("utf-8").splitlines()))


def mobilenet_weights(path: Path) -> str:
    """Compare a file of MobileNetV2's weights with the published network; say what was compared.

    That is two sums for each convolution, over kernel and bias with its BatchNorm folded in, every number
    times another weight. So copies pass that differ only in how BatchNorm is written, and a change that is
    small beside its layer is not seen. The sums are of Google's TFLite release. In two public models that
    were made from Keras' file, the layers that were left as they were agree with it to seven digits.
    """
    layers: list[list[Any]] = [[array.astype(float) for array in each] for each in keras_weights(path)]
    rows = _published_sums()
    weights = 1 + np.arange(500_000) * 0.618033988749895 % 1
    if len(layers) != 2 * len(rows):
        raise ValueError(f"expected {2 * len(rows)} layers with weights, got {len(layers)}")
    for row, (kernel,), (gamma, beta, mean, variance) in zip(rows, layers[::2], layers[1::2], strict=True):
        with np.errstate(all="ignore"):  # what is not finite is refused below
            scale = gamma / np.sqrt(variance + 0.001)
            kernel = kernel * (scale[:, None] if kernel.shape[-1] == 1 else scale)
            parts = {"kernel": (kernel,), "bias": (beta, -mean * scale)}
            for name, terms in parts.items():
                numbers = sum(terms).ravel()
                got = (numbers * weights[: numbers.size]).sum()
                if not abs(got - float(row[name])) <= 1e-5 * np.sqrt(np.square(terms).sum()):
                    raise ValueError(
                        f"{row['layer']}: expected the {name} to sum up to {row[name]}, got {got:.9g}"
                    )
    return "each layer sums up to what Google's release has; the official file's digest is unknown"
