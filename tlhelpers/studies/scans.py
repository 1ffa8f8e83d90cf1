"""Mark the hippocampus in a slice of an MRI scan: from scratch, and with a network that knows photos.

One slice a scan, one mask a slice. Nothing here is fit for use on patients.
"""

import functools
import time
from dataclasses import dataclass
from typing import Any, Literal

import keras
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from keras import layers
from scipy import ndimage
from sklearn.datasets import load_digits

from tlhelpers import _formats, downloads, page
from tlhelpers.backbones import feature_extractor, load_backbone, preparation
from tlhelpers.features import precompute
from tlhelpers.page.editions import Edition

from .skeleton import Parts, application, best, forget, in_words
from .skeleton import draw_any as draw

__all__ = [
    "CUTS",
    "IMAGE_SIZE",
    "METHODS",
    "SIZES",
    "STUDY",
    "TRANSFER",
    "Scans",
    "dice",
    "draw",
    "load",
    "marked",
    "moved",
    "outlines",
    "pixel_head",
    "train",
    "unet",
]

TRANSFER = ("features and pixels", "features", "fine-tuned")
"""These need what the backbone has learned."""
ASIDE = ("features", "random features and pixels", "fine-tuned")
"""These are measured at the fewest and the most labels alone."""
METHODS = ("U-Net from scratch", TRANSFER[0], "pixels", "mean mask", *ASIDE)
"""A small U-Net; a head of one hidden layer on a frozen backbone, read at `CUTS`, on pixels and on places;
that head on pixels and places; the mean of the labelled masks; the head on the backbone alone, and on one of
random weights, pixels and places; a U-Net whose way down is the small MobileNetV2, all of it trained."""
SIZES = (5, 20, 100)
"""Numbers of labelled scans."""
CUTS = ("block_3_expand_relu", "block_6_expand_relu", "block_13_expand_relu")
"""Where the backbone is read: a quarter, an eighth and a sixteenth of the width that it sees."""
IMAGE_SIZE = {"full": 96, "pocket": 64}
"""Pixels that the backbone sees, by edition: twice those of a slice."""
SMALL = {"full": "mobilenet_v2_035_imagenet", "pocket": "mobilenet_v2_glyphs"}
"""The backbone that is fine-tuned."""
RATES = {
    "U-Net from scratch": (0.003, 0.01, 0.03),
    "features and pixels": (0.003, 0.01, 0.03),
    "pixels": (0.01, 0.03, 0.1),
    "random features and pixels": (0.01, 0.03, 0.1, 0.3),
    "fine-tuned": (0.003, 0.01, 0.03),
    "mean mask": (0.3, 0.4, 0.5, 0.6, 0.7),
}
"""Learning rates tried with seed 0 and 20 labelled scans, or the most where 20 are not measured. "features"
takes that of "features and pixels"."""
BATCH, STEPS = 8, 20
"""Slices in a step, and steps between two looks at validation."""
LOOKS = {"U-Net from scratch": 8}
"""Looks at validation, 6 for the others; the weights of the best one stay."""
COPIES = 120
"""Moved copies of the labelled slices, of which the frozen network's features are computed once."""
NOTE = (
    "whose scan it is, the files do not say. Neighbours in number, 1 and 2, 3 and 4 and so on, are nearly "
    "equal in brightness, as two sides of one head would be, so no pair is in two parts. The scans are cut "
    "out around the hippocampus: the place alone says much. Not for use on patients."
)

Numbers = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Scans:
    """Slices, uint8 (n, side, side), and what was marked in them, bool of the same shape."""

    images: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: npt.NDArray[Any]) -> "Scans":
        """Those at the given positions."""
        return Scans(self.images[rows], self.masks[rows])


