"""Splits are disjoint and complete; bad arrays get one clear error."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
import zipfile
from importlib import resources

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tlhelpers import datasets, downloads
from tlhelpers.datasets import attribution, check_images, credit_line, load_dataset, overlap, read_image

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """Stand in for MNIST: as many images, of 2 by 2 pixels that spell out their own index."""

    def numbered(start, stop):
        return np.arange(start, stop, dtype="<u4").view(np.uint8).reshape(-1, 2, 2)

    path = tmp_path / "mnist.npz"
    np.savez(
        path,
        x_train=numbered(0, 60_000),
        y_train=(np.arange(60_000) % 10).astype(np.uint8),
        x_test=numbered(60_000, 70_000),
        y_test=(np.arange(10_000) % 7).astype(np.uint8),
    )
    monkeypatch.setattr(downloads, "fetch", {"mnist.npz": path}.__getitem__)


def test_digits_are_those_of_scikit_learn(digits):
    images, labels = load_digits(return_X_y=True)
    for name, size in zip(SPLITS, (1000, 297, 500), strict=True):
        split = getattr(digits, name)
        assert len(split) == size
        assert split.images.shape == (size, 8, 8)
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
        raw = images[split.indices].reshape(-1, 8, 8)
        assert np.abs(split.images * (16 / 255) - raw).max() < 0.05
        assert np.array_equal(split.labels, labels[split.indices])
        shares = np.bincount(split.labels, minlength=10) / size
        assert np.abs(shares - 0.1).max() < 0.01
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 255)


def test_digits_splits_are_disjoint_and_complete(digits):
    indices = np.concatenate([getattr(digits, name).indices for name in SPLITS])
    assert np.array_equal(np.sort(indices), np.arange(1797))


def test_digits_are_split_the_same_way_each_time(digits):
    again = load_dataset("digits")
    assert np.array_equal(again.test.indices, digits.test.indices)
    assert digits.test.indices[:5].tolist() == [87, 1037, 28, 1118, 904]


@pytest.mark.usefixtures("small_mnist")
def test_mnist_is_split_in_order():
    mnist = load_dataset("mnist")
    for name, start, stop in zip(SPLITS, (0, 48_000, 60_000), (48_000, 60_000, 70_000), strict=True):
        split = getattr(mnist, name)
        shown = np.ascontiguousarray(split.images).reshape(len(split), 4).view("<u4")[:, 0]
        assert np.array_equal(shown, np.arange(start, stop))
        assert np.array_equal(split.indices, shown)
    assert np.array_equal(mnist.validation.labels, np.arange(48_000, 60_000) % 10)
    assert np.array_equal(mnist.test.labels, np.arange(10_000) % 7)
    assert mnist.class_names == tuple("0123456789")


@pytest.mark.usefixtures("full_data")
def test_the_real_mnist():
    mnist = load_dataset("mnist")
    assert mnist.train.images.shape == (48_000, 28, 28)
    assert mnist.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert [overlap(mnist.train, mnist.test), overlap(mnist.validation, mnist.test)] == [0, 0]


@pytest.mark.usefixtures("small_mnist")
@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_a_limit_keeps_the_first_of_each_split(name):
    whole, part = load_dataset(name), load_dataset(name, limit=7)
    for split in SPLITS:
        assert np.array_equal(getattr(part, split).images, getattr(whole, split).images[:7])
        assert np.array_equal(getattr(part, split).indices, getattr(whole, split).indices[:7])
    assert len(load_dataset(name, limit=20_000).test) == len(whole.test)


@pytest.mark.parametrize(
    ("limit", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_a_limit_that_is_none(limit, error):
    with pytest.raises(error, match="limit: expected"):
        load_dataset("digits", limit=limit)


def test_an_unknown_name_gets_a_hint():
    with pytest.raises(LookupError, match=r"unknown data set 'minst': .*did you mean 'mnist'"):
        load_dataset("minst")


def test_splits_can_not_be_written_to(digits):
    for array in (digits.train.images, digits.train.labels, digits.train.indices):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_a_split_leaves_its_makers_arrays_alone():
    images, labels = np.zeros((2, 3, 3), np.uint8), np.zeros(2, np.int64)
    datasets.Split(images, labels, np.arange(2))
    images[0] = 1


def test_a_split_checks_what_it_is_made_of():
    images, labels, indices = np.zeros((2, 3, 3), np.uint8), np.zeros(2, np.int64), np.arange(2)
    with pytest.raises(ValueError, match="expected at least one image"):
        datasets.Split(images[:0], labels[:0], indices[:0])
    with pytest.raises(ValueError, match="labels: expected one for each"):
        datasets.Split(images, labels[:1], indices)
    with pytest.raises(ValueError, match=r"indices: expected shape \(2,\), got \(1,\)"):
        datasets.Split(images, labels, indices[:1])
    with pytest.raises(ValueError, match=r"\(n, height, width, 3\), got \(2, 3, 3, 1\); drop the last axis"):
        datasets.Split(images[..., None], labels, indices)
    with pytest.raises(ValueError, match="expected 1 or 3 channels"):
        datasets.Split(np.zeros((2, 3, 3, 4), np.uint8), labels, indices)
    with pytest.raises(ValueError, match="expected uint8 values"):
        datasets.Split(np.zeros((2, 3, 3, 3)), labels, indices)


def test_a_split_of_colour_images():
    images = np.zeros((2, 4, 5, 3), np.uint8)
    split = datasets.Split(images, np.zeros(2, np.int64), np.arange(2))
    assert split.images.shape == (2, 4, 5, 3)
    with pytest.raises(ValueError, match="read-only"):
        split.images[0] = 1


def test_the_splits_of_a_data_set_hold_images_of_one_shape(digits):
    other = datasets.Split(np.zeros((2, 8, 8, 3), np.uint8), np.zeros(2, np.int64), np.arange(2))
    with pytest.raises(ValueError, match=r"expected images of one shape in all splits, got .*\(8, 8, 3\)"):
        dataclasses.replace(digits, test=other)


def test_the_card_says_what_a_page_needs(digits):
    for words in ("8 by 8", "1,000 train, 297 validation, 500 test", "CC BY 4.0", "Alpaydin", "small set"):
        assert words in digits.card


# -- flowers -------------------------------------------------------------------------------------


def shade(position, size):
    """A photo of one colour that spells out its position: red counts tens, green the rest."""
    colour = (position // 10 * 2, position % 10 * 20, 77)
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    monkeypatch.setenv("TLHELPERS_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def small_archive():
    """The small archive, its photos replaced."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for position, row in enumerate(downloads.flower_rows()):
            archive.writestr(row["file"], shade(position, (160, 160)))
        archive.writestr("ATTRIBUTION.csv", (resources.files("tlhelpers") / "flowers_ccby.csv").read_bytes())
    return file.getvalue()


