"""Named data sets as disjoint train, validation and test splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tlhelpers import _formats, downloads
from tlhelpers._errors import check_name
from tlhelpers.images import check_images, square

__all__ = ["Dataset", "Split", "load_dataset", "overlap"]


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set. The arrays can't be written to.

    Attributes
    ----------
    images : numpy.ndarray, uint8, shape (n, height, width) or (n, height, width, 3)
        From 0 to 255; in images of digits 0 is background and 255 is full ink.
    labels : numpy.ndarray, int64, shape (n,)
        Positions in the data set's ``class_names``.
    indices : numpy.ndarray, int64, shape (n,)
        Place of each image in the data set's source; no two splits share one.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        check_images(self.images, self.labels)
        if self.images.ndim == 4 and self.images.shape[-1] != 3:
            raise ValueError(
                "images: expected shape (n, height, width) or (n, height, width, 3), got "
                f"{self.images.shape}. Drop the last axis of grey images."
            )
        if self.indices.shape != self.labels.shape:
            expected = f"indices: expected shape {self.labels.shape}, got {self.indices.shape}"
            raise ValueError(f"{expected}. Give each image its own.")
        for name in ("images", "labels", "indices"):
            view = getattr(self, name).view()  # the caller's own array stays as it is
            view.setflags(write=False)
            object.__setattr__(self, name, view)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[Any]) -> Split:
        """Those at the given positions, or where a mask is true."""
        return Split(self.images[rows], self.labels[rows], self.indices[rows])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, split once and for all: choose on validation, look at test once.

    `class_names` go by label; `licence` and `source` are for the page that shows its images; `note` is what
    a reader should know before trusting a result on it.
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
            check_images(part.images, part.labels, n_classes=len(self.class_names))
        shapes = [part.images.shape[1:] for part in (self.train, self.validation, self.test)]
        if len(set(shapes)) > 1:
            raise ValueError(f"images: expected one shape in all splits, got {shapes}. Resize them alike.")

    @property
    def card(self) -> str:
        """Sizes, classes (shares of up to five), source, licence and note, as Markdown for a page."""
        height, width = self.train.images.shape[1:3]
        colour = "colour" if self.train.images.ndim == 4 else "grey"
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        what = f"{len(self.class_names)} classes ({', '.join(self.class_names)})"
        lines = [
            f"**{self.name}**: {colour} images of {height} by {width} pixels, {what}.",
            f"- Splits: {', '.join(f'{len(split):,} {name}' for name, split in splits.items())}.",
        ]
        if len(self.class_names) <= 5:
            shares = "; ".join(f"{name} {self._shares(split)}" for name, split in splits.items())
            lines.append(f"- Class shares: {shares}.")
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
        "mnist": of 60,000 training images the first 48,000 are train and the last 12,000 validation, in
        order, as ``validation_split=0.2`` of Keras splits them; 10,000 test images. "digits", inside
        scikit-learn: 1,000, 297 and 500, drawn at random but always the same, classes in proportion.
        "flowers": 200 photos of each of five kinds, cropped to a square; 650, 150 and 200, drawn like
        the digits. A page that shows one names its author. "pneumonia": chest X-rays of children in
        MedMNIST's splits of 4,708, 524 and 624, in an order that depends on the images alone.
    limit : int, optional
        Keep the first ``limit`` images of each split, for a quick run; classes are not in exact proportion.

    Returns
    -------
    Dataset
        Images (n, 28, 28) for MNIST and the X-rays, (n, 8, 8) for the digits, (n, 160, 160, 3) for the
        flowers, values 0 to 255.

    Raises
    ------
    LookupError, TypeError, ValueError, tlhelpers.downloads.DownloadError
        No such name; ``limit`` is not a whole number of at least 1; the files can't be had.

    Notes
    -----
    Sources: LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document
    recognition; Alpaydin and Kaynak (1998), Optical recognition of handwritten digits, UCI; the
    TensorFlow team (2019), tf_flowers; Yang et al. (2023), MedMNIST v2, from the X-rays of Kermany et
    al. (2018), Identifying medical diagnoses and treatable diseases by image-based deep learning.
    Explained in the chapter "Prepare the data".

    Examples
    --------
    >>> digits = load_dataset("digits")
    >>> digits.train.images.shape, digits.train.images.dtype, int(digits.train.images.max())
    ((1000, 8, 8), dtype('uint8'), 255)
    >>> len(load_dataset("digits", limit=20).test)
    20
    """
    check_name("data set", name, _LOADERS)
    if limit is not None:
        if isinstance(limit, bool) or not isinstance(limit, int | np.integer):
            raise TypeError(f"limit: expected a whole number or None, got {limit!r}.")
        if limit < 1:
            raise ValueError(f"limit: expected at least 1, got {limit}. Pass None for the whole data set.")
    images, labels, rows, about = _LOADERS[name]()
    labels = labels.astype(np.int64)
    train, validation, test = (Split(images[some], labels[some], some) for some in (r[:limit] for r in rows))
    return Dataset(name, train, validation, test, **about)