@functools.cache
def load(edition: Edition) -> Parts[Scans]:
    """The middle slice of each scan, seen from the front; in the pocket edition digits on a noisy ground.

    A scan's darkest and brightest hundredth become 0 and 255. The slice is laid on 48 by 48 pixels.
    """
    if edition.name == "pocket":
        return _stand_in()
    name = "Task04_Hippocampus.tar"
    scans = _formats.hippocampus_scans(downloads.fetch(name))
    parts = []
    for part in _parts([*scans]):
        images, masks = zip(*(_slice(*scans[number]) for number in part), strict=True)
        parts.append(Scans(np.stack(images), np.stack(masks)))
    resource = downloads.RESOURCES[name]
    sizes = ", ".join(
        f"{len(part)} {what}" for part, what in zip(parts, ("train", "validation", "test"), strict=True)
    )
    lines = [
        f"**hippocampus**: {len(scans)} small MRI scans, of each the middle slice, and in it a mask.",
        f"- Splits, ours: {sizes}; each test scan is of another person, as far as can be told.",
        f"- Source: {resource.source}.",
        f"- Licence: {resource.licence}; the slices shown here are adapted, and under the same licence.",
        f"- Note: {NOTE} Read here: {downloads.describe(name)}.",
    ]
    return Parts("\n".join(lines), *parts)


def _parts(numbers: list[int]) -> tuple[list[int], list[int], list[int]]:
    """Numbers of scans for train, validation and test: pairs whole, or one scan of a pair for test."""
    pairs = [[n, n + 1] for n in range(1, max(numbers), 2) if {n, n + 1} <= set(numbers)]
    alone = sorted(set(numbers) - {n for pair in pairs for n in pair})
    pairs = [pairs[place] for place in np.random.default_rng(0).permutation(len(pairs))]
    first = 100 - len(alone)  # pairs of which one scan is tested, and the other left out
    held, learned = (
        sorted(n for pair in part for n in pair) for part in (pairs[first:][:20], pairs[first:][20:])
    )
    return learned, held, sorted([*alone, *(pair[0] for pair in pairs[:first])])


