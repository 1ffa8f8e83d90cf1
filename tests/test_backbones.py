"""Backbones by name, the layers that prepare raw images, and features at several depths."""

import random
import shutil

import h5py
import keras
import numpy as np
import pytest

import tlhelpers as tl
from tlhelpers import backbones, downloads

GLYPHS, IMAGENET = "mobilenet_v2_glyphs", "mobilenet_v2_imagenet"


def weights(model: keras.Model | keras.Layer) -> np.ndarray:
    return np.concatenate([keras.ops.convert_to_numpy(weight).ravel() for weight in model.weights])


@pytest.fixture(scope="module")
def fresh() -> keras.Model:
    return tl.load_backbone(GLYPHS, weights="random")


@pytest.fixture(scope="module")
def pretrained() -> keras.Model:
    return tl.load_backbone(GLYPHS)


def test_random_weights_follow_the_seed_and_leave_the_callers_generator_alone(fresh):
    state = random.getstate()
    again, other = (weights(tl.load_backbone(GLYPHS, weights="random", seed=seed)) for seed in (0, 1))
    assert random.getstate() == state
    assert np.array_equal(weights(fresh), again)
    assert not np.array_equal(again, other)


def test_pretrained_glyph_weights_reach_every_layer(pretrained, fresh):
    for layer, random_layer in zip(pretrained.layers, fresh.layers, strict=True):
        if layer.weights:
            assert not np.array_equal(weights(layer), weights(random_layer)), layer.name


@pytest.mark.parametrize(("name", "numbers"), [(IMAGENET, 2_257_984), ("mobilenet_v2_035_imagenet", 410_208)])
def test_the_imagenet_backbones_load_their_verified_weights(full_data, name, numbers):
    backbone = tl.load_backbone(name)
    assert backbone.count_params() == numbers
    assert len(np.unique(weights(backbone.get_layer("bn_Conv1")))) > 4  # new ones are zeros and ones


def test_one_changed_number_of_alpha_035_is_refused(full_data, tmp_path, monkeypatch):
    name = "mobilenet_v2_0.35_224_no_top.h5"
    shutil.copyfile(full_data / name, tmp_path / name)
    with h5py.File(tmp_path / name, "r+") as file:
        file["bn_Conv1/bn_Conv1/beta"][3] *= 1.0001
    monkeypatch.setenv("TLHELPERS_DATA", str(tmp_path))
    with pytest.raises(downloads.DownloadError, match=r"expected content b2cc3bcf69d428ea\.\.\., got"):
        tl.load_backbone("mobilenet_v2_035_imagenet")


def test_weights_that_are_no_numbers_are_refused(tmp_path, monkeypatch):
    model = tl.load_backbone(IMAGENET, weights="random")
    kernel = model.get_layer("block_3_expand").kernel
    kernel.assign(np.where(np.arange(kernel.shape[-1]) == 5, np.inf, kernel))
    model.save_weights(tmp_path / "bad.weights.h5")
    monkeypatch.setattr(backbones.downloads, "fetch", lambda name: tmp_path / "bad.weights.h5")
    with pytest.raises(ValueError, match=r"weights: expected finite numbers, got .* block_3_expand/kernel"):
        tl.load_backbone(IMAGENET)


@pytest.mark.parametrize("shape", [(8, 8), (160, 30, 3)])
@pytest.mark.parametrize(
    ("backbone", "options", "black"),
    [(GLYPHS, {}, 0), (IMAGENET, {}, -1), (IMAGENET, {"pixel_range": (0, 1)}, 0)],
)
def test_preparation_gives_three_channels_in_the_backbones_range(shape, backbone, options, black):
    raw = np.stack([np.zeros(shape, "uint8"), np.full(shape, 255, "uint8")])
    prepared = np.asarray(tl.preparation(backbone, shape, image_size=48, **options)(raw, training=False))
    assert (prepared.shape, prepared.dtype) == ((2, 48, 48, 3), np.float32)
    np.testing.assert_allclose(prepared[0], black, atol=1e-6)
    np.testing.assert_allclose(prepared[1], 1, atol=1e-6)


