"""Each official form is read as it is, and anything else is refused in words."""

import gzip
import hashlib
import io
import json
import struct
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
    monkeypatch.setattr(_formats, "_CELLS", {"train": 2, "val": 1, "test": 1})
    monkeypatch.setattr(_formats, "_SCANS", 2)
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
PORTRAITS = {
    f"orl/s{person}/{photo}.pgm": b"P5\n92 112\n255\n" + bytes([person, photo]) * 5152
    for person in range(1, 41)
    for photo in range(1, 11)
}
CELLS = {name: f"photo {name}".encode() for name in "abcd"}
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


def box(kind, *ends):
    names = zip(("xmin", "ymin", "xmax", "ymax"), ends, strict=True)
    place = "".join(f"<{name}>{end}</{name}>" for name, end in names)
    return f"<object><name>{kind}</name><bndbox>{place}</bndbox></object>"


def blood(*boxes, lists=("a b", "c", "d"), photos="abcd", **files):
    """BCCD as it is packed, with these boxes on photo b."""
    members = {
        f"ImageSets/Main/{part}.txt": names
        for part, names in zip(("train", "val", "test"), lists, strict=True)
    }
    members |= {f"JPEGImages/{name}.jpg": CELLS[name] for name in photos}
    members |= {f"Annotations/{name}.xml": "<annotation/>" for name in "acd"}
    members |= {
        "Annotations/b.xml": f"<annotation>{''.join(boxes)}</annotation>",
        "README.md": "read me",
        **files,
    }
    return tgz(
        {
            f"x-1/BCCD/{name}": each if isinstance(each, bytes) else each.encode()
            for name, each in members.items()
        }
    )


def nifti(voxels, *, kind=16, head=b"", start=352.0, slope=1.0, extra=b"", packed=True):
    """A NIfTI-1 file of some voxels (x, y, z)."""
    data = bytearray(352)
    data[:4], data[344:348] = struct.pack("<i", 348), b"n+1\0"
    data[40:48] = struct.pack("<4h", voxels.ndim, *voxels.shape[:3])
    data[70:72], data[108:120] = struct.pack("<h", kind), struct.pack("<3f", start, slope, 0)
    data[: len(head)] = head
    whole = bytes(data) + voxels.tobytes(order="F") + extra
    return gzip.compress(whole, compresslevel=1) if packed else whole


VOXELS = np.arange(24, dtype="<f4").reshape(2, 3, 4)
MARKS = (np.arange(24, dtype="u1") % 3).reshape(2, 3, 4)


def scans(link=None, **files):
    """The Decathlon's archive: scans 1, 2 and 3, of which 2 has no mask."""
    members = {f"image{number}": nifti(VOXELS + number) for number in (3, 2, 1)}
    members |= {f"label{number}": nifti(MARKS, kind=2) for number in (1, 3)} | files
    names = {"image": "imagesTr", "label": "labelsTr"}
    with tarfile.open(fileobj=(whole := io.BytesIO()), mode="w") as archive:
        for name, data in {"._image1": b"a Mac's", **members}.items():
            kind, number = name[:-1].lstrip("._"), name[-1]
            path = f"Task04/{names[kind]}/{'._' * name.startswith('.')}hippocampus_00{number}.nii.gz"
            info = tarfile.TarInfo(path)
            if name == link:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                data = b""
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return whole.getvalue()


def test_scans_that_have_a_mask_come_by_number(read):
    found = read("hippocampus_scans", scans())
    assert list(found) == [1, 3]
    scan, mask = found[3]
    assert (scan.dtype, mask.dtype) == (np.float32, np.uint8)
    assert np.array_equal(scan, VOXELS + 3)
    assert np.array_equal(mask, MARKS)
    # Kinds of numbers may be the other way round, as two of the official files have them.
    other = scans(image1=nifti(MARKS, kind=2), label1=nifti(MARKS.astype("<f4")))
    assert np.array_equal(read("hippocampus_scans", other)[1][0], MARKS)


def test_mnist_is_read_by_name(read):
    found = read("mnist", npz({**DIGITS, "more": np.zeros(2)}))
    assert list(found) == list(DIGITS)
    assert all(np.array_equal(found[name], DIGITS[name]) for name in DIGITS)


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_arrays_by_column_and_of_a_newer_header_are_read(read, version):
    members = {}
    for name, array in DIGITS.items():
        np.lib.format.write_array(whole := io.BytesIO(), np.asfortranarray(array), version)
        members[f"{name}.npy"] = whole.getvalue()
    found = read("mnist", zipped(members))
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


