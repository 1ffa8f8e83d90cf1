"""Bytes by official name: what is verified, where it is looked for, and every way a download can fail."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tlhelpers import _formats, downloads
from tlhelpers.cache import content_key

BODY = b"the right bytes " * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()
NAME = "thing.bin"


class Server(ThreadingHTTPServer):
    """Serves each kind of good and bad answer under a path of its own, and counts requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.gets: list[str] = []
        self.second_get = threading.Event()
        self.both_ready = threading.Event()
        self.over = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.gets.append(self.path)
        if len(self.server.gets) > 1:
            self.server.second_get.set()
        with contextlib.suppress(ConnectionError):  # the client hangs up, as it should
            getattr(self, self.path[1:])()

    def log_message(self, *args: object) -> None:
        pass

    def answer(self, body: bytes, length: int | None = len(BODY)) -> None:
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def good(self) -> None:
        self.answer(BODY)

    def good_once_both_ask(self) -> None:
        self.server.both_ready.wait(60)
        self.server.second_get.wait(0.5)  # room for a second request, which must not come
        self.good()

    def good_the_second_time(self) -> None:
        self.answer(BODY if len(self.server.gets) > 1 else BODY[:100])

    def truncated(self) -> None:
        self.answer(BODY[:100])

    def truncated_in_silence(self) -> None:
        self.answer(BODY[:100], None)

    def wrong(self) -> None:
        self.answer(BODY[::-1])

    def missing(self) -> None:
        self.send_error(404)

    def endless(self) -> None:
        self.answer(BODY, None)
        for _ in range(1000):  # 16 MB: endless enough, and a client without a limit fails soon
            self.wfile.write(BODY)

    def stalled(self) -> None:
        self.answer(BODY[:100])
        self.server.over.wait(20)

    def trickle(self) -> None:
        self.answer(b"")
        for byte in BODY[:400]:
            self.wfile.write(bytes([byte]))
            if self.server.over.wait(0.05):
                return


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.over.set()
        server.both_ready.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TLHELPERS_DATA", raising=False)
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "RETRIES", 0)
    return tmp_path / "cache"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("TLHELPERS_DATA", str(folder))
    return folder


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Register a file whose content is known; its reader leaves off a first line."""

    def body(path: Path) -> bytes:
        data = path.read_bytes()
        if not data:
            raise ValueError("expected bytes, got none")
        return data.removeprefix(b"another container\n")

    monkeypatch.setattr(_formats, "body", body, raising=False)

    def register(*urls: str, name: str = NAME, **more: object) -> None:
        known: dict[str, object] = {"reader": "body", "content": content_key(BODY), **more}
        resource = downloads.Resource(name, urls, "none", "this test", 3 * len(BODY), **known)  # type: ignore[arg-type]
        monkeypatch.setitem(downloads.RESOURCES, name, resource)

    return register


def left_behind(cache: Path) -> list[str]:
    """Name what a download left in the cache folder, locks apart."""
    return sorted(path.name for path in cache.glob("*") if path.name != "locks")


# -- from the official address -------------------------------------------------------------------


@pytest.mark.parametrize("name", [NAME, "a folder/thing.bin"])
def test_a_download_is_verified_and_kept(server, register, cache, name, capfd):
    register(server.url("/good"), name=name)
    path = downloads.fetch(name)
    assert path == cache / name
    assert path.read_bytes() == BODY
    assert downloads.fetch(name) == path
    assert server.gets == ["/good"]
    assert [each.name for each in path.parent.iterdir() if each.name != "locks"] == [NAME]
    said = capfd.readouterr().err
    assert "thing.bin from 127.0.0.1" in said
    assert str(cache) not in said


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/truncated", "expected the file, got ChunkedEncodingError.*100 bytes read, 15900 more expected"),
        ("/truncated_in_silence", r"wrong content: expected content .* \(got 100 bytes"),
        ("/wrong", r"wrong content: .* \(got 16,000 bytes with sha256 [0-9a-f]{16}"),
        ("/missing", "expected the file, got HTTPError: 404"),
        ("/endless", "expected at most 48,000 bytes, got more"),
        ("/stalled", r"expected the file, got ConnectionError.*timed out"),
        ("/trickle", r"expected an end within 0\.5 s, got none"),
    ],
)
def test_a_bad_answer_is_one_clear_error(server, register, cache, path, message, monkeypatch):
    monkeypatch.setattr(downloads, "STALL_S", 0.3)
    if path == "/trickle":
        monkeypatch.setattr(downloads, "DEADLINE_S", 0.5)
    register(server.url(path))
    with pytest.raises(downloads.DownloadError, match=message) as caught:
        downloads.fetch(NAME)
    assert server.url(path) in str(caught.value)
    assert "TLHELPERS_DATA" in str(caught.value)
    assert left_behind(cache) == []
    assert server.gets == [path]


@pytest.mark.parametrize("known", [{}, {"sha256": SHA256, "content": None}])
def test_an_address_is_asked_again_where_it_sent_a_part(server, register, cache, monkeypatch, known):
    monkeypatch.setattr(downloads, "RETRIES", 1)
    register(server.url("/good_the_second_time"), **known)
    assert downloads.fetch(NAME).read_bytes() == BODY
    assert server.gets == ["/good_the_second_time"] * 2
    assert left_behind(cache) == [NAME]


def test_nobody_listening(register):
    register("http://127.0.0.1:9/thing")
    with pytest.raises(downloads.DownloadError, match="expected the file, got ConnectionError"):
        downloads.fetch(NAME)


def test_the_second_address_stands_in_for_the_first(server, register):
    register(server.url("/missing"), server.url("/good"))
    assert downloads.fetch(NAME).read_bytes() == BODY
    assert server.gets == ["/missing", "/good"]


def test_two_processes_make_one_download(server, cache):
    script = f"""