def check_flowers(flowers):
    rows = downloads.flower_rows()
    assert flowers.class_names == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    for name, size in zip(SPLITS, (650, 150, 200), strict=True):
        split = getattr(flowers, name)
        assert (split.images.shape, split.images.dtype) == ((size, 160, 160, 3), np.uint8)
        assert np.bincount(split.labels).tolist() == [size // 5] * 5
        folders = [rows[i]["file"].split("/")[0] for i in split.indices]
        assert folders == [flowers.class_names[label] for label in split.labels]
        colours = split.images.mean(axis=(1, 2))
        expected = np.stack([split.indices // 10 * 2, split.indices % 10 * 20, np.full(size, 77)], axis=1)
        assert np.abs(colours - expected).max() < 3
    indices = np.concatenate([getattr(flowers, name).indices for name in SPLITS])
    assert np.array_equal(np.sort(indices), np.arange(1000))


def test_flowers_out_of_the_small_archive(mirror, small_archive):
    (mirror / "flowers_ccby_160px_1000.zip").write_bytes(small_archive)
    flowers = load_dataset("flowers")
    check_flowers(flowers)
    again = load_dataset("flowers", limit=3)
    assert np.array_equal(again.test.indices, flowers.test.indices[:3])
    assert np.array_equal(again.test.images, flowers.test.images[:3])
    assert flowers.test.indices[:5].tolist() == [403, 621, 555, 776, 79]
    for words in (
        "colour images of 160 by 160",
        "650 train, 150 validation, 200 test",
        "20.0% each",
        "CC BY 2.0",
        "Read here: flowers_ccby_160px_1000.zip",
    ):
        assert words in flowers.card


def test_flowers_out_of_the_official_archive(mirror, monkeypatch):
    rows, file = [], io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for position, row in reversed(list(enumerate(downloads.flower_rows()))):
            data = shade(position, ((240, 180), (180, 240), (320, 320))[position % 3])
            info = tarfile.TarInfo(f"flower_photos/{row['file']}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            rows.insert(0, row | {"source_git_blob": blob})
    monkeypatch.setattr(downloads, "flower_rows", lambda: tuple(rows))
    (mirror / "flower_photos.tgz").write_bytes(file.getvalue())
    flowers = load_dataset("flowers")
    check_flowers(flowers)
    assert "Read here: flower_photos.tgz" in flowers.card


def test_a_photo_is_cropped_in_the_middle():
    def photo(size, box):
        image = Image.new("RGB", size, "black")
        image.paste("white", box)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=95)
        return file.getvalue()

    for size, middle in (((400, 200), (100, 0, 300, 200)), ((200, 400), (0, 100, 200, 300))):
        square = datasets._square(photo(size, middle))
        assert square.shape == (160, 160, 3)
        assert square[5:-5, 5:-5].min() > 240


def test_a_photo_of_the_right_size_stays_as_it_is():
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    assert np.array_equal(datasets._square(file.getvalue()), np.asarray(Image.open(file)))


def test_attribution_follows_what_is_shown():
    rows = downloads.flower_rows()
    table = attribution([500, 3, 500])
    assert table.index.tolist() == [500, 3]
    assert table["author"].tolist() == [rows[500]["author"], rows[3]["author"]]
    assert list(table.columns) == ["file", "author", "url", "licence", "change"]
    split = datasets.Split(np.zeros((2, 160, 160, 3), np.uint8), np.zeros(2, np.int64), np.array([7, 999]))
    assert attribution(split).index.tolist() == [7, 999]


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        ([], r"indices: expected whole numbers, shape \(n,\), got float64 \(0,\)"),
        ([1.0], "indices: expected whole numbers"),
        ([[1]], "indices: expected whole numbers"),
        ([True], "indices: expected whole numbers"),
        ([3, 1000], "indices: expected 0 to 999, got 3 to 1000"),
        ([-1], "indices: expected 0 to 999, got -1 to -1"),
    ],
)
def test_attribution_of_what_is_no_flower(shown, message):
    with pytest.raises(ValueError, match=message):
        attribution(shown)


def test_attribution_of_another_data_set(digits):
    with pytest.raises(ValueError, match=r"expected a split of the flowers, .* got \(500, 8, 8\)"):
        credit_line(digits.test)


def test_a_credit_line_links_every_author_and_keeps_markdown_out_of_names(monkeypatch):
    rows = [dict(downloads.flower_rows()[i]) for i in range(3)]
    rows[1]["author"] = "a_b [c] *d*"
    monkeypatch.setattr(downloads, "flower_rows", lambda: tuple(rows))
    line = credit_line([1, 0])
    first, second, licence = line.replace("; ", ", ").split(", ")[:3]
    assert first == rf"Photos: [a\_b \[c\] \*d\*]({rows[1]['url']})"
    assert second == f"[{rows[0]['author']}]({rows[0]['url']})"
    assert licence.startswith("[CC BY 2.0](")
    assert line.endswith("; centre-cropped, resized to 160x160.")


def real(full_data, name):
    resource = downloads.RESOURCES[name]
    if downloads.find(name) is None:
        pytest.skip(f"needs {' or '.join((name, *resource.also))} in TLHELPERS_DATA")


def test_the_real_flowers(full_data):
    real(full_data, "flower_photos.tgz")
    flowers = load_dataset("flowers")
    assert [overlap(flowers.train, flowers.test), overlap(flowers.train, flowers.validation)] == [0, 0]
    assert overlap(flowers.validation, flowers.test) == 0
    # What the note says.
    assert len({image.tobytes() for image in flowers.train.images}) == len(flowers.train) - 1
    authors = set(attribution(flowers.train)["author"])
    assert attribution(flowers.test)["author"].isin(authors).sum() == 85
    # Photos, not noise or one colour: neighbours differ little, photos as a whole do not.
    images = flowers.test.images.astype(float)
    assert np.abs(np.diff(images, axis=1)).mean() < 20 < images.std()


# -- chest X-rays --------------------------------------------------------------------------------


def test_the_real_pneumonia(full_data):
    real(full_data, "pneumoniamnist.npz")
    xrays = load_dataset("pneumonia")
    assert [len(getattr(xrays, name)) for name in SPLITS] == [4708, 524, 624]
    assert xrays.train.images.shape == (4708, 28, 28)
    assert [np.bincount(getattr(xrays, name).labels).tolist() for name in SPLITS] == [
        [1214, 3494],
        [135, 389],
        [234, 390],
    ]
    indices = np.concatenate([getattr(xrays, name).indices for name in SPLITS])
    assert np.array_equal(indices, np.arange(5856))
    for words in (
        "grey images of 28 by 28",
        "train normal 25.8%, pneumonia 74.2%",
        "CC BY 4.0",
        "Read here: ",
    ):
        assert words in xrays.card
    # What the note says.
    assert overlap(xrays.train, xrays.validation) == 8
    assert overlap(xrays.test, xrays.train) == overlap(xrays.test, xrays.validation) == 0
    repeated = [
        len(getattr(xrays, name)) - len({x.tobytes() for x in getattr(xrays, name).images}) for name in SPLITS
    ]
    assert repeated == [18, 0, 3]
    # Sorted by a hash, the classes are mixed: a short piece has about their shares.
    assert abs(load_dataset("pneumonia", limit=300).train.labels.mean() - 0.742) < 0.08


def test_pneumonia_takes_the_order_of_its_reader(monkeypatch):
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2)
    labels = np.array([0, 1, 1, 0, 1, 0], np.uint8)
    cuts = {"train": slice(0, 3), "val": slice(3, 5), "test": slice(5, 6)}
    parts = {part: (images[cut], labels[cut]) for part, cut in cuts.items()}
    monkeypatch.setattr(downloads, "fetch", lambda name: name)
    monkeypatch.setattr(downloads, "pneumonia_parts", lambda path: parts)
    xrays = load_dataset("pneumonia")
    for name, cut in zip(SPLITS, cuts.values(), strict=True):
        split = getattr(xrays, name)
        assert np.array_equal(split.images, images[cut])
        assert np.array_equal(split.labels, labels[cut])
        assert split.indices.tolist() == list(range(6))[cut]
    assert load_dataset("pneumonia", limit=1).validation.indices.tolist() == [3]
    assert xrays.class_names == ("normal", "pneumonia")


