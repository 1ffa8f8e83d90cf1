"""Make the packaged backbone again: ``python -m pretraining``, in the root of the repository."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is loaded, or it has no effect

from . import glyphs, train

RUN = Path(__file__).with_name("run.json")


def main() -> None:
    """Draw, train, write, and note what the run was."""
    parser = argparse.ArgumentParser(prog="python -m pretraining", description=__doc__)
    parser.add_argument("--images", type=int, default=102_400, help="images drawn (102400)")
    parser.add_argument("--epochs", type=int, default=7, help="times each is seen (7)")
    parser.add_argument("--out", type=Path, default=train.WEIGHTS, help="file to write (the packaged one)")
    options = parser.parse_args()

    minutes = options.images * options.epochs * 0.65e-3 / 60
    print(
        f"Draws {options.images} glyphs and trains on them {options.epochs} times: about {minutes:.0f} "
        "minutes on two idle CPU cores, up to three times that on busy ones.",
        flush=True,
    )
    start = time.perf_counter()
    drawn = glyphs.draw_glyphs()
    print(
        f"{len(drawn.labels)} drawings of {len(set(drawn.characters))} characters, "
        f"{drawn.class_count} classes."
    )
    images, labels = train.draw_images(drawn, options.images)
    backbone = train.train(images, labels, epochs=options.epochs)
    train.write(backbone, options.out)
    seconds = round(time.perf_counter() - start)
    print(f"Wrote {options.out.name}, {options.out.stat().st_size} bytes, after {seconds} s.")
    if options.out == train.WEIGHTS:
        facts = {
            "images": options.images,
            "epochs": options.epochs,
            "seconds": seconds,
            "machine": "2-core CPU",
            "drawings": len(drawn.labels),
            "characters": len(set(drawn.characters)),
            "classes": drawn.class_count,
        }
        RUN.write_text(json.dumps(facts, indent=2) + "\n")
    print("Now measure it: python -m pretraining.check")


if __name__ == "__main__":
    main()
