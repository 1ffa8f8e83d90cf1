"""Each official form is read as it is, and anything else is refused in words."""

from __future__ import annotations

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


def tgz(path, members):
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file"


# -- images --------------------------------------------------------------------------------------

DIGITS = {
    "x_train": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "y_train": np.array([1, 2], np.uint8),
    "x_test": np.arange(12, dtype=np.uint8).reshape(1, 3, 4),
    "y_test": np.array([3], np.uint8),
}


def npz(path, arrays):
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


@pytest.fixture
def small(monkeypatch):
    """Expect a tiny MNIST and a tiny PneumoniaMNIST."""
    monkeypatch.setattr(_formats, "_MNIST", {name: array.shape for name, array in DIGITS.items()})
    monkeypatch.setattr(_formats, "_PNEUMONIA", {"train": 5, "val": 2, "test": 3})


@pytest.mark.usefixtures("small")
def test_mnist_is_read_by_name(file):
    found = _formats.mnist(npz(file, {**DIGITS, "more": np.zeros(2)}))
    assert list(found) == list(DIGITS)
    assert all(np.array_equal(found[name], DIGITS[name]) for name in DIGITS)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "expected the arrays x_train, y_train, x_test, y_test, got none named y_test"),
        ({"y_test": np.array([3], np.int64)}, r"y_test: expected uint8 \(1,\), got int64 \(1,\)"),
        ({"x_test": DIGITS["x_test"][0]}, r"x_test: expected uint8 \(1, 3, 4\), got uint8 \(3, 4\)"),
        ({"more": np.zeros(100_000)}, "expected at most 8,270 bytes of arrays, got 80"),
    ],
)
def test_mnist_that_is_none(file, changes, message):
    arrays = {name: array for name, array in {**DIGITS, **changes}.items() if array is not None}
    with pytest.raises(ValueError, match=message):
        _formats.mnist(npz(file, arrays))