IMAGES = np.full((4, 8, 8), 200, np.uint8)
LABELS = np.array([0, 1, 2, 2])


def test_good_images_pass():
    check_images(IMAGES, LABELS, n_classes=3)
    check_images(IMAGES[..., None], LABELS.astype(np.uint8), ndim=(3, 4))
    check_images(IMAGES / 255.0, dtype="float", value_range=(0, 1))


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (IMAGES[0], {}, r"expected shape \(n, height, width\), got \(8, 8\); for a single image"),
        (IMAGES[..., None], {}, r"expected shape \(n, height, width\), got \(4, 8, 8, 1\)"),
        (IMAGES.reshape(4, 64), {"ndim": (3, 4)}, r"\(n, height, width\) or \(n, height, width, channels\)"),
        (
            np.zeros((4, 3, 8, 8), np.uint8),
            {"ndim": (4,)},
            "expected 1 or 3 channels on the last axis, got 8",
        ),
        (IMAGES[:0], {}, "expected at least one image, got none"),
        (IMAGES / 255, {}, "expected uint8 values from 0 to 255, got float64; pass the raw"),
        (IMAGES.astype(int), {}, "expected uint8 .* got int64"),
        (IMAGES, {"dtype": "float"}, "expected floating-point values from 0 to 255, got uint8"),
        (IMAGES, {"value_range": (0, 16)}, "expected values from 0 to 16, got 200 to 200"),
        (
            IMAGES / 1.0,
            {"dtype": "float", "value_range": (0, 1)},
            "expected values from 0 to 1, got 200 to 200",
        ),
        (np.full((1, 2, 2), np.nan), {"dtype": "float"}, "expected finite values, got NaN"),
        (np.array([[[0, np.inf]]]), {"dtype": "float"}, "expected finite values"),
        (IMAGES, {"labels": LABELS[:3]}, "labels: expected one for each of the 4 images, got 3"),
        (IMAGES, {"labels": LABELS, "n_classes": 2}, "labels: expected 0 to 1, got 0 to 2"),
        (IMAGES, {"labels": LABELS - 1}, "labels: expected 0 or more, got -1 to 1"),
        (IMAGES, {"labels": np.eye(4)}, r"labels: expected shape \(n,\), got \(4, 4\); for one-hot rows"),
        (IMAGES, {"labels": LABELS / 2}, "labels: expected integers, got float64"),
    ],
)
def test_bad_images_get_one_clear_error(images, options, message):
    with pytest.raises(ValueError, match=message):
        check_images(images, **options)


