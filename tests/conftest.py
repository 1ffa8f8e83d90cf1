"""What every test runs under: no network, no data folder, a cache of its own, no window for figures."""

import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

# The caller's data folder under another name, so that xdist's workers inherit it.
_DATA = "TLHELPERS_TESTS_DATA"
_LOCAL = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "", None}


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before a test module, and with it Keras or Matplotlib, is imported."""
    os.environ["MPLBACKEND"] = "Agg"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if config.getoption("--nbmake", default=False):
        return  # chapters run as a reader runs them, with the reader's data and cache
    os.environ.pop("TLHELPERS_EDITION", None)
    if folder := os.environ.pop("TLHELPERS_DATA", None):
        os.environ[_DATA] = folder
    # One folder a process, so that two runs side by side, or two workers, share nothing.
    os.environ["TLHELPERS_CACHE"] = cache = tempfile.mkdtemp(prefix="tlhelpers-tests-")
    config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))


@pytest.fixture
def full_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a test the caller's TLHELPERS_DATA back; where there is none, it is skipped."""
    folder = os.environ.get(_DATA)
    if not folder:
        pytest.skip("needs TLHELPERS_DATA")
    monkeypatch.setenv("TLHELPERS_DATA", folder)
    return Path(folder)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a test a cache folder that nothing else writes to."""
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def as_pinned() -> None:
    """Skip a test where packages are not those of constraints.txt, as in the nightly run with others."""
    pins = (Path(__file__).parents[1] / "constraints.txt").read_text(encoding="utf-8")
    if not all(f"{name}=={version(name)} " in pins for name in ("keras-hub", "tensorflow")):
        pytest.skip("holds for the pinned versions")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests reach this machine only; any other address is unreachable, at once."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def is_local(host: Any) -> bool:
        host = host.decode() if isinstance(host, bytes) else host
        return host in _LOCAL or host.startswith("127.")

    def local_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_local(address[0]):
            raise OSError(errno.ENETUNREACH, f"tests reach no network: {address[0]}")
        connect(self, address)

    def local_look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_local(host):
            raise socket.gaierror(socket.EAI_NONAME, f"tests look up no address: {host}")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", local_connect)
    monkeypatch.setattr(socket, "getaddrinfo", local_look_up)


@pytest.fixture(autouse=True)
def no_open_figures() -> Iterator[None]:
    """Close what a test drew, if it drew."""
    yield
    import sys

    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
