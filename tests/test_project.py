"""What holds for the project as a whole."""

import re
import subprocess
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tools.pin import NOT_BUILT

ROOT = Path(__file__).resolve().parent.parent

# One letter of each stands in brackets, so that this file does not find itself.
FORBIDDEN = {
    "a package index or a mirror of one": re.compile(
        r"py[p]i\.org|pytho[n]hosted|artifactor[y]|/simpl[e]/?\s|--(?:extra-)?inde[x]-url"
    ),
    "a path of one machine": re.compile(r"/(?:wor[k]|roo[t]|hom[e]|User[s]|op[t]|tm[p])/[\w.-]+"),
}


def _files() -> list[Path]:
    """What git tracks or would track."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(what: str) -> None:
    found = []
    for path in _files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{n}: {m[0]}"
            for n, line in enumerate(lines, 1)
            if (m := FORBIDDEN[what].search(line))
        ]
    assert found == [], f"a committed file names {what}"


@pytest.fixture(scope="module")
def pins() -> list[str]:
    """The names that constraints.txt pins."""
    text = re.sub("^#.*\n", "", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = text.replace(" \\\n", " ").splitlines()
    one = r"([\w.-]+)==[\w.]+(?: ; [^-]+)?((?: +--hash=sha256:[0-9a-f]{64})+)"
    assert [line for line in found if not re.fullmatch(one, line)] == [], (
        "one version, with hashes, and no more"
    )
    return [line.partition("==")[0] for line in found]


@pytest.mark.usefixtures("as_pinned")
def test_pins_install_on_every_python_that_the_project_takes(pins: list[str]) -> None:
    # Debian 12's own Python is 3.11.2, and a package may ask for 3.11.5.
    found = {canonicalize_name(e.metadata["Name"]): e.metadata["Requires-Python"] for e in distributions()}
    asked = {name: found[name] or "" for name in map(canonicalize_name, pins) if name in found}
    assert {"tensorflow", "pyyaml"} <= set(asked)
    taken = ("3.11.0", "3.12.0", "3.13.0")
    refusing = {name: v for name, v in asked.items() if not all(t in SpecifierSet(v) for t in taken)}
    assert refusing == {}, "pin an older release of these: it has to install on " + ", ".join(taken)


def test_constraints_cover_what_the_project_asks_for(pins: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    built = {name: each for name, each in project["optional-dependencies"].items() if name not in NOT_BUILT}
    extras = [name for extra in built.values() for name in extra]
    asked = {Requirement(text).name for text in project["dependencies"] + extras}
    # What make needs without looking it up: the back end, what it asks for, and pip.
    asked |= {"hatchling", "editables", "pip"}
    assert set(map(canonicalize_name, asked)) - set(map(canonicalize_name, pins)) == set()


def test_the_build_runs_no_action_that_somebody_else_may_move() -> None:
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    used = re.findall(r"uses: (.*)", "\n".join(path.read_text(encoding="utf-8") for path in workflows))
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", each)] == []


def test_the_wheel_holds_the_published_results() -> None:
    # Where the library is installed without the repository, as in Colab, chapters check against these.
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    added = wheel["targets"]["wheel"].get("force-include", {})
    published = {name for name in ("book/published.toml", "book/measured") if (ROOT / name).exists()}
    assert set(added) == published
    assert all(place == name.replace("book/", "tlhelpers/") for name, place in added.items())
