"""Any image file becomes pixels, or one clear error; raw images are told from others."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tlhelpers import images
from tlhelpers.images import check_images, read_image

IMAGES = np.full((4, 8, 8), 200, np.uint8)
LABELS = np.array([0, 1, 2, 2])


def test_good_images_pass():
    check_images(IMAGES, LABELS, n_classes=3)
    check_images(IMAGES[..., None], LABELS.astype(np.uint8))
    check_images(np.zeros((4, 8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (IMAGES[0], {}, r"images: expected shape \(n, height, width\) .* got \(8, 8\)\. For a single image"),
        (IMAGES[None, None], {}, r"got \(1, 1, 4, 8, 8\)\. Put one after another"),
        (np.zeros((4, 3, 8, 8), np.uint8), {}, r"expected 1 or 3 channels .* got shape \(4, 3, 8, 8\)"),
        (IMAGES[:0], {}, "expected at least one image, got none"),
        (IMAGES / 255, {}, "expected uint8 values from 0 to 255, got float64. Pass the raw"),
        (IMAGES.astype(int), {}, "expected uint8 .* got int64"),
        (IMAGES, {"labels": LABELS[:3]}, "labels: expected 4, one for each image, got 3"),
        (IMAGES, {"labels": LABELS, "n_classes": 2}, "labels: expected 0 to 1, got 0 to 2"),
        (IMAGES, {"labels": LABELS - 1}, "labels: expected 0 or more, got -1 to 1"),
        (IMAGES, {"labels": np.eye(4)}, r"labels: expected shape \(n,\), got \(4, 4\)\. For one-hot rows"),
        (IMAGES, {"labels": LABELS / 2}, "labels: expected integers, got float64"),
    ],
)
def test_bad_images_get_one_clear_error(images, options, message):
    with pytest.raises(ValueError, match=message):
        check_images(images, **options)


def test_a_photo_of_the_right_size_stays_as_it_is():
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    assert np.array_equal(images.square(file.getvalue(), 160), np.asarray(Image.open(file)))


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
    [("RGB", "a.jpg"), ("CMYK", "a.jpg"), ("CMYK", "a.tif"), ("P", "a.gif"), ("RGB", "a.bmp")],
)
def test_every_colour_mode_ends_as_red_green_and_blue(tmp_path, mode, name):
    found = read_image(saved(tmp_path, picture(mode), name), size=32)
    assert (found.shape, found.dtype) == ((32, 32, 3), np.uint8)
    assert near(corners(found), [RED, RED, BLUE, BLUE])


def test_grey_gets_three_equal_channels_and_of_sixteen_bits_the_upper_eight_count(tmp_path):
    for mode in ("L", "1", "LA"):
        white = Image.new("L", (40, 40), 255).convert(mode)
        assert (read_image(saved(tmp_path, white), size=32) == 255).all()
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


@pytest.mark.parametrize("size", [(300, 60), (60, 300)])
def test_the_middle_of_a_wide_and_of_a_tall_image_is_kept(tmp_path, size):
    image = Image.new("RGB", size, "white")
    image.paste(picture(), ((size[0] - 60) // 2, (size[1] - 60) // 2))
    assert near(corners(read_image(saved(tmp_path, image), size=32)), [RED, RED, BLUE, BLUE])


def test_an_animation_gives_its_first_picture_and_says_so(tmp_path):
    blue = Image.new("RGB", (60, 60), BLUE)
    path = saved(tmp_path, picture(), "moving.gif", save_all=True, append_images=[blue])
    with pytest.warns(UserWarning, match=r"moving\.gif holds several pictures; the first one is read"):
        found = read_image(path, size=32)
    assert near(corners(found), [RED, RED, BLUE, BLUE])


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n", None])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "photo.jpg"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"path: expected an image file \(.*JPEG.*\), got .*photo\.jpg, which"
    ):
        read_image(path, size=32)


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png", "cut.tif", "cut.gif"])
def test_a_file_that_was_cut_short_is_refused(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"expected an image file .* got .*{name}"):
        read_image(path, size=32)


# Above our limit alone, above Pillow's warning, above Pillow's own limit.
@pytest.mark.parametrize("side", [8_000, 12_000, 20_000])
def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path, side):
    path = saved(tmp_path, Image.new("RGB", (1, 1)), "huge.bmp")
    header = path.read_bytes()
    path.write_bytes(header[:18] + struct.pack("<2i", side, side) + header[26:])  # what it says of itself
    with pytest.raises(ValueError, match=r"expected an image of 50,000,000 pixels at most, got .*huge\.bmp"):
        read_image(path, size=32)


def test_a_missing_file_no_size_and_numbers_of_unknown_range_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"got .*lost\.jpg, which does not exist"):
        read_image(tmp_path / "lost.jpg", size=32)
    path = saved(tmp_path, Image.new("F", (40, 40)), "floats.tif")
    with pytest.raises(ValueError, match="floating-point numbers, whose range is unknown"):
        read_image(path, size=32)
    with pytest.raises(ValueError, match="size: expected at least 1 pixel, got 0"):
        read_image(path, size=0)
