"""How many images a second a machine sees and trains on: Keras on PyTorch or JAX, on a GPU if it has one.

    KERAS_BACKEND=torch python -m benchmarks.accelerator --out FILE
    KERAS_BACKEND=jax CUDA_VISIBLE_DEVICES= python -m benchmarks.accelerator --out FILE   the processor alone

The network is the book's MobileNetV2 at 96 pixels, with random weights, which are as quick as others. Rows
are added to the file, so one file can hold several backends of one machine.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

import tlhelpers as tl
from tlhelpers import _backend, page

TURNS = 3
SIDE = 96


def device() -> str:
    """What the backend computes on, as it says so."""
    found = _backend.module()
    if _backend.NAME == "torch":
        gpu = found.cuda.is_available()
        return f"one {found.cuda.get_device_name()}" if gpu else f"{os.cpu_count()} cores"
    (first, *_) = found.devices()
    return f"one {first.device_kind}" if first.platform == "gpu" else f"{os.cpu_count()} cores"


def rates(measure: Callable[[], None], images: int) -> dict[str, float]:
    """Images a second: the median of some turns, the least and the most; one turn before is not counted."""
    found = []
    for _ in range(TURNS + 1):
        began = time.perf_counter()
        measure()
        found.append(images / (time.perf_counter() - began))
    del found[0]
    return {"images_per_s": statistics.median(found), "least": min(found), "most": max(found)}


def frozen_pass(images: Any, batch: int) -> dict[str, float]:
    """`tl.precompute`, with an empty cache folder in each turn."""
    network = tl.backbones.feature_extractor(
        "mobilenet_v2_imagenet",
        images.shape[1:],
        image_size=SIDE,
        weights="random",
        cuts=["out_relu"],
        pool=True,
    )

    def measure() -> None:
        with tempfile.TemporaryDirectory() as empty:
            os.environ["TLHELPERS_CACHE"] = empty
            tl.precompute(network, images, batch_size=batch)

    return rates(measure, len(images))


def fine_tuning(images: Any, batch: int) -> dict[str, float]:
    """`fit` with all layers trainable and BatchNorm training along, Adam."""
    backbone = keras.applications.MobileNetV2((SIDE, SIDE, 3), weights=None, include_top=False, pooling="avg")
    scaled = keras.layers.Rescaling(1 / 127.5, -1.0)
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), scaled, backbone, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss)
    labels = np.random.default_rng(0).integers(0, 10, len(images))
    return rates(lambda: model.fit(images, labels, batch_size=batch, verbose=0), len(images))


def main() -> None:
    """Measure, and add the rows to the file."""
    parser = argparse.ArgumentParser("python -m benchmarks.accelerator", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=8_192, help="for the pass; a quarter for fine-tuning")
    asked = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (asked.images, SIDE, SIDE, 3), dtype=np.uint8)
    versions = f"keras {keras.version()}, {_backend.NAME} {_backend.module().__version__}"
    for what, few in ((frozen_pass, images), (fine_tuning, images[: len(images) // 4])):
        for batch in (32, 128):
            row: dict[str, Any] = {"what": what.__name__.replace("_", " "), "batch_size": batch}
            row |= what(few, batch)
            row |= {"images": len(few), "device": device(), "versions": versions, **page.stamp()}
            print(row, flush=True)
            table = pd.DataFrame([row])
            if asked.out.exists():
                table = pd.concat([pd.read_csv(asked.out), table])
            table.to_csv(asked.out, index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
