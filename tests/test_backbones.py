"""Backbones by name, the layers that prepare raw images, and features at several depths."""

import random

import keras
import numpy as np
import pytest

import tlhelpers as tl
from tlhelpers import backbones

GLYPHS, IMAGENET = "mobilenet_v2_glyphs", "mobilenet_v2_imagenet"


def weights(model: keras.Model | keras.Layer) -> np.ndarray:
    return np.concatenate([keras.ops.convert_to_numpy(weight).ravel() for weight in model.weights])


def test_random_weights_follow_the_seed_and_leave_the_callers_generator_alone():
    random.seed(7)
    expected = random.random()
    random.seed(7)
    first, again, other = (weights(tl.load_backbone(GLYPHS, weights="random", seed=s)) for s in (1, 1, 2))
    assert random.random() == expected
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_pretrained_glyph_weights_reach_every_layer():
    pretrained, fresh = tl.load_backbone(GLYPHS), tl.load_backbone(GLYPHS, weights="random")
    for layer, random_layer in zip(pretrained.layers, fresh.layers, strict=True):
        if layer.weights:
            assert not np.array_equal(weights(layer), weights(random_layer)), layer.name


def test_the_imagenet_backbone_loads_its_verified_weights(full_data):
    backbone = tl.load_backbone(IMAGENET)
    assert backbone.count_params() == 2_257_984
    fresh = tl.load_backbone(IMAGENET, weights="random")
    assert not np.array_equal(weights(backbone.layers[1]), weights(fresh.layers[1]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(bad, tmp_path, monkeypatch):
    path = tmp_path / "bad.weights.h5"
    model = tl.load_backbone(IMAGENET, weights="random")
    kernel = model.get_layer("block_3_expand").kernel
    kernel.assign(np.where(np.arange(kernel.shape[-1]) == 5, bad, kernel))
    model.save_weights(path)
    monkeypatch.setattr(backbones.downloads, "fetch", lambda name: path)
    with pytest.raises(ValueError, match=r"weights: expected finite numbers, got .* block_3_expand/kernel"):
        tl.load_backbone(IMAGENET)


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("mobilenet_v2_glyph", {}, LookupError, "did you mean 'mobilenet_v2_glyphs'"),
        (GLYPHS, {"image_size": 31}, ValueError, "expected at least 32 pixels, got 31"),
        (GLYPHS, {"weights": "imagenet"}, ValueError, 'or "random", got \'imagenet\''),
    ],
)  # fmt: skip
def test_wrong_requests_say_what_to_do(name, options, error, message):
    with pytest.raises(error, match=message):
        tl.load_backbone(name, **options)


@pytest.mark.parametrize("shape", [(28, 28), (8, 8), (40, 30, 3), (160, 160, 3)])
@pytest.mark.parametrize(
    ("backbone", "options", "black"),
    [(GLYPHS, {}, 0), (IMAGENET, {}, -1), (IMAGENET, {"pixel_range": (0, 1)}, 0)],
)
def test_preparation_gives_three_channels_in_the_backbones_range(shape, backbone, options, black):
    raw = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype="uint8")
    raw[0], raw[1] = 0, 255
    prepared = tl.preparation(backbone, shape, image_size=48, **options).predict(raw, verbose=0)
    assert (prepared.shape, prepared.dtype) == ((3, 48, 48, 3), np.float32)
    np.testing.assert_allclose(prepared[0], black, atol=1e-6)
    np.testing.assert_allclose(prepared[1], 1, atol=1e-6)


def test_preparation_is_what_one_would_do_by_hand_and_survives_saving(tmp_path):
    raw = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype="uint8")
    resized = keras.ops.image.resize(raw[..., None].astype("float32"), (32, 32), interpolation="bilinear")
    by_hand = np.repeat(keras.ops.convert_to_numpy(resized) / 127.5 - 1, 3, axis=-1)
    prepare = tl.preparation(IMAGENET, (28, 28))
    assert not prepare.weights
    prepare.save(tmp_path / "prepare.keras")
    again = keras.models.load_model(tmp_path / "prepare.keras").predict(raw, verbose=0)
    np.testing.assert_allclose(again, by_hand, atol=1e-6)


@pytest.mark.parametrize(
    ("backbone", "shape", "options", "error", "message"),
    [
        (GLYPHS, (28,), {}, ValueError, r"expected \(height, width\) or \(height, width, 3\), got \(28,\)"),
        (GLYPHS, (28, 28, 4), {}, ValueError, "image_shape: expected"),
        (GLYPHS, (1, 28, 28, 3), {}, ValueError, "image_shape: expected"),
        (GLYPHS, (28, 28), {"image_size": 16}, ValueError, "at least 32 pixels, got 16"),
        (GLYPHS, (28, 28), {"pixel_range": (1, 1)}, ValueError, "black below that of white, got 1 and 1"),
        ("glyphs", (28, 28), {}, LookupError, "unknown backbone 'glyphs'"),
    ],
)
def test_preparation_refuses_what_it_cannot_prepare(backbone, shape, options, error, message):
    with pytest.raises(error, match=message):
        tl.preparation(backbone, shape, **options)


def test_features_are_what_the_backbone_gives_there():
    images = tl.load_dataset("digits").test.images[:3]
    cuts = ["block_5_add", "out_relu"]
    early, late = backbones.feature_extractor(GLYPHS, (8, 8), cuts=cuts).predict(images, verbose=0)
    end = tl.load_backbone(GLYPHS)(tl.preparation(GLYPHS, (8, 8))(images))
    np.testing.assert_allclose(late, end, atol=1e-5)
    pooled = backbones.feature_extractor(GLYPHS, (8, 8), cuts=cuts, pool=True)
    assert not pooled.trainable_weights
    np.testing.assert_allclose(pooled.predict(images, verbose=0)[0], early.mean(axis=(1, 2)), atol=1e-5)
    control = backbones.feature_extractor(GLYPHS, (8, 8), cuts=cuts[:1], weights="random", seed=1)
    assert not np.allclose(control.predict(images, verbose=0), early, atol=0.01)
    with pytest.raises(LookupError, match="unknown layer of the backbone 'block_99_add'"):
        backbones.feature_extractor(GLYPHS, (8, 8), cuts=["block_99_add"])


def test_the_small_convnet_takes_grey_and_colour_and_follows_its_seed():
    for shape in ((8, 8), (16, 8, 3)):
        first, again, other = (
            backbones.small_convnet(shape, classes=3, widths=(4, 6), seed=seed) for seed in (0, 0, 1)
        )
        assert first.output_shape == (None, 3)
        assert [layer.filters for layer in first.layers if isinstance(layer, keras.layers.Conv2D)] == [4, 6]
        assert np.array_equal(weights(first), weights(again))
        assert not np.array_equal(weights(first), weights(other))
        white = np.full((1, *shape), 255, "uint8")
        np.testing.assert_allclose(first.predict(white, verbose=0).sum(), 1, atol=1e-5)
