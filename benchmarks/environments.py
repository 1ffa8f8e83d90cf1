"""An interpreter with another backend of Keras, and what is installed in it."""

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"torch": "torch==2.13.0", "jax": "jax"}


def python(backend: str) -> str:
    """Where Python is, with this backend: here for TensorFlow, else in an environment with it alone.

    The variable PYTHON_JAX or PYTHON_TORCH names one, or it is made once, in out/bench.
    """
    if backend == "tensorflow":
        return sys.executable
    if named := os.environ.get(f"PYTHON_{backend.upper()}"):
        return named
    folder = ROOT / "out" / "bench" / f"environment-{backend}"
    program, ready = str(folder / "bin" / "python"), folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True, clear=True)
        # The backend first: what the library asks for is then there, and nothing newer of it is looked for.
        for wanted in (PACKAGES[backend], f"{ROOT}[book,test]"):
            subprocess.run([program, "-m", "pip", "install", "-q", wanted], check=True)
        ready.touch()
    return program


def versions(backend: str) -> str:
    """Keras and the backend, each with its version."""
    asked = f"from importlib.metadata import version as v; print('Keras', v('keras'), v('{backend}'))"
    done = subprocess.run([python(backend), "-c", asked], check=True, capture_output=True, text=True)
    keras, number, own = done.stdout.split()
    return f"{keras} {number}, {backend} {own}"


def environment(backend: str, **more: str) -> dict[str, str]:
    """Variables for a process on a backend: quiet, and its threads sleep while others measure."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
    return {**os.environ, **quiet, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT), **more}
