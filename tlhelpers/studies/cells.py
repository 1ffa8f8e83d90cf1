"""Find blood cells: a class and a box for each, from features of a frozen backbone, and without it.

A photo becomes a grid of cells of the network's output. For each of them a head says what is centred there,
and which box it fills. Nothing here is fit for use on patients.
"""

import functools
import io
import time
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits

from tlhelpers import _formats, downloads, page
from tlhelpers.backbones import load_backbone, preparation
from tlhelpers.features import precompute
from tlhelpers.page.editions import Edition

from .boxes import average_precision, by_photo, read_off, targets
from .recipes import follow_quickly
from .skeleton import Parts, application, best, in_words
from .skeleton import draw_any as draw

__all__ = [
    "CLASSES",
    "CUTS",
    "IMAGE_SIZE",
    "METHODS",
    "SIZES",
    "STUDY",
    "TRANSFER",
    "Photos",
    "draw",
    "load",
    "new_head",
    "train",
]

TRANSFER = ("frozen", "one cut")
"""These need what the backbone has learned."""
SMALL = ("from scratch", "frozen, half size")
"""These see photos of half the width and height."""
METHODS = ("frozen", "random weights", "colours", "one cut", *SMALL)
"""A head on a frozen backbone, read at both of `CUTS`; on the same network with random weights; on colours
without a network; on the frozen backbone read at the last cut alone; the network and its head, trained from
random weights on smaller photos; and a head on the frozen backbone with those."""
SIZES = (5, 20, 160)
"""Numbers of labelled photos."""
CUTS = ("block_6_expand_relu", "block_13_expand_relu")
"""Where the backbone is read: an eighth and a sixteenth of the width."""
ASIDE = ("one cut", *SMALL)
"""These are measured at the most labels alone."""
IMAGE_SIZE = {"full": 320, "pocket": 96}
"""Pixels that the backbone sees, by edition; photos are squeezed to a square."""
CLASSES = {"full": ("red cell", "white cell", "platelet"), "pocket": ("digit 0", "digit 1", "digit 2")}

SCALED = ("random weights", "colours")
"""These get features of mean 0 and spread 1 over the labelled photos. On validation, with 20 photos and seed
0, that was better for both, and worse for the frozen backbone."""
RATES = {
    "frozen": (0.002, 0.006, 0.02),
    "random weights": (0.006, 0.02, 0.06),
    "colours": (0.006, 0.02, 0.06),
    "from scratch": (0.003, 0.01, 0.03),
}
"""Learning rates tried with seed 0 and 20 labelled photos, or the most where fewer are not measured. What
else reads the frozen backbone takes the rate of "frozen"."""
STEPS, SCRATCH_STEPS, BATCH = {5: 200, 20: 200, 160: 400}, 120, 4
"""Training steps by labelled photos; from scratch, where each is dear; photos in one step."""
NOTE = (
    "many red cells have no box, so who finds them counts as wrong. The files do not say whose blood it is: "
    "train and test may share people. Not for use on patients."
)

Numbers = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Photos:
    """Images, uint8 (n, height, width, 3), and for each its boxes, (k, 5).

    A box has its class, then left, top, right and bottom in shares of the photo.
    """

    images: npt.NDArray[np.uint8]
    boxes: list[Numbers]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: npt.ArrayLike) -> "Photos":
        """Those at the given positions."""
        rows = np.asarray(rows)
        return Photos(self.images[rows], [self.boxes[row] for row in rows])


@functools.cache
def load(edition: Edition) -> Parts[Photos]:
    """The chapter's photos, reduced to 320 by 240 pixels; in the pocket edition digits laid on a dark ground.

    Boxes without area are left out, and counted on the card.
    """
    if edition.name == "pocket":
        return _stand_in()
    name = "bccd_dataset.tar.gz"
    parts, dropped = [], 0
    for jpegs, boxes in _formats.blood_cells(downloads.fetch(name)).values():
        kept = [rows[(rows[:, 3:] > rows[:, 1:3]).all(axis=1)] for rows in boxes]
        dropped += sum(map(len, boxes)) - sum(map(len, kept))
        shares = [rows / (1, 640, 480, 640, 480) for rows in kept]
        parts.append(Photos(np.stack([_small(jpeg) for jpeg in jpegs]), shares))
    resource = downloads.RESOURCES[name]
    sizes = ", ".join(
        f"{len(part)} {w}" for part, w in zip(parts, ("train", "validation", "test"), strict=True)
    )
    counts = np.bincount(np.concatenate([b for p in parts for b in p.boxes])[:, 0].astype(int))
    named = ", ".join(f"{n:,} {kind}s" for n, kind in zip(counts, CLASSES["full"], strict=True))
    lines = [
        "**blood cells**: colour photos of 640 by 480 pixels, taken through a microscope, reduced to half.",
        f"- Splits, the makers' own: {sizes}.",
        f"- Boxes: {named}. {dropped} more have no area, and are left out.",
        f"- Source: {resource.source}.",
        f"- Licence: {resource.licence}.",
        f"- Note: {NOTE} Read here: {downloads.describe(name)}.",
    ]
    return Parts("\n".join(lines), *parts)


