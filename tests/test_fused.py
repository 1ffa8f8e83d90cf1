"""Fused operations: the steps that Keras makes, for every setting they cover, and nothing else touched."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tlhelpers as tl
from tlhelpers import _backend

tf = pytest.importorskip("tensorflow")
layers = keras.layers


def network(*middle: keras.layers.Layer, side: int = 4) -> keras.Model:
    """A few layers between a convolution and a head, with weights and statistics of no special value."""
    first = [keras.Input((side, side, 3)), layers.Conv2D(4, 1, name="first")]
    model = keras.Sequential([*first, *middle, layers.Flatten(), layers.Dense(2, name="head")])
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.2, 1.2, weight.shape) for weight in model.weights])
    return model


def trained(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, *, fused: bool, steps: int = 1
) -> list[np.ndarray]:
    model.compile(optimizer, "mse")
    if fused:
        tl.fuse(model)
    rng = np.random.default_rng(2)
    x, y = (rng.normal(size=(6 * steps, *shape[1:])) for shape in (model.input_shape, model.output_shape))
    model.fit(x, y, batch_size=6, epochs=1, shuffle=False, verbose=0)
    return list(model.get_weights())


def assert_same(one: list[np.ndarray], other: list[np.ndarray], tolerance: float = 2e-5) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max(initial=0)))


MIDDLES: dict[str, tuple[Callable[[], list[Any]], int]] = {
    "norm": (lambda: [layers.BatchNormalization()], 4),
    "norm of one position": (lambda: [layers.BatchNormalization()], 1),
    "norm without scale": (lambda: [layers.BatchNormalization(scale=False, momentum=0.7)], 4),
    "norm without centre": (lambda: [layers.BatchNormalization(center=False, epsilon=0.1)], 2),
    "depthwise, large": (lambda: [layers.DepthwiseConv2D(3, padding="same")], 4),
    "depthwise, 2 by 2": (lambda: [layers.DepthwiseConv2D(3, padding="same", activation="relu6")], 2),
    "depthwise, 1 by 1": (lambda: [layers.DepthwiseConv2D(3, padding="same", use_bias=False)], 1),
    "depthwise, strides": (lambda: [layers.DepthwiseConv2D(3, 2, padding="same")], 3),
    "depthwise, even": (lambda: [layers.DepthwiseConv2D(2, padding="same")], 2),
    "depthwise, oblong": (lambda: [layers.DepthwiseConv2D((1, 3), 2, padding="valid")], 4),
    "depthwise, valid": (lambda: [layers.DepthwiseConv2D(3, 1, padding="valid")], 4),
    "depthwise, wide": (lambda: [layers.DepthwiseConv2D(5, 2, padding="same")], 4),
}


@pytest.mark.parametrize("name", MIDDLES)
def test_a_step_is_that_of_keras(name: str) -> None:
    make, side = MIDDLES[name]
    plain, ours = (
        trained(network(*make(), side=side), keras.optimizers.SGD(0.003), fused=fused, steps=3)
        for fused in (False, True)
    )
    assert_same(plain, ours)


@pytest.mark.parametrize(
    "make",
    [
        keras.optimizers.Adam,
        lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, 200), 0.8, epsilon=1e-3),
        lambda: keras.optimizers.AdamW(0.003, weight_decay=0.1, clipnorm=0.5),
        lambda: keras.optimizers.Adam(0.003, use_ema=True, ema_overwrite_frequency=7),
        lambda: keras.optimizers.Adam(0.003, gradient_accumulation_steps=3),
    ],
)  # fmt: skip
def test_200_steps_of_adam_are_those_of_keras(make: Callable[[], Any]) -> None:
    def model() -> keras.Model:
        dense = keras.Sequential([keras.Input((5,)), layers.Dense(4, "tanh"), layers.Dense(2)])
        dense.set_weights([np.random.default_rng(3).normal(size=w.shape) for w in dense.weights])
        return dense

    plain, ours = (trained(model(), make(), fused=fused, steps=200) for fused in (False, True))
    assert_same(plain, ours, 1e-5)


def test_an_embedding_trains_alike() -> None:
    def run(fused: bool) -> list[np.ndarray]:
        model = keras.Sequential([keras.Input((3,), dtype="int32"), layers.Embedding(9, 2), layers.Flatten()])
        model.set_weights([np.random.default_rng(3).normal(size=w.shape) for w in model.weights])
        model.compile(keras.optimizers.Adam(0.1), "mse")
        if fused:
            tl.fuse(model)
        model.fit(np.arange(30).reshape(10, 3) % 7, np.ones((10, 6)), verbose=0, epochs=3, shuffle=False)
        return list(model.get_weights())

    assert_same(run(False), run(True), 1e-5)


class Own(layers.BatchNormalization):  # type: ignore[misc]
    pass


class OwnAdam(keras.optimizers.Adam):  # type: ignore[misc]
    pass


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.BatchNormalization(trainable=False),
        lambda: layers.BatchNormalization(synchronized=True),
        lambda: layers.BatchNormalization(renorm=True),
        lambda: layers.BatchNormalization(axis=1),
        lambda: layers.BatchNormalization(dtype="mixed_bfloat16"),
        lambda: layers.BatchNormalization(dtype="float64"),
        Own,
        lambda: layers.DepthwiseConv2D(3, dilation_rate=2, padding="same"),
        lambda: layers.DepthwiseConv2D(3, dtype="float64"),
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
    ],
)
def test_what_is_not_covered_stays(make: Callable[[], Any]) -> None:
    model = network(make())
    model.compile(keras.optimizers.SGD(), "mse")
    assert tl.fuse(model) == {}
    assert not any("call" in vars(layer) for layer in model.layers)


@pytest.mark.parametrize(
    "make", [lambda: keras.optimizers.Adam(amsgrad=True), OwnAdam, keras.optimizers.Nadam]
)
def test_other_optimisers_stay(make: Callable[[], Any]) -> None:
    model = network(layers.BatchNormalization())
    model.compile(make(), "mse")
    assert tl.fuse(model) == {"BatchNormalization": 1}
    assert "update_step" not in vars(model.optimizer)


def test_norm_in_inference_is_that_of_keras() -> None:
    model = network(layers.BatchNormalization())
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 3)).astype("float32")
    before = model.predict(x, verbose=0)
    model.compile("adam", "mse")
    tl.fuse(model)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)


def test_the_saved_and_the_cloned_model_are_plain(tmp_path: Path) -> None:
    model = network(layers.DepthwiseConv2D(3), layers.BatchNormalization())
    trained(model, keras.optimizers.Adam(), fused=True)
    assert any("call" in vars(layer) for layer in model.layers)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for other in (loaded, keras.models.clone_model(model)):
        assert [type(layer) for layer in other.layers] == [type(layer) for layer in model.layers]
        assert not any("call" in vars(layer) for layer in other.layers)
    assert type(loaded.optimizer) is keras.optimizers.Adam
    assert_same(model.optimizer.variables, loaded.optimizer.variables, 0.0)
    assert_same(model.get_weights(), loaded.get_weights(), 0.0)
    trained_on(loaded)


def test_refreshed_averages_are_those_of_a_plain_model() -> None:
    x = np.random.default_rng(0).normal(size=(20, 4, 4, 3)).astype("float32")
    refreshed = []
    for fused in (False, True):
        model = network(layers.BatchNormalization())
        model.compile("adam", "mse")
        if fused:
            tl.fuse(model)
        tl.refresh_batch_norm(model, x, batch_size=5)
        assert ("call" in vars(model.layers[1])) == fused
        refreshed.append(model.get_weights())
    assert_same(*refreshed)


def trained_on(model: keras.Model) -> list[np.ndarray]:
    model.fit(np.ones((6, 4, 4, 3)), np.ones((6, 2)), verbose=0)
    return list(model.get_weights())


def test_a_model_that_was_fitted_before_takes_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(layers.BatchNormalization())
    model.compile("adam", "mse")
    trained_on(model)
    tl.fuse(model)
    calls = []
    true = _backend.batch_norm
    monkeypatch.setattr(_backend, "batch_norm", lambda *given: calls.append(given) or true(*given))
    trained_on(model)
    assert calls


def off(x: Any, *given: Any) -> Any:
    y, mean, variance = TRUE_NORM(x, *given)
    return y, mean, variance * 9 / 8


TRUE_NORM, TRUE_ADAM = _backend.batch_norm, _backend.adam


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("batch_norm", off, "BatchNormalization"),
        ("batch_norm", lambda *given: [each * np.nan for each in TRUE_NORM(*given)], "BatchNormalization"),
        ("small_depthwise", lambda x, *given: tf.stop_gradient(x), "DepthwiseConv2D"),
        ("adam", lambda *given: TRUE_ADAM(*given[:-1], 1e-3), "Adam"),
        ("adam", lambda *given: TRUE_ADAM(*given[:4], given[4] + 1, *given[5:]), "Adam"),
    ],
)
def test_another_step_is_refused(
    name: str, wrong: Callable[..., Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(layers.DepthwiseConv2D(3, padding="same"), layers.BatchNormalization())
    model.compile("adam", "mse")
    monkeypatch.setattr(_backend, name, wrong)
    with pytest.raises(RuntimeError, match=f"model: expected the same step of {said} .*Leave tl.fuse out"):
        tl.fuse(model)
    assert not any("call" in vars(layer) for layer in model.layers)
    assert "update_step" not in vars(model.optimizer)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(layers.BatchNormalization())
    with pytest.raises(ValueError, match=r"model: expected a compiled one.*Call compile first"):
        tl.fuse(model)
    with pytest.raises(TypeError, match=r"model: expected a keras.Model"):
        tl.fuse("model")  # type: ignore[arg-type]
    shapeless = keras.Sequential([layers.Dense(2)])
    shapeless.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"model: expected a built one"):
        tl.fuse(shapeless)
    model.compile("adam", "mse")
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope(), pytest.raises(ValueError, match="one device"):
        tl.fuse(model)
    monkeypatch.setattr(_backend, "NAME", "torch")
    with pytest.raises(ValueError, match=r"backend: expected tensorflow, got torch"):
        tl.fuse(model)


def test_the_readers_random_numbers_and_names_do_not_move() -> None:
    model = network(layers.DepthwiseConv2D(3), layers.BatchNormalization())
    model.compile("adam", "mse")

    random.seed(5)
    tl.fuse(model)
    drawn = random.random()
    random.seed(5)
    assert drawn == random.random()
    keras.backend.clear_session()
    tl.fuse(model)
    assert [layers.Conv2D(1, 1).name, keras.Sequential().name] == ["conv2d", "sequential"]
