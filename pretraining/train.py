"""Pre-train MobileNetV2 (alpha 0.35, 32x32) to read the drawn glyphs, and write its weights."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from tlhelpers import cache

from .glyphs import SIDE, GlyphSet, handwrite

WEIGHTS = Path(__file__).resolve().parents[1] / "tlhelpers" / "weights" / "mobilenet_v2_glyphs.npz"

#: Where a second, helping head reads: the last layer at 4x4 pixels. At 32x32 the network shrinks its
#: image so early that the layers a digit task wants are far from the end, and learn slowly without it.
HELPER_AT = "block_6_expand_relu"
HELPER_WEIGHT = 0.5
BATCH = 128
PEAK_RATE = 3e-3


def fresh_backbone() -> keras.Model:
    """MobileNetV2 with random weights: input float32 (n, 32, 32, 3) in [0, 1], output (n, 1, 1, 1280)."""
    return keras.applications.MobileNetV2(
        input_shape=(SIDE, SIDE, 3), alpha=0.35, include_top=False, weights=None, name="backbone"
    )


def draw_images(
    glyphs: GlyphSet, count: int, *, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw so many training images (count, 32, 32), and their labels.

    Rare characters come more often than by their number of drawings: a drawing's chance falls with
    the square root of how many its class has.
    """
    rng = np.random.default_rng(seed)
    chance = 1 / np.sqrt(np.bincount(glyphs.labels)[glyphs.labels])
    which = rng.choice(len(glyphs.labels), count, p=chance / chance.sum())
    parts = np.array_split(which, max(1, count // 2048))
    bar = keras.utils.Progbar(len(parts), unit_name="batch of drawings")
    images = []
    for part in parts:
        images.append(handwrite(glyphs, part, rng))
        bar.add(1)
    return np.concatenate(images), glyphs.labels[which]


def with_heads(backbone: keras.Model, class_count: int) -> keras.Model:
    """Put two pooled heads on a backbone: one at its end, one at ``HELPER_AT``. Takes uint8 (n, 32, 32)."""
    images = keras.Input((SIDE, SIDE), dtype="uint8")
    pixels = keras.ops.cast(images, "float32") / 255
    pixels = keras.ops.repeat(pixels[..., None], 3, axis=-1)
    taps = keras.Model(backbone.input, [backbone.output, backbone.get_layer(HELPER_AT).output])
    heads = [
        keras.layers.Dense(class_count, name=name)(keras.layers.GlobalAveragePooling2D()(features))
        for name, features in zip(("end", "middle"), taps(pixels), strict=True)
    ]
    return keras.Model(images, heads)


def train(images: NDArray[np.uint8], labels: NDArray[np.int64], *, epochs: int, seed: int = 0) -> keras.Model:
    """Train a fresh backbone on drawn images and return it, without its heads."""
    keras.utils.set_random_seed(seed)
    backbone = fresh_backbone()
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.99  # Keras' 0.999 lags: the statistics would be those of older weights
    class_count = int(labels.max()) + 1
    model = with_heads(backbone, class_count)
    steps = -(-len(images) // BATCH) * epochs
    warm_up = min(300, steps // 4)
    rate = keras.optimizers.schedules.CosineDecay(
        1e-4, steps - warm_up, warmup_target=PEAK_RATE, warmup_steps=warm_up
    )

    def loss(target: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        # Some glyphs can't be told apart at 8x8: smoothed labels do not punish the doubt.
        wanted = keras.ops.one_hot(keras.ops.cast(keras.ops.reshape(target, (-1,)), "int32"), class_count)
        return keras.losses.categorical_crossentropy(wanted, logits, from_logits=True, label_smoothing=0.1)

    model.compile(
        keras.optimizers.Adam(rate),
        [loss, loss],
        loss_weights=[1.0, HELPER_WEIGHT],
        metrics=[["accuracy"], ["accuracy"]],
        steps_per_execution=20,
    )
    model.fit(images, [labels, labels], batch_size=BATCH, epochs=epochs)
    return backbone


def weights_of(backbone: keras.Model) -> dict[str, NDArray[np.float16]]:
    """All weights, rounded to float16, as ``{"layer/weight": array}``, BatchNorm's statistics included."""
    return {
        f"{layer.name}/{weight.name}": np.asarray(weight).astype(np.float16)
        for layer in backbone.layers
        for weight in layer.weights
    }


def set_weights(backbone: keras.Model, path: Path = WEIGHTS) -> keras.Model:
    """Set every weight of a backbone from a file that `write` made; a missing one is a KeyError."""
    with np.load(path) as arrays:
        for layer in backbone.layers:
            layer.set_weights([arrays[f"{layer.name}/{w.name}"].astype(np.float32) for w in layer.weights])
    return backbone


def write(backbone: keras.Model, path: Path = WEIGHTS) -> None:
    """Write the weights, whole or not at all."""
    arrays = weights_of(backbone)
    if not all(np.isfinite(a).all() for a in arrays.values()):
        raise ValueError(
            f"expected weights that float16 can hold, got infinite ones; {path} is left as it was."
        )
    with cache.atomic_file(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