def test_faces_come_person_by_person_from_whatever_folder(read):
    photos = read("faces", zipped({"orl/README": b"", **dict(reversed(PORTRAITS.items()))}))
    assert (photos.shape, photos.dtype) == ((40, 10, 112, 92), np.uint8)
    assert np.array_equal(photos[:, :, 0, 0], np.tile(np.arange(1, 41)[:, None], 10))
    assert np.array_equal(photos[:, :, -1, -1], np.tile(np.arange(1, 11), (40, 1)))


def test_blood_cells_go_by_the_lists_of_their_parts(read):
    boxes = box("Platelets", 0, 3, 640, 480), box("RBC", 5, 6, 5, 6)
    parts = read("blood_cells", blood(*boxes))
    assert {part: jpegs for part, (jpegs, _) in parts.items()} == {
        "train": (CELLS["a"], CELLS["b"]),
        "val": (CELLS["c"],),
        "test": (CELLS["d"],),
    }
    nothing, rows = parts["train"][1]
    assert (nothing.shape, nothing.dtype) == ((0, 5), np.int16)
    assert rows.tolist() == [[2, 0, 3, 640, 480], [0, 5, 6, 5, 6]]


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


NORM = {"gamma": [1, 1], "beta": [3, 4], "moving_mean": [1, 0], "moving_variance": [0.999, 0.999]}
KERNEL, BIAS = "a/a/kernel:0", "bn/bn/beta:0"
GOLDEN = (1 + 5**0.5) / 2  # the second number counts so much
PUBLISHED = ({"layer": "Conv1", "kernel": str(1 + 2 * GOLDEN), "bias": str(2 + 4 * GOLDEN)},) * 2


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file of weights as Keras writes them: a convolution and a depthwise one, each with its BatchNorm."""
    monkeypatch.setattr(_formats, "_published_sums", lambda: PUBLISHED)
    layers = {
        "a": {"kernel": [[[[1, 2]]]]},
        "bn": NORM,
        "relu": {},
        "depthwise": {"kernel": [[[[1], [2]]]]},
        "depthwise_bn": NORM,
    }
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, arrays in layers.items():
            file.create_group(layer).attrs["weight_names"] = [f"{layer}/{name}:0" for name in arrays]
            for name, array in arrays.items():
                file[f"{layer}/{layer}/{name}:0"] = np.array(array, "float32")
    return tmp_path / "weights.h5"


def put(**new):
    return lambda file: [file["bn/bn"][f"{name}:0"].write_direct(np.array(new[name], "f4")) for name in new]


def kernel(numbers):
    return lambda file: file[KERNEL].write_direct(np.array([[[numbers]]], "f4"))


def instead(link=None, **dataset):
    """A link, or an array of this kind, in the place of the kernel."""

    def change(file):
        del file[KERNEL]
        if link is None:
            file.create_dataset(KERNEL, dtype="f4", **dataset)
        else:
            file[KERNEL] = link

    return change


def virtual(file):
    del file[KERNEL]
    layout = h5py.VirtualLayout((1, 1, 1, 2), "f4")
    layout[...] = h5py.VirtualSource("other.h5", "kernel", (1, 1, 1, 2))
    file.create_virtual_dataset(KERNEL, layout)


@pytest.mark.parametrize(
    "change",
    [
        lambda file: None,
        put(gamma=[2, 3], moving_variance=[3.999, 8.999]),  # the same, written in another way
        put(beta=[2, 4], moving_mean=[0, 0]),
        put(beta=[3.00001, 4]),  # too small a change to be seen
    ],
)
def test_weights_are_known_by_what_their_layers_do(weights, change):
    with h5py.File(weights, "r+") as file:
        change(file)
    said = _formats.mobilenet_weights(weights)
    assert "Google's release has; the official file's digest is unknown" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (kernel([0, 0]), "Conv1: expected the kernel to"),
        (kernel([2, 1]), "Conv1: expected the kernel to"),
        (put(gamma=[1, 2]), "Conv1: expected the kernel to"),
        (put(beta=[3, 4 * 2.0**64]), "Conv1: expected the bias to"),
        (put(beta=[3, np.nan]), "expected the bias to sum up to 8.47.*, got nan"),
        (put(moving_variance=[-1, 1]), "got nan"),
        (lambda file: file.attrs.create("layer_names", [b"a", b"bn"]), "expected 4 layers .*, got 2"),
        (instead(h5py.SoftLink(f"/{BIAS}")), "got a link"),
        (instead(h5py.ExternalLink("other.h5", "/kernel")), "got a link"),
        (virtual, "at most 2,000,000 bytes, all in this file"),
        (instead(shape=(1, 1, 1, 2), external="other.bin"), "at most 2,000,000 bytes, all in this file"),
        (instead(shape=(1, 1, 10**6, 10**4), chunks=True), "at most 2,000,000 bytes, all in this file"),
    ],
)
def test_damaged_weights_and_those_of_other_files_are_refused(weights, change, message):
    (weights.parent / "other.bin").write_bytes(np.array([1, 2], "f4").tobytes())
    with h5py.File(weights.parent / "other.h5", "w") as other:
        other["kernel"] = np.array([[[[1, 2]]]], "f4")
    with h5py.File(weights, "r+") as file:
        change(file)
    with pytest.raises(ValueError, match=message):
        _formats.mobilenet_weights(weights)


def test_damaged_copies_of_the_real_weights_are_refused(full_data, tmp_path):
    whole = (full_data / "mobilenet_v2_1.00_224_no_top.h5").read_bytes()
    path, rng = tmp_path / "weights.h5", np.random.default_rng(0)
    path.write_bytes(whole)
    assert "Google's release" in _formats.mobilenet_weights(path)
    shapes = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: shapes.update({name: item.shape} if hasattr(item, "shape") else {})
        )
    for number, name in enumerate(rng.choice(list(shapes), 24, replace=False)):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            array = file[name][()].ravel()
            if number % 4 == 0:
                array[:] = 0
            elif number % 4 == 1:
                array[:] = rng.normal(size=array.size)
            elif number % 4 == 2:  # two exchanged, where another has its shape
                twin = [other for other in shapes if shapes[other] == shapes[name]][-1]
                array, file[twin][...] = file[twin][()].ravel()[:: 1 if twin != name else -1], file[name][()]
            else:  # a bit of the exponent of the largest number
                array.view("u4")[np.abs(array).argmax()] ^= 1 << int(rng.integers(23, 31))
            file[name][...] = array.reshape(shapes[name])
        with pytest.raises(ValueError, match=r"expected the (kernel|bias) to sum up to"):
            _formats.mobilenet_weights(path)


# -- questions -----------------------------------------------------------------------------------


def squad(paragraph="Bees dance.", question="Who dances?", start=0, answer="Bees", **other):
    asked = {"question": question, "answers": [{"answer_start": start, "text": answer}], **other}
    article = {"title": "Bees", "paragraphs": [{"context": paragraph, "qas": [asked]}]}
    return json.dumps({"data": [article], "version": "1.1"}).encode()


def test_questions_come_with_their_paragraphs(read):
    assert read("questions", squad()) == (("Bees", "Bees dance.", (("Who dances?", 0, "Bees"),)),)


def test_the_real_questions_are_all_there(full_data):
    found = _formats.questions(full_data / "xquad.en.json")
    assert (len(found), sum(len(asked) for *_, asked in found)) == (240, 1_190)
    assert len({title for title, *_ in found}) == 48
    assert found[0][2][0] == ("How many points did the Panthers defense surrender?", 34, "308")


# -- fables and the decoder ----------------------------------------------------------------------

OLDER = """A book of fables