import filelock, pooch, requests, tqdm  # so that both ask at the same moment
from tlhelpers import downloads
downloads.RESOURCES[{NAME!r}] = downloads.Resource(
    {NAME!r}, ({server.url("/good_once_both_ask")!r},), "", "", {2 * len(BODY)}, sha256={SHA256!r})
print("ready", flush=True)
print(downloads.fetch({NAME!r}))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        server.both_ready.set()
        paths = [process.communicate(timeout=60)[0].strip() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert paths == [str(cache / NAME)] * 2
    assert (cache / NAME).read_bytes() == BODY
    assert server.gets == ["/good_once_both_ask"]


# -- from the mirror folder and the cache --------------------------------------------------------


def test_the_mirror_comes_first_and_the_rest_is_looked_for_elsewhere(server, register, mirror, cache):
    register(server.url("/good"))
    assert downloads.find(NAME) is None
    assert downloads.fetch(NAME) == cache / NAME
    (mirror / NAME).write_bytes(BODY)
    assert downloads.fetch(NAME) == mirror / NAME
    assert server.gets == ["/good"]


def test_a_bad_file_in_the_mirror_is_an_error_that_names_it(server, register, mirror):
    register(server.url("/good"))
    (mirror / NAME).write_bytes(b"other")
    with pytest.raises(downloads.DownloadError, match=r"mirror.*thing\.bin: wrong content.*TLHELPERS_DATA"):
        downloads.fetch(NAME)
    assert server.gets == []
    assert (mirror / NAME).read_bytes() == b"other"


def test_a_bad_file_in_the_cache_is_fetched_again(server, register, cache):
    register(server.url("/good"))
    cache.mkdir()
    (cache / NAME).write_bytes(BODY[:500])
    with pytest.warns(UserWarning, match=r"thing\.bin is not used: wrong content"):
        assert downloads.fetch(NAME).read_bytes() == BODY
    assert server.gets == ["/good"]


def test_a_bad_file_in_the_cache_is_gone_even_if_the_address_fails(server, register, cache):
    register(server.url("/missing"))
    cache.mkdir()
    (cache / NAME).write_bytes(BODY[:500])
    with pytest.warns(UserWarning, match="not used"), pytest.raises(downloads.DownloadError):
        downloads.fetch(NAME)
    assert left_behind(cache) == []


def test_a_file_is_read_once_and_again_when_it_changed(server, register, cache, monkeypatch):
    register(server.url("/good"))
    path = downloads.fetch(NAME)
    assert downloads.find(NAME) is not None
    monkeypatch.setattr(_formats, "body", lambda path: pytest.fail("was read again"))
    assert downloads.find(NAME) is not None
    path.write_bytes(BODY[::-1])
    monkeypatch.setattr(_formats, "body", Path.read_bytes)
    with pytest.warns(UserWarning, match="not used"):
        assert downloads.find(NAME) is None


def test_what_is_half_written_is_never_found(register, cache):
    register()
    (cache / ".partial-1").mkdir(parents=True)
    (cache / ".partial-1" / NAME).write_bytes(BODY)
    assert downloads.find(NAME) is None


def test_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("TLHELPERS_DATA", "")
    assert downloads.data_folder() is None
    monkeypatch.setenv("TLHELPERS_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(downloads.DownloadError, match=r"expected a folder, got nothing there at .*nowhere"):
        downloads.find("mnist.npz")


@pytest.mark.parametrize("ask", [downloads.fetch, downloads.find, downloads.describe])
def test_an_unknown_name_gets_a_hint(ask):
    with pytest.raises(LookupError, match=r"unknown file 'mnist': .*did you mean 'mnist\.npz'\?"):
        ask("mnist")


# -- a disk that refuses -------------------------------------------------------------------------


def test_an_unwritable_cache_folder(server, register, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TLHELPERS_CACHE", str(tmp_path / "file" / "cache"))
    register(server.url("/good"))
    with pytest.raises(downloads.DownloadError, match=r"expected a folder to write to.*TLHELPERS_CACHE"):
        downloads.fetch(NAME)
    assert server.gets == []


def test_a_folder_in_the_place_of_the_cached_file(server, register, cache):
    register(server.url("/good"))
    (cache / NAME).mkdir(parents=True)
    with (
        pytest.warns(UserWarning, match="not used"),
        pytest.raises(downloads.DownloadError, match=r"can't be kept: .*TLHELPERS_CACHE"),
    ):
        downloads.fetch(NAME)
    assert server.gets == []


def test_a_full_disk_while_downloading(server, register, cache, monkeypatch):
    def write(self: object, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloads._Bounded, "write", write)
    register(server.url("/good"))
    with pytest.raises(downloads.DownloadError, match=r"got a full disk.*TLHELPERS_CACHE"):
        downloads.fetch(NAME)
    assert left_behind(cache) == []


# -- what counts as the right file ---------------------------------------------------------------

OTHER = b"reduced bytes"


def listing(body: bytes, content: str = "reduced", name: str = NAME) -> str:
    digest = hashlib.sha256(body).hexdigest()
    return f'["{name}"]\nsha256 = "{digest}"\ncontent = "{content}"\nnote = "every tenth byte"\n'


@pytest.mark.parametrize(
    ("known", "body", "listed", "words"),
    [
        ({"sha256": SHA256}, BODY, "", "the official file"),
        ({"md5": hashlib.md5(BODY).hexdigest()}, BODY, "", "the official file"),
        # An official digest comes first, whatever the mirror says.
        ({"sha256": SHA256}, BODY, listing(BODY), "the official file"),
        ({"sha256": SHA256}, OTHER, listing(OTHER), "not the official file: every tenth byte"),
        ({"content": None}, OTHER, listing(OTHER), "not the official file: every tenth byte"),
        ({}, OTHER, listing(OTHER, "official"), "the official file, says the mirror: every tenth byte"),
        ({}, BODY, listing(OTHER, name="other.bin"), "its content verified; official digest unknown"),
        (
            {"sha256": "0" * 64},
            b"another container\n" + BODY,
            "",
            "same content as the official file in another container",
        ),
        ({"content": None}, OTHER, "", "of the right form; nothing more could be verified"),
    ],
)
def test_a_file_that_is_taken(register, mirror, known, body, listed, words):
    register(**known)
    assert downloads.describe(NAME) == "thing.bin: not on this machine yet"
    (mirror / NAME).write_bytes(body)
    (mirror / "mirror.toml").write_text(listed)
    assert downloads.fetch(NAME) == mirror / NAME
    digest = hashlib.sha256(body).hexdigest()
    assert downloads.describe(NAME) == f"thing.bin: sha256 {digest[:8]}..., {words}"


@pytest.mark.parametrize(
    ("known", "body", "listed", "message"),
    [
        ({}, BODY, listing(OTHER), r"expected sha256 .* \(mirror\.toml\), got 9c0a77648e68be35\.\.\."),
        ({"sha256": "0" * 64}, BODY, listing(OTHER), r"\(mirror\.toml\)"),
        ({}, OTHER, "", "expected content .*, got .* with sha256"),
        ({"sha256": SHA256, "content": None}, OTHER, "", "expected the official file with digest 9c0a"),
        ({"content": None}, b"", "", r"expected bytes, got none \(got 0 bytes"),
    ],
)
def test_a_file_that_is_refused(register, mirror, known, body, listed, message):
    register(**known)
    (mirror / NAME).write_bytes(body)
    (mirror / "mirror.toml").write_text(listed)
    with pytest.raises(downloads.DownloadError, match=rf"wrong content: .*{message}.*Replace or remove"):
        downloads.fetch(NAME)


@pytest.mark.parametrize("listed", ["[", f'["{NAME}"]\nsha256 = "0"\n', f'"{NAME}" = "0"\n'])
def test_a_mirror_that_describes_itself_badly(register, mirror, listed):
    register()
    (mirror / NAME).write_bytes(BODY)
    (mirror / "mirror.toml").write_text(listed)
    with pytest.raises(downloads.DownloadError, match=r"mirror\.toml: expected sha256, content and note"):
        downloads.fetch(NAME)


@pytest.mark.parametrize("broken", [b"<html>please log in</html>", b""])
@pytest.mark.parametrize("name", list(downloads.RESOURCES))
def test_a_log_in_page_passes_for_none_of_the_files(mirror, name, broken):
    (mirror / name).parent.mkdir(exist_ok=True)
    (mirror / name).write_bytes(broken)
    with pytest.raises(downloads.DownloadError, match=r"wrong content: .*got \d+ bytes with sha256"):
        downloads.fetch(name)


@pytest.mark.parametrize("resource", downloads.RESOURCES.values(), ids=lambda resource: resource.filename)
def test_every_resource_says_where_it_comes_from_and_how_it_is_read(resource):
    assert resource.licence
    assert resource.source
    assert all(url.startswith("https://") for url in resource.urls)
    assert resource.max_bytes >= (resource.size or 0)
    assert resource.sha256 or callable(getattr(_formats, resource.reader))
    for digest, length in ((resource.sha256, 64), (resource.content, 64), (resource.md5, 32)):
        assert digest is None or re.fullmatch(rf"[0-9a-f]{{{length}}}", digest)


# -- the real files ------------------------------------------------------------------------------


@pytest.fixture
def here(full_data: Path, request: pytest.FixtureRequest) -> Path:
    if not (full_data / request.node.callspec.params["name"]).is_file():
        pytest.skip("this file is not in TLHELPERS_DATA")
    return full_data


@pytest.mark.parametrize("name", list(downloads.RESOURCES))
def test_the_real_files(here, name):
    assert downloads.fetch(name) == here / name
    assert "official file" in downloads.describe(name)


@pytest.mark.parametrize("name", list(downloads.RESOURCES))
def test_the_real_files_without_a_word_of_the_mirror(here, name, mirror, monkeypatch):
    (mirror / name).parent.mkdir(exist_ok=True)
    (mirror / name).symlink_to(here / name)
    reduced = "reduced" in (here / "mirror.toml").read_text().partition(f'["{name}"]')[2].partition("[")[0]
    monkeypatch.setenv("TLHELPERS_DATA", str(mirror))
    if reduced:
        with pytest.raises(downloads.DownloadError, match="wrong content: expected"):
            downloads.fetch(name)
    else:
        assert re.search(r"official file|verified", downloads.describe(name))