# Images, labels, the rows of train, validation and test, and the rest of Dataset.
_Loaded = tuple[npt.NDArray[np.uint8], npt.NDArray[Any], list[npt.NDArray[np.int64]], dict[str, Any]]


def _mnist() -> _Loaded:
    arrays = _formats.mnist(downloads.fetch("mnist.npz"))
    images, labels = (np.concatenate([arrays[f"{x}_train"], arrays[f"{x}_test"]]) for x in "xy")
    rows = np.split(np.arange(70_000), [48_000, 60_000])
    return images, labels, rows, {"class_names": tuple("0123456789"), **_from("mnist.npz")}


def _digits() -> _Loaded:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    # The file holds 0 to 16 (ink counted in 4 by 4 cells); full ink becomes 255.
    pixels = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    about = {
        "class_names": tuple("0123456789"),
        "licence": "CC BY 4.0",
        "source": (
            "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI; packed in scikit-learn"
        ),
        "note": "a small set: one test image is 0.2 points of accuracy, so small differences mean little.",
    }
    return pixels, labels, _in_proportion(labels, 500, 297), about


def _flowers() -> _Loaded:
    name = "flower_photos.tgz"
    photos = np.stack([square(jpeg, 160) for jpeg in _formats.flower_photos(downloads.fetch(name))])
    folders = [row["file"].split("/")[0] for row in _formats.flower_rows()]
    class_names, labels = np.unique(folders, return_inverse=True)
    note = (
        "one test photo is 0.5 points of accuracy. Two sunflowers of train are one photo under two "
        "addresses, and one of validation and one of test are nearly the same shot; 85 of the 200 test "
        "photos are by an author who also has photos in train. Photos cropped out of the official "
        "archive are not pixel for pixel those of a reduced copy, which were saved as JPEG again; "
        f"how much they differ is not measured. Read here: {downloads.describe(name)}."
    )
    about = {"class_names": tuple(class_names.tolist()), **_from(name), "note": note}
    return photos, labels, _in_proportion(labels, 200, 150), about


def _pneumonia() -> _Loaded:
    name = "pneumoniamnist.npz"
    parts = _formats.pneumonia_parts(downloads.fetch(name)).values()
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    ends = np.cumsum([len(some) for _, some in parts])
    note = (
        "test has another mix of classes than train and validation. At 28 pixels 8 validation images "
        "are identical to a train image, 18 train and 3 test images to another of their own split; none "
        "of test is in train or validation. Not for use on patients. "
        f"Read here: {downloads.describe(name)}."
    )
    about = {"class_names": ("normal", "pneumonia"), **_from(name), "note": note}
    return images, labels, np.split(np.arange(ends[-1]), ends[:-1]), about


def _from(filename: str) -> dict[str, str]:
    resource = downloads.RESOURCES[filename]
    return {"licence": resource.licence, "source": resource.source}


def _in_proportion(labels: npt.NDArray[Any], test: int, validation: int) -> list[npt.NDArray[np.int64]]:
    """Rows of train, validation and test, drawn at random but always the same."""
    from sklearn.model_selection import train_test_split

    rest, last = train_test_split(np.arange(len(labels)), test_size=test, stratify=labels, random_state=0)
    return [*train_test_split(rest, test_size=validation, stratify=labels[rest], random_state=0), last]


_LOADERS: dict[str, Callable[[], _Loaded]] = {
    "digits": _digits,
    "flowers": _flowers,
    "mnist": _mnist,
    "pneumonia": _pneumonia,
}


def overlap(a: Any, b: Any) -> int:
    """Count what occurs in both: identical images, or shared indices.

    Parameters
    ----------
    a, b : Split or array_like
        Splits or arrays of images, shape (n, ...), are compared by content; indices, shape (n,), by value.

    Returns
    -------
    int
        How many different ones are in ``a`` and in ``b``.

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
            f"a, b: expected two of a kind, got {first.dtype} {first.shape} and {second.dtype} "
            f"{second.shape}. Compare images of one size and type, or indices with indices."
        )
    if first.ndim <= 1:
        return len(np.intersect1d(first, second))
    return len({image.tobytes() for image in first} & {image.tobytes() for image in second})
