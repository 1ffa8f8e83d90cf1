"""Named data sets as disjoint train, validation and test splits."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tlhelpers import downloads
from tlhelpers._errors import unknown_name

if TYPE_CHECKING:
    import os

    import pandas as pd
    import PIL.Image

__all__ = [
    "Dataset",
    "Split",
    "attribution",
    "check_images",
    "credit_line",
    "load_dataset",
    "overlap",
    "read_image",
]


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set. The arrays can't be written to.

    Attributes
    ----------
    images : numpy.ndarray, uint8, shape (n, height, width) or (n, height, width, 3)
        Grey values, or red, green and blue, from 0 to 255. In images of digits 0 is background and
        255 is full ink.
    labels : numpy.ndarray, int64, shape (n,)
        Positions in the data set's ``class_names``.
    indices : numpy.ndarray, int64, shape (n,)
        Place of each image in the data set's source; no two splits share one.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        check_images(self.images, self.labels, ndim=(3, 4))
        if self.images.ndim == 4 and self.images.shape[-1] != 3:
            raise ValueError(
                "images: expected shape (n, height, width) or (n, height, width, 3), "
                f"got {self.images.shape}; drop the last axis of grey images"
            )
        if self.indices.shape != self.labels.shape:
            raise ValueError(f"indices: expected shape {self.labels.shape}, got {self.indices.shape}")
        for name in ("images", "labels", "indices"):
            view = getattr(self, name).view()  # the caller's own array stays as it is
            view.setflags(write=False)
            object.__setattr__(self, name, view)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split once and for all.

    Attributes
    ----------
    name : str
    train, validation, test : Split
        Choose on validation; look at test once.
    class_names : tuple of str
        By label.
    licence, source : str
        For the page that shows its images.
    note : str
        What a reader should know before trusting a result on it.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    licence: str
    source: str
    note: str = ""

    def __post_init__(self) -> None:
        for part in (self.train, self.validation, self.test):
            check_images(part.images, part.labels, n_classes=len(self.class_names), ndim=(3, 4))
        shapes = [part.images.shape[1:] for part in (self.train, self.validation, self.test)]
        if len(set(shapes)) > 1:
            raise ValueError(f"expected images of one shape in all splits, got {shapes}; resize them alike")

    @property
    def card(self) -> str:
        """Markdown for a page: sizes, classes (shares of up to five), source, licence, note."""
        height, width = self.train.images.shape[1:3]
        colour = "colour" if self.train.images.ndim == 4 else "grey"
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        sizes = [f"{len(split):,} {name}" for name, split in splits.items()]
        lines = [
            (
                f"**{self.name}**: {colour} images of {height} by {width} pixels, "
                f"{len(self.class_names)} classes ({', '.join(self.class_names)})."
            ),
            f"- Splits: {', '.join(sizes)}.",
        ]
        if len(self.class_names) <= 5:
            shares = [f"{name} {self._shares(split)}" for name, split in splits.items()]
            lines.append(f"- Class shares: {'; '.join(shares)}.")
        lines += [f"- Source: {self.source}.", f"- Licence: {self.licence}."]
        return "\n".join([*lines, f"- Note: {self.note}"] if self.note else lines)

    def _shares(self, split: Split) -> str:
        counts = np.bincount(split.labels, minlength=len(self.class_names))
        if len(set(counts.tolist())) == 1:
            return f"{1 / len(counts):.1%} each"
        pairs = zip(self.class_names, counts, strict=True)
        return ", ".join(f"{name} {count / len(split):.1%}" for name, count in pairs)


def load_dataset(name: str, *, limit: int | None = None) -> Dataset:
    """Load a data set by name.

    Parameters
    ----------
    name : {"mnist", "digits", "flowers", "pneumonia"}
        ``"mnist"`` is fetched if this machine has none: of its 60,000 training images the first
        48,000 are train and the last 12,000 validation, in order, as ``validation_split=0.2`` of
        Keras splits them; its 10,000 test images are test. ``"digits"`` is inside scikit-learn:
        1,797 images, split at random but always the same way, classes in proportion, into 1,000
        train, 297 validation and 500 test. ``"flowers"``: 1,000 photos of five kinds of flowers,
        200 of each, cropped to a square; split at random but always the same way, classes in
        proportion, into 650 train, 150 validation and 200 test. A page that shows one names its
        author: :func:`credit_line`. If this machine has none, 229 MB are fetched. ``"pneumonia"``:
        chest X-rays of children, normal or pneumonia, in MedMNIST's own splits of 4,708, 524 and
        624, in an order that depends on the images alone.
    limit : int, optional
        Keep the first ``limit`` images of each split, for a quick run. Classes are then no longer
        in exact proportion.

    Returns
    -------
    Dataset
        Images uint8, values 0 to 255: (n, 28, 28) for MNIST and the X-rays, (n, 8, 8) for the digits,
        (n, 160, 160, 3) for the flowers. Labels int64 (n,).

    Raises
    ------
    LookupError
        No data set goes by that name.
    TypeError, ValueError
        ``limit`` is not a whole number of at least 1.
    tlhelpers.downloads.DownloadError
        The files can't be had.

    Notes
    -----
    MNIST: LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document
    recognition. Digits: Alpaydin and Kaynak (1998), Optical recognition of handwritten digits, UCI.
    Flowers: the TensorFlow team (2019), tf_flowers. Pneumonia: Yang et al. (2023), MedMNIST v2, from
    the X-rays of Kermany et al. (2018), Identifying medical diagnoses and treatable diseases by
    image-based deep learning.

    Explained in the chapter "Prepare the data".

    Examples
    --------
    >>> digits = load_dataset("digits")
    >>> digits.train.images.shape, digits.train.images.dtype, int(digits.train.images.max())
    ((1000, 8, 8), dtype('uint8'), 255)
    >>> len(load_dataset("digits", limit=20).test)
    20
    """
    if name not in _LOADERS:
        raise unknown_name("data set", name, _LOADERS)
    if limit is not None:
        if isinstance(limit, bool) or not isinstance(limit, int | np.integer):
            raise TypeError(f"limit: expected a whole number or None, got {limit!r}")
        if limit < 1:
            raise ValueError(f"limit: expected at least 1, got {limit}; pass None for the whole data set")
    return _LOADERS[name](limit)


def _split(images: Any, labels: Any, indices: Any, limit: int | None) -> Split:
    return Split(
        images=np.asarray(images, dtype=np.uint8)[:limit],
        labels=np.asarray(labels, dtype=np.int64)[:limit],
        indices=np.asarray(indices, dtype=np.int64)[:limit],
    )


def _mnist(limit: int | None) -> Dataset:
    with np.load(downloads.fetch("mnist.npz"), allow_pickle=False) as arrays:
        images, labels = arrays["x_train"], arrays["y_train"]
        test_images, test_labels = arrays["x_test"], arrays["y_test"]
    resource = downloads.RESOURCES["mnist.npz"]
    cut = 48_000
    return Dataset(
        name="mnist",
        train=_split(images[:cut], labels[:cut], np.arange(cut), limit),
        validation=_split(images[cut:], labels[cut:], np.arange(cut, 60_000), limit),
        test=_split(test_images, test_labels, np.arange(60_000, 70_000), limit),
        class_names=tuple("0123456789"),
        licence=resource.licence,
        source=resource.source,
    )


def _digits(limit: int | None) -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    # The file holds 0 to 16 (ink counted in 4 by 4 cells); full ink becomes 255.
    pixels = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    rest, test = train_test_split(np.arange(len(labels)), test_size=500, stratify=labels, random_state=0)
    train, validation = train_test_split(rest, test_size=297, stratify=labels[rest], random_state=0)
    return Dataset(
        name="digits",
        train=_split(pixels[train], labels[train], train, limit),
        validation=_split(pixels[validation], labels[validation], validation, limit),
        test=_split(pixels[test], labels[test], test, limit),
        class_names=tuple("0123456789"),
        licence="CC BY 4.0",
        source="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI; packed in scikit-learn",
        note="a small set: one test image is 0.2 points of accuracy, so small differences mean little.",
    )


def _flowers(limit: int | None) -> Dataset:
    name = "flower_photos.tgz"
    rows = downloads.flower_rows()
    images = np.empty((len(rows), 160, 160, 3), np.uint8)
    for position, data in downloads.flower_photos(downloads.fetch(name)):
        images[position] = _square(data)
    class_names, labels = np.unique([row["file"].split("/")[0] for row in rows], return_inverse=True)
    train, validation, test = _flower_splits(labels)
    resource = downloads.RESOURCES[name]
    return Dataset(
        name="flowers",
        train=_split(images[train], labels[train], train, limit),
        validation=_split(images[validation], labels[validation], validation, limit),
        test=_split(images[test], labels[test], test, limit),
        class_names=tuple(class_names.tolist()),
        licence=resource.licence,
        source=resource.source,
        note=(
            "one test photo is 0.5 points of accuracy. Two sunflowers of train are one photo under two "
            "addresses, and one of validation and one of test are nearly the same shot; 85 of the 200 test "
            "photos are by an author who also has photos in train. Photos cropped out of the official "
            "archive are not pixel for pixel those of the small archive, which were saved as JPEG again; "
            "how much they differ is not measured. "
            f"Read here: {downloads.describe(name)}."
        ),
    )


def _square(jpeg: bytes) -> npt.NDArray[np.uint8]:
    """The middle of a photo, 160 by 160; one of that size already stays as it is."""
    from PIL import Image

    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        return _middle(image.convert("RGB"), 160)


def _middle(image: PIL.Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """The largest square in the middle of an RGB image, resized."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS))


