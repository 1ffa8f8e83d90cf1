"""What one process of a group does, for each way to train in several.

    python -m benchmarks.hosts.ways WAY PROCESS PROCESSES PORT TASK FOLDER

Writes what happened to FOLDER/PROCESS.json, after each step, so that it is there when the process dies.
"""

import contextlib
import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

EXAMPLES, BATCH, EPOCHS, SIZE, WAIT = 512, 64, 5, 24, 10
Fit = Callable[[keras.Model, Any, Any, int], None]


def network(*, frozen: bool) -> keras.Model:
    """Two convolutions with BatchNorm and a dense layer; weights are the same on every backend."""
    layers = keras.layers
    x = inputs = keras.Input((SIZE, SIZE, 3))
    for _ in range(2):
        x = layers.Conv2D(16, 3, use_bias=False)(x)
        norm = layers.BatchNormalization()
        x = layers.ReLU()(norm(x))
        norm.trainable = not frozen
    x = layers.Dense(5, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(0)
    drawn = [(weight.path, rng.normal(0, 0.3, weight.shape)) for weight in model.weights]
    positive = ("gamma", "variance")
    model.set_weights([np.abs(w) + 0.5 if path.endswith(positive) else w for path, w in drawn])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")
    return model


def plainly(model: keras.Model, x: Any, y: Any, batch: int) -> None:
    """Keras' own fit."""
    model.fit(x, y, batch_size=batch, shuffle=False, verbose=0)


def jax_processes(process: int, processes: int, port: int) -> tuple[Any, Fit]:
    """DataParallel over all devices of all processes."""
    import jax

    jax.config.update("jax_enable_x64", True)  # float64 is float32 without it
    if processes > 1:
        waits = {"initialization_timeout": WAIT, "heartbeat_timeout_seconds": WAIT}
        jax.distributed.initialize(f"localhost:{port}", processes, process, **waits)
    if len(jax.devices()) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    return contextlib.nullcontext, plainly


def mirrored(_process: int, _processes: int, _port: int) -> tuple[Any, Fit]:
    """MirroredStrategy over two devices that are both this CPU; over none when one device is asked for."""
    import tensorflow as tf

    if "DEVICES" not in os.environ:
        return contextlib.nullcontext, plainly
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope, plainly


def multi_worker(process: int, processes: int, port: int) -> tuple[Any, Fit]:
    """MultiWorkerMirroredStrategy, each process on a port of its own."""
    import tensorflow as tf

    if processes == 1:
        return contextlib.nullcontext, plainly
    workers = [f"localhost:{port + number}" for number in range(processes)]
    task = {"type": "worker", "index": process}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
    return tf.distribute.MultiWorkerMirroredStrategy().scope, plainly


def torch_processes(process: int, processes: int, port: int) -> tuple[Any, Fit]:
    """DistributedDataParallel around the Keras model; Keras' fit does not know it."""
    import datetime

    import torch

    if processes == 1:
        return contextlib.nullcontext, plainly
    at, patience = f"tcp://localhost:{port}", datetime.timedelta(seconds=WAIT)
    torch.distributed.init_process_group("gloo", at, patience, processes, process)
    wrapped: dict[int, Any] = {}

    def fit(model: keras.Model, x: Any, y: Any, batch: int) -> None:
        if id(model) not in wrapped:
            wrapped[id(model)] = torch.nn.parallel.DistributedDataParallel(model)
        for first in range(0, len(x), batch):
            said = wrapped[id(model)](torch.tensor(x[first : first + batch]), training=True)
            keras.losses.sparse_categorical_crossentropy(y[first : first + batch], said).mean().backward()
            with torch.no_grad():
                grads = [weight.value.grad for weight in model.trainable_weights]
                model.optimizer.apply(grads, model.trainable_weights)
            model.zero_grad()

    return contextlib.nullcontext, fit


START: dict[str, Callable[[int, int, int], tuple[Any, Fit]]] = {
    each.__name__: each for each in (jax_processes, mirrored, multi_worker, torch_processes)
}


def main() -> None:
    """Train with BatchNorm trained and frozen, or be killed and go on, as the task says."""
    way, task, folder = sys.argv[1], sys.argv[5], Path(sys.argv[6])
    process, processes, port = (int(each) for each in sys.argv[2:5])
    said: dict[str, Any] = {}

    def note(name: str, does: Callable[[], Any]) -> Any:
        try:
            found = does()
            said[name] = "ok"
        except Exception as error:
            found, text = None, " ".join(str(error).split())
            said[name] = f"{type(error).__name__}: {text[:160]}"
        (folder / f"{process}.json").write_text(json.dumps(said))
        return found

    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(0)
    started = note("start", lambda: START[way](process, processes, port))
    if started is None:
        return
    scope, fit = started
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(EXAMPLES, SIZE, SIZE, 3)), rng.integers(0, 5, EXAMPLES)
    batch = BATCH // processes

    def run(frozen: bool) -> keras.Model:
        done = sorted(folder.glob("epoch-*.keras")) if task == "killed" else []
        with scope():
            model = keras.models.load_model(done[-1]) if done else network(frozen=frozen)
        best = (np.inf, np.inf)
        for epoch in range(len(done), EPOCHS):
            if task == "killed" and not done and epoch == 2 and process == processes - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            mine = np.random.default_rng(epoch).permutation(EXAMPLES)[process::processes]
            began, cpu = time.perf_counter(), time.process_time()
            fit(model, x[mine], y[mine], batch)
            best = min(best[0], time.perf_counter() - began), min(best[1], time.process_time() - cpu)
            if task == "killed":
                model.save(kept := folder / f"partial-{process}.keras")
                if process == 0:
                    kept.replace(folder / f"epoch-{epoch + 1}.keras")
        said["seconds"], said["cpu_seconds"] = best
        return model

    for name in ("frozen",) if task == "killed" else ("trained", "frozen"):
        model = note("fit", functools.partial(run, name == "frozen"))
        if model is not None:
            weights = [np.asarray(keras.ops.convert_to_numpy(weight)) for weight in model.weights]
            np.savez(folder / f"{name}-{process}.npz", *weights)
    if task == "killed":
        return
    with scope():
        model = model or network(frozen=True)
    mine = slice(process, None, processes)
    note("evaluate", lambda: model.evaluate(x[mine], y[mine], batch_size=batch, verbose=0))
    note("predict", lambda: model.predict(x[mine], batch_size=batch, verbose=0))


if __name__ == "__main__":
    main()
