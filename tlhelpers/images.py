"""Any image file to pixels, and the check that pixels are what the next step expects."""

from __future__ import annotations

import io
import os
import warnings
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import _inputs

if TYPE_CHECKING:
    import PIL.Image

__all__ = ["IMAGE_FORMATS", "check_images", "read_image"]

IMAGE_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")
"""What `read_image` reads, as far as this Pillow can. Formats that run other programs are not among them."""

MOST_PIXELS = 50_000_000
"""A larger image is refused before it is decoded: a small file can hold billions of pixels."""


def read_image(path: str | os.PathLike[str] | IO[bytes] | bytes, *, size: int) -> npt.NDArray[np.uint8]:
    """Read any image file as a square colour picture: the largest square in its middle, resized.

    Parameters
    ----------
    path : path, binary file or bytes
        An image in one of `IMAGE_FORMATS`. Of an animation the first picture is read, with a warning.
    size : int
        Height and width of the result in pixels, 1 to 7,000.

    Returns
    -------
    numpy.ndarray, uint8, shape (size, size, 3)
        Red, green and blue, 0 to 255. Give a model ``picture[np.newaxis]``.

    Raises
    ------
    FileNotFoundError, PermissionError, TypeError
        There is no such file, or no right to read it; or `path` is none of the three, or `size` no number.
    ValueError
        The file is empty, no image, of another format, damaged, or has more than 50 million pixels; it
        holds floating-point numbers or whole ones of 32 bits, whose range is unknown; or `size` is another.

    Notes
    -----
    Rotation in the EXIF data is applied. Transparent parts are laid over white. CMYK and palettes are
    converted as Pillow does, colour profiles are not applied. Of 16 bits the upper eight are kept, with a
    warning where that leaves less than a sixteenth of the range.
    Explained in the chapter "Recognise flowers".

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("L", (200, 100), 255).save(file, "PNG")
    >>> read_image(file, size=96).shape
    (96, 96, 3)
    """
    from PIL import Image, ImageOps

    size = _inputs.whole("size", size, 1, 7_000, "Give the pixels of one side.")
    if isinstance(path, bytes):
        path = io.BytesIO(path)
    if not isinstance(path, str | os.PathLike) and not hasattr(path, "read"):
        raise TypeError(
            f"path: expected a path, a binary file or bytes, got {type(path).__name__}. What is in memory as "
            "pixels needs no reading: crop it to a square and resize it, as with PIL.ImageOps.fit."
        )
    Image.init()
    formats = [name for name in IMAGE_FORMATS if name in Image.OPEN]
    expected = f"path: expected an image file ({', '.join(formats)})"
    too_large = f"path: expected an image of {MOST_PIXELS:,} pixels at most, got {path}"
    try:
        with warnings.catch_warnings():
            # Pillow's own limit is higher than ours, and only warns at first.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=formats)
    except FileNotFoundError:
        raise FileNotFoundError(f"{expected}, got {path}, which does not exist. Check the path.") from None
    except PermissionError:
        raise PermissionError(f"{expected}, got {path}, with no right to read it. Ask for it.") from None
    except MemoryError:
        raise
    except Image.DecompressionBombError:
        raise ValueError(f"{too_large}, which has far more. Make it smaller first.") from None
    except Exception as error:  # each format's reader fails in ways of its own
        raise ValueError(f"{expected}, got {path}, which is none. Save it as JPEG or PNG.") from error
    with image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{too_large} of {image.width} by {image.height}. Make it smaller first.")
        try:
            animated = getattr(image, "is_animated", False)
            # Older Pillow reads a PNG's 16 bits as 32.
            if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
                kind = "floating-point numbers" if image.mode == "F" else "whole numbers of 32 bits"
                raise ValueError(f"it holds {kind}, whose range is unknown")
            picture = middle(_rgb(ImageOps.exif_transpose(image), path), size)
        except MemoryError:
            raise
        except Exception as error:
            raise ValueError(
                f"{expected}, got {path}, which can't be decoded: {error}. Save it as JPEG or PNG again."
            ) from error
    if animated:
        warnings.warn(f"{path} holds several pictures; the first one is read.", stacklevel=2)
    return picture


def _rgb(image: PIL.Image.Image, path: object) -> PIL.Image.Image:
    """Any mode to red, green and blue."""
    from PIL import Image

    if image.mode.startswith("I"):
        # Pillow would clip at 255 what reaches to 65,535.
        values = np.asarray(image).clip(0, 65_535)
        if 0 < values.max() < 4_096:
            warnings.warn(
                f"{path}: the brightest of its 16-bit values is {values.max():,} of 65,535, so the picture "
                "is all but black. If it holds 12 bits, as cameras and X-rays do, multiply it by 16 first.",
                stacklevel=3,
            )
        image = Image.fromarray((values >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def check_images(images: Any, labels: Any = None, *, n_classes: int | None = None) -> None:
    """Make sure that images are raw ones, and that labels, if given, go with them.

    Parameters
    ----------
    images : array_like
        uint8, shape (n, height, width) or (n, height, width, channels); at least one image, and one or
        three channels.
    labels : array_like, optional
        Integers, shape (n,), at least 0.
    n_classes : int, optional
        Labels are at most ``n_classes - 1``.

    Raises
    ------
    TypeError, ValueError
        The first of these that does not hold.

    Notes
    -----
    Explained in the chapter "Prepare the data".

    Examples
    --------
    >>> check_images(np.zeros((2, 28, 28), "uint8"), [3, 7], n_classes=10)
    >>> check_images(np.zeros((2, 28, 28), "float32"))
    Traceback (most recent call last):
        ...
    ValueError: images: expected uint8 values from 0 to 255, got float32. Pass the raw, unscaled images.
    """
    expected = "numbers of shape (n, height, width) or (n, height, width, channels), at least one image"
    advice = "For a single image pass images[None]; put several one after another."
    images = _inputs.array("images", images, expected, advice, ndim=(3, 4))
    if images.ndim == 4 and images.shape[-1] not in (1, 3):
        raise ValueError(
            f"images: expected 1 or 3 channels on the last axis, got shape {images.shape}. Move them there."
        )
    if images.dtype != np.uint8:
        raise ValueError(
            f"images: expected uint8 values from 0 to 255, got {images.dtype}. Pass the raw, unscaled images."
        )
    if n_classes is not None:
        n_classes = _inputs.whole("n_classes", n_classes, 1)
    if labels is not None:
        _inputs.labels("labels", labels, len(images), n_classes, kinds="iu")


def middle(image: PIL.Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """The largest square in the middle of an RGB image, resized."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS))


def square(jpeg: bytes, size: int) -> npt.NDArray[np.uint8]:
    """The middle of a JPEG file's photo, as wide as high; one of that size already stays as it is."""
    from PIL import Image

    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        return middle(image.convert("RGB"), size)