def _slice(scan: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8]) -> tuple[Numbers, Numbers]:
    """Image and mask of a scan's middle, in the middle of 48 by 48 pixels."""
    low, high = np.percentile(scan, [1, 99])
    if not low < high:
        raise ValueError(
            f"scan: expected voxels that differ, got {low} nearly everywhere. Get the file anew."
        )
    middle = scan.shape[1] // 2
    image = np.rint(255 * np.clip((scan[:, middle] - low) / (high - low), 0, 1)).astype(np.uint8)
    around = [((48 - side) // 2, 48 - side - (48 - side) // 2) for side in image.shape]
    if min(map(min, around)) < 0:
        raise ValueError(f"scan: expected at most 48 by 48 pixels, got {image.shape}. Get the file anew.")
    upright = (np.pad(each, around).T[::-1] for each in (image, mask[:, middle] > 0))
    return next(upright), next(upright)


def _stand_in() -> Parts[Scans]:
    rng = np.random.default_rng(0)
    digits = load_digits(n_class=1).data.reshape(-1, 8, 8)[:48].repeat(2, axis=1).repeat(2, axis=2)
    images, masks = rng.integers(0, 160, (48, 32, 32), np.uint8), np.zeros((48, 32, 32), bool)
    for image, mask, ink in zip(images, masks, digits, strict=True):
        y, x = rng.integers(6, 11, 2)
        mask[y : y + 16, x : x + 16] = ink > 6
        image[mask] = np.minimum(255, image[mask] + np.uint16(90))
    whole, card = Scans(images, masks), "**digits on a noisy ground**: a stand-in, of digits in scikit-learn."
    return Parts(card, *(whole.take(np.arange(*ends)) for ends in ((0, 24), (24, 36), (36, 48))))


def dice(marked: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> Numbers:
    """Of each image, (n,), twice the pixels in both masks by the pixels of one and of the other.

    1 where both are empty. Source: Dice, *Measures of the amount of ecologic association between species*,
    1945.
    """
    if marked.shape != truth.shape or marked.dtype != bool or truth.dtype != bool:
        raise ValueError(
            f"marked, truth: expected masks of one shape, bool, got {marked.shape} {marked.dtype} and "
            f"{truth.shape} {truth.dtype}. Compare probabilities with a threshold first."
        )
    both, all_ = (x.sum(axis=(1, 2)) for x in (marked & truth, marked * 1 + truth))
    return np.where(all_ > 0, 2 * both / np.maximum(all_, 1), 1.0)


def moved(scans: Scans, number: int, *, seed: int) -> Scans:
    """So many copies of labelled slices, each shifted, turned, scaled, made brighter or darker a little."""
    rng, side = np.random.default_rng(seed), scans.images.shape[1]
    images, masks = [], []
    for row in np.resize(np.arange(len(scans)), number):
        turn, scale = np.deg2rad(rng.uniform(-12, 12)), 1 + rng.uniform(-0.12, 0.12)
        matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        middle = np.full(2, side / 2 - 0.5)
        how = {"matrix": matrix, "offset": middle - matrix @ middle + rng.uniform(-1, 1, 2) * side / 16}
        image = ndimage.affine_transform(scans.images[row].astype(np.float32), **how, order=1)
        bright = image * (1 + rng.uniform(-0.2, 0.2)) + 25 * rng.uniform(-1, 1) * (image > 0)
        images.append(np.clip(bright, 0, 255).astype(np.uint8))
        masks.append(ndimage.affine_transform(scans.masks[row].astype(np.float32), **how, order=1) > 0.5)
    return Scans(np.stack(images), np.stack(masks))


# -- what is trained ------------------------------------------------------------------------------


def _pair(x: Any, channels: int) -> Any:
    """Two 3 by 3 convolutions, each with BatchNorm."""
    for _ in range(2):
        x = layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    return x


def _marked(x: Any) -> Any:
    return layers.Conv2D(1, 1, activation="sigmoid", name="marked")(x)


def unet(side: int, *, widths: tuple[int, ...] = (8, 16, 32, 64), seed: int = 0) -> keras.Model:
    """A small U-Net on raw slices: down by halves, and up again beside what was seen on the way.

    Source: Ronneberger, Fischer and Brox, *U-Net: convolutional networks for biomedical image segmentation*,
    2015.
    """
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((side, side, 1))
    x, seen = layers.Rescaling(1 / 255)(inputs), []
    for channels in widths[:-1]:
        seen.append(_pair(x, channels))
        x = layers.MaxPooling2D()(seen[-1])
    x = _pair(x, widths[-1])
    for channels, beside in zip(widths[-2::-1], seen[::-1], strict=True):
        x = _pair(layers.Concatenate()([layers.UpSampling2D()(x), beside]), channels)
    return keras.Model(inputs, _marked(x))


def _tuned_unet(edition: Edition, side: int, seed: int) -> keras.Model:
    """A U-Net whose way down is the small backbone; BatchNorm there keeps its statistics."""
    keras.utils.set_random_seed(seed)
    backbone = load_backbone(SMALL[edition.name], image_size=IMAGE_SIZE[edition.name])
    for layer in backbone.layers:
        layer.trainable = not isinstance(layer, layers.BatchNormalization)
    cuts = ("block_1_expand_relu", *CUTS)
    down = keras.Model(backbone.inputs, [backbone.get_layer(cut).output for cut in cuts])
    inputs = keras.Input((side, side, 1))
    prepare = preparation(SMALL[edition.name], (side, side), image_size=IMAGE_SIZE[edition.name])
    *seen, x = down(prepare(layers.Reshape((side, side))(inputs)))
    x = _pair(x, 48)
    for channels, beside in zip((32, 16, 8), seen[::-1], strict=True):
        x = _pair(
            layers.Concatenate()([layers.UpSampling2D()(x), layers.Conv2D(channels, 1)(beside)]), channels
        )
    return keras.Model(inputs, _marked(x))


def pixel_head(shapes: list[tuple[int, ...]], side: int, *, seed: int = 0) -> keras.Model:
    """Masks of side by side pixels from some maps (height, width, channels), by 32 hidden numbers a pixel.

    Coarse maps are enlarged. Of a map with one channel, a raw slice, 11 by 11 pixels around each are read.
    """
    keras.utils.set_random_seed(seed)
    inputs, parts = [keras.Input(shape) for shape in shapes], []
    for x in inputs:
        if x.shape[-1] == 1:
            hidden = layers.Conv2D(32, 11, padding="same")(layers.Rescaling(4 / 255, -2)(x))
        else:
            hidden = layers.Conv2D(32, 1)(x)
        parts.append(layers.UpSampling2D(side // x.shape[1], interpolation="bilinear")(hidden))
    hidden = layers.ReLU()(layers.Add()(parts) if len(parts) > 1 else parts[0])
    return keras.Model(inputs, _marked(hidden))


def loss(truth: Any, marked: Any) -> Any:
    """Cross-entropy, and one minus a Dice of probabilities, for which the few pixels inside matter."""
    both, all_ = (keras.ops.sum(x, axis=(1, 2, 3)) for x in (truth * marked, truth + marked))
    entropy = keras.ops.mean(keras.losses.binary_crossentropy(truth, marked))
    return entropy + 1 - keras.ops.mean((2 * both + 1) / (all_ + 1))


def train(
    model: keras.Model,
    x: list[Numbers],
    masks: Numbers,
    held: list[Numbers],
    held_masks: npt.NDArray[np.bool_],
    *,
    rate: float,
    looks: int,
    seed: int,
) -> list[float]:
    """Train on maps and masks, the rate on a cosine to zero; gives validation's mean Dice at each look.

    Between two looks are 20 steps of 8 slices. The weights of the best look stay.
    """
    if not model.compiled:
        model.compile(keras.optimizers.Adam(), loss)
        model.optimizer.build(model.trainable_variables)
    rng, each = np.random.default_rng(seed), BATCH * STEPS
    rows = np.concatenate([rng.permutation(len(masks)) for _ in range(-(-looks * each // len(masks)))])
    scores, kept = list[float](), model.get_weights()
    for look in range(looks):
        now = rows[look * each : (look + 1) * each]
        model.optimizer.learning_rate = rate * (1 + np.cos(np.pi * look / looks)) / 2
        y = masks[now][..., None].astype(np.float32)
        seen = [part[now] for part in x]
        model.fit(seen if len(x) > 1 else seen[0], y, batch_size=BATCH, shuffle=False, verbose=0)
        scores.append(float(dice(marked(model, held), held_masks).mean()))
        if scores[-1] == max(scores):
            kept = model.get_weights()
    model.set_weights(kept)
    return scores


def marked(model: keras.Model, x: list[Numbers]) -> npt.NDArray[np.bool_]:
    """What a model marks, bool (n, side, side): at least even odds."""
    seen = list(x) if len(x) > 1 else x[0]
    return np.asarray(model.predict(seen, batch_size=20, verbose=0)[..., 0] >= 0.5)


@functools.lru_cache(maxsize=2)  # slow to build
def _extractor(edition: Edition, weights: Literal["pretrained", "random"], seed: int) -> keras.Model:
    how: Any = {"cuts": CUTS, "image_size": IMAGE_SIZE[edition.name], "weights": weights, "seed": seed}
    return feature_extractor(edition.backbone, load(edition).test.images.shape[1:], **how)


def _places(images: npt.NDArray[np.uint8]) -> Numbers:
    """Where each pixel is: rows and columns, their squares and their product, large enough to count early."""
    steps = np.linspace(-2.5, 2.5, images.shape[1], dtype=np.float32)
    y, x = np.meshgrid(steps, steps, indexing="ij")
    return np.broadcast_to(np.stack([y, x, y * y, x * x, x * y], axis=-1), (*images.shape, 5))


def _maps(method: str, edition: Edition, seed: int, images: npt.NDArray[np.uint8]) -> list[Numbers]:
    """What a method's model reads of slices."""
    found = list[Numbers]()
    if "features" in method:
        kind: Literal["pretrained", "random"] = "random" if "random" in method else "pretrained"
        see = _extractor(edition, kind, seed if kind == "random" else 0)
        found += precompute(see, images, batch_size=20)
    if "features" not in method or "pixels" in method:
        found.append(images[..., None])
    return [*found, _places(images)] if "pixels" in method else found


# -- rows of the table ----------------------------------------------------------------------------


def _new(method: str, edition: Edition, shapes: list[tuple[int, ...]], seed: int) -> keras.Model:
    side = load(edition).test.images.shape[1]
    if method == "fine-tuned":
        return _tuned_unet(edition, side, seed)
    return unet(side, seed=seed) if method == "U-Net from scratch" else pixel_head(shapes, side, seed=seed)


@functools.cache
def _compiled(method: str, edition: Edition, shapes: tuple[tuple[int, ...], ...]) -> keras.Model:
    """A method's model, compiled once: tracing its steps takes as long as many of them."""
    model = _new(method, edition, [*shapes], 0)
    model.compile(keras.optimizers.Adam(), loss)
    model.optimizer.build(model.trainable_variables)
    return model


@functools.cache
def _learn(method: str, labels: int, seed: int, edition: Edition, rate: float) -> dict[str, Any]:
    """A row, without the choice of its rate."""
    data = load(edition)
    few, began = draw(data.train, labels, seed=seed), time.process_time()
    if method == "mean mask":
        mean = few.masks.mean(axis=0)
        guess, found = (np.tile(mean >= rate, (len(part), 1, 1)) for part in (data.validation, data.test))
        score = float(dice(guess, data.validation.masks).mean())
    else:
        looks = LOOKS.get(method, 6)
        copies = moved(few, COPIES if "features" in method else looks * STEPS * BATCH, seed=seed)
        images = (part.images for part in (copies, data.validation, data.test))
        x, held, tested = (_maps(method, edition, seed, each) for each in images)
        for place in range(len(CUTS) if "features" in method else 0):  # mean 0 and spread 1
            mean, spread = x[place].mean(axis=(0, 1, 2)), x[place].std(axis=(0, 1, 2)) + 1e-3
            for part in (x, held, tested):
                part[place] = (part[place] - mean) / spread
        model = _compiled(method, edition, tuple(each.shape[1:] for each in x))
        forget(
            model,
            _new(method, edition, [each.shape[1:] for each in x], seed).get_weights(),
            rate=rate,
            seed=0,
        )
        how: Any = {"rate": rate, "looks": looks, "seed": seed}
        score = max(train(model, x, copies.masks, held, data.validation.masks, **how))
        found = marked(model, tested)
    seconds = round(time.process_time() - began, 1)
    each = dice(found, data.test.masks)
    return {
        "value": float(each.mean()),
        "validation": score,
        "rate": rate,
        "cpu_seconds": seconds,
        "by_scan": " ".join(f"{value:.4f}" for value in each),
    }


def measure(
    method: str, labels: int, *, seed: int, edition: Edition | None = None, rate: float | None = None
) -> dict[str, Any]:
    """Learn from so many scans by one of `METHODS`, and test: the mean Dice over the test scans.

    ``value`` is that on test, ``cpu_seconds`` are of the features and of training; then each scan's Dice.
    Without a `rate`, validation chooses it with seed 0; of the mean mask it is the share that marks a pixel.
    """
    edition = edition or page.current()
    if rate is not None:
        return _learn(method, labels, seed, edition, rate)
    way = "features and pixels" if method == "features" else method
    most = SIZES[-1] if way in ASIDE else SIZES[1]
    tried = {each: _learn(way, most, 0, edition, each)["validation"] for each in RATES[way]}
    return {**_learn(method, labels, seed, edition, best(tried)), "choice": in_words(tried)}


def outlines(images: npt.NDArray[np.uint8], truth: Any, found: Any, titles: list[str]) -> None:
    """Draw slices side by side: what was marked by hand, solid, and what a model marks, dashed."""
    _, axes = plt.subplots(1, len(images), figsize=(2.2 * len(images), 2.5), layout="constrained")
    for ax, *shown, title in zip(np.ravel(axes), images, truth, found, titles, strict=True):
        ax.imshow(shown[0], cmap="gray", interpolation="none")
        ax.contour(shown[1], [0.5], colors="C1", linewidths=1.5)
        if shown[2].any():
            ax.contour(shown[2], [0.5], colors="C0", linewidths=1.5, linestyles="dashed")
        ax.set_title(title)
        ax.axis("off")


STUDY = application(
    "scans",
    methods=METHODS,
    sizes=SIZES,
    metric="mean Dice",
    measure=measure,
    where="method in ('pixels', 'features and pixels') and labels < 100",
    table="scans",
    left_out=lambda method, labels: method in ASIDE and labels == SIZES[1],
)