def _small(jpeg: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        if image.size != (640, 480):
            raise ValueError(f"photo: expected 640 by 480 pixels, got {image.size}. Get the file anew.")
        image.draft("RGB", (320, 240))  # decoded at half the size
        return np.asarray(image.convert("RGB").resize((320, 240)))


def _stand_in() -> Parts[Photos]:
    rng, parts = np.random.default_rng(0), []
    digits, labels = load_digits(n_class=3, return_X_y=True)
    pool = iter(rng.permutation(len(labels)))
    for number in (24, 6, 6):
        images, boxes = np.full((number, 72, 96, 3), 30, np.uint8), []
        for image in images:
            corners = [
                (24 * i + rng.integers(9), 32 * j + rng.integers(17)) for i in range(2) for j in range(3)
            ]
            drawn = [next(pool) for _ in corners]
            for (y, x), row in zip(corners, drawn, strict=True):
                ink = digits[row].reshape(8, 8).repeat(2, axis=0).repeat(2, axis=1)
                image[y : y + 16, x : x + 16] = np.maximum(30, 15 * ink)[..., None]
            boxes.append(
                np.array(
                    [
                        (labels[row], x / 96, y / 72, (x + 16) / 96, (y + 16) / 72)
                        for (y, x), row in zip(corners, drawn, strict=True)
                    ]
                )
            )
        parts.append(Photos(images, boxes))
    return Parts("**digits on a dark ground**: a stand-in, of digits in scikit-learn.", *parts)


# -- what is trained ------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)  # slow to build
def _network(edition: Edition, weights: Literal["pretrained", "random"], seed: int, size: int) -> keras.Model:
    """The backbone on raw photos, frozen."""
    backbone = load_backbone(edition.backbone, image_size=size, weights=weights, seed=seed)
    backbone.trainable = False
    inputs = keras.Input(shape := load(edition).test.images.shape[1:])
    return keras.Model(inputs, backbone(preparation(edition.backbone, shape, image_size=size)(inputs)))


def new_head(shapes: list[tuple[int, ...]], *, classes: int = 3, seed: int = 0) -> keras.Model:
    """Two answers at each place of the finest of some feature maps, after one hidden layer of 64 numbers.

    `shapes` are (height, width, channels); coarser maps are enlarged. Takes a list of maps; gives "what",
    probabilities of nothing and of each class, and "where", as in `targets`.
    """
    keras.utils.set_random_seed(seed)
    layers, inputs = keras.layers, [keras.Input(shape) for shape in shapes]
    parts = []
    for x in inputs:
        times = max(shape[0] for shape in shapes) // x.shape[1]
        parts.append(layers.UpSampling2D(times, interpolation="bilinear")(layers.Conv2D(64, 1)(x)))
    hidden = layers.ReLU()(layers.Add()(parts) if len(parts) > 1 else parts[0])
    what = layers.Conv2D(1 + classes, 1, activation="softmax", name="what")(hidden)
    return keras.Model(inputs, {"what": what, "where": layers.Conv2D(4, 1, name="where")(hidden)})


def train(model: keras.Model, x: Any, boxes: list[Numbers], *, rate: float, steps: int, seed: int) -> None:
    """Train a head, or a network that ends in one, on boxes; the rate follows a cosine to zero."""
    y, weights = targets(boxes, model.output["what"].shape[1])
    epochs = max(1, round(steps / -(-len(boxes) // BATCH)))
    falling = keras.optimizers.schedules.CosineDecay(rate, epochs * -(-len(boxes) // BATCH))
    loss = {"what": "sparse_categorical_crossentropy", "where": "mean_absolute_error"}
    model.compile(keras.optimizers.Adam(falling), loss)
    model.optimizer.build(model.trainable_variables)
    keras.utils.set_random_seed(seed)
    model.fit(x, y, sample_weight=weights, batch_size=BATCH, epochs=epochs, verbose=0)


def _colours(images: npt.NDArray[np.uint8], grid: int) -> Numbers:
    """Mean and spread of each colour in the squares of a grid; at each place those of 7 by 7 around it."""
    n, height, width, _ = images.shape
    squares = images.reshape(n, grid, height // grid, grid, width // grid, 3) / np.float32(255)
    told = np.concatenate([squares.mean(axis=(2, 4)), squares.std(axis=(2, 4))], axis=-1)
    padded = np.pad(told, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="edge")
    seen = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(1, 2))
    return seen.reshape(n, grid, grid, -1)


def _features(method: str, edition: Edition, seed: int, images: npt.NDArray[np.uint8]) -> list[Numbers]:
    if method == "colours":
        return [_colours(images, IMAGE_SIZE[edition.name] // 8)]
    if method == "from scratch":
        return [images]
    kind: Literal["pretrained", "random"] = "random" if method == "random weights" else "pretrained"
    size = IMAGE_SIZE[edition.name] // (2 if method in SMALL else 1)
    network = _network(edition, kind, seed if kind == "random" else 0, size)
    maps = precompute(network, images, at=CUTS, batch_size=8)
    return [maps[cut] for cut in (CUTS[1:] if method == "one cut" else CUTS)]


def _from_scratch(edition: Edition, seed: int) -> keras.Model:
    size, shape = IMAGE_SIZE[edition.name] // 2, load(edition).test.images.shape[1:]
    backbone = load_backbone(edition.backbone, image_size=size, weights="random", seed=seed)
    follow_quickly(backbone, 0.9)
    seen = keras.Model(backbone.inputs, [backbone.get_layer(cut).output for cut in CUTS])
    inputs = keras.Input(shape)
    maps = seen(preparation(edition.backbone, shape, image_size=size)(inputs))
    last = new_head([each.shape[1:] for each in maps], seed=seed)
    return keras.Model(inputs, last(maps))


# -- rows of the table ----------------------------------------------------------------------------


@functools.cache
def _learn(method: str, labels: int, seed: int, edition: Edition, rate: float) -> dict[str, Any]:
    """A row, without the choice of its rate."""
    data = load(edition)
    few = draw(data.train, labels, seed=seed)
    x, validation, test = (
        _features(method, edition, seed, part.images) for part in (few, data.validation, data.test)
    )
    if method in SCALED:
        means, spreads = zip(
            *[(each.mean(axis=(0, 1, 2)), each.std(axis=(0, 1, 2))) for each in x], strict=True
        )
        x, validation, test = (
            [(each - mean) / (spread + 1e-6) for each, mean, spread in zip(part, means, spreads, strict=True)]
            for part in (x, validation, test)
        )
    began = time.process_time()
    if method == "from scratch":
        model = _from_scratch(edition, seed)
    else:
        model = new_head([each.shape[1:] for each in x], seed=seed)
    steps = SCRATCH_STEPS if method == "from scratch" else STEPS[labels]
    train(model, x, few.boxes, rate=rate, steps=steps, seed=seed)
    seconds = round(time.process_time() - began, 1)
    held, found = (read_off(model.predict(each, batch_size=8, verbose=0)) for each in (validation, test))
    each = average_precision(found, data.test.boxes)
    names = [name.replace(" ", "_") for name in CLASSES[edition.name]]
    return {
        "value": float(np.mean(each)),
        "validation": float(np.mean(average_precision(held, data.validation.boxes))),
        "rate": rate,
        "cpu_seconds": seconds,
        **dict(zip(names, each, strict=True)),
        "by_photo": " ".join(f"{value:.4f}" for value in by_photo(found, data.test.boxes)),
    }


def measure(
    method: str, labels: int, *, seed: int, edition: Edition | None = None, rate: float | None = None
) -> dict[str, Any]:
    """Learn from so many photos by one of `METHODS`, and test: mean average precision at an IoU of 0.5.

    ``value`` is that on test, ``cpu_seconds`` are of training alone; then each class' average precision on
    test, and `by_photo`. Without a `rate`, validation chooses it with seed 0.
    """
    edition = edition or page.current()
    if rate is not None:
        return _learn(method, labels, seed, edition, rate)
    way = method if method in RATES else "frozen"
    most = SIZES[-1] if way in ASIDE else SIZES[1]
    tried = {each: _learn(way, most, 0, edition, each)["validation"] for each in RATES[way]}
    return {**_learn(method, labels, seed, edition, best(tried)), "choice": in_words(tried)}


STUDY = application(
    "cells",
    methods=METHODS,
    sizes=SIZES,
    metric="mean average precision",
    measure=measure,
    # The features of these lie in the cache already, where the chapter put them.
    where="method == 'frozen' and labels < 160",
    table="cells",
    left_out=lambda method, labels: method in ASIDE and labels < SIZES[-1],
)
