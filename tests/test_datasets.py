"""Splits are disjoint and complete, and hold what their sources hold."""

import dataclasses

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tlhelpers import _formats, datasets, downloads
from tlhelpers.datasets import Split, load_dataset, overlap

IMAGES, LABELS, INDICES = np.zeros((2, 3, 3), np.uint8), np.zeros(2, np.int64), np.arange(2)


def splits(data):
    return [data.train, data.validation, data.test]


def same(split, *arrays):
    return all(map(np.array_equal, (split.images, split.labels, split.indices), arrays))


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture
def stand_in(monkeypatch):
    """Let a parser of official files give something else."""

    def stand_in(reader, filename, found):
        monkeypatch.setattr(downloads, "fetch", lambda name: name)
        monkeypatch.setattr(_formats, reader, {filename: found}.__getitem__)

    return stand_in


def test_digits_are_those_of_scikit_learn_once_each_and_always_the_same(digits):
    images, labels = load_digits(return_X_y=True)
    for split, size in zip(splits(digits), (1000, 297, 500), strict=True):
        assert split.images.shape == (size, 8, 8)
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
        raw = images[split.indices].reshape(-1, 8, 8)
        assert np.abs(split.images * (16 / 255) - raw).max() < 0.05
        assert np.array_equal(split.labels, labels[split.indices])
        assert np.abs(np.bincount(split.labels, minlength=10) / size - 0.1).max() < 0.01
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 255)
    assert sorted(np.concatenate([split.indices for split in splits(digits)])) == list(range(1797))
    first = [split.indices[:3].tolist() for split in splits(digits)]
    assert first == [[762, 1114, 400], [219, 1398, 1129], [87, 1037, 28]]


def test_mnist_is_split_in_order(stand_in):
    numbers = np.arange(70_000, dtype="<u4")
    images = numbers.view(np.uint8).reshape(-1, 2, 2)  # they spell out their own index
    arrays = {"x_train": images[:60_000], "x_test": images[60_000:]}
    arrays |= {"y_train": numbers[:60_000] % 10, "y_test": numbers[60_000:] % 7}
    stand_in("mnist", "mnist.npz", arrays)
    mnist = load_dataset("mnist")
    labels = np.concatenate([arrays["y_train"], arrays["y_test"]])
    parts = slice(48_000), slice(48_000, 60_000), slice(60_000, None)
    for split, part in zip(splits(mnist), parts, strict=True):
        assert same(split, images[part], labels[part], numbers[part])
    assert mnist.class_names == tuple("0123456789")


def test_a_limit_keeps_the_first_of_each_split(digits):
    for first, whole in zip(splits(load_dataset("digits", limit=7)), splits(digits), strict=True):
        assert same(first, whole.images[:7], whole.labels[:7], whole.indices[:7])
    assert len(load_dataset("digits", limit=20_000).test) == len(digits.test)


@pytest.mark.parametrize(
    ("name", "limit", "error", "message"),
    [
        ("digits", 0, ValueError, "limit: expected at least 1, got 0"),
        ("digits", 1.5, TypeError, "limit: expected a whole number or None, got 1.5"),
        ("digits", True, TypeError, "limit: expected"),
        ("minst", None, LookupError, "unknown data set 'minst': .*did you mean 'mnist'"),
    ],
)
def test_what_can_not_be_loaded(name, limit, error, message):
    with pytest.raises(error, match=message):
        load_dataset(name, limit=limit)


def test_a_split_can_not_be_written_to_and_leaves_its_makers_arrays_alone():
    split = Split(images := IMAGES.copy(), LABELS, INDICES)
    for array in (split.images, split.labels, split.indices):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    images[0] = 1


@pytest.mark.parametrize(
    ("images", "indices", "message"),
    [
        (IMAGES, INDICES[:1], r"indices: expected shape \(2,\), got \(1,\)"),
        (IMAGES[..., None], INDICES, r"\(n, height, width, 3\), got \(2, 3, 3, 1\)\. Drop the last axis"),
        (IMAGES / 1, INDICES, "expected uint8 values"),
    ],
)
def test_a_split_checks_what_it_is_made_of(images, indices, message):
    with pytest.raises(ValueError, match=message):
        Split(images, LABELS, indices)


def test_take_by_positions_and_by_mask(digits):
    test = digits.test
    for rows in (np.array([4, 1]), test.labels == 3):
        assert same(test.take(rows), test.images[rows], test.labels[rows], test.indices[rows])