The Cat and the Cream
_
A CAT said:  "It is mine."_
_
What is found is not owned.  _
 _

Two Dogs
_
TWO DOGS met, and
parted.

LIFE OF AESOP
_
THE LIFE of Aesop
""".replace("_", " ")
NEWER = (
    "\ufeffThe Project Gutenberg eBook\r\n\r\n*** START OF THE PROJECT GUTENBERG EBOOK ***\r\n\r\n"
    "CONTENTS\r\n\r\nThe Cat And The Cream\r\n\r\nTwo Dogs\r\n\r\nThe Cat And The Cream\r\n\r\n"
    "A CAT said: “It is mine.”\r\n\r\nWhat is found is not owned.\r\n\r\n\r\nTwo Dogs\r\n\r\n"
    "TWO DOGS met, and parted.\r\n\r\n*** END OF THE PROJECT GUTENBERG EBOOK ***\r\n\r\nThe Licence\r\n\r\n"
    "YOU MAY copy it\r\n"
)


@pytest.mark.parametrize(("text", "title"), [(OLDER, "and the"), (NEWER, "And The")])
def test_fables_of_an_older_and_a_newer_text_come_out_alike(read, text, title, monkeypatch):
    monkeypatch.setattr(_formats, "LEAST_FABLES", 2)
    first = (f"The Cat {title} Cream", 'A CAT said: "It is mine." What is found is not owned.')
    assert read("fables", text.encode()) == (first, ("Two Dogs", "TWO DOGS met, and parted."))
    assert read("fables_counted", text.encode()).startswith("2 fables under their titles; ")


def test_the_real_fables_are_all_there(full_data):
    found = _formats.fables(full_data / "pg21.txt")
    assert (len(found), found[0][0]) == (311, "The Wolf and the Lamb")
    assert found[-1][0] == "The Frogs' Complaint Against the Sun"
    assert all(len(text) > 150 and "  " not in text for _, text in found)


def pairs(*lines, more=""):
    return zipped(
        {"_about.txt": b"", "swe.txt": "".join(f"{line}\n" for line in lines).encode() + more.encode()}
    )


PAIRS = ("Go.\tGå.\tCC-BY 2.0 (France) Attribution: tatoeba.org #1 (a) & #2 (b)", "Hi! \tHej\u2028då!\tc & d")


def test_pairs_come_with_their_authors(read, monkeypatch):
    monkeypatch.setattr(_formats, "LEAST_PAIRS", 2)
    first, second = read("sentence_pairs", pairs(*PAIRS, more="\n"))
    assert first == ("Go.", "Gå.", "CC-BY 2.0 (France) Attribution: tatoeba.org #1 (a) & #2 (b)")
    assert second == ("Hi!", "Hej\u2028då!", "c & d")  # a line ends with a line feed, and with nothing else
    assert read("pairs_counted", pairs(*PAIRS)).startswith("2 pairs; ")


def test_the_real_pairs_are_all_there(full_data):
    found = _formats.sentence_pairs(full_data / "swe-eng.zip")
    assert (len(found), found[0][:2]) == (25_286, ("Go.", "Gå."))
    assert all("tatoeba.org #" in who for _, _, who in found)


LAYOUT = dict(zip(_formats.LLAMA, (8, 6, 2, 4, 2, 10, 5), strict=True))


def decoder(values=None, extra=b"", **changed):
    """A decoder of the layout, its weights counted through; or other values of its first weights."""
    numbers = np.arange(10 * 8 + 2 * (2 * 8 + 2 * 64 + 2 * 4 * 8 + 3 * 6 * 8) + 8 + 5 * 2, dtype="<f4")
    numbers[: len(values or [])] = values or []
    return np.array([*(LAYOUT | changed).values()], "<i4").tobytes() + numbers.tobytes() + extra


def test_a_decoder_is_read_in_the_order_of_its_file(read):
    shape, arrays = read("llama_weights", decoder())
    assert shape == LAYOUT
    assert [(name, array.shape) for name, array in arrays.items() if array.ndim > 2] == [
        *(("query", (2, 8, 8)), ("key", (2, 4, 8)), ("value", (2, 4, 8)), ("output", (2, 8, 8))),
        *(("gate", (2, 6, 8)), ("down", (2, 8, 6)), ("up", (2, 6, 8))),
    ]
    numbers = np.concatenate([array.ravel() for array in arrays.values()])
    assert numbers.tolist() == list(range(len(numbers)))
    assert arrays["norm"][-1] == len(numbers) - 1


PIECES = [b"<unk>", b"<s>", b"</s>", *(b"<0x%02X>" % byte for byte in range(256)), b" a"]


def vocabulary(pieces=tuple(PIECES), longest=6):
    records = (
        np.float32(-place).tobytes() + np.int32(len(p)).tobytes() + p for place, p in enumerate(pieces)
    )
    return np.int32(longest).tobytes() + b"".join(records)


def test_tokens_are_read_with_their_scores(read):
    pieces, scores = read("llama_tokens", vocabulary())
    assert pieces == tuple(PIECES)
    assert scores.tolist() == [-place for place in range(len(PIECES))]


# -- anything else -------------------------------------------------------------------------------


def lying(shape, dtype="|u1"):
    """An .npz whose header announces more than there is."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    return zipped({**{f"{name}.npy": b"" for name in DIGITS}, "x_train.npy": header.getvalue()})


