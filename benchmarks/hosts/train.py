"""Train a small network on features that lie on disk, in several processes that see one folder.

    KERAS_BACKEND=jax python train.py FOLDER --address HOST:PORT --processes 2 --process 0

The folder holds features.npy, labels.npy and epoch-0.keras, the compiled network. Each process takes its
share of every batch, so that the whole batch is what one process would take. The first process keeps the
network after each epoch; who starts anew goes on from the last one.
"""

import argparse
from pathlib import Path

import jax
import keras
import numpy as np


def train(folder: Path, *, process: int, processes: int, epochs: int, batch: int) -> keras.Model:
    """Train until so many epochs are done, and return the network."""
    x, y = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("features", "labels"))
    keras.utils.set_random_seed(0)  # layers are made with the same numbers in all processes, or JAX refuses
    done = max(int(path.stem.removeprefix("epoch-")) for path in folder.glob("epoch-*.keras"))
    model = keras.models.load_model(folder / f"epoch-{done}.keras")
    for epoch in range(done, epochs):
        order = np.random.default_rng(epoch).permutation(len(x))  # the same in all processes
        rows = order[: len(x) // batch * batch][process::processes]
        model.fit(x[rows], y[rows], batch_size=batch // processes, shuffle=False, verbose=0)
        # Saving makes variables, which JAX's processes must do together: so each saves, and one file counts.
        model.save(mine := folder / f"partial-{process}.keras")
        if process == 0:
            mine.replace(folder / f"epoch-{epoch + 1}.keras")
    return model


def main() -> None:
    """Join the others, and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--address", default="localhost:12321", help="of the first process")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64, help="examples in a step, of all processes together")
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--wait", type=int, default=60, help="seconds until who is missing is given up")
    arguments = vars(parser.parse_args())
    address, wait, process, processes = (
        arguments[name] for name in ("address", "wait", "process", "processes")
    )
    if arguments["batch"] % processes:
        parser.error(f"--batch: expected a multiple of --processes, got {arguments['batch']} and {processes}")
    if processes > 1:
        waits = {"initialization_timeout": wait, "heartbeat_timeout_seconds": wait}
        jax.distributed.initialize(address, processes, process, **waits)
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    train(**{name: arguments[name] for name in ("folder", "epochs", "batch", "process", "processes")})


if __name__ == "__main__":
    main()