def xrays(seed=0):
    """Images that spell out their labels, in an order by seed."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for part, n in _formats._PNEUMONIA.items():
        order = rng.permutation(n)
        arrays[f"{part}_images"] = np.tile(order.astype(np.uint8)[:, None, None], (1, 28, 28))
        arrays[f"{part}_labels"] = (order % 2).astype(np.uint8)[:, None]
    return arrays


@pytest.mark.usefixtures("small")
def test_pneumonia_comes_out_alike_in_any_order_by_a_hash_of_image_and_label(file):
    first, second = (_formats.pneumonia_parts(npz(file, xrays(seed))) for seed in (0, 1))
    for part, n in (("train", 5), ("val", 2), ("test", 3)):
        images, labels = first[part]
        assert np.array_equal(images, second[part][0])
        assert np.array_equal(labels, images[:, 0, 0] % 2)
        assert labels.shape == (n,)
        pairs = zip(images, labels, strict=True)
        keys = [hashlib.sha256(x.tobytes() + bytes([y])).digest() for x, y in pairs]
        assert keys == sorted(keys)


@pytest.mark.usefixtures("small")
def test_pneumonia_of_a_third_class(file):
    with pytest.raises(ValueError, match="val_labels: expected 0 and 1, got 2"):
        _formats.pneumonia_parts(npz(file, {**xrays(), "val_labels": np.array([[2], [0]], np.uint8)}))


def test_flowers_come_in_the_order_of_the_table_whatever_else_the_archive_holds(file):
    photos = {f"flower_photos/{row['file']}": b"photo %d" % i for i, row in enumerate(flower_rows())}
    members = {"flower_photos/LICENSE.txt": b"all of them", **dict(reversed(photos.items()))}
    assert _formats.flower_photos(tgz(file, members)) == tuple(photos.values())
    # As `git hash-object` says.
    assert _formats.flower_blobs(file)[0] == hashlib.sha1(b"blob 7\0photo 0").hexdigest()
    del members[next(iter(photos))]
    with pytest.raises(ValueError, match=r"expected 1,000 photos, got none called .*/daisy/100080576_f52e"):
        _formats.flower_photos(tgz(file, members))


def test_the_table_of_flowers():
    assert len({row["file"] for row in flower_rows()}) == len(flower_rows()) == 1000
    assert {row["licence"] for row in flower_rows()} == {"CC BY 2.0"}
    assert {len(row["source_git_blob"]) for row in flower_rows()} == {40}


@pytest.mark.parametrize(
    ("pack", "name", "reader", "message"),
    [
        (tgz, "rt-polarity.neg", _formats.polarity_sentences, "at most 5,000,000 bytes .*, got more"),
        (zipped, "imdb_labelled.txt", _formats.labelled_sentences, "at most 2,000,000 .*, got 6,000,000"),
    ],
)
def test_an_archive_that_swells_is_given_up(file, pack, name, reader, message):
    pack(file, {name: bytes(6_000_000)})
    assert file.stat().st_size < 100_000
    with pytest.raises(ValueError, match=message):
        reader(file)


# -- tables --------------------------------------------------------------------------------------

CLIENTS = np.arange(75).reshape(3, 25) % 7
CLIENTS[:, 0], CLIENTS[:, -1] = [2, 1, 3], [0, 1, 1]
LOANS = ["A12 48 A32 A43 5951 " + "A2 " * 15 + "2", "A11 6 A34 A43 1169 " + "A1 " * 15 + "1"]


def clients():
    header = ["ID", *(f"X{i}" for i in range(1, 24)), "Y"]
    return "\n".join([",".join(header), *(",".join(map(str, row)) for row in CLIENTS)]) + "\n"


def loans(rows=LOANS):
    header = ",".join([*(f"Attribute{i}" for i in range(1, 21)), "class"])
    return "\r\n".join([header, *(row.replace(" ", ",") for row in rows)])


def test_clients_get_their_makers_names_and_order(file):
    file.write_text(clients())
    table = _formats.credit_table(file)
    assert table.index.tolist() == [1, 2, 3]
    assert table["default"].tolist() == [1, 0, 1]
    assert table["LIMIT_BAL"].tolist() == CLIENTS[[1, 0, 2], 1].tolist()
    assert table["PAY_AMT6"].tolist() == CLIENTS[[1, 0, 2], 23].tolist()
    assert set(table.dtypes) == {np.dtype("int64")}


def test_loans_are_sorted_numbers_and_codes(file):
    file.write_text(loans())
    table = _formats.german_table(file)
    assert table["checking"].tolist() == ["A11", "A12"]
    assert table["amount"].tolist() == [1169, 5951]
    assert table["default"].tolist() == [0, 1]
    assert table.shape == (2, 21)


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        ("credit_table", clients().replace("X5", "PAY_0"), r"expected the columns ID, .* \(25\), got"),
        ("credit_table", clients().replace("\n2,", "\ntwo,"), "ID: expected whole numbers, got"),
        ("credit_table", "", "No columns to parse"),
        ("german_table", loans([LOANS[0] + " 3", LOANS[1]]), "expected rows of 21 values, got one of 22"),
        ("german_table", loans([LOANS[0][:-1] + "3"]), r"class: expected 1 \(good\) or 2 \(bad\)"),
        ("german_table", "", "expected the columns Attribute1"),
    ],
)
def test_a_table_that_is_none(file, reader, text, message):
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        getattr(_formats, reader)(file)


# -- sentences and words -------------------------------------------------------------------------

POLARITY = {
    "rt-polarity.pos": b"fine \x85 really\n\ngood\n" + b"more\n" * 5329,
    "rt-polarity.neg": b"dull\nbad caf\xe9 \n" + b"less\n" * 5329,
}
LABELLED = {
    f"{name}_labelled.txt": f"{name} is good\t1\nbad {name}\t0\n".encode() * 500
    for name in ("yelp", "amazon_cells", "imdb")
}


def polarity(path, **changes):
    members = {f"rt-polaritydata/{name}": data for name, data in {**POLARITY, **changes}.items()}
    return tgz(path, {"rt-polaritydata.README.1.0.txt": b"read me", **members})


def labelled(path, **changes):
    members = {f"sentiment sentences/{name}": data for name, data in {**LABELLED, **changes}.items()}
    return zipped(path, {**members, "__MACOSX/sentiment sentences/imdb_labelled.txt": b"junk"})


def test_sentences_as_their_makers_pack_them(file):
    lines = _formats.polarity_sentences(polarity(file))
    assert list(lines) == ["rt-polarity.neg", "rt-polarity.pos"]
    assert lines["rt-polarity.neg"][:3] == ("dull", "bad café", "less")
    # Not at every sign that Python counts as the end of a line.
    assert lines["rt-polarity.pos"][:3] == ("fine \x85 really", "good", "more")
    lines = _formats.labelled_sentences(labelled(file))
    assert list(lines) == ["amazon_cells_labelled.txt", "imdb_labelled.txt", "yelp_labelled.txt"]
    assert lines["imdb_labelled.txt"][:2] == ("imdb is good\t1", "bad imdb\t0")


def test_sentences_that_are_not_all_there(file):
    with pytest.raises(ValueError, match=r"rt-polarity\.neg: expected 5,331 lines, got 1"):
        _formats.polarity_sentences(polarity(file, **{"rt-polarity.neg": b"dull\n"}))
    with pytest.raises(ValueError, match="can't decode byte 0xff"):
        _formats.labelled_sentences(labelled(file, **{"imdb_labelled.txt": b"\xff\n"}))
    with pytest.raises(ValueError, match=r"expected amazon_cells_labelled\.txt, .*, got no amazon_cells"):
        _formats.labelled_sentences(zipped(file, {}))


WORDS = ("the", ",", ".", "caf\u00e9", "of", "to")


def glove(words=WORDS, numbers=50, value="0.5"):
    return "".join(f"{word} {' '.join([value] * numbers)}\n" for word in words).encode()


def test_word_vectors_are_the_first(file, monkeypatch):
    monkeypatch.setattr(_formats, "WORD_VECTORS", 4)
    zipped(file, {"glove.6B.50d.txt": glove(), "glove.6B.300d.txt": b"not read"})
    words, vectors = _formats.word_vectors(file)
    assert words == ("the", ",", ".", "caf\u00e9")
    assert (vectors.dtype, vectors.shape) == (np.float32, (4, 50))
    assert (vectors == 0.5).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (glove(WORDS[:3]), "expected 4 words, the first 'the', ',' and '.', got 3"),
        (glove(("eht", ",", ".", "of")), "got 4, the first 'eht', ',', '.'"),
        (glove(("the", ",", ".", "the")), "expected 4 words, .* got 3"),
        (glove(numbers=49), "expected 50 numbers for each word, got others for 'the'"),
        (glove(value="nan"), "expected finite numbers"),
    ],
)
def test_word_vectors_that_are_none(file, monkeypatch, text, message):
    monkeypatch.setattr(_formats, "WORD_VECTORS", 4)
    with pytest.raises(ValueError, match=message):
        _formats.word_vectors(zipped(file, {"glove.6B.50d.txt": text}))


# -- networks ------------------------------------------------------------------------------------


def test_the_numbers_that_make_a_bert(file):
    config = dict.fromkeys(_formats._BERT, 7)
    file.write_text(json.dumps({**config, "transformers_version": "4.8.2"}))
    assert _formats.bert_config(file) == config
    del config["vocab_size"]
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="got no vocab_size"):
        _formats.bert_config(file)


def test_a_vocabulary(file):
    file.write_bytes("[PAD]\n##caf\u00e9\nthe\n".encode())
    assert _formats.tokens(file) == ("[PAD]", "##caf\u00e9", "the")


@pytest.mark.parametrize("names", [["a", "b"], [b"a", b"b"]])
def test_weights_name_their_layers(file, names):
    with h5py.File(file, "w") as weights:
        weights.attrs["layer_names"] = names
    assert _formats.keras_weights(file) == ("a", "b")