def test_a_data_set_checks_what_it_is_made_of(digits):
    other = Split(np.zeros((2, 8, 8, 3), np.uint8), LABELS, INDICES)
    with pytest.raises(ValueError, match=r"images: expected one shape in all splits, got .*\(8, 8, 3\)"):
        dataclasses.replace(digits, test=other)
    with pytest.raises(ValueError, match="labels: expected 0 to 8, got 0 to 9"):
        dataclasses.replace(digits, class_names=digits.class_names[:-1])


# -- overlap -------------------------------------------------------------------------------------


def test_overlap_counts_pictures_and_indices():
    images = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2)
    assert overlap(images[:3], images[3:]) == 0
    assert overlap(images[:3], images[2:]) == 1
    assert overlap(images[[0, 0, 1]], images[[1, 0, 0]]) == 2
    first = Split(images[:3], np.zeros(3, int), np.arange(3))
    second = Split(images[1:4], np.zeros(3, int), np.arange(3) + 10)
    assert overlap(first, second) == 2
    assert overlap(first.indices, second.indices) == 0
    assert overlap([1, 2, 2, 3], [2, 3, 4]) == 2


@pytest.mark.parametrize("other", [INDICES, IMAGES[:, :2], IMAGES / 1], ids=["indices", "size", "type"])
def test_overlap_of_things_that_can_not_be_compared(other):
    with pytest.raises(ValueError, match="expected two of a kind"):
        overlap(IMAGES, other)


# -- the full edition's, from files that stand in for theirs ------------------------------------


def test_flowers_go_by_folder_in_proportion(stand_in, monkeypatch):
    rows = _formats.flower_rows()
    stand_in("flower_photos", "flower_photos.tgz", range(1000))
    # Each photo shows its own position in two of its numbers.
    monkeypatch.setattr(
        datasets, "square", lambda i, n: np.full((n, 1, 3), (i // 100, i % 100, 77), np.uint8)
    )
    flowers = load_dataset("flowers")
    assert flowers.class_names == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    for split, size in zip(splits(flowers), (650, 150, 200), strict=True):
        assert split.images.shape == (size, 160, 1, 3)
        assert (split.images[:, 0, 0, :2] @ [100, 1] == split.indices).all()
        assert np.bincount(split.labels).tolist() == [size // 5] * 5
        folders = [rows[i]["file"].split("/")[0] for i in split.indices]
        assert folders == [flowers.class_names[label] for label in split.labels]
    assert sorted(np.concatenate([split.indices for split in splits(flowers)])) == list(range(1000))
    assert flowers.test.indices[:5].tolist() == [403, 621, 555, 776, 79]
    authors = np.array([row["author"] for row in rows])
    shared = np.isin(authors[flowers.test.indices], authors[flowers.train.indices]).sum()
    words = ("colour images of 160 by", "20.0% each", "Read here: flower_photos", f"; {shared} of the 200")
    assert [each for each in words if each not in flowers.card] == []


def test_pneumonia_takes_the_order_of_its_reader(stand_in):
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2)
    labels = np.array([0, 1, 1, 0, 1, 0], np.uint8)
    cuts = {"train": slice(0, 3), "val": slice(3, 5), "test": slice(5, 6)}
    parts = {part: (images[cut], labels[cut]) for part, cut in cuts.items()}
    stand_in("pneumonia_parts", "pneumoniamnist.npz", parts)
    xrays = load_dataset("pneumonia")
    for split, cut in zip(splits(xrays), cuts.values(), strict=True):
        assert same(split, images[cut], labels[cut], np.arange(6)[cut])
    shares = "train normal 33.3%, pneumonia 66.7%"
    words = ("grey images of 2 by 2", "3 train, 2 validation, 1 test", shares, "CC BY 4.0", "MedMNIST")
    assert [each for each in words if each not in xrays.card] == []


# -- the real ones: images of the first class, and what is in them twice -------------------------


@pytest.mark.usefixtures("full_data")
@pytest.mark.parametrize(
    ("name", "file", "first", "common", "repeated"),
    [
        ("flowers", "flower_photos.tgz", [130, 30, 40], [0, 0, 0], [1, 0, 0]),
        ("pneumonia", "pneumoniamnist.npz", [1214, 135, 234], [8, 0, 0], [18, 0, 3]),
    ],
)
def test_the_real_ones_are_what_their_notes_say(name, file, first, common, repeated):
    if downloads.find(file) is None:
        pytest.skip(f"needs {file} in TLHELPERS_DATA")
    train, validation, test = splits(load_dataset(name))
    assert [(split.labels == 0).sum() for split in (train, validation, test)] == first
    assert [overlap(train, validation), overlap(train, test), overlap(validation, test)] == common
    assert [len(split) - overlap(split, split) for split in (train, validation, test)] == repeated
