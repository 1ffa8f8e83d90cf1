"""Splits are disjoint and complete, and hold what their sources hold."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tlhelpers import _formats, datasets, downloads
from tlhelpers.datasets import load_dataset, overlap

SPLITS = ("train", "validation", "test")


def splits(data):
    return [getattr(data, name) for name in SPLITS]


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture
def small_mnist(monkeypatch):
    """Stand in for MNIST: as many images, of 2 by 2 pixels that spell out their own index."""

    def numbered(start, stop):
        return np.arange(start, stop, dtype="<u4").view(np.uint8).reshape(-1, 2, 2)

    arrays = {
        "x_train": numbered(0, 60_000),
        "y_train": (np.arange(60_000) % 10).astype(np.uint8),
        "x_test": numbered(60_000, 70_000),
        "y_test": (np.arange(10_000) % 7).astype(np.uint8),
    }
    monkeypatch.setattr(downloads, "fetch", lambda name: name)
    monkeypatch.setattr(_formats, "mnist", {"mnist.npz": arrays}.__getitem__)


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


@pytest.mark.usefixtures("small_mnist")
def test_mnist_is_split_in_order():
    mnist = load_dataset("mnist")
    for split, start, stop in zip(splits(mnist), (0, 48_000, 60_000), (48_000, 60_000, 70_000), strict=True):
        shown = np.ascontiguousarray(split.images).reshape(len(split), 4).view("<u4")[:, 0]
        assert np.array_equal(shown, np.arange(start, stop))
        assert np.array_equal(split.indices, shown)
    assert np.array_equal(mnist.validation.labels, np.arange(48_000, 60_000) % 10)
    assert np.array_equal(mnist.test.labels, np.arange(10_000) % 7)
    assert mnist.class_names == tuple("0123456789")


@pytest.mark.usefixtures("small_mnist")
@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_a_limit_keeps_the_first_of_each_split(name):
    whole, part = load_dataset(name), load_dataset(name, limit=7)
    for first, all_of_it in zip(splits(part), splits(whole), strict=True):
        assert np.array_equal(first.images, all_of_it.images[:7])
        assert np.array_equal(first.indices, all_of_it.indices[:7])
    assert len(load_dataset(name, limit=20_000).test) == len(whole.test)


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


def test_a_split_can_not_be_written_to_and_leaves_its_makers_arrays_alone(digits):
    for array in (digits.train.images, digits.train.labels, digits.train.indices):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    images = np.zeros((2, 3, 3), np.uint8)
    datasets.Split(images, np.zeros(2, np.int64), np.arange(2))
    images[0] = 1


def test_a_split_checks_what_it_is_made_of():
    images, labels, indices = np.zeros((2, 3, 3), np.uint8), np.zeros(2, np.int64), np.arange(2)
    assert datasets.Split(np.zeros((2, 4, 5, 3), np.uint8), labels, indices).images.shape == (2, 4, 5, 3)
    with pytest.raises(ValueError, match="labels: expected 2, one for each"):
        datasets.Split(images, labels[:1], indices)
    with pytest.raises(ValueError, match=r"indices: expected shape \(2,\), got \(1,\)"):
        datasets.Split(images, labels, indices[:1])
    with pytest.raises(ValueError, match=r"\(n, height, width, 3\), got \(2, 3, 3, 1\)\. Drop the last axis"):
        datasets.Split(images[..., None], labels, indices)
    with pytest.raises(ValueError, match="expected uint8 values"):
        datasets.Split(np.zeros((2, 3, 3, 3)), labels, indices)


def test_take_by_positions_and_by_mask(digits):
    test = digits.test
    for rows in (np.array([4, 1]), test.labels == 3):
        taken = test.take(rows)
        for name in ("images", "labels", "indices"):
            assert np.array_equal(getattr(taken, name), getattr(test, name)[rows])


def test_a_data_set_checks_what_it_is_made_of(digits):
    other = datasets.Split(np.zeros((2, 8, 8, 3), np.uint8), np.zeros(2, np.int64), np.arange(2))
    with pytest.raises(ValueError, match=r"images: expected one shape in all splits, got .*\(8, 8, 3\)"):
        dataclasses.replace(digits, test=other)
    with pytest.raises(ValueError, match="labels: expected 0 to 8, got 0 to 9"):
        dataclasses.replace(digits, class_names=digits.class_names[:-1])


def test_the_card_says_what_a_page_needs(digits):
    for words in ("8 by 8", "1,000 train, 297 validation, 500 test", "CC BY 4.0", "Alpaydin", "small set"):
        assert words in digits.card


# -- overlap -------------------------------------------------------------------------------------


def test_overlap_counts_pictures_and_indices():
    images = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2)
    assert overlap(images[:3], images[3:]) == 0
    assert overlap(images[:3], images[2:]) == 1
    assert overlap(images[[0, 0, 1]], images[[1, 0, 0]]) == 2
    first = datasets.Split(images[:3], np.zeros(3, int), np.arange(3))
    second = datasets.Split(images[1:4], np.zeros(3, int), np.arange(3) + 10)
    assert overlap(first, second) == 2
    assert overlap(first.indices, second.indices) == 0
    assert overlap([1, 2, 2, 3], [2, 3, 4]) == 2


def test_overlap_of_things_that_can_not_be_compared():
    images = np.zeros((2, 3, 3), np.uint8)
    for other in (np.arange(2), images[:, :2], images.astype(float)):
        with pytest.raises(ValueError, match="expected two of a kind"):
            overlap(images, other)


# -- the full edition's, from files that stand in for theirs ------------------------------------


def shade(position, size):
    """A photo of one colour that spells out its position: red counts tens, green the rest."""
    file = io.BytesIO()
    Image.new("RGB", size, (position // 10 * 2, position % 10 * 20, 77)).save(
        file, "JPEG", quality=95, subsampling=0
    )
    return file.getvalue()


def test_flowers_go_by_folder_in_proportion(monkeypatch):
    rows = _formats.flower_rows()
    photos = [shade(i, ((240, 180), (180, 240), (160, 160))[i % 3]) for i in range(len(rows))]
    monkeypatch.setattr(downloads, "fetch", lambda name: name)
    monkeypatch.setattr(_formats, "flower_photos", {"flower_photos.tgz": photos}.__getitem__)
    flowers = load_dataset("flowers")
    assert flowers.class_names == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    for split, size in zip(splits(flowers), (650, 150, 200), strict=True):
        assert (split.images.shape, split.images.dtype) == ((size, 160, 160, 3), np.uint8)
        assert np.bincount(split.labels).tolist() == [size // 5] * 5
        folders = [rows[i]["file"].split("/")[0] for i in split.indices]
        assert folders == [flowers.class_names[label] for label in split.labels]
        colours = split.images.mean(axis=(1, 2))
        expected = np.stack([split.indices // 10 * 2, split.indices % 10 * 20, np.full(size, 77)], axis=1)
        assert np.abs(colours - expected).max() < 3
    assert sorted(np.concatenate([split.indices for split in splits(flowers)])) == list(range(1000))
    assert flowers.test.indices[:5].tolist() == [403, 621, 555, 776, 79]
    for words in ("colour images of 160 by 160", "20.0% each", "CC BY 2.0", "Read here: flower_photos.tgz"):
        assert words in flowers.card


def test_pneumonia_takes_the_order_of_its_reader(monkeypatch):
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2)
    labels = np.array([0, 1, 1, 0, 1, 0], np.uint8)
    cuts = {"train": slice(0, 3), "val": slice(3, 5), "test": slice(5, 6)}
    parts = {part: (images[cut], labels[cut]) for part, cut in cuts.items()}
    monkeypatch.setattr(downloads, "fetch", lambda name: name)
    monkeypatch.setattr(_formats, "pneumonia_parts", {"pneumoniamnist.npz": parts}.__getitem__)
    xrays = load_dataset("pneumonia")
    for split, cut in zip(splits(xrays), cuts.values(), strict=True):
        assert np.array_equal(split.images, images[cut])
        assert np.array_equal(split.labels, labels[cut])
        assert split.indices.tolist() == list(range(6))[cut]
    assert load_dataset("pneumonia", limit=1).validation.indices.tolist() == [3]
    assert xrays.class_names == ("normal", "pneumonia")


# -- the real ones -------------------------------------------------------------------------------


def real(name, file):
    if downloads.find(file) is None:
        pytest.skip(f"needs {file} in TLHELPERS_DATA")
    return load_dataset(name)


def repeated(split):
    """How many images are another's double."""
    return len(split) - len({image.tobytes() for image in split.images})