def _flower_splits(labels: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """Positions of train, validation and test."""
    from sklearn.model_selection import train_test_split

    rest, test = train_test_split(np.arange(len(labels)), test_size=200, stratify=labels, random_state=0)
    return [*train_test_split(rest, test_size=150, stratify=labels[rest], random_state=0), test]


def _pneumonia(limit: int | None) -> Dataset:
    name = "pneumoniamnist.npz"
    splits, start = [], 0
    for images, labels in downloads.pneumonia_parts(downloads.fetch(name)).values():
        splits.append(_split(images, labels, np.arange(start, start + len(labels)), limit))
        start += len(labels)
    train, validation, test = splits
    resource = downloads.RESOURCES[name]
    return Dataset(
        name="pneumonia",
        train=train,
        validation=validation,
        test=test,
        class_names=("normal", "pneumonia"),
        licence=resource.licence,
        source=resource.source,
        note=(
            "test has another mix of classes than train and validation. At 28 pixels 8 validation images "
            "are identical to a train image, 18 train and 3 test images to another of their own split; none "
            "of test is in train or validation. Not for use on patients. "
            f"Read here: {downloads.describe(name)}."
        ),
    )


_LOADERS: dict[str, Callable[[int | None], Dataset]] = {
    "digits": _digits,
    "flowers": _flowers,
    "mnist": _mnist,
    "pneumonia": _pneumonia,
}


def attribution(shown: Split | npt.ArrayLike) -> pd.DataFrame:
    """Say who took which photo of the data set "flowers", and under which licence.

    Parameters
    ----------
    shown : Split or array_like
        A split of ``load_dataset("flowers")``, or ``indices`` of the photos a page shows, shape (n,).

    Returns
    -------
    pandas.DataFrame
        A row for each different photo, in the order shown: its index, and ``file``, ``author``,
        ``url``, ``licence``, ``change``.

    Raises
    ------
    ValueError
        A split of another data set; no indices, not whole numbers, or none of the 1,000 photos.

    Notes
    -----
    The licence, CC BY 2.0, asks for the author's name, a link and a word on what was changed. For one
    sentence that says so see :func:`credit_line`.

    Explained in the chapter "Climb the freezing ladder".

    Examples
    --------
    >>> attribution([0, 7, 0])[["author", "licence"]]
                author    licence
    0            mario  CC BY 2.0
    7       Jan Fidler  CC BY 2.0
    """
    import pandas as pd

    if isinstance(shown, Split):
        if shown.images.shape[1:] != (160, 160, 3):
            raise ValueError(
                f"expected a split of the flowers, images (n, 160, 160, 3), got {shown.images.shape}; "
                "no other data set here asks for attribution by image"
            )
        shown = shown.indices
    rows = downloads.flower_rows()
    indices = np.asarray(shown)
    if indices.ndim != 1 or len(indices) == 0 or indices.dtype.kind not in "iu":
        raise ValueError(
            f"indices: expected whole numbers, shape (n,), got {indices.dtype} {indices.shape}; "
            "pass split.indices of the photos shown"
        )
    if indices.min() < 0 or indices.max() >= len(rows):
        raise ValueError(
            f"indices: expected 0 to {len(rows) - 1}, got {indices.min()} to {indices.max()}; "
            "pass split.indices of the photos shown, not positions in the split"
        )
    columns = ["file", "author", "url", "licence", "change"]
    different = pd.unique(indices)
    return pd.DataFrame([rows[i] for i in different], index=different, columns=columns)


def credit_line(shown: Split | npt.ArrayLike) -> str:
    """Put the attribution of the flower photos that a page shows into one line of Markdown.

    Parameters
    ----------
    shown : Split or array_like
        As for :func:`attribution`.

    Returns
    -------
    str
        Authors in the order shown, each name a link to the photo; licence; what was changed.

    Raises
    ------
    ValueError
        As for :func:`attribution`.

    Notes
    -----
    Explained in the chapter "Climb the freezing ladder".

    Examples
    --------
    >>> credit_line([7]).split("](")[0], credit_line([7]).split("; ")[-1]
    ('Photos: [Jan Fidler', 'centre-cropped, resized to 160x160.')
    """
    table = attribution(shown)
    # Names may hold signs that Markdown reads as its own.
    names = [re.sub(r"([\\`*_\[\]<>$#|~{}])", r"\\\1", author) for author in table["author"]]
    links = ", ".join(f"[{name}]({url})" for name, url in zip(names, table["url"], strict=True))
    licence = "[CC BY 2.0](https://creativecommons.org/licenses/by/2.0/)"
    return f"Photos: {links}; {licence}; {table['change'].iloc[0]}."


IMAGE_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")
"""What `read_image` reads, as far as this Pillow can. Formats that run other programs are not among them."""

MOST_PIXELS = 50_000_000
"""A larger image is refused before it is decoded: a small file can hold billions of pixels."""


def read_image(path: str | os.PathLike[str] | IO[bytes], *, size: int) -> npt.NDArray[np.uint8]:
    """Read any image file as a square colour picture, ready for a model.

    The image is turned upright, brought to red, green and blue, and cropped to the largest square in
    its middle, which is then resized.

    Parameters
    ----------
    path : path or binary file
        An image in one of `IMAGE_FORMATS`.
    size : int
        Height and width of the result in pixels.

    Returns
    -------
    numpy.ndarray, uint8, shape (size, size, 3)
        Red, green and blue, 0 to 255. Give a model ``picture[np.newaxis]``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is empty, no image, of another format, cut short, or has more than `MOST_PIXELS`
        pixels; it holds floating-point numbers, whose range is unknown; or ``size`` is under 1.

    Warns
    -----
    UserWarning
        The file holds several pictures (an animation, pages): the first one is read.

    Notes
    -----
    Rotation in the EXIF data is applied. Transparent parts are laid over white. CMYK and palettes are
    converted as Pillow does, colour profiles are not applied. Of 16 bits the upper eight are kept.

    Explained in the chapter "Recognise flowers".

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("L", (200, 100), 255).save(file, "PNG")
    >>> picture = read_image(file, size=96)
    >>> picture.shape, int(picture.min())
    ((96, 96, 3), 255)
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if size < 1:
        raise ValueError(f"size: expected at least 1 pixel, got {size}.")
    Image.init()
    formats = [name for name in IMAGE_FORMATS if name in Image.OPEN]
    expected = f"expected an image file ({', '.join(formats)})"
    try:
        with warnings.catch_warnings():
            # Pillow's own limit is higher than ours, and only warns at first.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=formats)
    except FileNotFoundError:
        raise FileNotFoundError(f"{expected}, got {path}, which does not exist. Check the path.") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{_too_large(path)} Pillow says: {error}") from None
    except (UnidentifiedImageError, IsADirectoryError) as error:
        raise ValueError(f"{expected}, got {path}, which is none. Save it as JPEG or PNG.") from error
    with image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{_too_large(path)} It is {image.width} by {image.height}.")
        try:
            if getattr(image, "is_animated", False):
                warnings.warn(f"{path} holds several pictures; the first one is read.", stacklevel=2)
            return _middle(_rgb(ImageOps.exif_transpose(image)), size)
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{expected}, got {path}, which can't be decoded: {error}.") from error


def _too_large(path: object) -> str:
    return f"expected an image of {MOST_PIXELS:,} pixels at most, got {path}. Make it smaller first."


def _rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """Any mode to red, green and blue."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("it holds floating-point numbers, whose range is unknown")
    if image.mode.startswith("I"):
        # Pillow would clip at 255 what reaches to 65,535.
        image = Image.fromarray((np.asarray(image).clip(0, 65_535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def check_images(
    images: Any,
    labels: Any = None,
    *,
    n_classes: int | None = None,
    dtype: str = "uint8",
    value_range: tuple[float, float] = (0.0, 255.0),
    ndim: tuple[int, ...] = (3,),
    name: str = "images",
) -> None:
    """Make sure that images, and labels if given, are what the next step expects.

    Parameters
    ----------
    images : array_like
        Expected: shape (n, height, width), or with channels where ``ndim`` holds 4; n at least 1.
    labels : array_like, optional
        Expected: integers, shape (n,).
    n_classes : int, optional
        Labels are expected in 0 to ``n_classes - 1``; without it, at least 0.
    dtype : {"uint8", "float"}
        ``"uint8"`` for raw images, ``"float"`` for prepared ones.
    value_range : tuple of float
        Smallest and largest value allowed, both included.
    ndim : tuple of int
        Numbers of axes allowed: 3 without channels, 4 with one or three.
    name : str
        How the message calls the images.

    Raises
    ------
    ValueError
        Wrong number of axes, channels, type or range of values; NaN or infinity; no images at all;
        labels of another length, shape, type or range. The first that applies, in this order.

    Notes
    -----
    Explained in the chapter "Prepare the data".

    Examples
    --------
    >>> check_images(np.zeros((2, 28, 28), "uint8"), [3, 7], n_classes=10)
    >>> check_images(np.zeros((2, 28, 28), "float32"))
    Traceback (most recent call last):
        ...
    ValueError: images: expected uint8 values from 0 to 255, got float32; pass the raw, unscaled images
    """
    images = np.asanyarray(images)
    if images.ndim not in ndim:
        known = {3: "(n, height, width)", 4: "(n, height, width, channels)"}
        layouts = " or ".join(known.get(axes, f"of {axes} axes") for axes in ndim)
        hint = "; for a single image pass images[None]" if images.ndim + 1 in ndim else ""
        raise ValueError(f"{name}: expected shape {layouts}, got {images.shape}{hint}")
    if 0 in images.shape:
        raise ValueError(f"{name}: expected at least one image, got none (shape {images.shape})")
    if images.ndim == 4 and images.shape[-1] not in (1, 3):
        raise ValueError(
            f"{name}: expected 1 or 3 channels on the last axis, got {images.shape[-1]} in {images.shape}"
        )
    _check_values(images, dtype, value_range, name)
    if labels is not None:
        _check_labels(np.asanyarray(labels), len(images), n_classes)


def _check_values(images: npt.NDArray[Any], dtype: str, value_range: tuple[float, float], name: str) -> None:
    low, high = value_range
    if dtype not in ("uint8", "float"):
        raise unknown_name("kind of values", dtype, ["uint8", "float"])
    if dtype == "uint8" and images.dtype != np.uint8:
        raise ValueError(
            f"{name}: expected uint8 values from {low:g} to {high:g}, got {images.dtype}; "
            "pass the raw, unscaled images"
        )
    if dtype == "float":
        if images.dtype.kind != "f":
            raise ValueError(
                f"{name}: expected floating-point values from {low:g} to {high:g}, got {images.dtype}; "
                "prepare the raw images first"
            )
        # min and max carry NaN along, so two passes see all three faults.
        least, most = float(images.min()), float(images.max())
        if not (np.isfinite(least) and np.isfinite(most)):
            raise ValueError(
                f"{name}: expected finite values, got NaN or infinity; look at how they were made"
            )
    else:
        least, most = int(images.min()), int(images.max())
    if least < low or most > high:
        raise ValueError(
            f"{name}: expected values from {low:g} to {high:g}, got {least:g} to {most:g}; "
            "scale them once, and only once"
        )


def _check_labels(labels: npt.NDArray[Any], n_images: int, n_classes: int | None) -> None:
    if labels.ndim != 1:
        hint = "; for one-hot rows pass labels.argmax(axis=1)" if labels.ndim == 2 else ""
        raise ValueError(f"labels: expected shape (n,), got {labels.shape}{hint}")
    if len(labels) != n_images:
        raise ValueError(
            f"labels: expected one for each of the {n_images:,} images, got {len(labels):,}; "
            "cut both with the same indices"
        )
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels: expected integers, got {labels.dtype}; pass positions in class_names")
    top = "" if n_classes is None else f" to {n_classes - 1}"
    if labels.min() < 0 or (n_classes is not None and labels.max() >= n_classes):
        raise ValueError(
            f"labels: expected 0{top or ' or more'}, got {labels.min()} to {labels.max()}; "
            "count classes from 0, and name each in class_names"
        )


def overlap(a: Any, b: Any) -> int:
    """Count what occurs in both: identical images, or shared indices.

    Parameters
    ----------
    a, b : Split or array_like
        Two splits or two arrays of images, shape (n, ...), are compared by content; two sets of
        indices, shape (n,), by value.

    Returns
    -------
    int
        Number of different images (or indices) that are in ``a`` and in ``b``.

    Raises
    ------
    ValueError
        One holds images and the other indices, or images of another size or type.

    Notes
    -----
    Disjoint indices mean that no image was used twice; two indices may still show the same picture.

    Explained in the chapter "Prepare the data".

    Examples
    --------
    >>> overlap([1, 2, 3], [3, 4])
    1
    >>> digits = load_dataset("digits")
    >>> overlap(digits.train.indices, digits.test.indices)
    0
    """
    first = np.asanyarray(a.images if isinstance(a, Split) else a)
    second = np.asanyarray(b.images if isinstance(b, Split) else b)
    if first.shape[1:] != second.shape[1:] or (first.ndim > 1 and first.dtype != second.dtype):
        raise ValueError(
            f"expected two of a kind, got {first.dtype} {first.shape} and {second.dtype} {second.shape}; "
            "compare images of one size and type, or indices with indices"
        )
    if first.ndim <= 1:
        return len(np.intersect1d(first, second))
    return len({image.tobytes() for image in first} & {image.tobytes() for image in second})
