"""Write constraints.txt from the environment that this runs in.

Names and versions only: where a package came from is the business of the machine that installs it.
"""

from __future__ import annotations

import re
from importlib.metadata import distributions
from pathlib import Path

HEAD = """\
# The whole build, pinned: Python 3.11 to 3.13, extras book, test, text and lint.
# Refresh with 'make pin', from a fresh environment.
"""
# Ours, and what an environment brings by itself or holds for somebody's own use.
LEFT_OUT = {"tlhelpers", "pip", "uv"}


def main() -> None:
    """Write the file."""
    versions = {d.metadata["Name"]: d.version for d in distributions()}
    kept = {name: v for name, v in versions.items() if re.sub(r"[-_.]+", "-", name).lower() not in LEFT_OUT}
    lines = [f"{name}=={version.partition('+')[0]}" for name, version in kept.items()]
    path = Path(__file__).resolve().parent.parent / "constraints.txt"
    path.write_text(HEAD + "\n".join(sorted(lines, key=str.lower)) + "\n", encoding="utf-8")
    print(f"{len(lines)} packages written to constraints.txt")


if __name__ == "__main__":
    main()