def test_preparation_is_what_one_would_do_by_hand_and_survives_saving(tmp_path):
    raw = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype="uint8")
    resized = keras.ops.image.resize(raw[..., None].astype("float32"), (32, 32), interpolation="bilinear")
    by_hand = np.repeat(np.asarray(resized) / 127.5 - 1, 3, axis=-1)
    prepare = tl.preparation(IMAGENET, (28, 28))
    assert not prepare.weights
    prepare.save(tmp_path / "prepare.keras")
    again = keras.models.load_model(tmp_path / "prepare.keras").predict(raw, verbose=0)
    np.testing.assert_allclose(again, by_hand, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tl.load_backbone("mobilenet_v2_glyph"), LookupError, "did you mean 'mobilenet_v2_glyphs'"),
        (lambda: tl.load_backbone(GLYPHS, image_size=31), ValueError, "image_size: .* 32 to 10000, got 31"),
        (lambda: tl.load_backbone(GLYPHS, weights="old"), ValueError, "or \"random\", got 'old'"),
        (lambda: tl.preparation("glyphs", (28, 28)), LookupError, "unknown backbone 'glyphs'"),
        (lambda: tl.preparation(GLYPHS, (9, 9), image_size=16), ValueError, "image_size: .*, got 16"),
        (lambda: tl.preparation(GLYPHS, (28,)), ValueError, r"\(height, width\) or .*, got \(28,\)"),
        (lambda: tl.preparation(GLYPHS, (28, 28, 4)), ValueError, "image_shape: expected"),
        (lambda: tl.preparation(GLYPHS, (9, 9), pixel_range=(1, 1)), ValueError, r"below .* got \(1, 1\)"),
    ],
)
def test_wrong_requests_say_what_to_do(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_features_are_what_the_backbone_gives_there(pretrained, fresh):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype="uint8")
    prepared = tl.preparation(GLYPHS, (8, 8))(images, training=False)
    cuts = ["block_5_add", "out_relu"]
    early, late = backbones.feature_extractor(GLYPHS, (8, 8), cuts=cuts).predict(images, verbose=0)
    there = keras.ops.convert_to_numpy(pretrained(prepared, training=False))
    np.testing.assert_allclose(late, there, atol=1e-5)
    control = backbones.feature_extractor(GLYPHS, (8, 8), cuts=cuts, pool=True, weights="random")
    assert not control.trainable_weights
    pooled = keras.ops.mean(fresh(prepared, training=False), axis=(1, 2))
    found = control.predict(images, verbose=0)[1]
    np.testing.assert_allclose(found, keras.ops.convert_to_numpy(pooled), rtol=1e-3, atol=1e-9)
    assert early.shape == (3, 4, 4, 16)
    with pytest.raises(LookupError, match="unknown layer of the backbone 'block_99_add'"):
        backbones.feature_extractor(GLYPHS, (8, 8), cuts=["block_99_add"], weights="random")


@pytest.mark.parametrize("shape", [(8, 8), (16, 8, 3)])
def test_the_small_convnet_takes_grey_and_colour_and_follows_its_seed(shape):
    options = {"classes": 3, "widths": (4, 6)}
    first, again, other = (backbones.small_convnet(shape, **options, seed=seed) for seed in (0, 0, 1))
    assert [layer.filters for layer in first.layers if isinstance(layer, keras.layers.Conv2D)] == [4, 6]
    assert np.array_equal(weights(first), weights(again))
    assert not np.array_equal(weights(first), weights(other))
    chances = first.predict(np.full((1, *shape), 255, "uint8"), verbose=0)
    assert chances.shape == (1, 3)
    assert chances.sum() == pytest.approx(1, abs=1e-5)
