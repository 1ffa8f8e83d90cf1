"""Each official form is read as it is, and anything else is refused in words."""

import hashlib
import io
import json
import tarfile
import zipfile

import h5py
import numpy as np
import pytest

from tlhelpers import _formats
from tlhelpers._formats import flower_rows

SIZES = {"train": 5, "val": 2, "test": 3}


def tgz(members):
    with tarfile.open(fileobj=(whole := io.BytesIO()), mode="w:gz", compresslevel=1) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return whole.getvalue()


def zipped(members):
    with zipfile.ZipFile(whole := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return whole.getvalue()


def npz(arrays):
    np.savez_compressed(whole := io.BytesIO(), **arrays)
    return whole.getvalue()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Expect a tiny MNIST, a tiny PneumoniaMNIST and four word vectors."""
    monkeypatch.setattr(_formats, "_MNIST", {name: array.shape for name, array in DIGITS.items()})
    monkeypatch.setattr(_formats, "_PNEUMONIA", SIZES)
    monkeypatch.setattr(_formats, "WORD_VECTORS", 4)


@pytest.fixture
def read(tmp_path):
    """Let a reader loose on a file of these bytes."""

    def read(reader, data):
        (tmp_path / "file").write_bytes(data)
        return getattr(_formats, reader)(tmp_path / "file")

    return read


# -- images --------------------------------------------------------------------------------------

DIGITS = {
    "x_train": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "y_train": np.array([1, 2], np.uint8),
    "x_test": np.arange(12, dtype=np.uint8).reshape(1, 3, 4),
    "y_test": np.array([3], np.uint8),
}
PHOTOS = {f"flower_photos/{row['file']}": b"photo %d" % i for i, row in enumerate(flower_rows())}


def xrays(seed=0):
    """Images that spell out their labels, in an order by seed."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for part, n in SIZES.items():
        order = rng.permutation(n)
        arrays[f"{part}_images"] = np.tile(order.astype(np.uint8)[:, None, None], (1, 28, 28))
        arrays[f"{part}_labels"] = (order % 2).astype(np.uint8)[:, None]
    return arrays


def test_mnist_is_read_by_name(read):
    found = read("mnist", npz({**DIGITS, "more": np.zeros(2)}))
    assert list(found) == list(DIGITS)
    assert all(np.array_equal(found[name], DIGITS[name]) for name in DIGITS)


def test_pneumonia_comes_out_alike_in_any_order_by_a_hash_of_image_and_label(read):
    first, second = (read("pneumonia_parts", npz(xrays(seed))) for seed in (0, 1))
    for part, n in SIZES.items():
        images, labels = first[part]
        assert np.array_equal(images, second[part][0])
        assert np.array_equal(labels, images[:, 0, 0] % 2)
        assert labels.shape == (n,)
        pairs = zip(images, labels, strict=True)
        keys = [hashlib.sha256(x.tobytes() + bytes([y])).digest() for x, y in pairs]
        assert keys == sorted(keys)


def test_flowers_come_in_the_order_of_the_table_whatever_else_the_archive_holds(read):
    archive = tgz({"flower_photos/LICENSE.txt": b"all of them", **dict(reversed(PHOTOS.items()))})
    assert read("flower_photos", archive) == tuple(PHOTOS.values())
    # As `git hash-object` says.
    assert read("flower_blobs", archive)[0] == hashlib.sha1(b"blob 7\0photo 0").hexdigest()


def test_the_table_of_flowers():
    assert len({row["file"] for row in flower_rows()}) == len(flower_rows()) == 1000
    assert {row["licence"] for row in flower_rows()} == {"CC BY 2.0"}
    assert {len(row["source_git_blob"]) for row in flower_rows()} == {40}


# -- tables --------------------------------------------------------------------------------------

CLIENTS = np.arange(75).reshape(3, 25) % 7
CLIENTS[:, 0], CLIENTS[:, -1] = [2, 1, 3], [0, 1, 1]
LOANS = ["A12 48 A32 A43 5951 " + "A2 " * 15 + "2", "A11 6 A34 A43 1169 " + "A1 " * 15 + "1"]


def clients(old="", new=""):
    header = ["ID", *(f"X{i}" for i in range(1, 24)), "Y"]
    lines = [",".join(header), *(",".join(map(str, row)) for row in CLIENTS)]
    return "".join(f"{line}\n" for line in lines).replace(old, new).encode()


def loans(*rows):
    header = ",".join([*(f"Attribute{i}" for i in range(1, 21)), "class"])
    return "\r\n".join([header, *(row.replace(" ", ",") for row in rows)]).encode()


def test_clients_get_their_makers_names_and_order(read):
    table = read("credit_table", clients())
    assert table.index.tolist() == [1, 2, 3]
    assert table["default"].tolist() == [1, 0, 1]
    assert table["LIMIT_BAL"].tolist() == CLIENTS[[1, 0, 2], 1].tolist()
    assert table["PAY_AMT6"].tolist() == CLIENTS[[1, 0, 2], 23].tolist()
    assert set(table.dtypes) == {np.dtype("int64")}


def test_loans_are_sorted_numbers_and_codes(read):
    table = read("german_table", loans(*LOANS))
    assert table["checking"].tolist() == ["A11", "A12"]
    assert table["amount"].tolist() == [1169, 5951]
    assert table["default"].tolist() == [0, 1]
    assert table.shape == (2, 21)


# -- sentences and words -------------------------------------------------------------------------

POLARITY = {
    "rt-polarity.pos": b"fine \x85 really\n\ngood\n" + b"more\n" * 5329,
    "rt-polarity.neg": b"dull\nbad caf\xe9 \n" + b"less\n" * 5329,
}
LABELLED = {
    f"{name}_labelled.txt": f"{name} is good\t1\nbad {name}\t0\n".encode() * 500
    for name in ("yelp", "amazon_cells", "imdb")
}
WORDS = ("the", ",", ".", "caf\u00e9", "of", "to")


def polarity(**changes):
    members = {f"rt-polaritydata/{name}": data for name, data in {**POLARITY, **changes}.items()}
    return tgz({"rt-polaritydata.README.1.0.txt": b"read me", **members})


def labelled(**changes):
    members = {f"sentiment sentences/{name}": data for name, data in {**LABELLED, **changes}.items()}
    return zipped({**members, "__MACOSX/sentiment sentences/imdb_labelled.txt": b"junk"})


def glove(words=WORDS, numbers=50, value="0.5"):
    lines = "".join(f"{word} {' '.join([value] * numbers)}\n" for word in words)
    return zipped({"glove.6B.50d.txt": lines.encode(), "glove.6B.300d.txt": b"not read"})


def test_sentences_as_their_makers_pack_them(read):
    lines = read("polarity_sentences", polarity())
    assert list(lines) == ["rt-polarity.neg", "rt-polarity.pos"]
    assert lines["rt-polarity.neg"][:3] == ("dull", "bad café", "less")
    # Not at every sign that Python counts as the end of a line.
    assert lines["rt-polarity.pos"][:3] == ("fine \x85 really", "good", "more")
    lines = read("labelled_sentences", labelled())
    assert list(lines) == ["amazon_cells_labelled.txt", "imdb_labelled.txt", "yelp_labelled.txt"]
    assert lines["imdb_labelled.txt"][:2] == ("imdb is good\t1", "bad imdb\t0")


def test_word_vectors_are_the_first(read):
    words, vectors = read("word_vectors", glove())
    assert words == ("the", ",", ".", "caf\u00e9")
    assert (vectors.dtype, vectors.shape) == (np.float32, (4, 50))
    assert (vectors == 0.5).all()


# -- networks ------------------------------------------------------------------------------------


def test_the_numbers_that_make_a_bert(read):
    config = dict.fromkeys(_formats._BERT, 7)
    assert read("bert_config", json.dumps({**config, "transformers_version": "4.8.2"}).encode()) == config


def test_a_vocabulary(read):
    assert read("tokens", "[PAD]\n##caf\u00e9\nthe\n".encode()) == ("[PAD]", "##caf\u00e9", "the")


@pytest.mark.parametrize("names", [["a", "b"], [b"a", b"b"]])
def test_weights_name_their_layers(read, names):
    with h5py.File(whole := io.BytesIO(), "w") as weights:
        weights.attrs["layer_names"] = names
    assert read("keras_weights", whole.getvalue()) == ("a", "b")


# -- anything else -------------------------------------------------------------------------------

REFUSED = {
    "mnist": {
        "the arrays x_train, .*, y_test, got none named y_test": npz(dict(list(DIGITS.items())[:3])),
        r"y_test: expected uint8 \(1,\), got int64": npz({**DIGITS, "y_test": np.array([3], np.int64)}),
        r"x_test: expected uint8 \(1, 3, 4\), got uint8 \(9,\)": npz({**DIGITS, "x_test": np.ones(9, "u1")}),
        "at most 8,270 bytes in the archive, got 80": npz({**DIGITS, "more": np.zeros(100_000)}),
    },
    "pneumonia_parts": {
        "val_labels: expected 0 and 1, got 2": npz({**xrays(), "val_labels": np.array([[2], [0]], np.uint8)}),
    },
    "flower_photos": {
        "expected 1,000 photos, got none called .*/daisy/100080576_f52e": tgz(dict(list(PHOTOS.items())[1:])),
    },
    "credit_table": {
        r"expected the columns ID, .* \(25\), got": clients("X5", "PAY_0"),
        "ID: expected whole numbers, got": clients("\n2,", "\ntwo,"),
        "No columns to parse": b"",
    },
    "german_table": {
        "expected rows of 21 values, got one of 22": loans(LOANS[0] + " 3", LOANS[1]),
        r"class: expected 1 \(good\) or 2 \(bad\)": loans(LOANS[0][:-1] + "3"),
        "expected the columns Attribute1": b"",
    },
    "polarity_sentences": {
        r"rt-polarity\.neg: expected 5,331 lines, got 1": polarity(**{"rt-polarity.neg": b"dull\n"}),
        "at most 5,000,000 bytes .*, got more": tgz({"rt-polarity.neg": bytes(6_000_000)}),
    },
    "labelled_sentences": {
        "can't decode byte 0xff": labelled(**{"imdb_labelled.txt": b"\xff\n"}),
        r"expected amazon_cells_labelled\.txt, .*, got no amazon_cells": zipped({}),
        "at most 2,000,000 .*, got 6,000,000": zipped({"imdb_labelled.txt": bytes(6_000_000)}),
    },
    "word_vectors": {
        "expected 4 words, the first 'the', ',' and '.', got 3": glove(WORDS[:3]),
        "got 4, the first 'eht', ',', '.'": glove(("eht", ",", ".", "of")),
        "expected 4 words, .* got 3": glove(("the", ",", ".", "the")),
        "expected 50 numbers for each word, got others for 'the'": glove(numbers=49),
        "expected finite numbers": glove(value="nan"),
    },
    "bert_config": {"got no vocab_size": json.dumps(dict.fromkeys(_formats._BERT[:-1], 7)).encode()},
}


@pytest.mark.parametrize(("reader", "message"), [(name, text) for name in REFUSED for text in REFUSED[name]])
def test_what_is_not_of_its_form_is_refused(read, reader, message):
    with pytest.raises(ValueError, match=message):
        read(reader, REFUSED[reader][message])