def long_header(claimed):
    """A .tar.gz with an extended header that claims so many bytes, and holds 20 MB."""
    info = tarfile.TarInfo("rt-polarity.neg")
    info.type, info.size = tarfile.XHDTYPE, claimed
    return gzip.compress(info.tobuf() + bytes(20_000_000), compresslevel=1)


REFUSED = {
    "mnist": {
        r"x_train: expected uint8 \(2, 3, 4\), got uint8 \(18000000000000,\)": lying((18 * 10**12,)),
        r"x_train: expected .*, got float64 \(2, 3, 4\)": lying((2, 3, 4), "<f8"),
        "cannot reshape array of size 0": lying((2, 3, 4)),
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
    "faces": {
        r"expected 400 photos, got none called s1/1\.pgm \(400 fail\)": zipped({}),
        r"s40/10\.pgm: expected a grey PGM file": zipped(
            {**PORTRAITS, "orl/s40/10.pgm": b"P5\n92 112\n255\n"}
        ),
        "at most 5,000,000 bytes in the archive, got 10,": zipped({**PORTRAITS, "more": bytes(6_000_000)}),
    },
    "blood_cells": {
        "train: expected 2 photos, none in two lists, got 0": tgz({}),
        "train: expected 2 photos, none in two lists, got 1": blood(lists=("a a", "c", "d")),
        "test: expected 1 photos, none in two lists, got 0": blood(lists=("a b", "c", "b")),
        "val: expected 1 photos, none in two lists, got 2": blood(lists=("a b", "c e", "d")),
        "a photo and its boxes of each name, got none of d": blood(photos="abc"),
        "got none of \\.\\./e": blood(lists=("a b", "c", "../e")),
        "b.xml: expected one of RBC, WBC, Platelets and four pixels, got 'Cell'": blood(
            box("Cell", 1, 2, 3, 4)
        ),
        r"b.xml: .* got 'RBC', \['1', '2', '-3', '4'\]": blood(box("RBC", 1, 2, -3, 4)),
        r"b.xml: .* got 'RBC', \['1', 'nan', '3', '4'\]": blood(box("RBC", 1, "nan", 3, 4)),
        r"b.xml: .* within 640 by 480 pixels, got \['1', '2', '641', '4'\]": blood(box("RBC", 1, 2, 641, 4)),
        r"b.xml: .* within 640 by 480 pixels, got \['3', '2', '1', '4'\]": blood(box("RBC", 3, 2, 1, 4)),
        "b.xml: expected elements alone, got a declaration": blood(
            **{"Annotations/b.xml": "<!DOCTYPE a [<!ENTITY b 'ha'>]><annotation>&b;</annotation>"}
        ),
        "b.xml: expected XML, got no element found": blood(
            box("RBC", 1, 2, 3, 4), **{"Annotations/b.xml": "<annotation>"}
        ),
        "at most 60,000,000 bytes in the archive, got more": blood(**{"more": bytes(61_000_000)}),
    },
    "hippocampus_scans": {
        "expected 2 scans with a mask, got 0": bytes(10_240),
        "with a mask, got 1": scans(link="label1"),
        "imagesTr/hippocampus_001.nii.gz: expected a plain file of at most 1,000,000": scans(
            image1=bytes(1_000_001)
        ),
        "imagesTr/hippocampus_001: expected a gzipped file, got Not": scans(
            image1=nifti(VOXELS, packed=False)
        ),
        "labelsTr/hippocampus_003: expected a gzipped file, got": scans(label3=nifti(MARKS, kind=2)[:-9]),
        "got 0 bytes of something else": scans(image1=gzip.compress(b"")),
        "expected NIfTI-1 in one file": scans(image1=nifti(VOXELS, head=b"\0\0\1\x5c")),
        "got 4 axes": scans(image1=nifti(VOXELS[..., None])),
        r"sides of 1 to 64 .*, \[65, 1, 1\]": scans(image1=nifti(np.ones((65, 1, 1), "<f4"))),
        r"sides of 1 to 64 .*, \[0, 1, 1\]": scans(image1=nifti(np.ones((0, 1, 1), "<f4"))),
        "kind 4": scans(image1=nifti(VOXELS, kind=4)),
        "voxels as they are from byte 352, got 352.0, 2.0": scans(image1=nifti(VOXELS, slope=2)),
        "from byte 352, got 400": scans(image1=nifti(VOXELS, start=400)),
        "expected 24 voxels, got 97 bytes": scans(image1=nifti(VOXELS, extra=b"0")),
        "expected 24 voxels, got 1,048,577 bytes": scans(image1=nifti(VOXELS, extra=bytes(2_000_000))),
        "expected finite numbers": scans(image1=nifti(VOXELS * np.float32("nan"))),
        r"labelsTr/hippocampus_001: expected 0, 1 and 2 in .* got \[0. 2. 4": scans(
            label1=nifti(MARKS * 2, kind=2)
        ),
        r"labelsTr/.* shape \(2, 3, 4\), got .* in \(2, 3, 3\)": scans(label1=nifti(MARKS[..., :3], kind=2)),
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
        "at most 5,000,000 bytes in the archive, got more": long_header(3 << 30),
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
    "fables": {
        "expected 300 fables or more, each with a title, got 2": OLDER.encode(),
        "can't decode byte 0xff": b"\xff",
    },
    "questions": {
        r"expected JSON with data, .*, got JSONDecodeError \(Expecting value": b"",
        r"expected JSON with data, .*, got KeyError \('data'\)": b"{}",
        r"expected JSON with data, .*, got TypeError": b'{"data": [7]}',
        r"expected JSON with data, .*, got RecursionError": b"[" * 100_000,
        r"expected JSON with data, .*, got IndexError": squad(answers=[]),
        r"'Bees': expected a paragraph with words in it, got ' '": squad(" "),
        "expected a question with words in it, got 7": squad(question=7),
        "'Who dances[?]': expected an answer with words in it, got ''": squad(answer=""),
        "'Who dances[?]': expected the answer 'Bees' at 1 in its paragraph, got none": squad(start=1),
        "expected the answer 'dance.' at -6 in its paragraph": squad(start=-6, answer="dance."),
        "expected the answer 'Bees' at '0' in its paragraph": squad(start="0"),
        "can't decode byte 0xff": b"\xff",
    },
    "sentence_pairs": {
        "expected a file swe.txt in the archive, got none": zipped({"fra.txt": b""}),
        "can't decode byte 0xff": zipped({"swe.txt": b"\xff"}),
        "expected two sentences and their authors in each line, got 'Go.* as 2": pairs(PAIRS[0], "Go.\tGå."),
        "in each line, got 'Go.* as 1": pairs("Go.\t \tc & d"),
        "in each line, got 'a.*d' as 1": pairs("a\tb\tc\td"),
        "expected 20,000 pairs or more, got 2": pairs(*PAIRS),
        "at most 30,000,000 bytes in the archive, got 31,": zipped({"swe.txt": bytes(31_000_000)}),
    },
    "llama_weights": {
        "from 1 to 65,535 at the beginning, got {}": b"",
        "at the beginning, got .*'vocab_size': -10": decoder(vocab_size=-10),
        "heads that share dim and groups of heads evenly": decoder(n_kv_heads=3),
        "expected heads that share dim": decoder(n_heads=8, n_kv_heads=8),
        "expected 3,236 bytes for .*, got 3,237": decoder(extra=b"0"),
        "expected 13,441,764 bytes for .*, got 3,236": decoder(hidden_dim=60_000, vocab_size=60_000),
        "expected finite numbers": decoder([np.nan]),
    },
    "llama_tokens": {
        "tokens of 1 to 6 bytes, got another at byte 4": vocabulary([b"", *PIECES]),
        "tokens of 1 to 5 bytes, got another at byte 40": vocabulary(longest=5),
        "got another at byte 3,6": vocabulary()[:-1],
        "from the fourth on the 256 bytes, got 259": vocabulary(PIECES[1:]),
        "expected spaces at the beginning of tokens only, got b'a b'": vocabulary([*PIECES, b"a b"]),
    },
    "bert_config": {"got no vocab_size": json.dumps(dict.fromkeys(_formats._BERT[:-1], 7)).encode()},
}


@pytest.mark.parametrize(("reader", "message"), [(name, text) for name in REFUSED for text in REFUSED[name]])
def test_what_is_not_of_its_form_is_refused(read, reader, message):
    with pytest.raises(ValueError, match=message):
        read(reader, REFUSED[reader][message])
