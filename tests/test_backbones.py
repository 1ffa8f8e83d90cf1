"""Backbones by name, and the layers that prepare raw images."""

import random

import keras
import numpy as np
import pytest

import tlhelpers as tl


def weights(model: keras.Model) -> np.ndarray:
    return np.concatenate([keras.ops.convert_to_numpy(weight).ravel() for weight in model.weights])


def test_random_weights_follow_the_seed_and_leave_the_callers_generator_alone():
    random.seed(7)
    expected = random.random()
    random.seed(7)
    first = tl.load_backbone("mobilenet_v2_glyphs", weights="random", seed=1)
    assert random.random() == expected
    again = tl.load_backbone("mobilenet_v2_glyphs", weights="random", seed=1)
    other = tl.load_backbone("mobilenet_v2_glyphs", weights="random", seed=2)
    assert np.array_equal(weights(first), weights(again))
    assert not np.array_equal(weights(first), weights(other))


def test_pretrained_glyph_weights_reach_every_layer():
    pretrained = tl.load_backbone("mobilenet_v2_glyphs")
    fresh = tl.load_backbone("mobilenet_v2_glyphs", weights="random")
    for layer, random_layer in zip(pretrained.layers, fresh.layers, strict=True):
        if layer.weights:
            assert not np.array_equal(weights(layer), weights(random_layer)), layer.name
    assert np.isfinite(weights(pretrained)).all()


def test_the_imagenet_backbone_loads_its_verified_weights(full_data):
    backbone = tl.load_backbone("mobilenet_v2_imagenet")
    assert backbone.count_params() == 2_257_984
    assert sum(isinstance(layer, keras.layers.BatchNormalization) for layer in backbone.layers) == 52
    fresh = tl.load_backbone("mobilenet_v2_imagenet", weights="random")
    assert not np.array_equal(weights(backbone.layers[1]), weights(fresh.layers[1]))


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("mobilenet_v2_glyph", {}, LookupError, "did you mean 'mobilenet_v2_glyphs'"),
        ("mobilenet_v2_glyphs", {"image_size": 31}, ValueError, "expected at least 32 pixels, got 31"),
        ("mobilenet_v2_glyphs", {"weights": "imagenet"}, ValueError, 'or "random", got \'imagenet\''),
    ],
)  # fmt: skip
def test_wrong_requests_say_what_to_do(name, options, error, message):
    with pytest.raises(error, match=message):
        tl.load_backbone(name, **options)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((28, 28), 64),
        ((28, 28), 96),
        ((8, 8), 48),
        ((40, 30, 3), 48),
        ((160, 160, 3), 64),
        ((160, 160, 3), 96),
    ],
)
def test_preparation_gives_three_channels_from_zero_to_one(shape, size):
    raw = np.random.default_rng(0).integers(0, 256, (5, *shape), dtype="uint8")
    raw[0], raw[1] = 0, 255
    prepared = tl.preparation(shape, image_size=size).predict(raw, verbose=0)
    assert prepared.shape == (5, size, size, 3)
    assert prepared.dtype == np.float32
    assert (prepared[0] == 0).all()
    np.testing.assert_allclose(prepared[1], 1, atol=1e-6)


def test_preparation_is_what_one_would_do_by_hand():
    raw = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype="uint8")
    resized = keras.ops.image.resize(raw[..., None].astype("float32"), (32, 32), interpolation="bilinear")
    by_hand = np.repeat(keras.ops.convert_to_numpy(resized) / 255, 3, axis=-1)
    np.testing.assert_allclose(tl.preparation((28, 28)).predict(raw, verbose=0), by_hand, atol=1e-6)


def test_preparation_has_no_weights_and_survives_saving(tmp_path):
    prepare = tl.preparation((28, 28))
    assert not prepare.weights
    prepare.save(tmp_path / "prepare.keras")
    raw = np.full((1, 28, 28), 51, "uint8")
    again = keras.models.load_model(tmp_path / "prepare.keras").predict(raw, verbose=0)
    np.testing.assert_allclose(again, 0.2, atol=1e-6)


@pytest.mark.parametrize("shape", [(28,), (28, 28, 4), (1, 28, 28, 3)])
def test_preparation_of_other_shapes_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(height, width\) or \(height, width, 3\)"):
        tl.preparation(shape)
    with pytest.raises(ValueError, match="at least 32 pixels, got 16"):
        tl.preparation((28, 28), image_size=16)
