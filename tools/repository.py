"""Where the repository lives on the web, if it does, and where this machine holds the book's data.

Launch buttons, edit buttons and the line that installs ``tlhelpers`` in Colab follow from the one answer.
"""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PUBLIC_HOSTS = ("github.com", "gitlab.com", "codeberg.org")
UNSET = "repository address unset: no Colab or edit buttons"

# The three spellings that git accepts: https://host/o/r.git, ssh://git@host/o/r.git, git@host:o/r.git
_REMOTE = re.compile(
    r"""^(?:https?://(?:[^@/]+@)?|ssh://(?:[^@/]+@)?|git://|(?:[^@/:]+@))
        (?P<host>[^/:]+)(?::\d+(?=/))?[/:]
        (?P<path>[^/]+/.+?)(?:\.git)?/?$""",
    re.VERBOSE,
)


def public_address(remote: str) -> str | None:
    """Turn a git remote into a web address, or None if its host is not a public one."""
    match = _REMOTE.match(remote.strip())
    if match is None or match["host"].lower() not in PUBLIC_HOSTS:
        return None
    return f"https://{match['host'].lower()}/{match['path']}"


def _git(root: Path, *asked: str) -> str | None:
    """What git answers in this folder, or None: no git, no repository, no answer."""
    # A folder inside somebody else's checkout (an unpacked archive, say) must not answer with theirs.
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), *asked]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _project(root: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def from_project(root: Path = ROOT) -> str | None:
    """The address under ``[project.urls]`` of pyproject.toml, or None while it is unset."""
    return _project(root).get("urls", {}).get("Repository", "").rstrip("/").removesuffix(".git") or None


def address(root: Path = ROOT) -> str | None:
    """The repository's web address: git's ``origin`` if public, else pyproject.toml's, else None."""
    return public_address(_git(root, "remote", "get-url", "origin") or "") or from_project(root)


def release(root: Path = ROOT) -> str:
    """The tag of the version that pyproject.toml names, say v0.2.0, whether or not it was set yet."""
    return f"v{_project(root)['version']}"


def is_release(root: Path = ROOT) -> bool:
    """Whether the commit that is checked out, unchanged, has that tag."""
    asked = ["describe", "--tags", "--dirty", "--exact-match", "--match", release(root)]
    return _git(root, *asked) == release(root)


def data() -> Path | None:
    """What ``TLHELPERS_DATA`` names, there or not, else ``../shared/mirror``, else None."""
    if named := os.environ.get("TLHELPERS_DATA"):
        return Path(named).resolve()
    beside = ROOT.parent / "shared" / "mirror"
    return beside if beside.is_dir() else None