@pytest.mark.usefixtures("full_data")
def test_the_real_mnist():
    mnist = real("mnist", "mnist.npz")
    assert mnist.train.images.shape == (48_000, 28, 28)
    assert mnist.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert [overlap(mnist.train, mnist.test), overlap(mnist.validation, mnist.test)] == [0, 0]


@pytest.mark.usefixtures("full_data")
def test_the_real_flowers_are_what_their_note_says():
    flowers = real("flowers", "flower_photos.tgz")
    train, validation, test = splits(flowers)
    assert [overlap(train, test), overlap(train, validation), overlap(validation, test)] == [0, 0, 0]
    assert repeated(train) == 1
    authors = np.array([row["author"] for row in _formats.flower_rows()])
    assert np.isin(authors[test.indices], authors[train.indices]).sum() == 85
    # Photos, not noise or one colour: neighbours differ little, photos as a whole do not.
    images = test.images.astype(float)
    assert np.abs(np.diff(images, axis=1)).mean() < 20 < images.std()


@pytest.mark.usefixtures("full_data")
def test_the_real_pneumonia_is_what_its_note_says():
    xrays = real("pneumonia", "pneumoniamnist.npz")
    train, validation, test = splits(xrays)
    assert train.images.shape == (4708, 28, 28)
    counts = [np.bincount(split.labels).tolist() for split in splits(xrays)]
    assert counts == [[1214, 3494], [135, 389], [234, 390]]
    assert np.array_equal(np.concatenate([split.indices for split in splits(xrays)]), np.arange(5856))
    for words in ("grey images of 28 by 28", "train normal 25.8%, pneumonia 74.2%", "Read here: "):
        assert words in xrays.card
    assert [overlap(train, validation), overlap(test, train), overlap(test, validation)] == [8, 0, 0]
    assert [repeated(split) for split in splits(xrays)] == [18, 0, 3]
    # Sorted by a hash, the classes are mixed: a short piece has about their shares.
    assert abs(load_dataset("pneumonia", limit=300).train.labels.mean() - 0.742) < 0.08
