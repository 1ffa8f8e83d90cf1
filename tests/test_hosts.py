"""The script for several processes ends as one process does. It needs JAX: `make nightly ONLY=backends`."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import tlhelpers as tl

if keras.backend.backend() != "jax":
    pytest.skip("the processes meet through JAX", allow_module_level=True)

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "hosts" / "train.py"


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Features of a frozen prefix, and a network whose BatchNorm is frozen, in float64."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "keras.json").write_text(json.dumps({"floatx": "float64", "backend": "jax"}))
    making = f"""
import keras, numpy as np
keras.utils.set_random_seed(0)
inputs = keras.Input((6, 6, 4))
x = keras.layers.Conv2D(8, 3)(inputs)
x = keras.layers.ReLU()(keras.layers.BatchNormalization(trainable=False)(x))
x = keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
model = keras.Model(inputs, x)
model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
model.save({str(folder / "epoch-0.keras")!r})
"""
    subprocess.run([sys.executable, "-c", making], env=environment(folder), check=True)
    layers = [keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="a"), keras.layers.ReLU(name="b")]
    prefix = keras.Sequential(layers)
    prefix.trainable = False
    rng = np.random.default_rng(0)
    np.save(folder / "features.npy", tl.precompute(prefix, rng.normal(size=(150, 8, 8, 1)).astype("float32")))
    np.save(folder / "labels.npy", rng.integers(0, 3, 150))
    return folder


def environment(begun):
    return {**os.environ, "KERAS_BACKEND": "jax", "KERAS_HOME": str(begun), "JAX_ENABLE_X64": "1"}


@pytest.fixture
def start(begun, tmp_path):
    """Start processes of a group in a folder of that name, and end what still runs after the test."""
    running = []

    def start(name, *at, of=1, epochs=3, port=0, wait=30):
        folder = tmp_path / name
        if not folder.exists():
            folder.mkdir()
            for file in begun.iterdir():
                (folder / file.name).symlink_to(file)
        words = [folder, "--address", f"localhost:{port or free()}", "--processes", of]
        words += ["--epochs", epochs, "--wait", wait]
        for process in at:
            command = [sys.executable, SCRIPT, *words, "--process", process]
            said = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
            running.append(subprocess.Popen([*map(str, command)], env=environment(begun), **said))
        return folder, running[-len(at) :]

    yield start
    for each in running:
        each.kill()
        each.communicate()


def free():
    with socket.socket() as holder:
        holder.bind(("localhost", 0))
        return holder.getsockname()[1]


def ended(processes):
    for each in processes:
        _, said = each.communicate(timeout=120)
        assert each.returncode == 0, said
    return True


def weights(folder, epochs):
    model = keras.models.load_model(folder / f"epoch-{epochs}.keras")
    state = [*model.weights, *model.optimizer.variables]
    return np.concatenate([np.ravel(np.asarray(each)) for each in state])


def test_two_processes_end_as_one(start):
    one, first = start("one", 0)
    assert ended(first)
    two, both = start("two", 0, 1, of=2)
    assert ended(both)
    np.testing.assert_allclose(weights(two, 3), weights(one, 3), rtol=0, atol=1e-12)
    assert np.abs(weights(one, 3) - weights(one, 2)).max() > 1e-3


def test_goes_on_after_a_kill_and_ends_as_one(start):
    folder, (first, second) = start("killed", 0, 1, of=2, epochs=10_000, wait=10)
    while not (folder / "epoch-2.keras").exists():
        assert first.poll() is None, first.communicate()[1]
    second.kill()
    _, said = first.communicate(timeout=120)  # it notices by itself
    assert first.returncode, said
    done = max(int(path.stem[6:]) for path in folder.glob("epoch-*.keras"))
    assert ended(start("killed", 0, 1, of=2, epochs=done + 2)[1])
    one, alone = start("one", 0, epochs=done + 2)
    assert ended(alone)
    np.testing.assert_allclose(weights(folder, done + 2), weights(one, done + 2), rtol=0, atol=1e-10)


def test_who_never_comes_is_given_up(start):
    _, (first,) = start("missing", 0, of=2, wait=5)
    _, said = first.communicate(timeout=120)
    assert first.returncode
    assert "DEADLINE_EXCEEDED" in said


def test_a_port_that_is_taken_is_an_error(start):
    with socket.socket() as holder:
        holder.bind(("localhost", 0))
        holder.listen()
        _, (first,) = start("taken", 0, of=2, wait=5, port=holder.getsockname()[1])
        first.communicate(timeout=120)
    assert first.returncode


def test_a_batch_that_does_not_share_out_is_refused(start):
    _, (first,) = start("shares", 0, of=3)
    _, said = first.communicate(timeout=120)
    assert "--batch: expected a multiple of --processes, got 64 and 3" in said
