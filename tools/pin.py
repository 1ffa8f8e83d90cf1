"""Write constraints.txt: one version of each package that the build needs, with the hashes of its files.

uv resolves for all systems and Pythons at once. It asks the index that it is configured with, and no address
is written. What is pinned stays as far as pyproject.toml allows; ``--upgrade`` takes the newest versions.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD = """\
# The whole build, pinned by hash: Python 3.11 to 3.13, Linux and macOS, all extras but dask, build, pip.
# 'make pin' adds what pyproject.toml asks for anew; 'make pin UPGRADE=1' takes the newest versions of all.
"""
NOT_BUILT = ("dask",)  # of the extras: only a nightly check takes it
# Needed, but no dependency of the project.
MORE = "hatchling\neditables\npip\n"


def main() -> None:
    """Write the file; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    arguments = parser.parse_args()
    path = ROOT / "constraints.txt"
    with tempfile.TemporaryDirectory(prefix="pin-") as scratch:
        subprocess.run([sys.executable, "-m", "pip", "install", "-qq", "--target", scratch, "uv"], check=True)
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = [name for name in project["optional-dependencies"] if name not in NOT_BUILT]
        how = ["--universal", "--python-version", "3.11", "--generate-hashes"]
        how += [f"--extra={name}" for name in extras]
        # Without a wheel for some system a package would be built there, by what nobody pinned.
        how += ["--only-binary", ":all:", "--no-annotate", "--no-header", "--quiet", f"--output-file={path}"]
        how += ["--upgrade"] if arguments.upgrade else []
        command = [f"{scratch}/bin/uv", "pip", "compile", *how, "pyproject.toml", "-"]
        subprocess.run(command, cwd=ROOT, input=MORE, text=True, check=True)
    text = path.read_text(encoding="utf-8")
    path.write_text(HEAD + text, encoding="utf-8")
    print(f"{len(re.findall('^[a-z]', text, re.M))} packages written to constraints.txt")


if __name__ == "__main__":
    main()