def test_a_kind_of_values_that_does_not_exist():
    with pytest.raises(LookupError, match="unknown kind of values 'floats'"):
        check_images(IMAGES, dtype="floats")


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


RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(mode="RGB", size=(60, 60)):
    """Red above, blue below."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (0, size[1] // 2, *size))
    return image.convert(mode)


def saved(folder, image, name="picture.png", **options):
    path = folder / name
    image.save(path, **options)
    return path


def corners(array):
    """Colours at top left, top right, bottom left, bottom right."""
    return [tuple(int(c) for c in array[y, x]) for y in (3, -4) for x in (3, -4)]


def near(found, expected, by=12):
    return np.abs(np.array(found) - np.array(expected)).max() <= by


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("RGB", "a.png"),
        ("RGB", "a.jpg"),
        ("CMYK", "a.jpg"),
        ("CMYK", "a.tif"),
        ("P", "a.gif"),
        ("RGB", "a.bmp"),
    ],
)
def test_every_colour_mode_ends_as_red_green_and_blue(tmp_path, mode, name):
    found = read_image(saved(tmp_path, picture(mode), name), size=32)
    assert found.shape == (32, 32, 3)
    assert found.dtype == np.uint8
    assert near(corners(found), [RED, RED, BLUE, BLUE])


def test_grey_and_one_bit_get_three_equal_channels(tmp_path):
    for mode in ("L", "1", "LA"):
        found = read_image(saved(tmp_path, Image.new("L", (40, 40), 255).convert(mode)), size=32)
        assert (found == 255).all()


def test_sixteen_bits_keep_their_upper_eight(tmp_path):
    deep = Image.fromarray(np.full((40, 40), 0x8000, np.uint16))
    assert (read_image(saved(tmp_path, deep), size=32) == 0x80).all()


def test_what_is_transparent_shows_white(tmp_path):
    clear = picture("RGBA")
    clear.putalpha(0)
    half = picture("RGBA")
    half.putalpha(128)
    assert (read_image(saved(tmp_path, clear), size=32) == 255).all()
    assert near(corners(read_image(saved(tmp_path, half), size=32))[0], (255, 127, 127), by=2)
    palette = picture("P")
    see_through = palette.getpixel((0, 0))  # red is the colour to see through
    found = read_image(saved(tmp_path, palette, transparency=see_through), size=32)
    assert near(corners(found), [(255, 255, 255), (255, 255, 255), BLUE, BLUE])


def test_the_rotation_in_the_exif_data_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    found = read_image(saved(tmp_path, picture(), "turned.jpg", exif=exif), size=32)
    assert near(corners(found), [BLUE, RED, BLUE, RED])


def test_the_middle_of_a_wide_and_of_a_tall_image_is_kept(tmp_path):
    for size in ((300, 60), (60, 300)):
        image = Image.new("RGB", size, "white")
        middle = ((size[0] - 60) // 2, (size[1] - 60) // 2)
        image.paste(picture(), middle)
        assert near(corners(read_image(saved(tmp_path, image), size=32)), [RED, RED, BLUE, BLUE])


def test_an_animation_gives_its_first_picture_and_says_so(tmp_path):
    blue = Image.new("RGB", (60, 60), BLUE)
    path = saved(tmp_path, picture(), "moving.gif", save_all=True, append_images=[blue])
    with pytest.warns(UserWarning, match=r"moving\.gif holds several pictures; the first one is read"):
        found = read_image(path, size=32)
    assert near(corners(found), [RED, RED, BLUE, BLUE])


def test_an_open_file_reads_like_its_path(tmp_path):
    path = saved(tmp_path, picture())
    with path.open("rb") as file:
        assert (read_image(file, size=20) == read_image(str(path), size=20)).all()


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"%PDF-1.7", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"expected an image file \(.*JPEG.*\), got .*photo\.jpg, which is none"
    ):
        read_image(tmp_path / "photo.jpg", size=32)


def test_a_folder_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(ValueError, match="which is none"):
        read_image(tmp_path, size=32)
    with pytest.raises(FileNotFoundError, match=r"got .*lost\.jpg, which does not exist"):
        read_image(tmp_path / "lost.jpg", size=32)


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png", "cut.tif", "cut.gif"])
def test_a_file_that_was_cut_short_is_refused(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"expected an image file .* got .*{name}"):
        read_image(path, size=32)


@pytest.mark.parametrize("side", [8_000, 12_000, 20_000])
def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path, side, monkeypatch):
    path = saved(tmp_path, Image.new("1", (side, side)), "huge.png")
    monkeypatch.setattr(Image.Image, "convert", lambda *args: pytest.fail("was decoded"))
    with pytest.raises(ValueError, match=r"expected an image of 50,000,000 pixels at most, got .*huge\.png"):
        read_image(path, size=32)


def test_numbers_of_unknown_range_and_no_size_are_refused(tmp_path):
    path = saved(tmp_path, Image.new("F", (40, 40)), "floats.tif")
    with pytest.raises(ValueError, match="floating-point numbers, whose range is unknown"):
        read_image(path, size=32)
    with pytest.raises(ValueError, match="size: expected at least 1 pixel, got 0"):
        read_image(path, size=0)
