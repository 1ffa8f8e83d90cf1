"""Any image file becomes pixels, or one clear error; raw images are told from others."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from tlhelpers import images
from tlhelpers.images import check_images, read_image

IMAGES = np.full((4, 8, 8), 200, np.uint8)
LABELS = np.array([0, 1, 2, 2])
NOISE = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def test_good_images_pass():
    check_images(IMAGES, LABELS, n_classes=3)
    check_images(IMAGES[..., None], LABELS.astype(np.uint8))
    check_images(np.zeros((4, 8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (IMAGES[0], {}, r"images: expected .* \(n, height, width\) .* got uint8 \(8, 8\)\. For a single"),
        (IMAGES[None, None], {}, r"got uint8 \(1, 1, 4, 8, 8\)\. .* put several one after another"),
        (np.zeros((4, 3, 8, 8), np.uint8), {}, r"expected 1 or 3 channels .* got shape \(4, 3, 8, 8\)"),
        (IMAGES[:0], {}, r"at least one image, got uint8 \(0, 8, 8\)"),
        (IMAGES / 255, {}, "expected uint8 values from 0 to 255, got float64. Pass the raw"),
        (IMAGES, {"labels": LABELS[:3]}, r"labels: expected 4 whole numbers, .* got int64 \(3,\)"),
        (IMAGES, {"labels": LABELS, "n_classes": 2}, "labels: expected 0 to 1, got 0 to 2"),
        (IMAGES, {"labels": LABELS - 1}, "labels: expected 0 or more, got -1 to 1"),
        (IMAGES, {"labels": np.eye(4)}, r"labels: .* got float64 \(4, 4\)\. For one-hot rows"),
        (IMAGES, {"labels": LABELS / 2}, "labels: expected 4 whole numbers, .* got float64"),
    ],
)
def test_bad_images_get_one_clear_error(images, options, message):
    with pytest.raises(ValueError, match=message):
        check_images(images, **options)


def test_a_photo_of_the_right_size_stays_as_it_is():
    file = io.BytesIO()
    Image.fromarray(NOISE).save(file, "JPEG")
    assert np.array_equal(images.square(file.getvalue(), 160), np.asarray(Image.open(file)))


def picture(mode="RGB"):
    """Red above, blue below."""
    image = Image.new("RGB", (60, 60), RED)
    image.paste(BLUE, (0, 30, 60, 60))
    return image.convert(mode)


@pytest.fixture
def saved(tmp_path):
    def saved(image, name="picture.png", **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return saved


def corners(path):
    """Colours at top left, top right, bottom left, bottom right."""
    found = read_image(path, size=32)
    assert (found.shape, found.dtype) == ((32, 32, 3), np.uint8)
    return found[[3, 3, -4, -4], [3, -4, 3, -4]].astype(int)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("RGB", "a.jpg"), ("CMYK", "a.jpg"), ("CMYK", "a.tif"), ("P", "a.gif"), ("RGB", "a.bmp")],
)
def test_every_colour_mode_ends_as_red_green_and_blue(saved, mode, name):
    np.testing.assert_allclose(corners(saved(picture(mode), name)), [RED, RED, BLUE, BLUE], atol=12)


def test_grey_gets_three_equal_channels_and_of_sixteen_bits_the_upper_eight_count(saved):
    for mode in ("L", "1", "LA"):
        white = Image.new("L", (40, 40), 255).convert(mode)
        assert (read_image(saved(white), size=32) == 255).all()
    deep = Image.fromarray(np.full((40, 40), 0x8000, np.uint16))
    assert (read_image(saved(deep), size=32) == 0x80).all()
    with pytest.warns(UserWarning, match=r"brightest of its 16-bit values is 4,095 of 65,535.*12 bits"):
        assert read_image(saved(Image.fromarray(np.full((40, 40), 4095, np.uint16))), size=32).max() == 15


def test_what_is_transparent_shows_white(saved):
    image = picture("RGBA")
    image.putalpha(0)
    assert (read_image(saved(image), size=32) == 255).all()
    image.putalpha(128)
    np.testing.assert_allclose(corners(saved(image))[0], (255, 127, 127), atol=2)
    palette = picture("P")
    see_through = palette.getpixel((0, 0))  # red is the colour to see through
    found = corners(saved(palette, transparency=see_through))
    np.testing.assert_allclose(found, [WHITE, WHITE, BLUE, BLUE], atol=12)


def test_the_rotation_in_the_exif_data_is_applied(saved):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    found = corners(saved(picture(), "turned.jpg", exif=exif))
    np.testing.assert_allclose(found, [BLUE, RED, BLUE, RED], atol=12)


@pytest.mark.parametrize("size", [(300, 60), (60, 300)])
def test_the_middle_of_a_wide_and_of_a_tall_image_is_kept(saved, size):
    image = Image.new("RGB", size, WHITE)
    image.paste(picture(), ((size[0] - 60) // 2, (size[1] - 60) // 2))
    np.testing.assert_allclose(corners(saved(image)), [RED, RED, BLUE, BLUE], atol=12)


def test_an_animation_gives_its_first_picture_and_says_so(saved):
    blue = Image.new("RGB", (60, 60), BLUE)
    path = saved(picture(), "moving.gif", save_all=True, append_images=[blue])
    with pytest.warns(UserWarning, match=r"moving\.gif holds several pictures; the first one is read"):
        np.testing.assert_allclose(corners(path), [RED, RED, BLUE, BLUE], atol=12)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n", None])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "photo.jpg"
    path.mkdir() if content is None else path.write_bytes(content)
    expected = r"path: expected an image file \(.*JPEG.*\), got .*photo\.jpg, which"
    with pytest.raises(ValueError, match=expected):
        read_image(path, size=32)


def formats(*names):
    """Those of the files that this Pillow can write."""
    Image.init()
    kinds = {"avif": "AVIF", "webp": "WEBP"}
    return [name for name in names if kinds.get(name.split(".")[1], "PNG") in Image.SAVE]


@pytest.mark.parametrize("name", formats("cut.jpg", "cut.png", "cut.tif", "cut.gif", "cut.webp", "cut.avif"))
def test_a_file_that_was_cut_short_is_refused(saved, name):
    path = saved(Image.fromarray(NOISE[:80, :80]), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"expected an image file .* got .*{name}"):
        read_image(path, size=32)


# Above our limit alone, above Pillow's warning, above Pillow's own limit.
@pytest.mark.parametrize("side", [8_000, 12_000, 20_000])
def test_a_huge_image_is_refused_before_it_is_decoded(saved, side):
    path = saved(Image.new("RGB", (1, 1)), "huge.bmp")
    header = path.read_bytes()
    path.write_bytes(header[:18] + struct.pack("<2i", side, side) + header[26:])  # what it says of itself
    with pytest.raises(ValueError, match=r"expected an image of 50,000,000 pixels at most, got .*huge\.bmp"):
        read_image(path, size=32)


def test_a_missing_file_no_size_and_numbers_of_unknown_range_are_refused(saved):
    with pytest.raises(FileNotFoundError, match=r"got .*lost\.jpg, which does not exist"):
        read_image("lost.jpg", size=32)
    path = saved(Image.new("F", (40, 40)), "floats.tif")
    with pytest.raises(ValueError, match="floating-point numbers, whose range is unknown"):
        read_image(path, size=32)
    with pytest.raises(ValueError, match="whole numbers of 32 bits, whose range is unknown"):
        read_image(saved(Image.fromarray(np.full((8, 8), 200, np.int32)), "whole.tif"), size=32)
    for pixels in (NOISE, Image.fromarray(NOISE)):
        with pytest.raises(TypeError, match=r"expected a path, a binary file or bytes, got (ndarray|Image)"):
            read_image(pixels, size=32)
    with pytest.raises(ValueError, match="size: expected 1 to 7000, got 0"):
        read_image(path, size=0)
